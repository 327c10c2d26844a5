"""Reads the facts back out of a text: the known ways to say them, longest first."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from dylora_kit.synthetic.english import verb_phrase
from dylora_kit.synthetic.facts import NAMES
from dylora_kit.synthetic.lexicon import PHRASES, Phrase

_NEGATION = re.compile(r"\b(?:not|never)(?: (?:an?|the))? $", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A fact, where a text says it, and in which of the lexicon's ways. The value of a denied one starts "not "."""

    start: int
    end: int
    attribute: str
    value: str
    words: str


def _forms(phrase: Phrase) -> set[str]:
    if phrase.role == "verb":
        verb = verb_phrase(phrase.words)
        return {verb.finite(), verb.finite(plural=True), verb.participle(), verb.base()}
    return {phrase.words}


@cache
def _known() -> tuple[re.Pattern[str], dict[str, Phrase]]:
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


def find(text: str) -> list[Found]:
    """Every fact that a text tells, where it tells it.

    >>> [(one.attribute, one.value) for one in find("The Red Fox is a Thai pub and not cheap.")]
    [('food', 'Thai'), ('kind', 'pub'), ('price', 'not cheap')]
    """
    pattern, meaning = _known()
    plain = _names().sub(lambda name: "_" * len(name[0]), text)
    found = []
    for match in pattern.finditer(plain):
        phrase = meaning[match[0].lower()]
        denied = "not " if _NEGATION.search(plain[: match.start()]) else ""
        found.append(Found(match.start(), match.end(), phrase.attribute, denied + phrase.value, phrase.words))
    return found


def read(text: str) -> dict[str, set[str]]:
    """The values that a text tells of each attribute.

    >>> read("Rosa's Table serves sushi and miso soup and closes at ten.")
    {'food': {'Japanese'}, 'closes': {'ten'}}
    """
    told: dict[str, set[str]] = {}
    for one in find(text):
        told.setdefault(one.attribute, set()).add(one.value)
    return told


def slot_errors(text: str, facts: Mapping[str, str]) -> int:
    """How many facts a text lacks, changes or adds. `"name"` among the facts is looked for as it stands."""
    told = read(text)
    errors = 0
    for attribute, value in facts.items():
        if attribute == "name":
            errors += value.lower() not in text.lower()
            continue
        values = told.pop(attribute, set())
        errors += max(value not in values, len(values - {value}))
    return errors + sum(len(values) for values in told.values())


def slot_error_rate(text: str, facts: Mapping[str, str]) -> float:
    """Missing, changed and added facts as a share of the facts to tell.

    >>> slot_error_rate("The Red Fox is a cheap pub.", {"name": "the Red Fox", "kind": "pub", "dogs": "no"})
    0.6666666666666666
    """
    return slot_errors(text, facts) / len(facts)


def find_names(text: str) -> list[tuple[int, int]]:
    """Where a text names a restaurant.

    >>> find_names("At the Red Fox.")
    [(3, 14)]
    """
    return [match.span() for match in _names().finditer(text)]
