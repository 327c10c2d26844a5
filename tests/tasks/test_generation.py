"""E2E, DART and WebNLG: lines of facts, texts to learn from, references, from files, from the hub, and refusals."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from generation_files import DART_ENTRIES, WEBNLG_ENTRIES, e2e_rows, write_dart, write_e2e, write_webnlg

from dylora_kit import backbones
from dylora_kit.evaluation.writing import prompt_ids
from dylora_kit.tasks import dart, e2e, webnlg

TWICE = (
    ("name[Cotto], near[The Mill]", "Cotto is near The Mill."),
    ("name[Cotto], near[The Mill]", "By The Mill: Cotto."),
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return backbones.tokenizer("world-gpt2")


def test_train_has_one_row_for_each_text_and_test_one_for_each_input(tmp_path: Path, tokenizer: Any) -> None:
    task = e2e.load(tokenizer, source=write_e2e(tmp_path, [*e2e_rows(3), *TWICE]))
    assert (task.name, task.metric) == ("e2e (subset)", "bleu")
    assert [len(row["references"]) for row in task.train] == [1] * 5
    assert (
        [len(row["references"]) for row in task.test] == [1, 1, 1, 2] == [len(r["references"]) for r in task.validation]
    )
    assert task.test[3]["first"] == "name : Cotto | near : The Mill ||"
    assert task.test[3]["facts"] == {"name": "Cotto", "near": "The Mill"}
    assert task.test[3]["references"] == [text for _, text in TWICE]


def test_the_loss_is_on_the_text_and_its_end_alone(tmp_path: Path, tokenizer: Any) -> None:
    task = e2e.load(tokenizer, source=write_e2e(tmp_path))
    for row in (*task.train, *task.test):
        (prompt,) = prompt_ids(tokenizer, [row["first"]])
        assert row["input_ids"][: len(prompt)] == prompt and set(row["labels"][: len(prompt)]) == {-100}
        assert row["labels"][len(prompt) :] == row["input_ids"][len(prompt) :]
        assert row["labels"][-1] == tokenizer.eos_token_id
        assert (
            tokenizer.decode(row["labels"][len(prompt) : -1]).strip()
            == tokenizer.decode(tokenizer(f" {row['references'][0]}", add_special_tokens=False)["input_ids"]).strip()
        )


def test_a_batch_is_filled_up_to_its_longest_row(tmp_path: Path, tokenizer: Any) -> None:
    task = e2e.load(tokenizer, source=write_e2e(tmp_path))
    rows = sorted(task.train, key=lambda row: len(row["input_ids"]))
    short, long = rows[0], rows[-1]
    assert task.collate is not None
    batch = task.collate([short, long])
    n = len(short["input_ids"])
    assert batch.keys() == {"input_ids", "attention_mask", "labels"}
    assert batch["input_ids"].shape == (2, len(long["input_ids"])) and n < len(long["input_ids"])
    assert set(batch["labels"][0, n:].tolist()) == {-100} and set(batch["attention_mask"][0, n:].tolist()) == {0}


def test_dart_has_predicates_in_lower_case_and_equal_triples_together(tmp_path: Path, tokenizer: Any) -> None:
    task = dart.load(tokenizer, source=write_dart(tmp_path, DART_ENTRIES))
    assert len(task.train) == 3 and task.name == "dart (subset)"
    (row,) = task.test
    assert row["first"] == "Ada : field_of : maths | Ada : born : 1815 ||" and len(row["references"]) == 3
    assert row["facts"] == [("Ada", "field_of", "maths"), ("Ada", "born", "1815")]


def test_webnlg_has_the_texts_that_are_marked_as_good(tmp_path: Path, tokenizer: Any) -> None:
    task = webnlg.load(tokenizer, source=write_webnlg(tmp_path, WEBNLG_ENTRIES))
    (row,) = task.train
    assert (row["first"], row["references"]) == ('Ada_L : bornIn : "1815" ||', ["Ada, born in 1815."])
    assert task.also == ("meteor", "ter")


HUB = {
    "e2e": [{"meaning_representation": mr, "human_reference": ref} for mr, ref in TWICE],
    "dart": [{"tripleset": [["a", "B", "c"]], "annotations": {"source": ["x", "y"], "text": ["one", "two"]}}],
    "webnlg": [{"modified_triple_sets": {"mtriple_set": [["a | b | c"]]},
                "lex": {"comment": ["good", "good"], "text": ["one", "two"]}}],
}  # fmt: skip


@pytest.mark.parametrize("module", [e2e, dart, webnlg])
def test_rows_of_the_hub_are_read_alike(module: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = module.__name__.rpartition(".")[2]
    monkeypatch.delenv("DYLORA_KIT_DATA", raising=False)
    asked: list[Any] = []

    def load_dataset(*names: str, **options: Any) -> Any:
        asked.append(names)
        return dict.fromkeys(("train", "validation", "dev", "test"), HUB[name])

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    task = module.load(tokenizer)
    assert task.name == name and asked and "/" in asked[0][0]
    assert len(task.train) == 2 and len(task.test) == 1 and len(task.test[0]["references"]) == 2


def test_without_a_hub_the_error_says_what_to_set(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYLORA_KIT_DATA", raising=False)

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(ConnectionError, match=r"set DYLORA_KIT_DATA to a folder with e2e/ and in it trainset\.csv"):
        e2e.load(tokenizer)


@pytest.mark.parametrize(
    "facts", ["name Cotto", "name[Cotto", "name[Cotto] near[x]", "name[Cotto], name[Zizzi]", "", "name[Cotto], x"]
)
def test_facts_that_do_not_parse_are_named_with_their_row(tmp_path: Path, tokenizer: Any, facts: str) -> None:
    source = write_e2e(tmp_path, [*e2e_rows(2), (facts, "A text.")])
    with pytest.raises(ValueError, match=r"trainset_subset.csv, row 3, does not parse: it has the facts '") as error:
        e2e.load(tokenizer, source=source)
    assert repr(facts) in str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"tripleset": [["a", "b"]], "annotations": []}, r"row 2, does not parse: it has the triple \['a', 'b'\]"),
        ({"tripleset": [], "annotations": []}, "row 2, does not parse: it has no triples"),
        ({"annotations": []}, "row 2, does not parse: it has no 'tripleset'"),
    ],
)
def test_triples_that_do_not_parse_are_named(tmp_path: Path, tokenizer: Any, entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dart.load(tokenizer, source=write_dart(tmp_path, [DART_ENTRIES[0], entry]))


def test_training_rows_that_are_too_long_are_left_out_and_told(tmp_path: Path, tokenizer: Any) -> None:
    rows = [*e2e_rows(4), ("name[Cotto], near[Zizzi]", "Cotto " * 100)]
    with pytest.warns(UserWarning) as warned:
        task = e2e.load(tokenizer, source=write_e2e(tmp_path, rows), max_length=90)
    told = [str(warning.message) for warning in warned]
    assert told[0].startswith("1 of 5 training rows of e2e are longer than 90 tokens, and are left out")
    assert told[2].startswith("1 first references in the test part of e2e are cut to 90 tokens")
    assert len(task.train) == 4 and len(task.test) == 5
    assert max(len(row["input_ids"]) for row in (*task.train, *task.test)) == 90


@pytest.mark.filterwarnings("ignore:.*training rows")
def test_an_input_that_leaves_no_room_for_a_text_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    source = write_e2e(tmp_path, [*e2e_rows(2), (f"name[{'Cotto ' * 100}]", "A text.")])
    with pytest.raises(ValueError, match="input 3 of the validation part of e2e has 90 tokens or more alone"):
        e2e.load(tokenizer, source=source, max_length=90)
    with pytest.raises(ValueError, match="no training row of e2e has as few as 3 tokens"):
        e2e.load(tokenizer, source=source, max_length=3)


def test_a_limit_takes_rows_by_the_seed(tmp_path: Path, tokenizer: Any) -> None:
    source = write_e2e(tmp_path)
    firsts = [
        tuple(row["first"] for row in e2e.load(tokenizer, source=source, limit=5, seed=seed).train)
        for seed in (0, 0, 1)
    ]
    assert len(firsts[0]) == 5 and firsts[0] == firsts[1] != firsts[2]
    with pytest.raises(ValueError, match="limit must be at least 1"):
        e2e.load(tokenizer, source=source, limit=0)


def test_a_missing_or_changed_file_is_refused_by_name(tmp_path: Path, tokenizer: Any) -> None:
    source = write_e2e(tmp_path)
    folder = source / "e2e"
    (folder / "trainset_subset.csv").rename(folder / "trainset.csv")
    with pytest.raises(ValueError, match=r"trainset\.csv has 20 entries, the official file has 42,061: call"):
        e2e.load(tokenizer, source=source)
    (folder / "trainset.csv").write_text("mr,text\nname[x],y\n")
    with pytest.raises(ValueError, match="has no column 'ref': it has mr, text"):
        e2e.load(tokenizer, source=source)
    (folder / "trainset.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no trainset\.csv in"):
        e2e.load(tokenizer, source=source)
    write_dart(tmp_path, DART_ENTRIES)
    (tmp_path / "dart" / "dart-v1.1.1-full-dev_subset.json").write_text("[{")
    with pytest.raises(ValueError, match=r"dev_subset\.json is no JSON file, it is damaged"):
        dart.load(tokenizer, source=tmp_path)


def test_official_files_make_no_subset(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_webnlg(tmp_path, WEBNLG_ENTRIES)
    for name in ("train", "dev", "test"):
        (tmp_path / "webnlg" / f"{name}_subset.json").rename(tmp_path / "webnlg" / f"{name}.json")
    parts = tuple(dataclasses.replace(part, entries=1) for part in webnlg.WEBNLG.parts)
    monkeypatch.setenv("DYLORA_KIT_DATA", str(tmp_path))
    assert dataclasses.replace(webnlg.WEBNLG, parts=parts).load(tokenizer).name == "webnlg"


def test_a_text_needs_an_end(tmp_path: Path) -> None:
    tokenizer = backbones.tokenizer("world-gpt2")
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="the tokenizer has no end token"):
        e2e.load(tokenizer, source=write_e2e(tmp_path), max_length=90)
