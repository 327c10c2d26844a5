"""Text of the world to pretrain on: documents without end, drawn from a seed. No text of a test is among them."""

from collections.abc import Iterator
from functools import cache
from itertools import count
from random import Random

from dylora_kit.synthetic.document_kinds import EASY_KINDS, KINDS, Document
from dylora_kit.synthetic.examples import MAKERS, rows
from dylora_kit.synthetic.facts import choose_attributes, sample
from dylora_kit.synthetic.grammar import describe
from dylora_kit.synthetic.names import TEST

# the kinds of documents in each stage of pretraining, with their weights. Answers come once a model looks facts up;
# "every" has all kinds, to learn a vocabulary from
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
MOST = 5  # facts in a prompted document


def documents(seed: int = 0, *, stage: str = "corpus") -> Iterator[Document]:
    """Documents without end. The same seed gives the same ones on every machine.

    Arguments:
        stage: one of `SHARES`, which says what kinds there are. The documents of `"easy"` are short and plain.

    Raises `ValueError` for an unknown stage.

    >>> next(documents(0)) == next(documents(0))
    True
    """
    if stage not in SHARES:
        raise ValueError(f"unknown stage {stage!r}: expected one of {', '.join(map(repr, SHARES))}")
    shares, kinds = SHARES[stage], EASY_KINDS if stage == "easy" else KINDS
    for index in count():
        rng = Random(f"{seed}/{stage}/{index}")
        kind = rng.choices(list(shares), list(shares.values()))[0]
        document = kinds[kind](rng)
        if not {document.first, document.second} & test_texts():
            yield document


def prompted(seed: int = 0) -> Iterator[Document]:
    """Documents without end for causal models: facts as `first`, a text that tells them as `second`.

    The facts are written in other shapes than in the task `describe`.
    """
    for index in count():
        rng = Random(f"{seed}/prompted/{index}")
        restaurant = sample(rng, "any")
        facts = restaurant.facts_of(choose_attributes(rng, rng.randint(2, MOST)))
        text = describe(rng, restaurant.name, facts, held_out=True)
        if text not in test_texts():
            yield Document("prompted", _shape(rng, {"name": restaurant.name} | facts), text)


@cache
def test_texts() -> frozenset[str]:
    """Every text of a test split, and the correct form of each sentence that has an error."""
    texts: set[str] = set()
    for name in MAKERS:
        for row in rows(name, "test", TEST):
            texts.update(str(row[key]) for key in ("first", "second", "correct") if key in row)
            texts.update(row.get("references", ()))
    return frozenset(texts)


def _shape(rng: Random, facts: dict[str, str]) -> str:
    """Facts as a list in one of three notations."""
    lists = (
        "; ".join(f"{key}: {value}" for key, value in facts.items()),
        ", ".join(f"{key} = {value}" for key, value in facts.items()),
        " ".join(f"<{key}> {value}" for key, value in facts.items()),
    )
    return rng.choice(lists)
