"""The six text tasks of the small English world of restaurants, read from `data/world/`.

`python -m dylora_kit.synthetic` writes these files again, byte for byte the same on every machine.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dylora_kit.storage.files import data_folder, read_json
from dylora_kit.synthetic.names import LABELS, METRICS, NAMES, Row
from dylora_kit.tasks import Task
from dylora_kit.tasks.generation import collator

VALIDATION = 500  # examples of train that are put aside
REBUILD = "rebuild it with python -m dylora_kit.synthetic"


def load(name: str, tokenizer: Any, *, max_length: int = 128, limit: int | None = None, seed: int = 0) -> Task:
    """One task of the world, tokenised. Batches are padded to their longest example.

    Arguments:
        name: `"sentiment"`, `"entailment"`, `"paraphrase"`, `"acceptability"`, `"similarity"` or `"describe"`.
        tokenizer: a transformers tokenizer.
        max_length: texts are cut to so many tokens.
        limit: only so many training examples, chosen by the seed.
        seed: which 500 examples of train are put aside for validation.

    The metric is accuracy for sentiment and entailment, F1 for paraphrase, Matthews' correlation for acceptability and
    Pearson's for similarity. `describe` is for causal models, with labels on the text alone. What they write is scored
    by `scores` of `tasks/describe.py` against the rows of `texts("describe")["test"]`.

    Raises `ValueError` for an unknown task or a file that was changed, `FileNotFoundError` for a file that is missing.
    """
    from datasets import Dataset

    splits = texts(name, seed=seed)
    encode = partial(_encode_description if name == "describe" else _encode, tokenizer=tokenizer, max_length=max_length)
    with _no_progress_bars():
        train, validation, test = (
            Dataset.from_list([encode(row) for row in part])
            for part in (splits["train"][:limit], splits["validation"], splits["test"])
        )
    return Task(f"world-{name}", train, validation, test, metric=METRICS[name], collate=_collator(name, tokenizer))


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Hides the bars of datasets, and shows them again afterwards if they were shown."""
    from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def num_labels(name: str) -> int:
    """How many outputs a model for a task needs: its classes, or 1 for a score.

    >>> num_labels("entailment"), num_labels("similarity")
    (3, 1)
    """
    if name not in LABELS:
        raise ValueError(f"no classes for {name!r}: expected one of {', '.join(map(repr, LABELS))}")
    return LABELS[name]


def texts(name: str, *, seed: int = 0) -> dict[str, list[Row]]:
    """The rows of a task as they stand in its files: `"train"`, `"validation"` and `"test"`.

    The validation rows are put aside from those of the train file, by the seed. A row has a `"first"` text, perhaps a
    `"second"`, and a `"label"`. A row of `describe` has `"facts"` and `"references"` instead of a label.

    Raises `ValueError` for an unknown task or a file that was changed, `FileNotFoundError` for a file that is missing.
    """
    if name not in NAMES:
        raise ValueError(f"unknown task {name!r}: expected one of {', '.join(map(repr, NAMES))}")
    folder = data_folder() / "world"
    known, test = (_read(folder / f"{name}-{split}.jsonl") for split in ("train", "test"))
    known = [known[index] for index in np.random.default_rng(seed).permutation(len(known))]
    return {"train": known[VALIDATION:], "validation": known[:VALIDATION], "test": test}


def _read(path: Path) -> list[Row]:
    """The rows of a file, once its checksum is known to be that of the manifest."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}: {REBUILD}")
    if not (path.parent / "manifest.json").is_file():
        raise FileNotFoundError(f"there is no manifest.json in {path.parent}: {REBUILD}")
    checksum = read_json(path.parent / "manifest.json").get("sha256", {}).get(path.name)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ValueError(f"{path} is not the file that manifest.json lists, it was changed or is damaged: {REBUILD}")
    return [json.loads(line) for line in content.decode().splitlines()]


def _encode(row: Row, tokenizer: Any, max_length: int) -> Row:
    pair = [row[key] for key in ("first", "second") if key in row]
    return {**tokenizer(*pair, truncation=True, max_length=max_length), "labels": row["label"]}


def _encode_description(row: Row, tokenizer: Any, max_length: int) -> Row:
    """The ids of prompt, text and an end mark; the prompt has no labels."""
    prompt = tokenizer(prompt_of(row), add_special_tokens=False)["input_ids"]
    text = tokenizer(row["references"][0], add_special_tokens=False)["input_ids"]
    ids = [*prompt, *text, tokenizer.eos_token_id][:max_length]
    labels = [*([-100] * len(prompt)), *text, tokenizer.eos_token_id][:max_length]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def prompt_of(row: Row) -> str:
    """What a causal model is given of a row of `describe`; it goes on with the text.

    >>> prompt_of({"first": "name[the Red Fox] | kind[pub]"})
    'name[the Red Fox] | kind[pub]\\n'
    """
    return f"{row['first']}\n"


def _collator(name: str, tokenizer: Any) -> Callable[[list[Any]], dict[str, Any]]:
    from transformers import DataCollatorWithPadding

    return collator(tokenizer) if name == "describe" else DataCollatorWithPadding(tokenizer)
