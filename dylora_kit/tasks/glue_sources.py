"""The rows of GLUE tasks, from official files, from parquet files or from the hub, checked against what is official.

All give datasets with the columns `first`, `second` (in tasks with two texts) and `labels`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HUB = "nyu-mll/glue"
BINARY = ("0", "1")


@dataclass(frozen=True)
class Spec:
    """How a task is laid out: its official folder and columns, what the hub calls them, and what its labels mean."""

    folder: str
    texts: tuple[str, ...]  # columns of the texts
    hub_texts: tuple[str, ...]  # what the hub calls them
    label: str  # column of the labels
    classes: tuple[str, ...]  # in the order of the hub's numbers; none for a score
    metric: str
    train: int  # official numbers of rows
    dev: int
    header: tuple[str, ...] | None = None  # columns of a file without a first line
    dev_file: str = "dev"
    hub_dev: str = "validation"
    also: tuple[str, ...] = ()  # metrics that are reported beside it
    broken_lines: bool = False  # whether the official files have lines that the hub and these counts leave out


def from_folder(name: str, spec: Spec, folder: Path) -> tuple[list[Any], bool]:
    """Train and dev of a task, read from the folder `glue`, and whether one of them is a subset.

    Raises `FileNotFoundError` for a missing file and `ValueError` for a file that is not as the official one.
    """
    hub_layout = folder / name.removesuffix("-mm")
    if hub_layout.is_dir() and list(hub_layout.glob("*.parquet")):
        return _from_parquet(hub_layout, spec), False
    train, train_is_subset = _find(folder / spec.folder, "train")
    dev, dev_is_subset = _find(folder / spec.folder, spec.dev_file)
    parts = [
        _from_tsv(train, spec, None if train_is_subset else spec.train),
        _from_tsv(dev, spec, None if dev_is_subset else spec.dev),
    ]
    return parts, train_is_subset or dev_is_subset


def from_hub(name: str, spec: Spec) -> list[Any]:
    """Train and dev of a task from the hub.

    Raises `ConnectionError` if the hub cannot be reached, and `ValueError` for rows that are not the official ones.
    """
    from datasets import load_dataset

    try:
        splits = load_dataset(HUB, name.removesuffix("-mm"))
    except Exception as error:  # whatever went wrong, the user needs to know what to set
        raise ConnectionError(
            f"cannot load {HUB} from the hub ({type(error).__name__}): set DYLORA_KIT_DATA to a folder with "
            f"glue/{spec.folder}/train.tsv and {spec.dev_file}.tsv"
        ) from error
    return [_checked(splits[split], split, count, spec) for split, count in _hub_splits(spec).items()]


def _hub_splits(spec: Spec) -> dict[str, int]:
    """What the hub calls train and dev, and how many rows they have."""
    return {"train": spec.train, spec.hub_dev: spec.dev}


def _from_parquet(folder: Path, spec: Spec) -> list[Any]:
    """Train and dev from parquet files, laid out as on the hub."""
    from datasets import Dataset

    files = {split: sorted(map(str, folder.glob(f"{split}-*.parquet"))) for split in _hub_splits(spec)}
    for split, paths in files.items():
        if not paths:
            raise FileNotFoundError(f"{folder} has no {split}-….parquet")
    rows = {split: Dataset.from_parquet(paths) for split, paths in files.items()}
    return [_checked(rows[split], split, count, spec) for split, count in _hub_splits(spec).items()]


def _checked(rows: Any, split: str, count: int, spec: Spec) -> Any:
    """Rows of the hub with the columns `first`, `second` and `labels`, once they are known to be the official ones."""
    lacking = [column for column in (*spec.hub_texts, "label") if column not in rows.column_names]
    if lacking:
        raise ValueError(f"the hub's rows have no column {lacking[0]!r}: they have {', '.join(rows.column_names)}")
    if len(rows) != count:
        raise ValueError(f"the hub's {split} has {len(rows):,} rows: expected the official {count:,}")
    classes = getattr(rows.features["label"], "names", None)
    if classes and spec.classes != BINARY and tuple(classes) != spec.classes:
        raise ValueError(f"the hub's labels are {', '.join(classes)}: expected {', '.join(spec.classes)}")
    low, high, highest = min(rows["label"]), max(rows["label"]), len(spec.classes) - 1 if spec.classes else 5
    if low < 0 or high > highest:
        raise ValueError(f"the hub's {split} has labels from {low} to {high}: expected 0 to {highest}")
    names = dict(zip(spec.hub_texts, ("first", "second"), strict=False)) | {"label": "labels"}
    return rows.select_columns(list(names)).rename_columns(names)


def _find(folder: Path, stem: str) -> tuple[Path, bool]:
    """The official file or, where that is missing, the subset of it; and whether it is the subset."""
    for path, subset in ((folder / f"{stem}.tsv", False), (folder / f"{stem}_subset.tsv", True)):
        if path.is_file():
            return path, subset
    raise FileNotFoundError(
        f"there is no {stem}.tsv in {folder}: set DYLORA_KIT_DATA to a folder with glue/{folder.name}/{stem}.tsv, "
        "or unset it to load from the hub"
    )


def _from_tsv(path: Path, spec: Spec, official: int | None) -> Any:
    """The rows of a file in the official layout; `official` is how many there are to be, None for a subset."""
    from datasets import Dataset, Features, Value
    from datasets.exceptions import DatasetGenerationError

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    columns = ("first", "second")[: len(spec.texts)]
    labels = Value("int64" if spec.classes else "float64")
    features = Features(dict.fromkeys(columns, Value("string")) | {"labels": labels})
    arguments = {"path": path, "spec": spec, "official": official, "digest": digest}
    try:
        return Dataset.from_generator(_rows, features=features, gen_kwargs=arguments)
    except DatasetGenerationError as error:
        cause = error.__cause__
        if isinstance(cause, UnicodeDecodeError):
            raise ValueError(f"{path} is not UTF-8, as the official file is: {cause}") from None
        if isinstance(cause, ValueError):
            raise cause from None
        raise


def _rows(path: Path, spec: Spec, official: int | None, digest: str) -> Iterator[dict[str, Any]]:
    """The rows of a file, one after the other.

    A tab always ends a cell and a newline a row. Quotes and other line ends are part of the text. `digest` is only for
    datasets' cache, which goes by the arguments: a file that was changed is read again.
    """
    count = 0
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        lines = enumerate((line.rstrip("\r\n").split("\t") for line in file), 1)
        columns = list(spec.header or next(lines, (1, [""]))[1])
        _check_columns(path, columns, spec)
        for number, cells in lines:
            if len(cells) == len(columns):
                count += 1
                yield _row(dict(zip(columns, cells, strict=True)), spec, f"{path}, line {number},")
            elif not spec.broken_lines:
                raise ValueError(f"{path}, line {number}, has {len(cells)} cells: expected {len(columns)}")
    _check_count(path, count, official)


def _check_columns(path: Path, columns: list[str], spec: Spec) -> None:
    lacking = [column for column in (*spec.texts, spec.label) if column not in columns]
    if lacking:
        raise ValueError(f"{path} has no column {lacking[0]!r}: it has {', '.join(columns)}")


def _check_count(path: Path, count: int, official: int | None) -> None:
    if count == 0:
        raise ValueError(f"{path} has no rows below the names of its columns")
    if official is not None and count != official:
        raise ValueError(
            f"{path} has {count:,} rows, the official file has {official:,}: call a part of it {path.stem}_subset.tsv, "
            "and results will say so"
        )


def _row(cells: dict[str, str], spec: Spec, where: str) -> dict[str, Any]:
    """The texts and the label of a line, given the cells by column."""
    texts = dict(zip(("first", "second"), (cells[column] for column in spec.texts), strict=False))
    return texts | {"labels": _label(cells[spec.label], spec, where)}


def _label(text: str, spec: Spec, where: str) -> int | float:
    """The number of a class, or the score, that a cell holds."""
    if text in spec.classes:
        return spec.classes.index(text)
    try:
        if not spec.classes and 0 <= float(text) <= 5:
            return float(text)
    except ValueError:
        pass
    raise ValueError(f"{where} has the label {text!r}: expected {', '.join(spec.classes) or 'a number from 0 to 5'}")
