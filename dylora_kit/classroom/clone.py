"""The lessons of a clone: its notebooks, their exercises, and what the notes for instructors say of them."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from dylora_kit.classroom.cells import Notebook, folds, text_of
from dylora_kit.lessons.repository_address import in_notebook, read_address
from dylora_kit.storage.files import read_json

CHECK = re.compile(r'^lessons\.check\("([\d.]+)", \w+\)$', re.MULTILINE)
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Lesson:
    """One notebook of a clone.

    Attributes:
        number: as in "03".
        name: of the file, without its ending.
        title: what its first heading says.
        notebook: its JSON, with the setup cell that the address of the clone asks for.
    """

    number: str
    name: str
    title: str
    notebook: Notebook


@dataclass(frozen=True)
class Written:
    """An exercise as it is written into a notebook.

    Attributes:
        number: as in "03.1".
        place: where the cell is that checks it.
        task: the paragraph that asks for it; empty where none begins with its number.
        stub: the code of that cell before the check: an empty function.
        check: the line that checks it.
        hint: what helps; empty where there is none.
        solution: the function, written.
    """

    number: str
    place: int
    task: str
    stub: str
    check: str
    hint: str
    solution: str


@dataclass(frozen=True)
class Notes:
    """What the notes for instructors say of a lesson: its goal, what can be skipped, and a list of remarks."""

    goal: str = ""
    skipped: str = ""
    remarks: tuple[str, ...] = ()


def clone_folder() -> Path:
    """The clone of the repository: where the package is, or where `DYLORA_KIT_HOME` says.

    Raises `FileNotFoundError` if there are no notebooks.
    """
    root = Path(os.environ.get("DYLORA_KIT_HOME") or Path(__file__).parents[2])
    if not any((root / "notebooks").glob("*.ipynb")):
        raise FileNotFoundError(
            f"there are no notebooks in {root}: the class is made from a clone of the repository, so run this in "
            "one, or set DYLORA_KIT_HOME to one"
        )
    return root


def lessons_of(root: Path, numbers: Sequence[str] | None = None) -> list[Lesson]:
    """The lessons of a clone, in their order.

    Arguments:
        root: as `clone_folder` gives it.
        numbers: which, such as `["00", "03"]`; default is all.

    Raises `ValueError` for a number that no lesson has, and for a notebook that is damaged.
    """
    paths = {path.name.split("_")[0]: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    wanted = list(paths) if numbers is None else sorted({number.zfill(2) for number in numbers})
    unknown = [number for number in wanted if number not in paths]
    if unknown:
        raise ValueError(f"there is no lesson {unknown[0]!r}: the lessons are {', '.join(paths)}")
    address = read_address(root)
    return [_lesson(number, paths[number], address) for number in wanted]


def _lesson(number: str, path: Path, address: str | None) -> Lesson:
    content = read_json(path)
    if not isinstance(content.get("cells"), list) or len(content["cells"]) < 3:
        raise ValueError(f"{path.name} is no lesson: expected a notebook with a title, a note and a setup cell")
    notebook = json.loads(in_notebook(json.dumps(content), path.name, address))
    title = re.match(r"#\s+(.*)", text_of(notebook["cells"][0]))
    return Lesson(number, path.stem, title[1] if title else path.stem, notebook)


def exercises_of(lesson: Lesson) -> list[Written]:
    """The exercises of a lesson, in their order.

    Raises `ValueError` for one that has no solution, or whose solution is another function than the one asked for.
    """
    cells = lesson.notebook["cells"]
    places = [place for place, cell in enumerate(cells) if cell["cell_type"] == "code" and CHECK.search(text_of(cell))]
    return [_exercise(lesson, place, end) for place, end in pairwise([*places, len(cells)])]


def _exercise(lesson: Lesson, place: int, end: int) -> Written:
    cells = lesson.notebook["cells"]
    code = text_of(cells[place])
    check = CHECK.search(code)
    assert check is not None
    below = [text_of(cell) for cell in cells[place + 1 : end] if cell["cell_type"] == "markdown"]
    folded = [fold for text in below for fold in folds(text)]
    solved = [found[1] for name, content in folded if name == "Solution" and (found := CODE.search(content))]
    solution = solved[0] if solved else ""
    stub = code[: check.start()].rstrip()
    if not solution:
        raise ValueError(
            f"exercise {check[1]} in {lesson.name}.ipynb has no solution: expected "
            "<details><summary>Solution</summary> with Python code in a cell below it"
        )
    if solution.split("\n")[0] != stub.split("\n")[0]:
        raise ValueError(
            f"the solution of exercise {check[1]} in {lesson.name}.ipynb begins with {solution.split(chr(10))[0]!r}: "
            f"expected the line of the empty function, {stub.split(chr(10))[0]!r}"
        )
    above = "\n\n".join(text_of(cell) for cell in cells[:place] if cell["cell_type"] == "markdown")
    task = re.search(rf"^\*\*Exercise {re.escape(check[1])}\.\*\*.*$", above, re.MULTILINE)
    hint = next((content for name, content in folded if name == "Hint"), "")
    return Written(check[1], place, task[0] if task else "", stub, check[0], hint, solution.rstrip())


def notes_of(root: Path, number: str) -> Notes:
    """What `notebooks/README.md` of a clone says of a lesson; nothing where it does not name it."""
    path = root / "notebooks" / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    row = re.search(rf"^\| \[{number} .*$", text, re.MULTILINE)
    cells = [cell.strip() for cell in row[0].strip("| ").split(" | ")] if row else []
    section = re.search(rf"^## {number} .*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    remarks = re.findall(r"^- (.*)$", section[1], re.MULTILINE) if section else []
    return Notes(
        goal=cells[1] if len(cells) == 4 else "", skipped=cells[3] if len(cells) == 4 else "", remarks=tuple(remarks)
    )
