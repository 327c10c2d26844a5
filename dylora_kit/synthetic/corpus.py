"""Text of the world to pretrain on: endless, from a seed, with every name and wording, and no test text.

Some of it says in a word what a task asks: a guest's verdict after a review, an answer to a statement or to another
description. Such texts have the names and ways of train alone, so that what tests hold out is never seen together with
what it means.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache
from itertools import count
from random import Random
from re import findall, finditer

from dylora_kit.synthetic import comparing, errors, reviews, statements
from dylora_kit.synthetic.examples import (
    CONTRADICTION,
    ENTAILMENT,
    MAKERS,
    NEIGHBOUR,
    NEUTRAL,
    TEST,
    Row,
    reworded,
    rows,
    two,
)
from dylora_kit.synthetic.facts import VALUES, Restaurant, another, belongs, choose_attributes, sample
from dylora_kit.synthetic.grammar import describe
from dylora_kit.synthetic.read import find, find_names

# what texts there are at first, then, and at last: an answer takes looking up, so answers come when that is learned;
# and all kinds, to learn words from
SHARES = {
    "easy": {"pair": 4, "review": 2},
    "unanswered": {"pair": 10, "review": 5, "sentence": 5, "comparison": 3, "remark": 2},
    "corpus": {"pair": 9, "answer": 11, "review": 5, "sentence": 5, "comparison": 3, "remark": 1},
    "again": {"pair": 13, "answer": 8, "rewording": 6, "judged": 6, "review": 4, "sentence": 4, "comparison": 2,
              "remark": 1},
    "last": {"pair": 10, "answer": 7, "rewording": 5, "judged": 7, "likeness": 5, "review": 3, "sentence": 2,
             "comparison": 1, "remark": 1},
    "judging": {"judged": 16, "pair": 8, "answer": 4, "rewording": 3, "likeness": 3, "review": 2, "sentence": 1},
    "every": {"pair": 2, "answer": 1, "rewording": 1, "judged": 1, "likeness": 1, "review": 4, "sentence": 1,
              "comparison": 1, "remark": 1},
}  # fmt: skip
REPEATED = 0.75  # share of pairs whose second text takes the words of the first: to copy is learned before to reword
PLAIN = 0.4  # share of reviews whose words mean what they say, and of answers to statements in the same words
REWORDED = 0.15  # share of answers that are about a whole other text and not about statements
PAIRS = 0.5  # share of those that are about two restaurants
STATEMENTS = 4  # about one description, each with its answer
ANSWERS = ("Yes", "Perhaps", "No")  # to a statement that follows, that is left open, that is wrong
JUDGED = ("correct", "wrong")  # what is said of a sentence
IN_COMMON = ("none", "one", "two", "three", "four")  # how many of four facts two restaurants share
VERDICT = 0.75  # share of reviews that end with a verdict
MOST = 5  # facts in a description


@dataclass(frozen=True)
class Document:
    """A text, or two that belong together; `spans` are characters of the last that follow from all the others."""

    kind: str
    first: str
    second: str = ""
    spans: tuple[tuple[int, int], ...] = ()


def documents(seed: int = 0, *, stage: str = "corpus") -> Iterator[Document]:
    """Documents without end; easy ones are short and plain. The same seed gives the same on every machine.

    >>> next(documents(0)) == next(documents(0))
    True
    """
    if stage not in SHARES:
        raise ValueError(f"unknown stage {stage!r}: expected one of {', '.join(map(repr, SHARES))}")
    shares = SHARES[stage]
    for index in count():
        rng = Random(f"{seed}/{stage}/{index}")
        found = _MAKERS[rng.choices(list(shares), list(shares.values()))[0]](rng, stage == "easy")
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
    """Every text of a test split, and what is correct for those that have an error."""
    found: set[str] = set()
    for name in MAKERS:
        for row in rows(name, "test", TEST):
            found.update(str(row[key]) for key in ("first", "second", "correct") if key in row)
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


def _pair(rng: Random, easy: bool) -> Document:
    where = sample(rng, "any")
    keys = choose_attributes(rng, 2 if easy else rng.randint(2, MOST - 1))
    first = describe(rng, where.name, where.told(keys), held_out=True)
    used, again = [one.words for one in find(first)], easy or rng.random() < REPEATED
    told = where.told(rng.sample(keys, len(keys)))
    second = describe(rng, where.name, told, held_out=True, used=used, repeat=again)
    return Document("pair", first, second, _spans(second))


def _answer(rng: Random, _: bool) -> Document:
    """A description, what is said of it, and in a word whether that is right: mostly of several statements."""
    return _answers(rng) if rng.random() >= REWORDED else _rewording(rng, False)


def _rewording(rng: Random, _: bool) -> Document:
    """A description, another one of the same or nearly the same facts, and in a word whether they agree."""
    label, row = rng.choice((ENTAILMENT, CONTRADICTION)), None
    while row is None:
        same = int(label == ENTAILMENT)
        row = _compared(rng, same) if rng.random() < PAIRS else reworded(rng, "train", same)
    start, answer = len(row["second"]) + 1, ANSWERS[label]
    return Document("answer", row["first"], f"{row['second']} {answer}.", ((start, start + len(answer)),))


def _compared(rng: Random, label: int) -> Row | None:
    """Two comparisons of two restaurants; if they are not to tell the same, a fact is exchanged."""
    pair = two(rng, "train")
    chosen = rng.sample([key for key in VALUES if getattr(pair[0], key) != getattr(pair[1], key)], 2)
    changed = pair if label else _exchanged(pair, rng.choice(chosen))
    if not all(belongs(one.told(chosen), "train") for one in changed):
        return None
    texts = [comparing.compare(rng, who, keys) for who, keys in ((pair, chosen), (changed, rng.sample(chosen, 2)))]
    return {"first": texts[0], "second": texts[1], "label": label}


def _exchanged(pair: tuple[Restaurant, Restaurant], attribute: str) -> tuple[Restaurant, Restaurant]:
    first, second = pair
    return (
        replace(first, **{attribute: getattr(second, attribute)}),
        replace(second, **{attribute: getattr(first, attribute)}),
    )


def _answers(rng: Random) -> Document:
    """A description, perhaps beside that of a neighbour, and several statements, each with its answer."""
    where, other = sample(rng, "train"), sample(rng, "train")
    told, theirs = (one.told(choose_attributes(rng, rng.choice(n))) for one, n in ((where, (2, 3, 4)), (other, (1, 2))))
    known, unknown = ([key for key in statements.ASKED if (key in told) == given] for given in (True, False))
    if where.name == other.name or not known or not (belongs(told, "train") and belongs(theirs, "train")):
        return _answers(rng)
    first, plain = describe(rng, where.name, told), rng.random() < PLAIN
    used = [one.words for one in find(first)] if plain or rng.random() >= REPEATED else []
    alone = rng.random() >= NEIGHBOUR
    if not alone:
        first = " ".join(rng.sample([first, describe(rng, other.name, theirs)], 2))
    second, spans = "", []
    for _ in range(STATEMENTS):
        label = rng.randrange(len(ANSWERS))
        said = statements.draw(rng, rng.choice(unknown if label == NEUTRAL else known))
        while label != NEUTRAL and said.holds(told[said.attribute]) != (label == ENTAILMENT):
            said = statements.draw(rng, said.attribute)
        predicate = statements.predicate(rng, said, held_out=False, used=tuple(used), repeat=plain)
        second += statements.say(rng, "it" if alone and second else where.name, [predicate]) + " "
        spans.append((len(second), len(second) + len(ANSWERS[label])))
        second += ANSWERS[label] + ". "
    return Document("answer", first, second.strip(), tuple(spans))


def _comparison(rng: Random, _: bool) -> Document:
    pair = sample(rng, "any"), sample(rng, "any")
    while pair[0].name == pair[1].name:
        pair = pair[0], sample(rng, "any")
    keys = rng.sample(list(VALUES), rng.choice((1, 2)))
    first, second = (comparing.compare(rng, pair, rng.sample(keys, len(keys)), held_out=True) for _ in range(2))
    return Document("comparison", first, second, _spans(second))


def _remark(rng: Random, _: bool) -> Document:
    """A description, and a statement that is true by it."""
    where = sample(rng, "any")
    asked = rng.choice(statements.ASKED)
    said = statements.draw(rng, asked)
    facts = {asked: rng.choice([value for value in VALUES[asked] if said.holds(value)])}
    facts |= where.told(choose_attributes(rng, rng.choice((1, 2, 3)), avoid=(asked,)))
    facts = {key: facts[key] for key in rng.sample(list(facts), len(facts))}
    remark = statements.say(rng, where.name, [statements.predicate(rng, said, held_out=True)])
    first = describe(rng, where.name, facts, held_out=True)
    return Document("remark", first, remark, _spans(remark))


def _review(rng: Random, easy: bool) -> Document:
    """A review, and mostly a sentence that says outright what the guest thinks."""
    label, (frame, words) = rng.choice((reviews.GOOD, reviews.BAD)), rng.choice(reviews.VERDICTS)
    if not easy and rng.random() >= VERDICT:
        return Document("review", reviews.review(rng, label, name=sample(rng, "any").name, held_out=True))
    plain = easy or rng.random() < PLAIN
    text = reviews.review(rng, label, name=sample(rng, "train").name, plain=plain)
    start = frame.index("{}")
    return Document("review", text, frame.format(words[label]), ((start, start + len(words[label])),))


def _sentence(rng: Random, _: bool) -> Document:
    """A sentence; what its grammar decides are the words that an error would change."""
    right, wrong = errors.twins(rng, rng.choice(errors.RULES), name=sample(rng, "any").name, held_out=True)
    places = [match.span() for match in finditer(r"\w+", right)]
    words, others = [right[start:end] for start, end in places], findall(r"\w+", wrong)
    changes = SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
    decided = [place for tag, start, end, *_ in changes if tag != "equal" for place in places[start:end]]
    return Document("sentence", right, spans=tuple(decided))


def _judged(rng: Random, _: bool) -> Document:
    """A sentence, and in a word whether it is correct English."""
    wrong = rng.randrange(2)
    said = errors.twins(rng, rng.choice(errors.RULES), name=sample(rng, "train").name)[wrong]
    start = len("This is ")
    return Document("judged", said, f"This is {JUDGED[wrong]}.", ((start, start + len(JUDGED[wrong])),))


def _likeness(rng: Random, _: bool) -> Document:
    """Descriptions of two restaurants, and how many facts they share, whatever these are about."""
    texts, shared = None, rng.randrange(len(IN_COMMON))
    while texts is None:
        texts = _sharing(rng, shared)
    start = len(texts[1]) + len(" In common: ")
    said = f"{texts[1]} In common: {IN_COMMON[shared]}."
    return Document("likeness", texts[0], said, ((start, start + len(IN_COMMON[shared])),))


def _sharing(rng: Random, shared: int) -> tuple[str, str] | None:
    """Descriptions of two restaurants that share so many of four facts; none if they would be of a test."""
    first, second = two(rng, "train")
    keys = choose_attributes(rng, len(IN_COMMON) - 1)
    facts = first.told(keys)
    same, order = rng.sample(keys, shared), rng.sample(keys, len(keys))
    others = {key: facts[key] if key in same else another(rng, key, facts[key]) for key in order}
    if not belongs(others, "train"):
        return None
    return describe(rng, first.name, facts), describe(rng, second.name, others)


_MAKERS: dict[str, Callable[[Random, bool], Document]] = {
    "pair": _pair,
    "answer": _answer,
    "rewording": _rewording,
    "comparison": _comparison,
    "remark": _remark,
    "review": _review,
    "sentence": _sentence,
    "judged": _judged,
    "likeness": _likeness,
}
