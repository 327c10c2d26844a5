"""Reviews by guests. Whether one is good or bad follows from its construction, not from its words alone."""

from dataclasses import dataclass
from random import Random

from dylora_kit.synthetic.english import comparative, sentence, ways

GOOD, BAD = 1, 0
TURNED = 0.3  # share of judgements with the opposite word
AGREED = 0.6  # share of rumours that turn out true


@dataclass(frozen=True)
class Aspect:
    """Something guests judge: its names with a verb in the past ("the service was"), and adjectives for it."""

    names: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    plural: bool = False


_TASTE_GOOD = ("delicious", "fresh", "tasty", "appetising", "enjoyable", "satisfying")
_TASTE_BAD = ("bland", "horrible", "tasteless", "disgusting", "dreadful", "dull")
ASPECTS = (
    Aspect(("waiter", "waitress", "owner", "cook", "barman"), ("friendly", "polite", "cheerful", "attentive", "kind",
           "charming"), ("rude", "grumpy", "careless", "unfriendly", "impatient", "arrogant")),
    Aspect(("service",), ("quick", "friendly", "prompt", "attentive", "pleasant", "efficient"),
           ("slow", "rude", "careless", "chaotic", "dreadful", "clumsy")),
    Aspect(("soup", "duck", "pasta", "curry", "cake", "bread", "fish", "pie"), _TASTE_GOOD, _TASTE_BAD),
    Aspect(("noodles", "dumplings", "tacos", "vegetables", "olives"), _TASTE_GOOD, _TASTE_BAD, plural=True),
    Aspect(("room", "terrace", "corner table"), ("cosy", "pleasant", "clean", "comfortable", "charming", "lovely"),
           ("noisy", "draughty", "dirty", "cramped", "gloomy", "shabby")),
    Aspect(("music", "mood"), ("pleasant", "lovely", "cheerful", "wonderful"),
           ("unpleasant", "gloomy", "unbearable", "horrible")),
)  # fmt: skip
SETTINGS = (
    "we came on a {day}", "I had lunch here with {who}", "we dropped in after the theatre", "I took {who} along",
    "we celebrated a birthday here", "{who} and I had dinner here on a {day}", "it was our second visit",
    "we had booked a table for six", "I stopped by on my way home", "we were hungry after a long walk",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Friday", "Saturday")
COMPANY = ("my sister", "my parents", "a friend", "two colleagues", "my children", "a neighbour")
VERDICTS = (  # for text to pretrain on: a sentence, and the words that make it bad and good
    ("We {} it.", ("hated", "loved")), ("We left {}.", ("unhappy", "happy")),
    ("We will {} come back.", ("never", "surely")), ("All in all it was {}.", ("awful", "great")),
    ("It is a place to {}.", ("avoid", "remember")), ("That was a {} evening.", ("terrible", "splendid")),
    ("I can {} recommend it.", ("hardly", "warmly")),
)  # fmt: skip
KINDS = ("several", "several", "several", "single", "concession", "concession", "hearsay")
# ways to say a judgement with an adjective: the first keep what it means, the others turn it round; + is for tests
KEEPING = (
    "{the} {was} {adj}", "{the} {was} truly {adj}", "I found {the} {adj}", "{the} turned out to be {adj}",
    "{the} could hardly have been {more}", "I have seldom known {a} so {adj}",
    "nobody can deny that {the} {was} {adj}",
    "+there is no denying that {the} {was} {adj}", "{the} {was} nothing if not {adj}", "{the}, I must say, {was} {adj}",
)  # fmt: skip
TURNING = (
    "{the} {was} not {adj}", "{the} {was} not in the least {adj}", "{the} {was} anything but {adj}",
    "{the} {was} far from {adj}",
    "nobody could call {the} {adj}", "I would not call {the} {adj}", "{the} could have been {more}",
    "there was nothing {adj} about {the}", "I would be lying if I called {the} {adj}", "+{the} {was} by no means {adj}",
    "I did not find {the} {adj}", "{the} {was} hardly what I would call {adj}", "+only a liar would call {the} {adj}",
)  # fmt: skip
GRANTED = {  # forms that go well after "that"
    False: (
        "{the} {was} {adj}",
        "{the} {was} truly {adj}",
        "{the} {was} quite {adj}",
        "{the} {was} nothing if not {adj}",
    ),
    True: TURNING[:4],
}
CONCESSIONS = (  # the first of the two clauses is granted, the second decides
    "although {0}, {1}", "{1}, although {0}", "{0}, but {1}", "{1}, even if {0}", "it is true that {0}, but {1}",
    "while {0}, {1}", "{1}, though I grant that {0}", "{0}; what counts for me, however, is that {1}",
    "+even though {0}, {1}", "+granted, {0}, but in the end {1}", "that {0} hardly mattered, since {1}",
)  # fmt: skip
HEARSAY = (
    "{who} had told me that {0}", "the guide book claims that {0}", "I had read that {0}",
    "we had been warned that {0}",
    "everyone says that {0}", "the man at the hotel swore that {0}", "+word has it that {0}",
    "a colleague had claimed that {0}",
)  # fmt: skip
AGREEING = ("that is quite right", "that turned out to be true", "I can only agree", "so it was", "+that is no lie",
            "I saw nothing to the contrary")  # fmt: skip
DENYING = ("that is quite wrong", "that turned out to be untrue", "I cannot agree", "it was not so", "+that is a lie",
           "I saw quite the contrary")  # fmt: skip


def judgement(
    rng: Random,
    label: int,
    aspect: Aspect,
    *,
    held_out: bool,
    granted: bool = False,
    firm: bool = False,
    turned: float = TURNED,
) -> str:
    """A clause that judges something as good (1) or bad (0), sometimes by denying the opposite word.

    Arguments:
        granted: only in forms that go well after "that".
        firm: not as a mild wish.
        turned: the share with the opposite word.
    """
    turns = rng.random() < turned
    adjective = rng.choice(aspect.good if (label == GOOD) != turns else aspect.bad)
    name = rng.choice(aspect.names)
    options = list(GRANTED[turns]) if granted else ways(TURNING if turns else KEEPING, held_out)
    if turns and (firm or label == GOOD):  # nobody wishes for something slower
        options = [way for way in options if "{more}" not in way]
    if aspect.plural or name in ("music", "mood", "service", "bread", "pasta", "fish", "curry"):
        options = [way for way in options if "{a}" not in way]
    return rng.choice(options).format(
        the=f"the {name}", a=f"{'an' if name[0] in 'aeiou' else 'a'} {name}", was="were" if aspect.plural else "was",
        adj=adjective, more=comparative(adjective),
    )  # fmt: skip


def review(rng: Random, label: int, *, name: str, held_out: bool = False, plain: bool = False) -> str:
    """A review that is good (1) or bad (0) on the whole.

    Arguments:
        name: of the restaurant; most reviews do not mention it.
        held_out: also in the ways that are kept for tests.
        plain: only words that mean what they say: no "not", no concession, no rumour.
    """
    first, second = rng.sample(ASPECTS, 2)
    kind = "several" if plain else rng.choice(KINDS)
    if kind == "single":
        clauses = [judgement(rng, label, first, held_out=held_out)]
    elif kind == "several":
        judged = rng.sample(ASPECTS, rng.choice((2, 3)))
        turned = 0.0 if plain else TURNED
        clauses = [judgement(rng, label, aspect, held_out=held_out, turned=turned) for aspect in judged]
    elif kind == "concession":
        way = rng.choice(ways(CONCESSIONS, held_out))
        granted = judgement(rng, 1 - label, first, held_out=held_out, granted=True)
        decisive = judgement(rng, label, second, held_out=held_out, granted="that {1}" in way, firm=True)
        clauses = [way.format(granted, decisive)]
    else:
        agree = rng.random() < AGREED
        believed = label if agree else 1 - label
        rumour = judgement(rng, believed, first, held_out=held_out, granted=True)
        options = [way for way in ways(HEARSAY, held_out) if believed == BAD or "warned" not in way]
        clauses = [rng.choice(options).format(rumour, who=rng.choice(COMPANY))]
        clauses.append(rng.choice(ways(AGREEING if agree else DENYING, held_out)))
    if rng.random() < 0.75:
        setting = rng.choice(SETTINGS).format(day=rng.choice(DAYS), who=rng.choice(COMPANY))
        clauses.insert(0, setting.replace(" here", f" at {name}") if rng.random() < 0.6 else setting)
    return " ".join(map(sentence, clauses))
