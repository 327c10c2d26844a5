"""Reads the facts back out of a text: the known ways to say them, longest first."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from dylora_kit.evaluation.facts import Fact
from dylora_kit.synthetic.english import verb_phrase
from dylora_kit.synthetic.facts import NAMES, VALUES
from dylora_kit.synthetic.lexicon import PHRASES, Phrase

_NEGATION = re.compile(r"\b(?:not|never)(?: (?:an?|the))? $", re.IGNORECASE)


@dataclass(frozen=True)
class Mention:
    """A fact that a text tells: the characters that tell it and the lexicon's words for it.

    The value of a fact that is denied starts with "not ".
    """

    start: int
    end: int
    attribute: str
    value: str
    words: str


def _forms(phrase: Phrase) -> set[str]:
    """The forms in which a phrase may stand in a text."""
    if phrase.role == "verb":
        verb = verb_phrase(phrase.words)
        return {verb.finite(), verb.finite(plural=True), verb.participle(), verb.base()}
    return {phrase.words}


@cache
def _known() -> tuple[re.Pattern[str], dict[str, Phrase]]:
    """A pattern of every way to say a fact, and what each of them, in lower case, says."""
    meaning: dict[str, Phrase] = {}
    for ways in PHRASES.values():
        for phrase in ways:
            for form in _forms(phrase):
                other = meaning.setdefault(form.lower(), phrase)
                if (other.attribute, other.value) != (phrase.attribute, phrase.value):
                    raise ValueError(f"{form!r} says two facts: give one of them other words in lexicon.py")
    longest = sorted(meaning, key=lambda form: (-len(form), form))
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest))})\b", re.IGNORECASE), meaning


@cache
def _names() -> re.Pattern[str]:
    return re.compile("|".join(sorted(map(re.escape, NAMES), key=lambda name: (-len(name), name))), re.IGNORECASE)


def find(text: str) -> list[Mention]:
    """Every fact that a text tells, in the order of the text.

    >>> [(mention.attribute, mention.value) for mention in find("The Red Fox is a Thai pub and not cheap.")]
    [('food', 'Thai'), ('kind', 'pub'), ('price', 'not cheap')]
    """
    pattern, meaning = _known()
    plain = _names().sub(lambda name: "_" * len(name[0]), text)
    mentions = []
    for match in pattern.finditer(plain):
        phrase = meaning[match[0].lower()]
        denied = "not " if _NEGATION.search(plain[: match.start()]) else ""
        mentions.append(Mention(match.start(), match.end(), phrase.attribute, denied + phrase.value, phrase.words))
    return mentions


def read(text: str) -> dict[str, set[str]]:
    """The values that a text tells of each attribute.

    >>> read("Rosa's Table serves sushi and miso soup and closes at ten.")
    {'food': {'Japanese'}, 'closes': {'ten'}}
    """
    values: dict[str, set[str]] = {}
    for mention in find(text):
        values.setdefault(mention.attribute, set()).add(mention.value)
    return values


def facts_in(text: str, facts: Mapping[str, str]) -> list[Fact]:
    """What a text makes of facts, in their order, and then the facts that it adds.

    The name, and a value that the world does not have, are looked for as they stand.

    >>> [fact.label for fact in facts_in("The Red Fox is a cheap bistro.", {"name": "the Red Fox", "kind": "pub"})]
    ['name: the Red Fox is said', 'kind: pub is wrong, it says bistro', 'price: cheap is added']
    """
    told: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for mention in find(text):
        told.setdefault(mention.attribute, {}).setdefault(mention.value, []).append((mention.start, mention.end))
    known, added = [], []
    for name, value in facts.items():
        values = told.pop(name, {})
        if value not in VALUES.get(name, ()) and (spans := _as_it_stands(value, text)):
            values = {value: spans}
        elif name == "name":
            values = {text[start:end]: [(start, end)] for start, end in find_names(text)[:1]}
        fact, more = _compared(name, value, values)
        known.append(fact)
        added += more
    for name, values in told.items():
        added += [Fact(name, value, "added", tuple(spans)) for value, spans in values.items()]
    return known + added


def _compared(name: str, value: str, values: Mapping[str, list[tuple[int, int]]]) -> tuple[Fact, list[Fact]]:
    """What became of one fact, where a text tells these values of it, and the values that are one too many."""
    others = [other for other in values if other != value]
    if value in values:
        fact = Fact(name, value, "said", tuple(values[value]))
    elif others:
        fact = Fact(name, value, "wrong", tuple(values[others[0]]), others.pop(0))
    else:
        fact = Fact(name, value, "missing")
    return fact, [Fact(name, other, "added", tuple(values[other])) for other in others]


def _as_it_stands(value: str, text: str) -> list[tuple[int, int]]:
    """The characters at which a text has a value literally, in small or capital letters."""
    return [match.span() for match in re.finditer(re.escape(value), text, re.IGNORECASE)] if value else []


def slot_errors(text: str, facts: Mapping[str, str]) -> int:
    """How many facts a text lacks, changes or adds. The value of `"name"` is looked for as it stands."""
    return sum(fact.state != "said" for fact in facts_in(text, facts))


def slot_error_rate(text: str, facts: Mapping[str, str]) -> float:
    """Missing, changed and added facts as a share of the facts to tell.

    >>> slot_error_rate("The Red Fox is a cheap pub.", {"name": "the Red Fox", "kind": "pub", "dogs": "no"})
    0.6666666666666666
    """
    return slot_errors(text, facts) / len(facts)


def find_names(text: str) -> list[tuple[int, int]]:
    """The characters at which a text names a restaurant: (start, end) of each name.

    >>> find_names("At the Red Fox.")
    [(3, 14)]
    """
    return [match.span() for match in _names().finditer(text)]
