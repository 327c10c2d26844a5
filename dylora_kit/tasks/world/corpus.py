"""Unlabelled text of the world to pretrain on: endless, from a seed, with every name and wording, and no test text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from random import Random

from dylora_kit.tasks.world import comparing, errors, reviews, statements
from dylora_kit.tasks.world.examples import MAKERS, TEST, rows
from dylora_kit.tasks.world.facts import VALUES, choose_attributes, sample
from dylora_kit.tasks.world.grammar import describe
from dylora_kit.tasks.world.read import find, find_names

SHARES = {"pair": 8, "comparison": 3, "remark": 4, "review": 6, "sentence": 3}
REPEATED = 0.75  # share of pairs whose second text takes the words of the first: to copy is learned before to reword
MOST = 5  # facts in a description


@dataclass(frozen=True)
class Document:
    """A text, or two that belong together; `spans` are the characters of `second` that follow from `first`."""

    kind: str
    first: str
    second: str = ""
    spans: tuple[tuple[int, int], ...] = ()


def documents(seed: int = 0) -> Iterator[Document]:
    """Documents without end. The same seed gives the same ones on every machine.

    >>> next(documents(0)) == next(documents(0))
    True
    """
    kinds, weights = list(SHARES), list(SHARES.values())
    for index in count():
        rng = Random(f"{seed}/corpus/{index}")
        found = _MAKERS[rng.choices(kinds, weights)[0]](rng)
        if not {found.first, found.second} & test_texts():
            yield found


def prompted(seed: int = 0) -> Iterator[Document]:
    """Facts in shapes of their own as `first`, and a text that tells them as `second`, for causal models."""
    for index in count():
        rng = Random(f"{seed}/prompted/{index}")
        where = sample(rng, "any")
        told = where.told(choose_attributes(rng, rng.randint(2, MOST)))
        text = describe(rng, where.name, told, held_out=True)
        if text not in test_texts():
            yield Document("prompted", _shape(rng, {"name": where.name} | told), text)


@cache
def test_texts() -> frozenset[str]:
    """Every text of a test split."""
    found: set[str] = set()
    for name in MAKERS:
        for row in rows(name, "test", TEST):
            found.update(str(row[key]) for key in ("first", "second") if key in row)
            found.update(row.get("references", ()))
    return frozenset(found)


def _shape(rng: Random, facts: dict[str, str]) -> str:
    forms: tuple[Callable[[], str], ...] = (
        lambda: "; ".join(f"{key}: {value}" for key, value in facts.items()),
        lambda: ", ".join(f"{key} = {value}" for key, value in facts.items()),
        lambda: " ".join(f"<{key}> {value}" for key, value in facts.items()),
    )
    return rng.choice(forms)()


def _spans(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(sorted([(one.start, one.end) for one in find(text)] + find_names(text)))


def _pair(rng: Random) -> Document:
    where = sample(rng, "any")
    keys = choose_attributes(rng, rng.randint(2, MOST - 1))
    first = describe(rng, where.name, where.told(keys), held_out=True)
    used, again = [one.words for one in find(first)], rng.random() < REPEATED
    told = where.told(rng.sample(keys, len(keys)))
    second = describe(rng, where.name, told, held_out=True, used=used, repeat=again)
    return Document("pair", first, second, _spans(second))


def _comparison(rng: Random) -> Document:
    pair = sample(rng, "any"), sample(rng, "any")
    while pair[0].name == pair[1].name:
        pair = pair[0], sample(rng, "any")
    keys = rng.sample(list(VALUES), rng.choice((1, 2)))
    first, second = (comparing.compare(rng, pair, rng.sample(keys, len(keys)), held_out=True) for _ in range(2))
    return Document("comparison", first, second, _spans(second))


def _remark(rng: Random) -> Document:
    """A description, and a statement that is true by it."""
    where = sample(rng, "any")
    asked = rng.choice(statements.ASKED)
    said = statements.draw(rng, asked)
    facts = {asked: rng.choice([value for value in VALUES[asked] if said.holds(value)])}
    facts |= where.told(choose_attributes(rng, rng.choice((1, 2, 3)), avoid=(asked,)))
    facts = {key: facts[key] for key in rng.sample(list(facts), len(facts))}
    remark = statements.say(rng, where.name, [statements.predicate(rng, said, held_out=True)])
    first = describe(rng, where.name, facts, held_out=True)
    name, end = len(where.name), len(remark) - 1
    return Document("remark", first, remark, ((0, name), (name + 1, end)))


def _review(rng: Random) -> Document:
    """A review, and a sentence that says outright what the guest thinks."""
    label = rng.choice((reviews.GOOD, reviews.BAD))
    verdict = rng.choice(reviews.VERDICTS[label])
    text = reviews.review(rng, label, name=sample(rng, "any").name, held_out=True)
    return Document("review", text, verdict, ((0, len(verdict) - 1),))


def _sentence(rng: Random) -> Document:
    right, _ = errors.twins(rng, rng.choice(errors.RULES), name=sample(rng, "any").name, held_out=True)
    return Document("sentence", right)


_MAKERS: dict[str, Callable[[Random], Document]] = {
    "pair": _pair,
    "comparison": _comparison,
    "remark": _remark,
    "review": _review,
    "sentence": _sentence,
}
