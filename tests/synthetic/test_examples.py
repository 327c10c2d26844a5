"""The rows of the six tasks: clean English, labels that follow from facts, and that words alone do not tell."""

import re
from typing import Any

import numpy as np
import pytest
from synthetic.entailed import follows

from dylora_kit.baselines import bag_of_words
from dylora_kit.synthetic import facts, read
from dylora_kit.synthetic.examples import COUNTED, MAKERS, OMITTED, TOLD, alike, rows, text_of
from dylora_kit.synthetic.lexicon import PHRASES
from dylora_kit.synthetic.names import LABELS, METRICS, TEST

BOUNDS = {"sentiment": 0.75, "entailment": 0.45, "paraphrase": 0.62, "acceptability": 0.3, "similarity": 0.45}


def texts_of(row: dict[str, Any]) -> list[str]:
    return [row[key] for key in ("first", "second") if key in row] if "label" in row else row["references"]


@pytest.mark.parametrize("name", MAKERS)
def test_texts_are_clean_english(name: str, slices: Any):
    odd = re.compile(
        r"  | [,.;:?!]|\b(?!that that)(\w+) \1\b|[.?!] [a-z]|^[a-z]|\.\.|,,|,\.|[{}_+|]|"
        r"(?<!does )(?<!does the )\b(?:it|place|restaurant) (?:have|are|serve)\b",
        re.MULTILINE,
    )
    for row in [*slices[name]["train"], *slices[name]["test"]]:
        for text in texts_of(row):
            assert not odd.search(text), text
            assert text[-1] in ".?!", text


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "acceptability"])
def test_articles_fit_the_words_after_them(name: str, slices: Any):
    wrong = re.compile(r"\ba (?=[aeiou])(?!one|uni)|\ban (?![aeiou])", re.IGNORECASE)
    for row in [*slices[name]["train"], *slices[name]["test"]]:
        assert not any(wrong.search(text) for text in texts_of(row)), row


def test_entailment_follows_from_the_facts_that_are_read(slices: Any):
    pairs = [(follows(row["first"], row["second"]), row["label"]) for row in slices["entailment"]["train"]]
    checked = [(expected, label) for expected, label in pairs if expected is not None]
    assert len(checked) > 200 and all(expected == label for expected, label in checked)


def test_paraphrases_tell_the_same_facts_and_others_all_but_one(slices: Any):
    missing, second_shorter = 0, 0
    for row in [*slices["paraphrase"]["train"], *slices["paraphrase"]["test"]]:
        first, second = (
            {(key, min(values)) for key, values in read.read(row[which]).items()} for which in ("first", "second")
        )
        assert (first == second) == row["label"], row
        assert len(first - second) <= 1 and len(second - first) <= 1
        assert {len(first), len(second)} <= set(TOLD), "a short text would tell that a fact is left out"
        missing += len(first) != len(second)
        second_shorter += len(first) > len(second)
    assert missing == pytest.approx(OMITTED * 1500 / 2, rel=0.1)
    assert second_shorter == pytest.approx(missing / 2, rel=0.15)


def test_similarity_is_how_alike_the_facts_that_count_are(slices: Any):
    uncounted = []
    for row in slices["similarity"]["test"]:
        first, second = (
            {key: min(values) for key, values in read.read(row[which]).items()} for which in ("first", "second")
        )
        assert set(first) == set(second) and len(first) == 3
        counted = [key for key in first if key in COUNTED]
        assert len(counted) == 2
        assert row["label"] == 5 * sum(alike(key, first[key], second[key]) for key in counted) / 2
        uncounted += [(row["label"], sum(first[key] == second[key] for key in set(first) - set(counted)))]
    assert abs(np.corrcoef(np.array(uncounted).T)[0, 1]) < 0.15


@pytest.mark.parametrize("name", BOUNDS)
def test_words_alone_do_not_tell(name: str, slices: Any):
    assert bag_of_words.score(slices[name]["train"], slices[name]["test"], METRICS[name]) < BOUNDS[name]


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_balanced(name: str, slices: Any):
    labels = [row["label"] for row in slices[name]["train"]]
    counts = [labels.count(label) for label in sorted(set(labels))]
    assert max(counts) - min(counts) <= 1 and len(counts) == (LABELS[name] if LABELS[name] > 1 else 5)


@pytest.mark.parametrize("name", MAKERS)
def test_tests_hold_out_names_combinations_and_ways(name: str, slices: Any):
    kept = [way for ways in PHRASES.values() for way in ways if way.held_out]
    pattern = re.compile("|".join(rf"\b{re.escape(way.words)}\b" for way in kept if way.role not in ("verb",)))
    for split, others in (("train", facts.TEST_NAMES), ("test", facts.TRAIN_NAMES)):
        for row in slices[name][split]:
            joined = " ".join(texts_of(row)).lower()
            assert not any(other.lower() in joined for other in others), row
            if split == "train" and name not in ("acceptability", "sentiment"):
                assert not pattern.search(" ".join(texts_of(row))), row
            if name in ("similarity", "describe"):
                described = [{key: min(values) for key, values in read.read(text).items()} for text in texts_of(row)]
                assert all(facts.belongs(values, split) for values in described), row


@pytest.mark.parametrize("name", MAKERS)
def test_no_text_of_the_test_split_is_in_train(name: str):
    tested = {text_of(row) for row in rows(name, "test", TEST)}
    assert not tested & {text_of(row) for row in rows(name, "train", 1500)}
