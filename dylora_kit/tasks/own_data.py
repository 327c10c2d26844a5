"""Your own texts and labels: a CSV or JSON file, a table in memory or a `Dataset`, tokenised.

`load("reviews.csv", tokenizer, text="review", label="stars")` gives a `Task` like those of GLUE. `num_labels(task)`
says how many outputs its model needs. `read_texts` reads texts without labels.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dylora_kit.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 10  # rows, of which one tenth each is put aside
KINDS = (".csv", ".tsv", ".json", ".jsonl")


@dataclass(frozen=True)
class OwnTask(Task):
    """A task of your own.

    Attributes:
        classes: what the labels 0, 1, … stand for, as text; empty for scores.
    """

    classes: tuple[str, ...] = ()


def load(
    data: Any,
    tokenizer: Any,
    *,
    text: str | Sequence[str],
    label: str,
    scores: bool = False,
    validation: Any = None,
    test: Any = None,
    encoding: str = "utf-8",
    max_length: int = 256,
    seed: int = 0,
) -> OwnTask:
    """A task of texts with a class or a score each. Batches are padded to their longest row.

    Arguments:
        data: the path of a `.csv`, `.tsv`, `.json` (a list of objects) or `.jsonl` file, a pandas frame, a `Dataset`,
            or a list of dicts.
        tokenizer: a transformers tokenizer with a pad token.
        text: the column with the text, or two columns for pairs.
        label: the column with the class of each row, by name or number, or with its score.
        scores: whether labels are numbers to be predicted and not classes.
        validation, test: data like the first, with the same columns; where one is None, a tenth of the rows is cut
            from `data` for it.
        encoding: of the files, such as `"cp1252"` for many that spreadsheets write.
        max_length: texts are cut to so many tokens, and to as many as the model can see.
        seed: which rows are cut.

    Classes are sorted, as numbers if all are. The metric is accuracy, or Pearson's correlation for scores.

    Raises `FileNotFoundError` for a missing file, and `ValueError` for columns that are not there, another encoding,
    rows without a text or a label, fewer than 10 rows, a single class, a class that the training rows lack, and scores
    that are not numbers.

    >>> load([{"text": "good", "label": "yes"}], None, text="review", label="label")
    Traceback (most recent call last):
        ...
    ValueError: data has no column 'review': its columns are 'text', 'label'
    """
    columns = [text] if isinstance(text, str) else list(text)
    if len(columns) not in (1, 2):
        raise ValueError(f"text must be one column or two: got {text!r}")
    read = partial(_rows, columns=columns, label=label, scores=scores, encoding=encoding)
    parts = {"data": read(data, "data")}
    parts |= {
        name: read(given, name) for name, given in (("validation", validation), ("test", test)) if given is not None
    }
    if tokenizer.pad_token is None:
        raise ValueError("the tokenizer has no pad token: set one, such as tokenizer.pad_token = tokenizer.eos_token")
    parts = _cut(parts, seed)
    classes = () if scores else _classes(parts)
    encode = partial(_encoded, tokenizer=tokenizer, classes=classes, length=min(max_length, tokenizer.model_max_length))
    from transformers import DataCollatorWithPadding

    name = Path(data).stem if isinstance(data, str | os.PathLike) else "own data"
    train, held_out, tested = (encode(parts[part]) for part in ("train", "validation", "test"))
    metric = "pearson" if scores else "accuracy"
    return OwnTask(name, train, held_out, tested, metric, DataCollatorWithPadding(tokenizer), classes=classes)


def num_labels(task: OwnTask) -> int:
    """How many outputs a model for a task needs: its classes, or 1 for a score."""
    return len(task.classes) or 1


def read_texts(path: str | os.PathLike[str], column: str | None = None, *, encoding: str = "utf-8") -> list[str]:
    """The texts of a file, without labels: each line of a text file, or a column of a CSV or JSON file.

    Empty lines and cells are left out. Raises `FileNotFoundError` for a missing file, and `ValueError` for one without
    texts, for a column that is not there, not named, or named of a text file, and for another encoding.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() in KINDS:
        frame = _file(file, encoding)
        if column not in frame.columns:
            there = ", ".join(map(repr, frame.columns))
            raise ValueError(f"name the column of {path} in which the texts are: its columns are {there}")
        texts = frame[column].astype("string").fillna("").tolist()
    elif not file.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    elif column is not None:
        raise ValueError(f"{path} is read as one text a line, and has no column {column!r}: leave the column out")
    else:
        with _named_encoding(file, encoding):
            texts = file.read_text(_with_mark(encoding)).split("\n")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ValueError(f"there is no text in {path}")
    return texts


def _rows(data: Any, what: str, *, columns: list[str], label: str, scores: bool, encoding: str) -> "pd.DataFrame":
    """The texts and labels of one part: columns first, second (of pairs) and label; no text and no label is missing."""
    import pandas as pd

    frame = _frame(data, what, encoding)
    for column in (*columns, label):
        if column not in frame.columns:
            there = ", ".join(map(repr, frame.columns))
            raise ValueError(f"{what} has no column {column!r}: its columns are {there}")
    rows = pd.DataFrame(
        {name: frame[column].astype("string") for name, column in zip(("first", "second"), columns, strict=False)}
    )
    rows["label"] = frame[label].astype("string").str.strip()
    for name, column in zip(rows.columns, (*columns, label), strict=True):
        empty = rows.index[rows[name].isna() | (rows[name].str.strip() == "")]
        if len(empty):
            raise ValueError(
                f"row {empty[0] + 1} of {what} has nothing in column {column!r}, one of {len(empty)} such rows: leave "
                "them out"
            )
    if scores:
        numbers = pd.to_numeric(rows["label"], errors="coerce").astype(float)
        wrong = rows.index[~numbers.abs().lt(float("inf"))]
        if len(wrong):
            raise ValueError(
                f"{rows['label'][wrong[0]]!r} in row {wrong[0] + 1} of {what} is not a score: expected finite numbers "
                f"in {label!r}, or scores=False for classes"
            )
        rows["label"] = numbers
    return rows


def _frame(data: Any, what: str, encoding: str) -> "pd.DataFrame":
    """Data of any kind as a table, whose rows are counted from 0."""
    import pandas as pd

    if isinstance(data, str | os.PathLike):
        return _file(Path(data).expanduser(), encoding)
    if hasattr(data, "to_pandas"):  # of datasets
        data = data.to_pandas()
    elif isinstance(data, Sequence) and all(isinstance(row, Mapping) for row in data):
        data = pd.DataFrame(list(data))
    if not isinstance(data, pd.DataFrame):
        raise TypeError(
            f"{what} is a {type(data).__name__}: expected the path of a file, a pandas frame, a Dataset or a list "
            "of dicts"
        )
    return data.reset_index(drop=True)


def _file(path: Path, encoding: str) -> "pd.DataFrame":
    """A file's table; text is read as it stands, so that "NA" and "007" stay what they are."""
    import pandas as pd

    if path.suffix.lower() not in KINDS:
        raise ValueError(f"{path.name!r} is of an unknown kind: expected a file that ends in {', '.join(KINDS)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        with _named_encoding(path, encoding), warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # which pandas gives where a row has more fields
            if path.suffix.lower() in (".csv", ".tsv"):
                separator = "\t" if path.suffix.lower() == ".tsv" else ","
                return pd.read_csv(
                    path, sep=separator, dtype="string", keep_default_na=False, encoding=encoding, index_col=False
                )
            lines = path.suffix.lower() == ".jsonl"
            return pd.read_json(
                path, lines=lines, orient="records", dtype=False, convert_dates=False, encoding=encoding
            )
    except pd.errors.ParserWarning as error:
        raise ValueError(
            f"a row of {path.name!r} has more fields than the header: separate columns by a comma, and put texts with "
            "a comma in quotes"
        ) from error
    except pd.errors.ParserError as error:
        raise ValueError(
            f"{path.name!r} cannot be read as a table ({error}): put texts with a comma in quotes"
        ) from error
    except ValueError as error:
        if "encoding" in str(error):
            raise
        raise ValueError(f"{path.name!r} cannot be read as a table ({error})") from error


@contextmanager
def _named_encoding(path: Path, encoding: str) -> Iterator[None]:
    """Turns the error of text in another encoding into a sentence."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name!r} is not in {encoding}: name its encoding, such as 'cp1252' or 'utf-16'"
        ) from error
    except LookupError as error:
        if "encoding" not in str(error):
            raise
        raise ValueError(f"there is no encoding {encoding!r}: name one, such as 'cp1252' or 'utf-16'") from error


def _with_mark(encoding: str) -> str:
    """An encoding that takes a mark at the beginning of a file for what it is."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _cut(parts: dict[str, "pd.DataFrame"], seed: int) -> dict[str, "pd.DataFrame"]:
    """The rows of train, validation and test, those that were not given cut from the data."""
    data = parts.pop("data")
    if len(data) < FEWEST:
        raise ValueError(f"data has {len(data)} rows: expected {FEWEST} at least, of which most are trained on")
    size = max(1, len(data) // 10)
    for name in ("validation", "test"):
        if name not in parts:
            parts[name] = data.sample(size, random_state=seed)
            data = data.drop(parts[name].index)
    return {"train": data} | parts


def _classes(parts: Mapping[str, "pd.DataFrame"]) -> tuple[str, ...]:
    """The classes of the training rows, sorted, as numbers if all are; `ValueError` unless they are all there is."""
    found = parts["train"]["label"].unique().tolist()
    if len(found) < 2:
        raise ValueError(f"all training rows have the class {found[0]!r}: expected two classes at least")
    for name, rows in parts.items():
        new = sorted(set(rows["label"]) - set(found))
        if new:
            raise ValueError(
                f"the class {new[0]!r} of the {name} rows is in no training row: give more rows, or parts that fit"
                + (", or scores=True (--scores) if labels are numbers to be predicted" if _are_decimal(found) else "")
            )
    try:
        return tuple(sorted(found, key=float))
    except ValueError:
        return tuple(sorted(found))


def _are_decimal(labels: Sequence[str]) -> bool:
    """Whether labels are numbers, and not all of them whole.

    >>> _are_decimal(["0.5", "2"]), _are_decimal(["1", "2"]), _are_decimal(["0.5", "good"])
    (True, False, False)
    """
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return False
    return not all(number.is_integer() for number in numbers)


def _encoded(rows: "pd.DataFrame", tokenizer: Any, classes: tuple[str, ...], length: int) -> Any:
    """Rows as a `Dataset` of token ids with labels."""
    import datasets

    texts = [rows[name].tolist() for name in ("first", "second") if name in rows]
    labels = rows["label"].map({name: index for index, name in enumerate(classes)}) if classes else rows["label"]
    return datasets.Dataset.from_dict(
        {**tokenizer(*texts, truncation=True, max_length=length), "labels": labels.tolist()}
    )
