"""Small files in the layout of E2E, DART and WebNLG, for tests that write them."""

import csv
import json
from pathlib import Path
from typing import Any

NAMES = ("Blue Spice", "The Mill", "Cotto", "Loch Fyne", "Zizzi")
KINDS = ("pub", "coffee shop", "restaurant", "pub")
DART_ENTRIES = [
    {"tripleset": [["Ada", "FIELD_OF", "maths"], ["Ada", "BORN", "1815"]],
     "annotations": [{"source": "x", "text": "Ada was born in 1815."}, {"source": "x", "text": "Ada did maths."}]},
    {"tripleset": [["Ada", "FIELD_OF", "maths"], ["Ada", "BORN", "1815"]],
     "annotations": [{"source": "x", "text": "Born in 1815."}]},
]  # fmt: skip
WEBNLG_ENTRIES = [
    {"1": {"modifiedtripleset": [{"subject": "Ada_L", "property": "bornIn", "object": "\"1815\""}],
           "lexicalisations": [{"comment": "good", "lex": "Ada, born in 1815."}, {"comment": "toFix", "lex": "x"}]}},
]  # fmt: skip


def e2e_rows(n: int = 20) -> list[tuple[str, str]]:
    """As many different inputs of E2E, one text for each."""
    rows = []
    for index in range(n):
        name, kind = NAMES[index % 5], KINDS[index // 5 % 4]
        area = "riverside" if index % 2 else "city centre"
        rows.append(
            (f"name[{name}], eatType[{kind}], area[{area}]", f"{name} is a {kind} near the {area}, no {index}.")
        )
    return rows


def write_e2e(folder: Path, rows: list[tuple[str, str]] | None = None) -> Path:
    """E2E as parts of the official files, the same rows in all; returns the folder."""
    (folder / "e2e").mkdir(parents=True, exist_ok=True)
    for stem in ("trainset_subset", "devset_subset", "testset_w_refs_subset"):
        with (folder / "e2e" / f"{stem}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, quoting=csv.QUOTE_ALL)
            table.writerows([("mr", "ref"), *(e2e_rows() if rows is None else rows)])
    return folder


def write_json(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def write_dart(folder: Path, entries: list[Any]) -> Path:
    for name in ("dart-v1.1.1-train-partial", "dart-v1.1.1-full-dev_subset", "dart-v1.1.1-full-test_subset"):
        write_json(folder / "dart", f"{name}.json", entries)
    return folder


def write_webnlg(folder: Path, entries: list[Any]) -> Path:
    for name in ("train_subset", "dev_subset", "test_subset"):
        write_json(folder / "webnlg", f"{name}.json", {"entries": entries})
    return folder
