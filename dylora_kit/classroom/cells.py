"""Cells of a notebook: their text, new ones, and what is folded away in them."""

import copy
import re
from collections.abc import Iterable
from typing import Any

from dylora_kit.lessons.exercise import KITS_OWN_RUNS, NOT_DONE

Cell = dict[str, Any]
Notebook = dict[str, Any]

FOLD = re.compile(r"<details><summary>(\w+)</summary>(.*?)</details>", re.DOTALL)
UNSOLVED = re.compile(rf"[\d.]+: (?:{re.escape(NOT_DONE)}|{re.escape(KITS_OWN_RUNS)})")


def text_of(cell: Cell) -> str:
    """The source of a cell as one text; in a file it may be a list of lines.

    >>> text_of({"source": ["first\\n", "second"]})
    'first\\nsecond'
    """
    return "".join(cell["source"])


def with_text(cell: Cell, text: str) -> Cell:
    """A copy of a cell with another text."""
    return {**copy.deepcopy(cell), "source": text.splitlines(keepends=True)}


def markdown_cell(name: str, text: str) -> Cell:
    """A new cell of text; `name` is its id, which no other cell of the notebook may have."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}


def code_cell(name: str, text: str) -> Cell:
    """A new cell of code that was not run; `name` is its id."""
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {},
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }


def not_run(cell: Cell) -> Cell:
    """A cell of code as if it had never been run: no output, count or times, and no tags, which are about outputs."""
    return {**copy.deepcopy(cell), "metadata": {}, "outputs": [], "execution_count": None}


def with_cells(notebook: Notebook, cells: Iterable[Cell]) -> Notebook:
    """A copy of a notebook with other cells."""
    return {**{key: copy.deepcopy(value) for key, value in notebook.items() if key != "cells"}, "cells": list(cells)}


def without_lines_of_unsolved(cell: Cell) -> Cell:
    """A copy of a cell whose outputs do not say that an exercise is not solved: its solution stands beside it.

    >>> printed = {"output_type": "stream", "text": ["03.1: not done yet\\n", "two rows\\n"]}
    >>> without_lines_of_unsolved({"cell_type": "code", "outputs": [printed]})["outputs"][0]["text"]
    ['two rows\\n']
    """
    changed = copy.deepcopy(cell)
    outputs = changed.get("outputs", [])
    for output in outputs:
        if output["output_type"] == "stream":
            lines = "".join(output["text"]).splitlines(keepends=True)
            output["text"] = [line for line in lines if not UNSOLVED.match(line)]
    if outputs:
        changed["outputs"] = [output for output in outputs if output["output_type"] != "stream" or output["text"]]
    return changed


def folds(text: str) -> list[tuple[str, str]]:
    """What is folded away in a text: the name of each fold and what is in it.

    >>> folds("<details><summary>Hint</summary>Copy A first.</details>")
    [('Hint', 'Copy A first.')]
    """
    return [(name, content.strip()) for name, content in FOLD.findall(text)]


def without_folds(text: str) -> str:
    """A text without what is folded away in it.

    >>> without_folds("Why?\\n<details><summary>Answer</summary>Because.</details>\\n\\nAnd how?")
    'Why?\\n\\nAnd how?'
    """
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]*\n(?=\n)", "\n", FOLD.sub("", text))).strip()


def unfolded(text: str, *, leave_out: str = "") -> str:
    """A text in which what was folded away can be read, each part after its name in bold.

    Arguments:
        leave_out: the name of the folds that are taken out instead.

    >>> unfolded("<details><summary>Hint</summary>Copy A first.</details>")
    '**Hint.** Copy A first.'
    """

    def opened(match: re.Match[str]) -> str:
        name, content = match[1], match[2].strip()
        return "" if name == leave_out else f"\n**{name}.** {content}\n"

    return re.sub(r"\n{3,}", "\n\n", FOLD.sub(opened, text)).strip()
