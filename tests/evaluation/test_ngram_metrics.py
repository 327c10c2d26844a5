"""NIST, ROUGE-L and CIDEr against their definitions, computed in other words, and against values worked out by hand."""

import math
from collections import Counter

import numpy as np
import pytest

from dylora_kit.evaluation.ngram_metrics import Tokens, cider, nist, rouge_l, words_of

TEXTS = [text.split() for text in ("the mill is a pub by the river", "cotto serves cheap cheap food", "zizzi", "")]
REFERENCES = [
    [ref.split() for ref in refs]
    for refs in (
        ("the mill is a pub near the river", "by the river is a pub called the mill"),
        ("cotto has cheap food",),
        ("zizzi is a coffee shop", "a coffee shop zizzi", "zizzi"),
        ("the punter is here",),
    )
]


def grams(tokens: Tokens, n: int) -> Counter[str]:
    return Counter(" ".join(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def test_nist_is_what_matched_n_grams_tell_for_each_n_gram_that_is_written() -> None:
    corpus = [ref for refs in REFERENCES for ref in refs]
    expected = 0.0
    for n in range(1, 6):
        seen: Counter[str] = sum((grams(ref, n) for ref in corpus), Counter())
        shorter: Counter[str] = sum((grams(ref, n - 1) for ref in corpus), Counter()) if n > 1 else Counter()
        told, written = 0.0, 0
        for text, refs in zip(TEXTS, REFERENCES, strict=True):
            written += sum(grams(text, n).values())
            for gram, count in grams(text, n).items():
                matched = min(count, max(grams(ref, n)[gram] for ref in refs))
                if matched:
                    before = shorter[gram.rpartition(" ")[0]] if n > 1 else sum(map(len, corpus))
                    told += matched * math.log2(before / seen[gram])
        expected += told / written
    ratio = sum(map(len, TEXTS)) / (8.5 + 4 + (5 + 4 + 1) / 3 + 4)
    assert ratio < 1
    penalty = 2 ** -((math.log(ratio) / math.log(2 / 3)) ** 2)
    assert nist(TEXTS, REFERENCES) == pytest.approx(expected * penalty)


def test_nist_halves_where_texts_have_two_thirds_of_the_length() -> None:
    refs = [[["a", "b", "c"]], [["d", "e", "f"]]]
    whole, cut = nist([["a", "b", "c"], ["d", "e", "f"]], refs, order=1), nist([["a", "b"], ["d", "e"]], refs, order=1)
    assert cut == pytest.approx(whole / 2) and whole == pytest.approx(math.log2(6))


def test_rouge_l_takes_the_best_precision_and_the_best_recall() -> None:
    # 'the mill is a pub the river' is common with the first (7 of 8 and 8), 'the river' … with the second at most 4
    first = (1 + 1.44) * (7 / 8) * (7 / 8) / (7 / 8 + 1.44 * 7 / 8)
    second = (1 + 1.44) * (3 / 5) * (3 / 4) / (3 / 4 + 1.44 * 3 / 5)
    assert rouge_l(TEXTS, REFERENCES) == pytest.approx((first + second + 1 + 0) / 4)
    # precision from one reference and recall from another
    assert rouge_l([["a", "b"]], [[["a", "b", "c", "d"], ["b"]]]) == pytest.approx(1.0)
    # recall weighs more
    assert rouge_l([["a", "b", "x", "y"]], [[["a", "b"]]]) == pytest.approx(2.44 * 0.5 / (1 + 1.44 * 0.5))


def test_cider_is_the_mean_cosine_of_weighed_n_grams() -> None:
    expected = []
    for text, refs in zip(TEXTS, REFERENCES, strict=True):
        of_refs = []
        for ref in refs:
            near = math.exp(-((max(len(text) - 1, 0) - max(len(ref) - 1, 0)) ** 2) / 72)
            alike = []
            for n in range(1, 5):
                holding = {g: sum(any(g in grams(r, n) for r in group) for group in REFERENCES)
                           for g in (*grams(text, n), *grams(ref, n))}  # fmt: skip
                weight = {g: math.log(4) - math.log(max(1, k)) for g, k in holding.items()}
                order = sorted(weight)
                a = np.array([grams(text, n)[g] * weight[g] for g in order])
                b = np.array([grams(ref, n)[g] * weight[g] for g in order])
                size = np.linalg.norm(a) * np.linalg.norm(b)
                alike.append(float(np.minimum(a, b) @ b / size) if size else 0.0)
            of_refs.append(near * sum(alike) / 4)
        expected.append(10 * sum(of_refs) / len(of_refs))
    assert cider(TEXTS, REFERENCES) == pytest.approx(sum(expected) / 4)
    assert expected[1] > 0 and expected[3] == 0


def test_a_word_that_every_input_has_tells_nothing() -> None:
    refs = [[["a", "pub"]], [["a", "bar"]]]
    assert cider([["a"], ["a"]], refs) == 0
    assert cider([["pub"], ["bar"]], refs) > 0


def test_texts_that_are_all_empty_score_nothing() -> None:
    empty: list[Tokens] = [[], []]
    refs = [[["a", "b"]], [["c"]]]
    assert nist(empty, refs) == rouge_l(empty, refs) == cider(empty, refs) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Mill's food isn't cheap, it's £20-25.", "the mill 's food is n't cheap it 's £ 20-25"),
        ("A 5-star, kid-friendly café near 'Clare Hall'; 3.5!", "a 5-star kid-friendly café near clare hall 3.5"),
        ("They'll, we've - 20s... (yes)", "they 'll we 've 20s ( yes )"),
        ("", ""),
    ],
)  # fmt: skip
def test_words_are_split_as_in_the_penn_treebank_without_punctuation(text: str, words: str) -> None:
    assert words_of(text) == words.split()
