"""GLUE in each official layout, from small files that the tests write; from the hub's layout; and refusals."""

import copy
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
from glue_files import COLUMNS, DEV, TRAIN, small_specs, tokenizer_in, value, write
from transformers import AutoTokenizer, BertTokenizerFast

from dylora_kit.evaluation.metrics import METRICS
from dylora_kit.tasks import glue


@pytest.fixture(autouse=True)
def small_counts(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Official files of few rows, and a cache of their own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")
    monkeypatch.setattr(glue, "SPECS", small_specs())
    monkeypatch.delenv("DYLORA_KIT_DATA", raising=False)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    return tokenizer_in(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(params=COLUMNS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_each_task_is_read_in_its_official_layout(name: str, tmp_path: Path, tokenizer: Any) -> None:
    task = glue.load(name, tokenizer, source=write(tmp_path, name))
    assert task.name == f"glue-{name}"
    assert (len(task.train), len(task.validation), len(task.test)) == (36, 4, DEV)
    spec = glue.SPECS[name]
    for row in (0, 7):
        texts = [value(column, name, row) for column in spec.texts]
        assert task.test[row]["input_ids"] == tokenizer(*texts)["input_ids"]
        wanted = (
            spec.classes.index(value(spec.label, name, row)) if spec.classes else float(value(spec.label, name, row))
        )
        assert task.test[row]["labels"] == wanted


def test_the_second_time_what_was_tokenised_comes_from_the_cache(name: str, tmp_path: Path, tokenizer: Any) -> None:
    def load(**options: Any) -> tuple[Any, set[Path]]:
        """What is loaded with a fresh tokenizer, and the files it made."""
        before = set(cache.rglob("*.arrow"))
        task = glue.load(name, AutoTokenizer.from_pretrained(tmp_path / "tokenizer"), source=source, **options)
        return task, set(cache.rglob("*.arrow")) - before

    cache = datasets.config.HF_DATASETS_CACHE
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    source = write(tmp_path, name)
    first, made = load()
    again, made_again = load()
    assert made and not made_again
    assert again.train[:] == first.train[:]
    shorter, made = load(max_length=6)
    assert made and max(map(len, shorter.train["input_ids"])) == 6 < max(map(len, first.train["input_ids"]))


def test_a_file_that_was_changed_is_read_anew(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "rte")
    old = glue.load("rte", tokenizer, source=source).test[0]["input_ids"]
    path = source / "glue" / "RTE" / "dev.tsv"
    path.write_text(path.read_text().replace("w0 says", "w9 says"))
    assert glue.load("rte", tokenizer, source=source).test[0]["input_ids"] != old


def test_a_batch_is_padded_to_its_longest_and_no_further(name: str, tmp_path: Path, tokenizer: Any) -> None:
    task = glue.load(name, tokenizer, source=write(tmp_path, name))
    assert task.collate is not None
    rows = [task.test[row] for row in (0, 1, 4)]
    batch = task.collate(rows)
    assert batch["input_ids"].shape == (3, max(len(row["input_ids"]) for row in rows))
    assert batch["labels"].dtype == (torch.int64 if glue.SPECS[name].classes else torch.float32)
    assert batch["attention_mask"].sum() == sum(len(row["input_ids"]) for row in rows)


def test_validation_is_cut_from_train_and_dev_is_only_reported_on(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "rte")
    task = glue.load("rte", tokenizer, source=source)
    first = [tuple(row["input_ids"]) for part in (task.train, task.validation) for row in part]
    assert sorted(first) == sorted(
        tuple(tokenizer(value("sentence1", "rte", row), value("sentence2", "rte", row))["input_ids"])
        for row in range(TRAIN)
    )
    again = glue.load("rte", tokenizer, source=source, seed=1)
    assert [row["input_ids"] for row in again.validation] != [row["input_ids"] for row in task.validation]
    assert [row["input_ids"] for row in again.test] == [row["input_ids"] for row in task.test]


def test_the_simple_layout_of_mnli_is_read_too(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "mnli", columns=["index", "sentence1", "sentence2", "gold_label"])
    plain = glue.load("mnli", tokenizer, source=source)
    official = glue.load("mnli", tokenizer, source=write(tmp_path / "official", "mnli"))
    assert plain.test.to_dict() == official.test.to_dict()


def test_mnli_mismatched_reads_its_own_dev_file(tmp_path: Path, tokenizer: Any) -> None:
    write(tmp_path, "mnli")
    with pytest.raises(FileNotFoundError, match=r"no dev_mismatched\.tsv"):
        glue.load("mnli-mm", tokenizer, source=tmp_path)
    write(tmp_path, "mnli-mm")
    assert len(glue.load("mnli-mm", tokenizer, source=tmp_path).test) == DEV


def test_a_subset_is_read_where_the_official_file_is_missing_and_says_so(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "qqp", suffix="_subset", rows=(23, 9))
    task = glue.load("qqp", tokenizer, source=source)
    assert task.name == "glue-qqp (subset)"
    assert len(task.test) == 9


def as_hub(tsv: Path, name: str) -> Path:
    """The rows of a tsv source in the hub's layout."""
    spec = glue.SPECS[name]
    folder = tsv / "hub" / "glue" / name
    folder.mkdir(parents=True)
    for split, count in (("train", TRAIN), (spec.hub_dev, DEV)):
        rows: dict[str, list[Any]] = {
            hub: [value(column, name, row) for row in range(count)]
            for column, hub in zip(spec.texts, spec.hub_texts, strict=True)
        }
        labels = [value(spec.label, name, row) for row in range(count)]
        rows["label"] = [spec.classes.index(label) if spec.classes else float(label) for label in labels]
        rows["idx"] = list(range(count))
        pd.DataFrame(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return tsv / "hub"


@pytest.mark.parametrize("name", ["mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb"])
def test_the_hub_s_layout_gives_the_same_rows(name: str, tmp_path: Path, tokenizer: Any) -> None:
    tsv = glue.load(name, tokenizer, source=write(tmp_path, name))
    hub = glue.load(name, tokenizer, source=as_hub(tmp_path, name))
    for part in ("train", "validation", "test"):
        assert getattr(hub, part).to_dict() == getattr(tsv, part).to_dict()


def test_the_folder_can_be_named_by_the_environment(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYLORA_KIT_DATA", str(write(tmp_path, "rte")))
    assert len(glue.load("rte", tokenizer).test) == DEV


def test_texts_are_cut_and_training_examples_limited(tmp_path: Path, tokenizer: Any) -> None:
    task = glue.load("sst2", tokenizer, source=write(tmp_path, "sst2"), max_length=5, limit=8)
    assert max(len(row["input_ids"]) for row in task.test) == 5
    assert (len(task.train), len(task.validation)) == (8, 4)


# What is refused


def test_an_official_file_with_another_number_of_rows_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "rte", rows=(TRAIN, DEV - 1))
    with pytest.raises(
        ValueError, match=r"dev\.tsv has 11 rows, the official file has 12: call a part of it dev_subset"
    ):
        glue.load("rte", tokenizer, source=source)


def test_a_missing_column_is_named(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "rte", columns=["index", "sentence1", "label"])
    with pytest.raises(ValueError, match=r"has no column 'sentence2': it has index, sentence1, label"):
        glue.load("rte", tokenizer, source=source)


@pytest.mark.parametrize(("task", "wrong"), [("rte", "maybe"), ("stsb", "high"), ("stsb", "nan"), ("sst2", "2")])
def test_an_unknown_label_is_named(task: str, wrong: str, tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, task)
    path = source / "glue" / glue.SPECS[task].folder / "dev.tsv"
    lines = path.read_text().splitlines()
    lines[3] = lines[3].rpartition("\t")[0] + f"\t{wrong}"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=f"has the label '{wrong}': expected"):
        glue.load(task, tokenizer, source=source)


def test_an_unknown_task_lists_the_known_ones(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="unknown GLUE task 'sst': expected one of 'mnli', 'mnli-mm', 'sst2'"):
        glue.load("sst", tokenizer)
    with pytest.raises(ValueError, match="unknown GLUE task 'sst': expected one of 'mnli', 'mnli-mm', 'sst2'"):
        glue.num_labels("sst")


def test_a_folder_without_the_task_says_what_to_set(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"set DYLORA_KIT_DATA to a folder with glue/RTE/train\.tsv"):
        glue.load("rte", tokenizer, source=tmp_path)


def test_an_unreachable_hub_is_one_sentence_that_says_what_to_set(tokenizer: Any) -> None:
    with pytest.raises(ConnectionError, match=r"cannot load nyu-mll/glue from the hub .* set DYLORA_KIT_DATA"):
        glue.load("rte", tokenizer)


# Metrics


def outputs(classes: list[int]) -> Any:
    return torch.nn.functional.one_hot(torch.tensor(classes), 2).numpy()


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    labels = torch.tensor([1, 1, 1, 0, 0]).numpy()
    assert METRICS["f1"](outputs([1, 0, 1, 1, 0]), labels) == pytest.approx(2 * (2 / 3) * (2 / 3) / (4 / 3))


def test_matthews_is_zero_for_one_class_and_one_for_all_right() -> None:
    labels = torch.tensor([1, 0, 1, 0]).numpy()
    assert METRICS["matthews"](outputs([1, 1, 1, 1]), labels) == 0
    assert METRICS["matthews"](outputs([1, 0, 1, 0]), labels) == 1


def test_pearson_takes_scores_of_one_output_and_is_zero_where_they_are_all_the_same() -> None:
    labels = torch.tensor([1.0, 2.0, 4.0]).numpy()
    assert METRICS["pearson"](labels[:, None] * 3 + 1, labels) == pytest.approx(1)
    assert METRICS["pearson"](labels[:, None] * 0, labels) == 0


def spoiled(source: Path, name: str, number: int, line: str) -> Path:
    """The train file with another line at a place, counted from 1."""
    path = source / "glue" / glue.SPECS[name].folder / "train.tsv"
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("line", ["0\ta\tb\tentailment\tnot_entailment", "1\tonly one text"], ids=["long", "short"])
@pytest.mark.parametrize("number", [2, 9])
def test_a_line_of_more_or_fewer_cells_is_refused_by_its_number(
    number: int, line: str, tmp_path: Path, tokenizer: Any
) -> None:
    source = write(tmp_path, "rte")
    spoiled(source, "rte", number, line)
    with pytest.raises(ValueError, match=f"train.tsv, line {number}, has [25] cells: expected 4"):
        glue.load("rte", tokenizer, source=source)


def test_the_broken_lines_of_qqp_are_left_out_as_the_hub_does(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "qqp", rows=(TRAIN + 2, DEV))
    spoiled(source, "qqp", 5, "7\t8\t9\tIs this a question, or")
    spoiled(source, "qqp", 6, "\tdoes it end here?\t0")
    task = glue.load("qqp", tokenizer, source=source)
    assert len(task.train) + len(task.validation) == TRAIN


def test_a_carriage_return_within_a_text_ends_no_row(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "rte")
    path = source / "glue" / "RTE" / "train.tsv"
    path.write_bytes(path.read_bytes().replace(b"w3 says", b"w3\rsays").replace(b"\n", b"\r\n"))
    assert len(glue.load("rte", tokenizer, source=source).train) == TRAIN - 4


def test_a_file_in_another_encoding_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "sst2")
    (source / "glue" / "SST-2" / "dev.tsv").write_bytes("sentence\tlabel\ncaf\u00e9\t1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"dev.tsv is not UTF-8"):
        glue.load("sst2", tokenizer, source=source)


def test_a_file_without_rows_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    source = write(tmp_path, "sst2", suffix="_subset", rows=(TRAIN, 0))
    with pytest.raises(ValueError, match=r"dev_subset.tsv has no rows"):
        glue.load("sst2", tokenizer, source=source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.iloc[:-1], "train has 39 rows: expected the official 40"),
        (lambda frame: frame.assign(label=frame["label"].replace(1, 2)), "labels from 0 to 2: expected 0 to 1"),
        (lambda frame: frame.assign(label=-1), "labels from -1 to -1: expected 0 to 1"),
        (lambda frame: frame.drop(columns="sentence2"), "no column 'sentence2'"),
    ],
    ids=["rows", "label 2", "label -1", "column"],
)
def test_a_hub_that_differs_is_refused(change: Any, message: str, tmp_path: Path, tokenizer: Any) -> None:
    rows = pd.DataFrame({"sentence1": ["a"] * TRAIN, "sentence2": ["b"] * TRAIN, "label": [0, 1] * (TRAIN // 2)})
    folder = tmp_path / "glue" / "rte"
    folder.mkdir(parents=True)
    change(rows).to_parquet(folder / "train-00000-of-00001.parquet")
    rows.iloc[:DEV].to_parquet(folder / "validation-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=message):
        glue.load("rte", tokenizer, source=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 3}, "max_length must be a whole number of at least 4 tokens: got 3"),
        ({"max_length": None}, "max_length must be a whole number"),
        ({"limit": 0}, "limit must be at least 1: got 0"),
    ],
    ids=str,
)
def test_a_length_or_limit_that_leaves_nothing_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path, tokenizer: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        glue.load("rte", tokenizer, source=write(tmp_path, "rte"), **options)


def test_a_tokenizer_that_cannot_pad_is_refused_at_once(tmp_path: Path, tokenizer: Any) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    with pytest.raises(ValueError, match="has no pad token: set one"):
        glue.load("rte", bare, source=write(tmp_path, "rte"))
