"""Small files of GLUE in the official layouts, and a tokenizer of their words."""

import dataclasses
from pathlib import Path
from typing import Any

from transformers import BertTokenizerFast

from dylora_kit.tasks import glue

TRAIN, DEV = 40, 12
MNLI_OFFICIAL = ["index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse",
                 "sentence1_parse", "sentence2_parse", "sentence1", "sentence2", "label1", "gold_label"]  # fmt: skip
# the columns of the official files, in their order
COLUMNS = {
    "mnli": MNLI_OFFICIAL,
    "mnli-mm": MNLI_OFFICIAL,
    "sst2": ["sentence", "label"],
    "mrpc": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
    "cola": ["source", "label", "star", "sentence"],
    "qnli": ["index", "question", "sentence", "label"],
    "qqp": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
    "rte": ["index", "sentence1", "sentence2", "label"],
    "stsb": [
        "index",
        "genre",
        "filename",
        "year",
        "old_index",
        "source1",
        "source2",
        "sentence1",
        "sentence2",
        "score",
    ],
}


def small_specs() -> dict[str, glue.Spec]:
    """The tasks with as many official rows as are written here."""
    return {name: dataclasses.replace(spec, train=TRAIN, dev=DEV) for name, spec in glue.SPECS.items()}


def tokenizer_in(folder: Path) -> BertTokenizerFast:
    """A tokenizer of the words that are written here."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, '"', "says", "no", *(f"w{index}" for index in range(60))]
    path = folder / "vocab.txt"
    path.write_text("\n".join(vocabulary))
    return BertTokenizerFast(str(path))


def value(column: str, name: str, row: int) -> str:
    """What stands in a cell; texts hold an open quote, which belongs to them."""
    spec = glue.SPECS[name]
    if column == spec.label:
        return spec.classes[row % len(spec.classes)] if spec.classes else f"{row % 5}.{row % 10}00"
    if column in spec.texts:
        start = (
            '" ' if row % 3 == 0 else ""
        )  # at the start of a cell, where a reader of quotes would look for the other
        return f'{start}w{row} says " w{spec.texts.index(column)}' + " no" * (row % 5)
    return f"{column}-{row}"


def write(folder: Path, name: str, *, suffix: str = "", rows: tuple[int, int] = (TRAIN, DEV), **kept: Any) -> Path:
    """Train and dev of a task in the official layout; returns the folder that is the source."""
    spec = glue.SPECS[name]
    target = folder / "glue" / spec.folder
    target.mkdir(parents=True, exist_ok=True)
    columns = kept.get("columns", COLUMNS[name])
    for stem, count in zip(("train", spec.dev_file), rows, strict=True):
        lines = ["\t".join(value(column, name, row) for column in columns) for row in range(count)]
        header = [] if spec.header else ["\t".join(columns)]
        text = "\n".join([*header, *lines]) + "\n"
        mark = "\ufeff" if name == "mrpc" else ""
        (target / f"{stem}{suffix}.tsv").write_text(mark + text, encoding="utf-8")
    return folder
