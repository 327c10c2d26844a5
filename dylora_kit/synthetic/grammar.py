"""Descriptions of a restaurant: facts → phrases → sentences → text, drawn from many ways to say each fact."""

from collections.abc import Callable, Iterable
from itertools import zip_longest
from random import Random

from dylora_kit.synthetic.english import VerbPhrase, article, sentence, verb_phrase
from dylora_kit.synthetic.facts import DISLIKED, LIKED
from dylora_kit.synthetic.lexicon import Phrase, phrases

ADJECTIVES = ("price", "children", "dogs", "payment", "stars", "seats", "owner", "area", "food")  # order before a noun
EVALUATIVE = {"price", "children", "dogs", "payment"}  # with commas between them
HELD_OUT = 0.15  # how often a way kept for tests is taken where it may be
GENERIC = ("place", "spot", "restaurant")
TRIES = 12  # for the sentences after the first; a text that still lacks facts is begun again
HINTS = ("By the way, ", "Mind you, ", "Bear in mind that ", "Please note that ", "What is more, ")


def mood(phrase: Phrase) -> int:
    """1 for what guests like, −1 for what they do not, 0 for the rest."""
    fact = (phrase.attribute, phrase.value)
    return (fact in LIKED) - (fact in DISLIKED)


def to_verb(phrase: Phrase, rng: Random) -> VerbPhrase | None:
    """A phrase as a verb phrase, whatever its role; None for a clause."""
    words = phrase.words
    if phrase.role == "verb":
        return verb_phrase(words)
    if phrase.role == "adj" or (phrase.role == "post" and words.startswith(("open", "closed", "run", "owned"))):
        return VerbPhrase("be", words)
    if phrase.role == "pp":
        return VerbPhrase(rng.choice(("be", "be", "stand", "lie")), words)
    if phrase.role == "np":
        return VerbPhrase("have", words)
    if phrase.role == "noun":
        return VerbPhrase("be", article(words))
    return None


class Draft:
    """The facts of one restaurant that are still to be told, and the choice of words for them."""

    def __init__(
        self, rng: Random, name: str, facts: dict[str, str], *, held_out: bool, used: Iterable[str], repeat: bool
    ):
        self.rng, self.name, self.held_out = rng, name, held_out
        self.left = dict(facts)
        self.kind: str | None = None  # its noun, once it is told
        self.used, self.repeat = set(used), repeat  # ways to take again, or not to, if there are others

    def options(self, attribute: str, roles: tuple[str, ...]) -> list[Phrase]:
        """The ways to say a fact that is left, in any of some roles."""
        ways = phrases(attribute, self.left[attribute], held_out=self.held_out)
        return [phrase for phrase in ways if phrase.role in roles]

    def take(self, *roles: str, among: tuple[str, ...] = (), moods: tuple[int, ...] = (-1, 0, 1)) -> Phrase | None:
        """A phrase for some fact that is left, which is left no longer; None if no phrase fits.

        Arguments:
            roles: any of these roles of the lexicon.
            among: only facts of these attributes; all if empty.
            moods: only facts of these moods.
        """
        options = {
            attribute: ways
            for attribute in self.left
            if (not among or attribute in among) and (ways := self.options(attribute, roles))
            if mood(ways[0]) in moods
        }
        if not options:
            return None
        ways = options[self.rng.choice(list(options))]
        reserved = [phrase for phrase in ways if phrase.held_out]
        pool = reserved if reserved and self.rng.random() < HELD_OUT else ways
        if self.repeat:
            pool = ways
        phrase = self.rng.choice([phrase for phrase in pool if (phrase.words in self.used) == self.repeat] or pool)
        del self.left[phrase.attribute]
        if phrase.role == "noun":
            self.kind = phrase.words
        return phrase

    def verb(self, moods: tuple[int, ...] = (-1, 0, 1), short: bool = False) -> tuple[VerbPhrase, Phrase] | None:
        """A verb phrase for some fact that is left, and the phrase it was made of; None if no phrase fits.

        The kind is told last. A `short` verb phrase tells no kind and has no phrase of the role `post`.
        """
        among = tuple(key for key in self.left if key != "kind")
        roles = ("verb", "adj", "pp", "np") if short else ("verb", "verb", "adj", "pp", "np", "post")
        phrase = self.take(*roles, among=among, moods=moods) if among else None
        if phrase is None and "kind" in self.left and not short:
            phrase = self.take("noun", moods=moods)
        if phrase is None:
            return None
        verb = to_verb(phrase, self.rng)
        if verb is None:  # a "post" that needs a noun before it
            return VerbPhrase("be", f"a place {phrase.words}"), phrase
        return verb, phrase

    def noun_phrase(self, most: int = 2) -> str:
        """At most so many adjectives and a noun: "cheap, family-friendly Thai pub"."""
        count = self.rng.choice([0, 1, 1, 2][: most + 2])
        taken = [self.take("pre", "adj", among=ADJECTIVES) for _ in range(count)]
        adjectives = sorted((phrase for phrase in taken if phrase), key=lambda adj: ADJECTIVES.index(adj.attribute))
        noun = self.take("noun")
        words = ""
        for here, after in zip_longest(adjectives, adjectives[1:]):
            both = after is not None and here.attribute in EVALUATIVE and after.attribute in EVALUATIVE
            contrast = after is not None and both and mood(here) * mood(after) < 0
            words += here.words + (" but " if contrast else ", " if both else " ")
        return words + (noun.words if noun else self.rng.choice(GENERIC))

    def full_name(self) -> str:
        """The name, often with the kind after it: "the Red Fox, a pub,"."""
        if "kind" in self.left and len(self.left) > 2 and self.rng.random() < 0.5:
            noun = self.take("noun")
            return f"{self.name}, {article(noun.words)}," if noun else self.name
        return self.name

    def place(self) -> str:
        """A short mention once the name has been said; it may be what tells the kind."""
        if "kind" in self.left and len(self.left) > 1 and self.rng.random() < 0.7:
            self.take("noun")
            return f"the {self.kind}"
        options = ["it", "it", "it", "the place", "the restaurant"]
        return self.rng.choice([*options, *([f"the {self.kind}"] * 2 if self.kind else [])])

    def after_noun(self) -> str:
        """What follows a noun, with a space before it: a place, a relative clause, a "with"; empty if nothing fits."""
        rng = self.rng
        for kind in rng.sample(["pp", "with", "that", "post"], 4):
            if kind == "pp" and (phrase := self.take("pp")):
                return f" {phrase.words}"
            if kind == "with" and (phrase := self.take("np")):
                return f" with {phrase.words}"
            if kind == "post" and (phrase := self.take("post")):
                return f" {phrase.words}"
            if kind == "that" and (phrase := self.take("verb")):
                return f" {rng.choice(('that', 'which'))} {verb_phrase(phrase.words).finite()}"
        return ""


def _plain(draft: Draft) -> str:
    return f"{draft.name} is {article(draft.noun_phrase())}{draft.after_noun()}"


def _apposition(draft: Draft) -> str | None:
    noun = draft.noun_phrase(1)
    place = draft.take("pp") if draft.rng.random() < 0.5 else None
    if noun in GENERIC or not (verb := draft.verb()):
        return None
    return f"{draft.name}, {article(noun)}{' ' + place.words if place else ''}, {verb[0].finite()}"


def _two_verbs(draft: Draft) -> str | None:
    name = draft.full_name()
    return f"{name} {joined}" if (joined := _coordinated(draft)) else None


def _fronted(draft: Draft) -> str | None:
    place = draft.take("pp")
    if not place:
        return None
    there = draft.rng.choice(("there is", "you will find", "stands", "lies"))
    noun = draft.noun_phrase()
    if noun in GENERIC:  # "the Red Fox, a place" says nothing
        return f"{place.words} {there.replace('there is', 'you will find')} {draft.name}".replace(" you", ", you")
    if there == "you will find":
        return f"{place.words}, you will find {draft.name}, {article(noun)}"
    if there == "there is":
        return f"{place.words}, there is {article(noun)} called {draft.name}"
    return f"{place.words} {there} {draft.name}, {article(noun)}"


def _there(draft: Draft) -> str:
    noun = draft.noun_phrase()
    place = draft.take("pp")
    return f"there is {article(noun)} called {draft.name}{' ' + place.words if place else ''}"


def _participle(draft: Draft) -> str | None:
    first = draft.take("verb", moods=(0, 1))
    second = draft.verb(moods=(0, 1)) if first else None
    if not first or not second:
        return None
    return f"{verb_phrase(first.words).participle()}, {draft.name} {second[0].finite()}"


def _with(draft: Draft) -> str | None:
    first = draft.take("np", moods=(0, 1))
    second = draft.verb(moods=(0, 1)) if first else None
    return f"with {first.words}, {draft.name} {second[0].finite()}" if first and second else None


def _looking(draft: Draft) -> str:
    noun = article(draft.noun_phrase()) + draft.after_noun()
    start = draft.rng.choice(("Looking for", "Do you fancy", "Are you after", "In the mood for"))
    return f"{start} {noun}? {draft.rng.choice(('Try', 'Go to', 'Have a look at'))} {draft.name}"


def _know(draft: Draft) -> str:
    start = draft.rng.choice(("Do you know", "Have you been to", "Have you heard of"))
    return f"{start} {draft.name}? It is {article(draft.noun_phrase())}{draft.after_noun()}"


def _wish(draft: Draft) -> str | None:
    phrase = draft.take("verb", moods=(0, 1))
    if not phrase:
        return None
    start = draft.rng.choice(("if you want a place that", "should you need a place that", "for a place that"))
    advice = draft.rng.choice(("try", "go to", "think of"))
    return f"{start} {verb_phrase(phrase.words).finite()}, {advice} {draft.name}"


def _terse(draft: Draft) -> str:
    return f"{draft.name}: {draft.noun_phrase()}{draft.after_noun()}"


def _coordinated(draft: Draft) -> str | None:
    """A verb phrase or two, joined by "and", or by "but" where one is liked and the other is not."""
    first = draft.verb()
    if not first:
        return None
    feeling = mood(first[1])
    if feeling and draft.rng.random() < 0.6 and (second := draft.verb(moods=(-feeling,), short=True)):
        return f"{first[0].finite()} but {second[0].finite()}"
    second = draft.verb(moods=(0, feeling), short=True)
    return f"{first[0].finite()} and {second[0].finite()}" if second else first[0].finite()


def _says(draft: Draft) -> str | None:
    subject = draft.place()
    return f"{subject} {joined}" if (joined := _coordinated(draft)) else None


def _clause(draft: Draft) -> str | None:
    phrase = draft.take("clause")
    if not phrase:
        return None
    words = f"{draft.rng.choice(HINTS)}{phrase.words}" if draft.rng.random() < 0.25 else phrase.words
    feeling = mood(phrase)
    if feeling and (other := draft.take("clause", moods=(-feeling,))):
        return f"{words}, {draft.rng.choice(('but', 'yet', 'although'))} {other.words}"
    if draft.rng.random() < 0.5 and (other := draft.take("clause", moods=(0, feeling))):
        return f"{words}, and {other.words}"
    return words


def _concession(draft: Draft) -> str | None:
    first = draft.take("clause", "verb", moods=(-1, 1))
    if not first:
        return None
    second = draft.verb(moods=(-mood(first),))
    start = first.words if first.role == "clause" else f"it {verb_phrase(first.words).finite()}"
    conjunction = draft.rng.choice(("although", "while", "even though"))
    if not second:
        return start
    return f"{conjunction} {start}, {draft.place()} {second[0].finite()}"


def _both(draft: Draft) -> str | None:
    subject = draft.place()
    first = draft.verb(moods=(1,))
    second = draft.verb(moods=(1,), short=True) if first else None
    if not first or not second:
        return None
    return f"not only {_inverted(first[0], subject)}, it {_also(second[0])}"


def _inverted(verb: VerbPhrase, subject: str) -> str:
    """Verb before subject, as after "not only"."""
    if verb.verb == "be":
        return f"is {subject} {verb.rest}"
    return f"does {subject} {verb.before + ' ' if verb.before else ''}{'not ' * verb.negated}{verb.verb} {verb.rest}"


def _also(verb: VerbPhrase) -> str:
    """The verb phrase with an "also" in it."""
    return f"is also {verb.rest}" if verb.verb == "be" else f"also {verb.finite()}"


def _fragment(draft: Draft) -> str | None:
    first = draft.take("np", "post", "pp")
    if not first:
        return None
    second = draft.take("np", moods=(0, mood(first))) if first.role == "np" else None
    return f"{first.words} and {second.words}" if second else first.words


Sentence = Callable[[Draft], str | None]  # None if the facts that are left do not fit into it
OPENINGS: dict[str, tuple[Sentence, ...]] = {
    "guide": (_plain, _apposition, _fronted, _participle, _with, _two_verbs, _there),
    "friend": (_looking, _know, _wish, _there, _plain, _two_verbs),
    "listing": (_terse,),
}
FOLLOWING: dict[str, tuple[Sentence, ...]] = {
    "guide": (_says, _says, _clause, _concession, _both),
    "friend": (_says, _clause, _clause, _concession),
    "listing": (_fragment, _clause, _fragment),
}
TEST_ONLY: tuple[Sentence, ...] = (_with, _both, _wish)  # constructions that no training text has


def _tell(draft: Draft, options: tuple[Sentence, ...]) -> str | None:
    """A sentence that tells some of the facts that are left. If it is None, all of them are still left."""
    allowed = [option for option in options if draft.held_out or option not in TEST_ONLY]
    left, kind = dict(draft.left), draft.kind
    words = draft.rng.choice(allowed)(draft)
    if words is None:
        draft.left, draft.kind = left, kind
    return words


def describe(
    rng: Random,
    name: str,
    facts: dict[str, str],
    *,
    held_out: bool = False,
    used: Iterable[str] = (),
    repeat: bool = False,
) -> str:
    """A text that tells exactly these facts of a restaurant.

    Arguments:
        held_out: also in the ways and constructions that are kept for tests.
        used: ways not to take again where there are others.
        repeat: these ways are taken instead, where they fit.
    """
    register = rng.choice(("guide", "guide", "guide", "friend", "friend", "listing"))
    while True:
        draft = Draft(rng, name, facts, held_out=held_out, used=used, repeat=repeat)
        opening = _tell(draft, OPENINGS[register])
        if opening is None:
            continue
        clauses = [opening]
        for _ in range(TRIES):
            if draft.left and (following := _tell(draft, FOLLOWING[register])):
                clauses.append(following)
        if not draft.left:
            return " ".join(map(sentence, clauses))
