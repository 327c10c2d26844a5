"""The world: its English, that labels follow from facts, that words alone do not tell them, and its files."""

import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from transformers import BertTokenizerFast

from dylora_kit.baselines import bag_of_words
from dylora_kit.synthetic import corpus, errors, facts, grammar, read, reviews, statements
from dylora_kit.synthetic.build import build
from dylora_kit.synthetic.examples import COUNTED, MAKERS, OMITTED, TOLD, alike, rows, text_of
from dylora_kit.synthetic.lexicon import PHRASES
from dylora_kit.synthetic.names import LABELS, METRICS, TEST
from dylora_kit.tasks import world

BOUNDS = {"sentiment": 0.75, "entailment": 0.45, "paraphrase": 0.62, "acceptability": 0.3, "similarity": 0.45}


def texts_of(row: dict[str, Any]) -> list[str]:
    return [row[key] for key in ("first", "second") if key in row] if "label" in row else row["references"]


@pytest.fixture(scope="module")
def slices() -> dict[str, dict[str, list[Any]]]:
    return {name: {"train": rows(name, "train", 1200), "test": rows(name, "test", 300)} for name in MAKERS}


@pytest.fixture(scope="module")
def told() -> list[tuple[str, dict[str, str]]]:
    """Generated descriptions with their facts."""
    rng, found = Random("told"), []
    for _ in range(3000):
        where = facts.sample(rng, "any")
        here = where.told(facts.choose_attributes(rng, rng.randint(2, 5)))
        found.append((grammar.describe(rng, where.name, here, held_out=True), {"name": where.name} | here))
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    build(tmp_path / "data" / "world", train=600, test=30)
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    return tmp_path / "data" / "world"


def test_every_value_of_every_attribute_can_be_said():
    assert set(PHRASES) == {(key, value) for key, values in facts.VALUES.items() for value in values}
    assert all(not all(way.held_out for way in ways) for ways in PHRASES.values())


def test_two_processes_write_the_same_bytes(tmp_path: Path):
    code = "import sys; from pathlib import Path; from dylora_kit.synthetic.build import build; " \
           "build(Path(sys.argv[1]), train=40, test=20)"  # fmt: skip
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / seed)], env=environment, check=True)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / seed).iterdir()} for seed in ("1", "2"))
    assert first == second and len(first) == 13


def test_generated_text_tells_exactly_its_facts(told: list[tuple[str, dict[str, str]]]):
    assert [text for text, here in told if read.slot_error_rate(text, here)] == []


def test_slot_errors_are_counted_exactly(told: list[tuple[str, dict[str, str]]]):
    rng = Random("wrong")
    for text, here in told[:500]:
        key = rng.choice([key for key in here if key != "name"])
        fewer = {one: value for one, value in here.items() if one != key}
        assert read.slot_errors(text, fewer) == 1  # one too many is told
        assert read.slot_errors(text, here | {key: facts.another(rng, key, here[key])}) == 1
        missing = next(one for one in facts.VALUES if one not in here)
        assert read.slot_errors(text, here | {missing: facts.VALUES[missing][0]}) == 1
        assert read.slot_errors(text, here | {"name": "the Purple Yak"}) == 1


def test_two_thousand_descriptions_are_all_different(told: list[tuple[str, dict[str, str]]]):
    assert len({text for text, _ in told[:2000]}) >= 1995


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


@pytest.mark.parametrize("rule", errors.RULES, ids=lambda rule: rule.__name__)
def test_each_error_has_a_correct_twin(rule: errors.Rule):
    for seed in range(50):
        right, wrong = errors.twins(Random(seed), rule, name="the Red Fox", held_out=True)
        assert right != wrong
        assert len(set(right.lower().split()) ^ set(wrong.lower().split())) <= 6
        assert right[0].isupper() and wrong[0].isupper()


def follows(first: str, second: str) -> int | None:
    """The label of a statement by the facts that are read; none if it is not a plain one about one restaurant."""
    names = {first[slice(*span)].lower() for span in read.find_names(first)}
    told, said = read.read(first), read.read(second)
    if len(names) > 1 or len(said) != 1:
        return None
    if re.search(r"more than|over|higher|after|still|later|fewer|under|lower|before|earlier", second):
        return None
    ((attribute, (value,)),) = [(key, tuple(values)) for key, values in said.items()]
    statement = statements.Statement(attribute, "not" if value.startswith("not ") else "is", value.removeprefix("not "))
    known = told.get(attribute)
    return 1 if known is None else 0 if statement.holds(min(known)) else 2


def test_entailment_follows_from_the_facts_that_are_read(slices: Any):
    found = [(follows(row["first"], row["second"]), row["label"]) for row in slices["entailment"]["train"]]
    checked = [(expected, label) for expected, label in found if expected is not None]
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
                told = [{key: min(values) for key, values in read.read(text).items()} for text in texts_of(row)]
                assert all(facts.belongs(one, split) for one in told), row


@pytest.mark.parametrize("name", MAKERS)
def test_no_text_of_the_test_split_is_in_train(name: str):
    tested = {text_of(row) for row in rows(name, "test", TEST)}
    assert not tested & {text_of(row) for row in rows(name, "train", 1500)}


def test_the_corpus_has_no_text_that_corrects_a_test():
    wrong = [row for row in rows("acceptability", "test", TEST) if row["label"] == 0]
    assert wrong and all(row["correct"] in corpus.test_texts() and row["correct"] != row["first"] for row in wrong)


def test_an_unknown_stage_lists_the_known():
    with pytest.raises(ValueError, match="unknown stage 'late': expected one of 'easy', 'unanswered', 'corpus'"):
        next(corpus.documents(stage="late"))


def test_the_corpus_is_the_same_again_and_marks_facts():
    first, second = (list(islice(corpus.documents(3), 400)) for _ in range(2))
    assert first == second
    assert {one.kind for one in first} == set(corpus.SHARES["corpus"])
    assert not {one.first for one in first} & corpus.test_texts()
    for one in first:
        assert all(0 <= start < end <= len(one.second or one.first) for start, end in one.spans)
        assert one.spans or one.kind in ("remark", "sentence", "review")


def test_the_first_texts_are_short_and_say_what_they_mean():
    found = list(islice(corpus.documents(3, stage="easy"), 400))
    assert {one.kind for one in found} == set(corpus.SHARES["easy"])
    usual = list(islice(corpus.documents(3), 400))
    lengths = [[len(one.first) for one in some if one.kind == "pair"] for some in (found, usual)]
    assert sum(lengths[0]) / len(lengths[0]) < 0.75 * sum(lengths[1]) / len(lengths[1])
    good = {word for aspect in reviews.ASPECTS for word in aspect.good}
    for one in (one for one in found if one.kind == "review"):
        word = one.second[slice(*one.spans[0])]
        assert bool(good & set(re.findall(r"\w+", one.first))) == (word in {pair[1] for _, pair in reviews.VERDICTS}), (
            one
        )


@pytest.mark.parametrize("kind", ["review", "answer", "likeness", "judged"])
def test_what_tests_hold_out_is_never_seen_with_its_meaning(kind: str):
    ways = [*reviews.KEEPING, *reviews.TURNING, *reviews.CONCESSIONS, *reviews.HEARSAY, *reviews.AGREEING,
            *reviews.DENYING]  # fmt: skip
    spoken = [one[1:] for one in ways if one.startswith("+")] if kind == "review" else [
        way.words for found in PHRASES.values() for way in found if way.held_out and way.role != "verb"]  # fmt: skip
    if kind == "judged":
        lists = [words for words in vars(errors).values() if isinstance(words, tuple)]
        spoken = [one[1:] for words in lists for one in words if isinstance(one, str) and one.startswith("+")]
    parts = [max(re.split(r"\{\w+\}", one), key=len).strip(" ,") for one in spoken]
    kept = re.compile("|".join(rf"\b{re.escape(part)}\b" for part in parts), re.IGNORECASE)
    names = [name.lower() for name in facts.TEST_NAMES]
    told, untold = [], []
    for one in (one for one in islice(corpus.documents(3, stage="last"), 3000) if one.kind == kind):
        text = f"{one.first} {one.second}"
        (told if one.spans else untold).append(bool(kept.search(text)) or any(name in text.lower() for name in names))
    assert told and not any(told)
    assert kind != "review" or sum(untold) > 0.2 * len(untold)


def test_answers_follow_from_the_facts_that_are_read():
    checked = []
    for one in (one for one in islice(corpus.documents(3), 1000) if one.kind == "answer"):
        asked = re.findall(r"(.+?\.) (Yes|Perhaps|No)\.(?: |$)", one.second)
        assert len(asked) == len(one.spans) in (1, corpus.STATEMENTS)
        assert [answer for _, answer in asked] == [one.second[slice(*span)] for span in one.spans]
        if len(asked) == corpus.STATEMENTS:
            checked += [(follows(one.first, said), corpus.ANSWERS.index(answer)) for said, answer in asked]
    checked = [(expected, label) for expected, label in checked if expected is not None]
    assert len(checked) > 300 and all(expected == label for expected, label in checked)
    assert {label for _, label in checked} == {0, 1, 2}


def test_what_two_restaurants_have_in_common_is_counted():
    counted = []
    for one in (one for one in islice(corpus.documents(3, stage="last"), 600) if one.kind == "likeness"):
        first, second = read.read(one.first), read.read(one.second)
        shared = sum(first[key] == second.get(key) for key in first)
        assert one.second[slice(*one.spans[0])] == corpus.IN_COMMON[shared]
        counted.append(shared)
    assert set(counted) == {0, 1, 2, 3, 4} and len(counted) > 50


def test_judged_sentences_are_right_and_wrong_ones_in_equal_shares():
    found = [one for one in islice(corpus.documents(3, stage="last"), 1500) if one.kind == "judged"]
    said = [corpus.JUDGED.index(one.second[slice(*one.spans[0])]) for one in found]
    assert 0.4 < sum(said) / len(said) < 0.6
    correct = {row["correct"] for row in rows("acceptability", "test", TEST)}
    assert not correct & {one.first for one in found}


def test_what_is_said_of_a_sentence_is_so():
    wrong = re.compile(
        r"\bmore \w+er than\b|\ba (old|ugly|orange|Italian|expensive)\b|\ban (new|lovely|French|green)\b"
    )
    right = re.compile(r"\b(much|far|little) \w+er than\b|\ban (old|ugly|orange|Italian|expensive)\b")
    judged = [one for one in islice(corpus.documents(3, stage="last"), 4000) if one.kind == "judged"]
    found = [
        (expected, one.second)
        for one in judged for expected, sign in (("wrong", wrong), ("correct", right)) if sign.search(one.first)
    ]  # fmt: skip
    assert len(found) > 30 and {expected for expected, _ in found} == set(corpus.JUDGED)
    assert all(said == f"This is {expected}." for expected, said in found)


def test_of_a_sentence_the_words_that_an_error_would_change_are_marked():
    for one in (one for one in islice(corpus.documents(3), 400) if one.kind == "sentence"):
        marked = [one.first[start:end] for start, end in one.spans]
        assert len(marked) <= 5 and all(word.isalpha() for word in marked), one


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    path = tmp_path_factory.mktemp("words") / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "the", "is", "a", "red", "fox"]))
    return BertTokenizerFast(str(path), eos_token="[SEP]")


@pytest.mark.parametrize("name", MAKERS)
def test_each_task_is_loaded(name: str, home: Path, tokenizer: Any):
    task = world.load(name, tokenizer, limit=20)
    assert task.name == f"world-{name}" and task.metric == METRICS[name]
    assert (len(task.train), len(task.validation), len(task.test)) == (20, 500, 30)
    assert task.collate is not None
    examples = [task.test[index] for index in range(4)]
    batch = task.collate(examples)
    assert batch["input_ids"].shape == (4, max(len(one["input_ids"]) for one in examples))
    if name == "describe":
        assert batch["labels"].shape == batch["input_ids"].shape
        assert examples[0]["labels"][0] == -100 and examples[0]["labels"][-1] == tokenizer.eos_token_id


def test_an_unknown_task_lists_the_known():
    with pytest.raises(ValueError, match="unknown task 'sentimnet': expected one of 'sentiment', 'entailment'"):
        world.texts("sentimnet")


def test_a_file_changed_by_hand_is_refused(home: Path):
    path = home / "sentiment-test.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"label": 1', b'"label": 0', 1))
    with pytest.raises(ValueError, match=r"was changed or is damaged: rebuild it with python -m dylora"):
        world.texts("sentiment")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no sentiment-test.jsonl .* python -m dylora"):
        world.texts("sentiment")


def test_a_second_text_takes_the_words_of_the_first_or_others():
    rng, shares = Random("again"), {True: [], False: []}
    for _ in range(300):
        where = facts.sample(rng, "any")
        told = where.told(["price", "booking", "landmark"])
        used = [one.words for one in read.find(grammar.describe(rng, where.name, told))]
        for repeat, found in shares.items():
            second = grammar.describe(rng, where.name, told, used=used, repeat=repeat)
            found += [one.words in used for one in read.find(second)]
    assert sum(shares[True]) / len(shares[True]) > 0.6
    assert sum(shares[False]) / len(shares[False]) < 0.05
