"""What E2E, DART and WebNLG have in common: facts of an input as one line, and texts of them to learn from.

A training row is one text of one input, with labels on the text alone. A row of validation and test is one input with
all its texts as references.
"""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dylora_kit.evaluation.writing import filler_of, prompt_ids
from dylora_kit.tasks import Task
from dylora_kit.training.batches import IGNORED

Row = dict[str, Any]
Entry = tuple[Any, list[str]]  # the facts of an input, and texts of them
END = " ||"  # ends the line of facts; what comes after it is the text
PARQUET = "refs/convert/parquet"  # the hub's copy of a data set, which needs no code of its authors


@dataclass(frozen=True)
class Part:
    """One of train, validation and test: its official file, files that hold a part of it, and its official size."""

    file: str
    subset: str  # a pattern
    entries: int
    hub: str  # what the hub calls it


@dataclass(frozen=True)
class Source:
    """How a data set is laid out, on disk and on the hub, and how its task is loaded.

    Attributes:
        name: of the task, and of its folder.
        hub: on the hub, with a configuration if it has some.
        parts: train, validation and test.
        read: the entries of a file, as they stand in it.
        entry, hub_entry: the facts and texts of one of them, of a file and of the hub; `ValueError` if it does not
            parse.
        line: facts as one line, without its end.
        metrics: the first is the task's metric.
    """

    name: str
    hub: tuple[str, ...]
    parts: tuple[Part, Part, Part]
    read: Callable[[Path], list[Any]]
    entry: Callable[[Any], Entry]
    hub_entry: Callable[[Any], Entry]
    line: Callable[[Any], str]
    metrics: tuple[str, ...]

    def load(
        self,
        tokenizer: Any,
        *,
        source: str | os.PathLike[str] | None = None,
        max_length: int = 512,
        limit: int | None = None,
        seed: int = 0,
    ) -> Task:
        """The task, tokenised, from the hub or from a local folder.

        A row has `"first"`, the facts as a line, which is what a model is given; `"references"`, the texts that people
        wrote of them, one in train and all in the others; `"facts"`, as the data set has them; and ids with labels on
        the first reference alone. Text and line are joined by a space, and the tokenizer's end token ends the text.

        Arguments:
            tokenizer: of a causal model.
            source: a folder that holds one with the task's name; default is the one that `DYLORA_KIT_DATA` names, or
                else the hub.
            max_length: training rows with more tokens are left out, with a warning; no more than the model can see.
            limit: only so many training rows, chosen by the seed.

        The line is that of LoRA's authors, but for its end: they put an end token where `||` stands here.

        Raises `ValueError` for facts that do not parse, which it names with their row, and for data that is not as the
        official one, `FileNotFoundError` for a missing file, and `ConnectionError` if the hub cannot be reached.
        """
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no end token, so that no text would end: set tokenizer.eos_token")
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1: got {limit}")
        chosen = source or os.environ.get("DYLORA_KIT_DATA")
        parts, is_subset = _from_folder(self, Path(chosen).expanduser()) if chosen else (_from_hub(self), False)
        train, validation, test = parts
        if limit is not None and limit < len(train):
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:limit]
            train = [train[index] for index in sorted(order.tolist())]
        longest = min(max_length, tokenizer.model_max_length)
        train = _without_long(encoded(train, tokenizer), longest, self.name)
        validation, test = (encoded(_grouped(rows), tokenizer) for rows in (validation, test))
        for rows, what in ((validation, "validation"), (test, "test")):
            _cut(rows, longest, f"the {what} part of {self.name}")
        name = self.name + (" (subset)" if is_subset else "")
        metric, *also = self.metrics
        return Task(name, train, validation, test, metric=metric, collate=collator(tokenizer), also=tuple(also))


def encoded(rows: Sequence[Row], tokenizer: Any) -> list[Row]:
    """The rows with the ids of line, first reference and an end token, and labels on all but the line."""
    lines = list(dict.fromkeys(row["first"] for row in rows))
    prompts = dict(zip(lines, prompt_ids(tokenizer, lines), strict=True))
    texts = [f" {row['references'][0]}" for row in rows]
    targets = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    result = []
    for row, text in zip(rows, targets, strict=True):
        prompt, target = prompts[row["first"]], [*text, tokenizer.eos_token_id]
        ids, labels = [*prompt, *target], [IGNORED] * len(prompt) + target
        result.append({**row, "input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
    return result


def collator(tokenizer: Any) -> Callable[[list[Any]], dict[str, Any]]:
    """What makes a batch (n, tokens) of rows with ids and labels: each column filled up to the longest row."""
    filler = filler_of(tokenizer) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return partial(_padded, fillers={"input_ids": filler, "attention_mask": 0, "labels": IGNORED})


def triples_line(triples: Sequence[Sequence[str]]) -> str:
    """Triples as one line.

    >>> triples_line([("Ada", "born", "1815"), ("Ada", "field", "mathematics")])
    'Ada : born : 1815 | Ada : field : mathematics'
    """
    return " | ".join(" : ".join(triple) for triple in triples)


def triple(parts: Any) -> tuple[str, str, str]:
    """Subject, predicate and object; `ValueError` if these are not three texts."""
    if not isinstance(parts, list | tuple) or len(parts) != 3 or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"the triple {parts!r}: expected subject, predicate and object")
    return parts[0], parts[1], parts[2]


def read_json_list(path: Path) -> list[Any]:
    """The entries of a JSON file."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file, it is damaged: {error}") from None
    entries = entries.get("entries") if isinstance(entries, dict) else entries
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds no list of entries")
    return entries


def _padded(examples: list[Row], fillers: dict[str, int]) -> dict[str, Any]:
    longest = max(len(example["input_ids"]) for example in examples)

    def filled(example: Row, key: str) -> list[int]:
        return [*example[key], *[fillers[key]] * (longest - len(example[key]))]

    return {key: torch.tensor([filled(example, key) for example in examples]) for key in fillers}


def _from_folder(source: Source, folder: Path) -> tuple[list[list[Row]], bool]:
    """One row for each text of train, validation and test, and whether one of them is a subset."""
    found = [_find(folder / source.name, part) for part in source.parts]
    parts = []
    for (path, is_subset), part in zip(found, source.parts, strict=True):
        entries = source.read(path)
        if not is_subset and len(entries) != part.entries:
            raise ValueError(
                f"{path} has {len(entries):,} entries, the official file has {part.entries:,}: call a part of it "
                f"{path.stem}_subset{path.suffix}, and results will say so"
            )
        parts.append(_rows(source, entries, source.entry, str(path)))
    return parts, any(is_subset for _, is_subset in found)


def _find(folder: Path, part: Part) -> tuple[Path, bool]:
    """The official file or, where that is missing, a part of it; and whether it is a part."""
    if (folder / part.file).is_file():
        return folder / part.file, False
    subsets = sorted(folder.glob(part.subset))
    if not subsets:
        raise FileNotFoundError(
            f"there is no {part.file} in {folder}: set DYLORA_KIT_DATA to a folder with {folder.name}/{part.file}, or "
            "unset it to load from the hub"
        )
    return subsets[0], True


def _from_hub(source: Source) -> list[list[Row]]:
    """One row for each text of train, validation and test, from the hub."""
    from datasets import load_dataset

    try:
        splits = load_dataset(*source.hub, revision=PARQUET)
        parts = [splits[part.hub] for part in source.parts]
    except Exception as error:  # whatever went wrong, the user needs to know what to set
        files = ", ".join(part.file for part in source.parts)
        raise ConnectionError(
            f"cannot load {source.hub[0]} from the hub ({type(error).__name__}): set DYLORA_KIT_DATA to a folder with "
            f"{source.name}/ and in it {files}"
        ) from error
    return [
        _rows(source, rows, source.hub_entry, f"the hub's {part.hub} of {source.hub[0]}")
        for rows, part in zip(parts, source.parts, strict=True)
    ]


def _rows(source: Source, entries: Any, parsed: Callable[[Any], Entry], where: str) -> list[Row]:
    """One row for each text of each entry."""
    rows = []
    for number, raw in enumerate(entries, 1):
        try:
            facts, texts = parsed(raw)
        except (ValueError, KeyError, TypeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{where}, row {number}, does not parse: it has {what}") from None
        first = source.line(facts) + END
        rows += [{"first": first, "references": [text], "facts": facts} for text in texts if text]
    if not rows:
        raise ValueError(f"{where} has no texts")
    return rows


def _grouped(rows: Sequence[Row]) -> list[Row]:
    """One row for each input, in the order of their first texts, with all its different texts as references."""
    groups: dict[str, Row] = {}
    for row in rows:
        group = groups.setdefault(row["first"], row | {"references": []})
        group["references"] += [text for text in row["references"] if text not in group["references"]]
    return list(groups.values())


def _without_long(rows: list[Row], longest: int, name: str) -> list[Row]:
    """The training rows that are short enough; tells how many are not."""
    kept = [row for row in rows if len(row["input_ids"]) <= longest]
    if not kept:
        raise ValueError(f"no training row of {name} has as few as {longest} tokens: raise max_length")
    if len(kept) < len(rows):
        warnings.warn(
            f"{len(rows) - len(kept):,} of {len(rows):,} training rows of {name} are longer than {longest} tokens, and "
            "are left out",
            stacklevel=3,
        )
    return kept


def _cut(rows: list[Row], longest: int, where: str) -> None:
    """Cuts the first references of rows that are too long, in place; tells how many.

    Raises `ValueError` for a line that leaves no room for a text.
    """
    long = [(number, row) for number, row in enumerate(rows, 1) if len(row["input_ids"]) > longest]
    for number, row in long:
        if row["labels"][longest - 1] == IGNORED:
            raise ValueError(f"input {number} of {where} has {longest} tokens or more alone: raise max_length")
        for key in ("input_ids", "attention_mask", "labels"):
            row[key] = row[key][:longest]
    if long:
        warnings.warn(
            f"{len(long):,} first references in {where} are cut to {longest} tokens with their input, for the loss",
            stacklevel=3,
        )
