"""E2E: one or two sentences about a restaurant from up to eight facts (the paper's Table 6).

From the hub or from a local folder, which is given or named by `DYLORA_KIT_DATA`, with the official files
`e2e/trainset.csv`, `devset.csv` and `testset_w_refs.csv`. Where one is missing, a file such as `trainset_subset.csv` is
read, and the task's name then ends in "(subset)".

`load(tokenizer)` gives 42,061 texts to learn from, 547 inputs to choose settings on and 630 to test on; `"facts"` of a
row are the value of each slot. Its arguments and errors are those of `generation.Source.load`.
"""

import csv
import re
from pathlib import Path
from typing import Any

from dylora_kit.tasks.generation import Entry, Part, Source

_FACT = re.compile(r"\s*([^\[\],]+)\[([^\[\]]*)\]\s*(?:,|$)")


def facts_of(meaning: str) -> dict[str, str]:
    """The value of each slot in a meaning representation of E2E; `ValueError` if it does not parse.

    >>> facts_of("name[Blue Spice], eatType[coffee shop]")
    {'name': 'Blue Spice', 'eatType': 'coffee shop'}
    """
    facts, position = dict[str, str](), 0
    while position < len(meaning):
        match = _FACT.match(meaning, position)
        if match is None or match[1].strip() in facts:
            break
        facts[match[1].strip()], position = match[2].strip(), match.end()
    if position < len(meaning) or not facts:
        raise ValueError(f"the facts {meaning!r}: expected such as 'name[Blue Spice], food[English]', each slot once")
    return facts


def line_of(facts: dict[str, str]) -> str:
    """Facts as one line.

    >>> line_of({"name": "Blue Spice", "eatType": "coffee shop"})
    'name : Blue Spice | eatType : coffee shop'
    """
    return " | ".join(f"{slot} : {value}" for slot, value in facts.items())


def _read(path: Path) -> list[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        lacking = {"mr", "ref"} - set(rows.fieldnames or ())
        if lacking:
            raise ValueError(f"{path} has no column {min(lacking)!r}: it has {', '.join(rows.fieldnames or ())}")
        try:
            return list(rows)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8, as the official file is: {error}") from None


def _entry(row: dict[str, str]) -> Entry:
    if row["ref"] is None:
        raise ValueError("one cell: expected facts and a text")
    return facts_of(row["mr"]), [row["ref"]]


def _hub_entry(row: dict[str, str]) -> Entry:
    return facts_of(row["meaning_representation"]), [row["human_reference"]]


E2E = Source(
    name="e2e",
    hub=("tuetschek/e2e_nlg",),
    parts=(
        Part("trainset.csv", "trainset_subset.csv", 42061, "train"),
        Part("devset.csv", "devset_subset.csv", 4672, "validation"),
        Part("testset_w_refs.csv", "testset_w_refs_subset.csv", 4693, "test"),
    ),
    read=_read,
    entry=_entry,
    hub_entry=_hub_entry,
    line=line_of,
    metrics=("bleu", "nist", "meteor", "rouge-l", "cider"),
)
load = E2E.load
