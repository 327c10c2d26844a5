"""Statements about one restaurant, true or false by its facts: the hypotheses of the entailment task."""

from dataclasses import dataclass
from random import Random

from dylora_kit.synthetic.english import sentence, verb_phrase
from dylora_kit.synthetic.facts import ORDERED, VALUES
from dylora_kit.synthetic.grammar import to_verb
from dylora_kit.synthetic.lexicon import phrases

# attributes that have a single value: a restaurant may be near two landmarks, or by the river and in the old town
ASKED = tuple(key for key in VALUES if key not in ("landmark", "owner", "area", "food", "rest"))
DENIED = 0.3  # share of statements that deny a value
BOUND = 0.5  # share of statements about a number that say more or fewer


@dataclass(frozen=True)
class Statement:
    """A claim about an attribute: that its value is, is not, is over or is under some value.

    `relation` is `"is"`, `"not"`, `"over"` or `"under"`.
    """

    attribute: str
    relation: str
    value: str

    def holds(self, value: str) -> bool:
        """Whether it is true of a restaurant with this value.

        >>> Statement("seats", "over", "thirty").holds("forty"), Statement("dogs", "not", "yes").holds("yes")
        (True, False)
        """
        if self.relation in ("is", "not"):
            return (value == self.value) == (self.relation == "is")
        order = VALUES[self.attribute]
        here, bound = order.index(value), order.index(self.value)
        return here > bound if self.relation == "over" else here < bound


_BOUNDS = {
    ("stars", "over"): ("has more than {}", "is rated higher than {}", "gets more than {}"),
    ("stars", "under"): ("has fewer than {}", "is rated lower than {}", "gets fewer than {}"),
    ("seats", "over"): ("has more than {} seats", "has room for over {} guests", "holds more than {} people"),
    ("seats", "under"): ("has fewer than {} seats", "has room for fewer than {} guests", "holds under {} people"),
    ("closes", "over"): ("closes after {}", "is still open at {}", "closes later than {}"),
    ("closes", "under"): ("closes before {}", "closes earlier than {}", "shuts before {}"),
}
_UNDENIABLE = {
    "not", "never", "no", "neither", "without", "anything", "only", "little", "glad", "kind", "happy", "every",
}  # fmt: skip


def draw(rng: Random, attribute: str) -> Statement:
    """A statement about an attribute, true of some restaurants and false of others."""
    values = VALUES[attribute]
    # where there is room for sixty there is also room for thirty, so seats are only said to be more or fewer
    if attribute in ORDERED and attribute != "price" and (attribute == "seats" or rng.random() < BOUND):
        return Statement(attribute, rng.choice(("over", "under")), rng.choice(values[1:-1]))
    deny = attribute not in ("stars", "closes", "opens") and rng.random() < DENIED
    if not deny:
        return Statement(attribute, "is", rng.choice(values))
    if "yes" in values:  # "no" denied would be a double negation
        return Statement(attribute, "not", "yes")
    return Statement(attribute, "not", rng.choice([value for value in values if value != "none"]))


def predicate(
    rng: Random, statement: Statement, *, held_out: bool, used: tuple[str, ...] = (), repeat: bool = False
) -> str:
    """The statement without its subject: "is not cheap", "has more than thirty seats".

    Arguments:
        held_out: also in the ways that are kept for tests.
        used: words of another text, which are avoided where there are others.
        repeat: these words are taken instead, where they fit.
    """
    if statement.relation in ("over", "under"):
        number = "a hundred" if statement.value == "hundred" else statement.value
        if statement.attribute == "stars":
            number += " star" + ("" if statement.value == "one" else "s")
        return rng.choice(_BOUNDS[statement.attribute, statement.relation]).format(number)
    denied = statement.relation == "not"
    options = []
    for phrase in phrases(statement.attribute, statement.value, held_out=held_out):
        verb = to_verb(phrase, rng)
        if verb is None or "until" in phrase.words:  # a place that closes at midnight is also open until eleven
            continue
        if denied and (phrase.role in ("post", "np") or not _can_be_denied(phrase.words)):
            continue
        options.append((phrase.words, verb))
    preferred = [verb for words, verb in options if (words in used) == repeat] or [verb for _, verb in options]
    verb = rng.choice(preferred)
    if not denied:
        return verb.finite()
    if verb.verb in ("stand", "lie"):
        verb = verb_phrase(f"be {verb.rest}")
    return verb_phrase(f"not {verb.verb} {verb.rest}").finite()


def _can_be_denied(words: str) -> bool:
    """Whether words make sense after "not": none of them denies something or tells a feeling already."""
    return not _UNDENIABLE & set(words.split())


def say(name: str, predicates: list[str]) -> str:
    """Predicates of a restaurant as one sentence.

    >>> say("the Red Fox", ["is not cheap", "has a terrace"])
    'The Red Fox is not cheap and has a terrace.'
    """
    return sentence(f"{name} {' and '.join(predicates)}")
