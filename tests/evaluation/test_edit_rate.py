"""TER: edits and shifts per word of the reference, and the tokens that are compared."""

import random

import pytest

from dylora_kit.evaluation.edit_rate import edit_rate, treebank_tokens


def levenshtein(first: list[str], second: list[str]) -> int:
    if not first or not second:
        return len(first) + len(second)
    replaced = levenshtein(first[1:], second[1:]) + (first[0] != second[0])
    return min(levenshtein(first[1:], second) + 1, levenshtein(first, second[1:]) + 1, replaced)


@pytest.mark.parametrize(
    ("written", "reference", "edits"),
    [
        ("a b c d", "a b c d", 0),
        ("a b c", "a b c d", 1),
        ("a b c d e", "a b c d", 1),
        ("a x c d", "a b c d", 1),
        ("c d a b", "a b c d", 1),  # a shift of two words
        ("d a b c", "a b c d", 1),
        ("b a d c", "a b c d", 2),  # two shifts
        ("", "a b c d", 4),
        ("x y", "a b c d", 4),
    ],
)
def test_edits_are_counted_per_word_of_the_reference(written: str, reference: str, edits: int) -> None:
    assert edit_rate(written.split(), reference.split()) == edits / 4


def test_without_words_in_common_or_out_of_place_it_is_levenshtein_s_distance() -> None:
    draw = random.Random(0)
    for _ in range(30):
        reference = [f"{index}" for index in range(draw.randint(1, 6))]
        written = [word if draw.random() < 0.5 else "x" for word in reference] + ["x"] * draw.randint(0, 2)
        assert edit_rate(written, reference) == pytest.approx(levenshtein(written, reference) / len(reference))


def test_shifts_are_never_worse_than_none() -> None:
    draw = random.Random(1)
    for _ in range(30):
        reference, written = ([draw.choice("abcd") for _ in range(draw.randint(1, 6))] for _ in range(2))
        assert edit_rate(written, reference) <= levenshtein(written, reference) / len(reference)


def test_the_example_of_the_paper_on_ter() -> None:
    reference = "SAUDI ARABIA denied THIS WEEK information published in the AMERICAN new york times"
    written = "THIS WEEK THE SAUDIS denied information published in the new york times"
    assert edit_rate(list(written.split(" ")), list(reference.split(" "))) == pytest.approx(
        4 / 13
    )  # Snover et al. 2006


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It isn't, he's there.", "It is n't , he 's there ."),
        ("In Washington, D.C. it costs 1,000 dollars. Yes.", "In Washington , D.C. it costs 1,000 dollars. Yes ."),
        ('The "Red Fox" (a pub): open?', "The `` Red Fox '' ( a pub ) : open ?"),
        ("The 'Red Fox' of 2014–15...", "The ' Red Fox ' of 2014 – 15 ..."),
        ("Runway 18L/36R; Abilene_Airport", "Runway 18L/36R ; Abilene_Airport"),
        (" ", ""),
    ],
)
def test_words_and_punctuation_are_split_as_in_the_penn_treebank(text: str, tokens: str) -> None:
    assert treebank_tokens(text) == tokens.split()
