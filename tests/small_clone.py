"""A clone with two small lessons."""

import json
import shutil
from pathlib import Path
from typing import Any

from dylora_kit.storage.files import data_folder

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]

[project]
name = "dylora_kit"
"""
REQUIREMENTS = """\
# a comment
-e .

torch==2.13.0
numpy==2.4.6
"""
NOTES = """\
# For instructors

| | goal | minutes | can be skipped |
| --- | --- | --- | --- |
| [03 Small](03_small.ipynb) | Rows get an order. | 35 | step 2 |

## 03 Small

- **Misconception:** "A row is a row." Step 2 shows it.
- **Discuss:** Is it worth it? (Sometimes.)
- **Exercises:** 03.1 Eq. 7 (α/r instead of α/b).

## How the notebooks keep their word

- They claim.
"""
SETUP = """\
import importlib.util
if importlib.util.find_spec("dylora_kit") is None:
    raise ModuleNotFoundError("dylora_kit is not installed")"""
FOLDED = """\
<details><summary>Hint</summary>Three things change.</details>
<details><summary>Solution</summary>

```python
def forward(x, W, A, B, b, alpha):
    down = x @ A[:b].T
    return x @ W.T + alpha / b * down @ B[:, :b].T
```

</details>

That was it."""
QUESTIONS = """\
## Test yourself

**1.** How often?
<details><summary>Answer</summary>In half of them.</details>

**2.** Why?
<details><summary>Answer</summary>Because.</details>"""
STEP = """\
## 1. Cut

Here is $b$: $$h = \\frac{\\alpha}{b}\\, x$$

![A picture](images/picture.png)

See [lesson 00](00_begin.ipynb), [lesson 01](01_gone.ipynb) and [results](../data/results/README.md#a).

**Exercise 03.1.** Write it."""
SVG = '<svg class="dk-explorer" width="960" height="558" viewBox="0 0 960 558"><rect width="9" height="9"/></svg>'
WIDGET = {"model_id": "1", "version_major": 2, "version_minor": 0}


def write_clone(root: Path) -> Path:
    """Writes the clone into a new folder, and returns it; the results are those of this repository."""
    results = data_folder() / "results" / "table2-digits-turned.csv"
    (root / "notebooks" / "images").mkdir(parents=True)
    for name, notebook in (("00_begin", lesson_00()), ("03_small", lesson_03())):
        (root / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))
    (root / "notebooks" / "images" / "picture.png").write_bytes(b"a picture")
    (root / "notebooks" / "README.md").write_text(NOTES)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "requirements.txt").write_text(REQUIREMENTS)
    (root / "data" / "results").mkdir(parents=True)
    shutil.copy(results, root / "data" / "results")
    return root


def lesson_00() -> dict[str, Any]:
    """A lesson without exercises."""
    return _notebook([_markdown("# Begin"), _markdown("A note."), _code(SETUP), _markdown("## 1. Nothing\n\nMore.")])


def lesson_03() -> dict[str, Any]:
    """A lesson with one exercise, a guess, a live view and two questions."""
    check = 'def forward(x, W, A, B, b, alpha):\n    ...\n\nlessons.check("03.1", forward)'
    live = {"image/svg+xml": SVG, "application/vnd.jupyter.widget-view+json": WIDGET, "text/plain": "a live view"}
    return _notebook(
        [
            _markdown("# Small\n\nOne lesson."),
            _markdown("A note."),
            _code(SETUP),
            _code("from dylora_kit import lessons"),
            _markdown(STEP),
            _code(check, _printed("03.1: not done yet: your function returns nothing\n")),
            _markdown(FOLDED),
            _markdown("## 2. Guess\n\n**Predict:** will it rise?"),
            _code("print(1 + 1)", _printed("2\n")),
            _code("lessons", {"output_type": "execute_result", "execution_count": 9, "metadata": {}, "data": live}),
            _markdown("## What you measured\n\n- It rises."),
            _markdown(QUESTIONS),
        ]
    )


def _notebook(cells: list[dict[str, Any]]) -> dict[str, Any]:
    named = [{**cell, "id": f"s-{number}"} for number, cell in enumerate(cells)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": named}


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(text: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    metadata = {"tags": ["nbval-check-output"]} if outputs else {}
    source = text.splitlines(keepends=True)
    return {"cell_type": "code", "metadata": metadata, "execution_count": 1, "outputs": [*outputs], "source": source}


def _printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": [text]}
