"""GLUE: the eight tasks of the paper's Table 2, from the hub or from a local folder, tokenised.

A local folder is named by `DYLORA_KIT_DATA` (or given): `glue/SST-2/train.tsv` and so on in the official layouts, or
`glue/sst2/train-00000-of-00001.parquet` as on the hub. A file called `…_subset.tsv` is read where the official one is
missing, and the task's name then ends in "(subset)".

The dev split is `test` here, since GLUE publishes no labels for its own. Choose settings on `validation`, which is cut
from train.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dylora_kit.tasks import Task

HUB = "nyu-mll/glue"
VALIDATION = 0.1  # share of train, at most 2,000 examples
BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")


@dataclass(frozen=True)
class Spec:
    """How one task is laid out: official folder and columns, and what the hub calls them."""

    folder: str
    texts: tuple[str, ...]
    hub_texts: tuple[str, ...]
    label: str
    classes: tuple[str, ...]  # labels in the order of the hub's numbers; none for a score
    metric: str
    train: int  # official number of rows
    dev: int
    header: tuple[str, ...] | None = None  # columns of a file without a first line
    dev_file: str = "dev"
    hub_dev: str = "validation"
    also: tuple[str, ...] = ()
    broken_lines: bool = False  # the official file has some, which the hub leaves out and the counts here too


_NLI = ("entailment", "neutral", "contradiction")
SPECS: dict[str, Spec] = {
    "mnli": Spec("MNLI", ("sentence1", "sentence2"), ("premise", "hypothesis"), "gold_label", _NLI, "accuracy",
                 392702, 9815, dev_file="dev_matched", hub_dev="validation_matched"),
    "mnli-mm": Spec("MNLI", ("sentence1", "sentence2"), ("premise", "hypothesis"), "gold_label", _NLI, "accuracy",
                    392702, 9832, dev_file="dev_mismatched", hub_dev="validation_mismatched"),
    "sst2": Spec("SST-2", ("sentence",), ("sentence",), "label", BINARY, "accuracy", 67349, 872),
    "mrpc": Spec("MRPC", ("#1 String", "#2 String"), ("sentence1", "sentence2"), "Quality", BINARY, "f1", 3668, 408,
                 also=("accuracy",)),
    "cola": Spec("CoLA", ("sentence",), ("sentence",), "label", BINARY, "matthews", 8551, 1043,
                 header=("source", "label", "star", "sentence")),
    "qnli": Spec("QNLI", ("question", "sentence"), ("question", "sentence"), "label", ENTAILMENT, "accuracy",
                 104743, 5463),
    "qqp": Spec("QQP", ("question1", "question2"), ("question1", "question2"), "is_duplicate", BINARY, "accuracy",
                363846, 40430, broken_lines=True),
    "rte": Spec("RTE", ("sentence1", "sentence2"), ("sentence1", "sentence2"), "label", ENTAILMENT, "accuracy",
                2490, 277),
    "stsb": Spec("STS-B", ("sentence1", "sentence2"), ("sentence1", "sentence2"), "score", (), "pearson", 5749, 1500),
}  # fmt: skip


def load(
    name: str,
    tokenizer: Any,
    *,
    source: str | os.PathLike[str] | None = None,
    max_length: int = 128,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """One GLUE task, tokenised, padded batch by batch. The second time, what was tokenised comes from datasets' cache.

    Arguments:
        name: `"mnli"`, `"mnli-mm"`, `"sst2"`, `"mrpc"`, `"cola"`, `"qnli"`, `"qqp"`, `"rte"` or `"stsb"`.
        tokenizer: a transformers tokenizer.
        source: a folder that holds `glue/`; default is `DYLORA_KIT_DATA`, and the hub where that is not set.
        max_length: texts are cut to so many tokens, those that mark beginning and end included.
        limit: only so many training examples, chosen by the seed.
        seed: which examples of train are put aside for validation.

    The metric is the paper's: accuracy, F1 for MRPC (accuracy beside it), Matthews' correlation for CoLA, Pearson's for
    STS-B.

    Raises `ValueError` for a file whose columns, labels or number of rows are not the official ones, and
    `FileNotFoundError` or `ConnectionError` if there is no data, with what to set.

    >>> load("sst-2", None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: unknown GLUE task 'sst-2': expected one of 'mnli', 'mnli-mm', 'sst2', 'mrpc', 'cola', ...
    """
    if name not in SPECS:
        raise ValueError(f"unknown GLUE task {name!r}: expected one of {', '.join(map(repr, SPECS))}")
    spec = SPECS[name]
    marks = tokenizer.num_special_tokens_to_add(pair=len(spec.texts) > 1)
    if not isinstance(max_length, int) or max_length <= marks:
        raise ValueError(f"max_length must be a whole number of at least {marks + 1} tokens: got {max_length!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1: got {limit}")
    if tokenizer.pad_token is None:
        raise ValueError("the tokenizer has no pad token: set one, such as tokenizer.pad_token = tokenizer.eos_token")
    source = source or os.environ.get("DYLORA_KIT_DATA")
    if not source:
        splits, subset = _from_hub(name, spec), False
    else:
        splits, subset = _from_folder(name, spec, Path(source).expanduser() / "glue")
    tokenizer("", truncation=True, max_length=max_length)  # a fast tokenizer keeps this, and the cache goes by it
    encode = partial(_encode, tokenizer=tokenizer, max_length=max_length)
    train, test = (
        split.map(encode, batched=True, remove_columns=["first", *(["second"] if len(spec.texts) > 1 else [])])
        for split in splits
    )
    held = min(max(int(VALIDATION * len(train)), 1), 2000)
    if held == len(train):
        raise ValueError(f"{name} has {len(train)} training rows: at least 2 are needed to cut a validation part from")
    parts = train.train_test_split(test_size=held, shuffle=True, seed=seed)
    chosen = parts["train"] if limit is None else parts["train"].select(range(min(limit, len(parts["train"]))))
    label = f"glue-{name}" + (" (subset)" if subset else "")
    return Task(label, chosen, parts["test"], test, metric=spec.metric, collate=_collator(tokenizer), also=spec.also)


def num_labels(name: str) -> int:
    """How many outputs a model for a task needs: its classes, or 1 for a score.

    >>> num_labels("mnli"), num_labels("stsb")
    (3, 1)
    """
    return len(SPECS[name].classes) or 1


def _collator(tokenizer: Any) -> Callable[[list[Any]], dict[str, Any]]:
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(tokenizer)


def _encode(rows: dict[str, list[Any]], tokenizer: Any, max_length: int) -> dict[str, Any]:
    texts = [rows[key] for key in ("first", "second") if key in rows]
    return {**tokenizer(*texts, truncation=True, max_length=max_length), "labels": rows["labels"]}


def _from_folder(name: str, spec: Spec, folder: Path) -> tuple[list[Any], bool]:
    """Train and dev of a local folder, and whether one of them is a subset."""
    hub_layout = folder / name.removesuffix("-mm")
    if hub_layout.is_dir() and list(hub_layout.glob("*.parquet")):
        from datasets import Dataset

        files = {split: sorted(map(str, hub_layout.glob(f"{split}-*.parquet"))) for split in ("train", spec.hub_dev)}
        missing = [split for split, found in files.items() if not found]
        if missing:
            raise FileNotFoundError(f"{hub_layout} has no {missing[0]}-….parquet")
        read = [Dataset.from_parquet(found) for found in files.values()]
        return [_from_hub_rows(*one, spec) for one in zip(read, files, (spec.train, spec.dev), strict=True)], False
    train, small_train = _find(folder / spec.folder, "train")
    dev, small_dev = _find(folder / spec.folder, spec.dev_file)
    return [_from_tsv(train, spec, None if small_train else spec.train),
            _from_tsv(dev, spec, None if small_dev else spec.dev)], small_train or small_dev  # fmt: skip


def _find(folder: Path, stem: str) -> tuple[Path, bool]:
    for path, subset in ((folder / f"{stem}.tsv", False), (folder / f"{stem}_subset.tsv", True)):
        if path.is_file():
            return path, subset
    raise FileNotFoundError(
        f"there is no {stem}.tsv in {folder}: set DYLORA_KIT_DATA to a folder with glue/{folder.name}/{stem}.tsv, "
        "or unset it to load from the hub"
    )


def _from_tsv(path: Path, spec: Spec, rows: int | None) -> Any:
    """The texts and labels of a file; `rows` is how many an official one has."""
    from datasets import Dataset, Features, Value
    from datasets.exceptions import DatasetGenerationError

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # for datasets' cache: the same file, the same rows
    labels = Value("int64" if spec.classes else "float64")
    features = Features(dict.fromkeys(("first", "second")[: len(spec.texts)], Value("string")) | {"labels": labels})
    given = {"path": path, "spec": spec, "rows": rows, "digest": digest}
    try:
        return Dataset.from_generator(_rows, features=features, gen_kwargs=given)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            raise ValueError(f"{path} is not UTF-8, as the official file is: {error.__cause__}") from None
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def _rows(path: Path, spec: Spec, rows: int | None, digest: str) -> Iterator[dict[str, Any]]:
    """Row by row. A tab always ends a cell and a newline a row: quotes, and other line ends, are part of the text."""
    count = 0
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        lines = enumerate((line.rstrip("\r\n").split("\t") for line in file), 1)
        columns = list(spec.header or next(lines, (1, [""]))[1])
        lacking = [column for column in (*spec.texts, spec.label) if column not in columns]
        if lacking:
            raise ValueError(f"{path} has no column {lacking[0]!r}: it has {', '.join(columns)}")
        for number, cells in lines:
            if len(cells) != len(columns):
                if spec.broken_lines:
                    continue
                raise ValueError(f"{path}, line {number}, has {len(cells)} cells: expected {len(columns)}")
            row = dict(zip(columns, cells, strict=True))
            texts = dict(zip(("first", "second"), (row[column] for column in spec.texts), strict=False))
            count += 1
            yield texts | {"labels": _label(row[spec.label], spec, f"{path}, line {number},")}
    if count == 0:
        raise ValueError(f"{path} has no rows below the names of its columns")
    if rows is not None and count != rows:
        raise ValueError(
            f"{path} has {count:,} rows, the official file has {rows:,}: call a part of it {path.stem}_subset.tsv, "
            "and results will say so"
        )


def _label(said: str, spec: Spec, where: str) -> int | float:
    if said in spec.classes:
        return spec.classes.index(said)
    try:
        if not spec.classes and 0 <= float(said) <= 5:
            return float(said)
    except ValueError:
        pass
    raise ValueError(f"{where} has the label {said!r}: expected {', '.join(spec.classes) or 'a number from 0 to 5'}")


def _from_hub(name: str, spec: Spec) -> list[Any]:
    from datasets import load_dataset

    try:
        splits = load_dataset(HUB, name.removesuffix("-mm"))
    except Exception as error:  # whatever the network says, the user needs to hear what to set
        raise ConnectionError(
            f"cannot load {HUB} from the hub ({type(error).__name__}): set DYLORA_KIT_DATA to a folder with "
            f"glue/{spec.folder}/train.tsv and {spec.dev_file}.tsv"
        ) from error
    rows = {"train": spec.train, spec.hub_dev: spec.dev}
    return [_from_hub_rows(splits[split], split, count, spec) for split, count in rows.items()]


def _from_hub_rows(rows: Any, split: str, count: int, spec: Spec) -> Any:
    """Rows of the hub with the columns that `_from_tsv` makes."""
    lacking = [column for column in (*spec.hub_texts, "label") if column not in rows.column_names]
    if lacking:
        raise ValueError(f"the hub's rows have no column {lacking[0]!r}: they have {', '.join(rows.column_names)}")
    if len(rows) != count:
        raise ValueError(f"the hub's {split} has {len(rows):,} rows: expected the official {count:,}")
    called = getattr(rows.features["label"], "names", None)
    if called and spec.classes != BINARY and tuple(called) != spec.classes:
        raise ValueError(f"the hub's labels are {', '.join(called)}: expected {', '.join(spec.classes)}")
    low, high = min(rows["label"]), max(rows["label"])
    if low < 0 or high > (len(spec.classes) - 1 if spec.classes else 5):
        raise ValueError(f"the hub's {split} has labels from {low} to {high}: expected {_expected(spec)}")
    names = dict(zip(spec.hub_texts, ("first", "second"), strict=False)) | {"label": "labels"}
    return rows.select_columns(list(names)).rename_columns(names)


def _expected(spec: Spec) -> str:
    return f"0 to {len(spec.classes) - 1}" if spec.classes else "0 to 5"
