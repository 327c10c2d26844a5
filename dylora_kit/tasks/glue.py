"""GLUE: the eight tasks of the paper's Table 2, from the hub or from a local folder, tokenised.

A local folder, which is given or named by `DYLORA_KIT_DATA`, has official files such as `glue/SST-2/train.tsv`, or
files as on the hub such as `glue/sst2/train-00000-of-00001.parquet`. Where an official file is missing, a file such as
`train_subset.tsv` is read, and the task's name then ends in "(subset)".

The dev split is `test` here, since GLUE publishes no labels for its own. Choose settings on `validation`, which is cut
from train.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from dylora_kit.tasks import Task
from dylora_kit.tasks.glue_sources import BINARY, Spec, from_folder, from_hub

VALIDATION, MOST_VALIDATION = 0.1, 2000  # share of train that is put aside, and at most how many examples
ENTAILMENT = ("entailment", "not_entailment")
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

PAPER = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")  # the tasks of the paper's Table 2


def load(
    name: str,
    tokenizer: Any,
    *,
    source: str | os.PathLike[str] | None = None,
    max_length: int = 128,
    limit: int | None = None,
    seed: int = 0,
) -> Task:
    """One GLUE task: its train and dev rows, tokenised. Batches are padded to their longest row.

    Arguments:
        name: `"mnli"`, `"mnli-mm"`, `"sst2"`, `"mrpc"`, `"cola"`, `"qnli"`, `"qqp"`, `"rte"` or `"stsb"`.
        tokenizer: a transformers tokenizer with a pad token.
        source: a folder that holds `glue/`; default is the one that `DYLORA_KIT_DATA` names, or else the hub.
        max_length: texts are cut to so many tokens, those that mark beginning and end included.
        limit: only so many training examples, chosen by the seed.
        seed: which examples of train are put aside for validation.

    The metric is the paper's: accuracy, F1 for MRPC (accuracy beside it), Matthews' correlation for CoLA, Pearson's for
    STS-B. Tokenised rows are kept in datasets' cache for the next time.

    Raises `ValueError` for an unknown task or argument and for data whose columns, labels or number of rows are not the
    official ones, `FileNotFoundError` for a missing file, and `ConnectionError` if the hub cannot be reached.

    >>> load("sst-2", None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: unknown GLUE task 'sst-2': expected one of 'mnli', 'mnli-mm', 'sst2', 'mrpc', 'cola', ...
    """
    from transformers import DataCollatorWithPadding

    spec = _spec_of(name)
    _check_arguments(spec, tokenizer, max_length, limit)
    source = source or os.environ.get("DYLORA_KIT_DATA")
    if source:
        splits, is_subset = from_folder(name, spec, Path(source).expanduser() / "glue")
    else:
        splits, is_subset = from_hub(name, spec), False
    tokenizer("", truncation=True, max_length=max_length)  # a fast tokenizer keeps this, and the cache goes by it
    encode = partial(_encode, tokenizer=tokenizer, max_length=max_length)
    columns = ["first", "second"][: len(spec.texts)]
    rows, test = (split.map(encode, batched=True, remove_columns=columns) for split in splits)
    held_out = min(max(int(VALIDATION * len(rows)), 1), MOST_VALIDATION)
    if held_out == len(rows):
        raise ValueError(f"{name} has {len(rows)} training rows: at least 2 are needed to cut a validation part from")
    parts = rows.train_test_split(test_size=held_out, shuffle=True, seed=seed)
    train, validation = parts["train"], parts["test"]
    if limit is not None:
        train = train.select(range(min(limit, len(train))))
    label = f"glue-{name}" + (" (subset)" if is_subset else "")
    collate = DataCollatorWithPadding(tokenizer)
    return Task(label, train, validation, test, metric=spec.metric, collate=collate, also=spec.also)


def _check_arguments(spec: Spec, tokenizer: Any, max_length: Any, limit: int | None) -> None:
    marks = tokenizer.num_special_tokens_to_add(pair=len(spec.texts) > 1)
    if not isinstance(max_length, int) or max_length <= marks:
        raise ValueError(f"max_length must be a whole number of at least {marks + 1} tokens: got {max_length!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1: got {limit}")
    if tokenizer.pad_token is None:
        raise ValueError("the tokenizer has no pad token: set one, such as tokenizer.pad_token = tokenizer.eos_token")


def num_labels(name: str) -> int:
    """How many outputs a model for a task needs: its classes, or 1 for a score; `ValueError` for an unknown task.

    >>> num_labels("mnli"), num_labels("stsb")
    (3, 1)
    """
    return len(_spec_of(name).classes) or 1


def _spec_of(name: str) -> Spec:
    """The description of a task; `ValueError` if there is none of this name."""
    if name not in SPECS:
        raise ValueError(f"unknown GLUE task {name!r}: expected one of {', '.join(map(repr, SPECS))}")
    return SPECS[name]


def _encode(rows: dict[str, list[Any]], tokenizer: Any, max_length: int) -> dict[str, Any]:
    """Rows, given column by column, as token ids with their labels."""
    texts = [rows[key] for key in ("first", "second") if key in rows]
    return {**tokenizer(*texts, truncation=True, max_length=max_length), "labels": rows["labels"]}
