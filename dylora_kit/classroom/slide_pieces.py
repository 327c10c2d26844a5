"""What goes onto slides: a lesson taken apart into pieces, with about the height that each takes."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dylora_kit.classroom.cells import (
    FOLD,
    Cell,
    markdown_cell,
    text_of,
    with_text,
    without_folds,
    without_lines_of_unsolved,
)
from dylora_kit.classroom.clone import Lesson, Written
from dylora_kit.classroom.slide_math import with_formulas_drawn
from dylora_kit.lessons.claims import CLAIM

LETTERS, PRINTED, IN_COLUMNS, CLAIMED = 95, 90, 112, 100  # letters on a line: of text, printed, of a claim
TITLE, HEADING = (37, 102, 100), (50, 72, 28)  # letters on a line, pixels of a line, and of what is around it
LINE, CODE_LINE, ROW, CLAIM_LINE = 62, 40, 47, 64  # pixels of a slide that is 1080 high
DRAWN = 450  # the height of a picture in a text
PICTURE, WITH_WORDS, ALONE = 560, 600, 940  # the height of a picture: below its code, below words, on its own slide
SHORT = 7  # lines of code that leave room for a picture
IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)|<img[^>]*>")
GUESS, WRITE_DOWN = "A box for a guess (run the notebook to use it).", "Write it down."
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Piece:
    """Part of a slide.

    Attributes:
        cell: of the notebook, or part of one.
        height: about how many pixels of 1080 it takes.
        begins: "slide" or "subslide" where one has to begin, "fragment" for what comes at a key press, "skip" for
            what is not shown, "" for the rest.
        step: the number of the step it belongs to, such as "3"; empty before the first and after the last.
        exercise: the number of the exercise that it asks for.
    """

    cell: Cell
    height: float = 0.0
    begins: str = ""
    step: str = ""
    exercise: str = ""

    @property
    def asks_for_a_guess(self) -> bool:
        return "**Predict:**" in text_of(self.cell) and self.cell["cell_type"] == "markdown"


def pieces_of(lesson: Lesson, exercises: list[Written]) -> list[Piece]:
    """The pieces of a lesson, in their order; what only prepares the kernel is not shown."""
    by_place = {exercise.place: exercise for exercise in exercises}
    pieces: list[Piece] = []
    step, asked = "", ""
    for place, written in enumerate(lesson.notebook["cells"]):
        cell = without_lines_of_unsolved(written)
        if place in by_place:
            asked = by_place[place].number
        if _only_prepares(lesson, place):
            new = [Piece(cell, begins="skip")]
        elif cell["cell_type"] == "code":
            new = list(_code(cell))
        else:
            new = list(_text(cell))
            solved = [exercise for exercise in exercises if exercise.number == asked and FOLD.search(text_of(cell))]
            new += [_solved(exercise, cell["id"]) for exercise in solved]
        for piece in new:
            number = re.match(r"## (?:(\d+)\.)?", text_of(piece.cell)) if cell["cell_type"] == "markdown" else None
            step = step if number is None else number[1] or ""
            pieces.append(replace(piece, step=step, exercise=_asks(piece)))
        asked = asked if cell["cell_type"] == "code" else ""
    return pieces


def _asks(piece: Piece) -> str:
    found = re.search(r"\*\*Exercise ([\d.]+)\.\*\*", text_of(piece.cell))
    return found[1] if found else ""


def _only_prepares(lesson: Lesson, place: int) -> bool:
    """Whether a cell looks for the kit, says so, or only imports."""
    cells = lesson.notebook["cells"]
    setup = next(number for number, cell in enumerate(cells) if 'find_spec("dylora_kit")' in text_of(cell))
    lines = text_of(cells[place]).splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    brings = cells[place]["cell_type"] == "code" and not cells[place]["outputs"] and 2 * len(imports) > len(lines)
    return place in (setup - 1, setup) or brings


def _text(cell: Cell) -> Iterator[Piece]:
    """A cell of text, cut before each heading, at paragraphs where it is too long, and before each answer."""
    name, parts = cell["id"], re.split(r"\n(?=## )", text_of(cell))
    number = 0
    for part in parts:
        answered = [match for match in FOLD.finditer(part) if match[1] == "Answer"]
        if not answered:
            for text, begins in _paragraphs(without_folds(part)):
                number += 1
                yield _written(f"{name}-{number}", text, begins)
            continue
        start = 0
        for count, match in enumerate(answered):
            number += 2
            question = part[start : match.start()].strip()
            yield _written(f"{name}-{number - 1}", question, "slide" if not count else "fragment")
            yield _written(f"{name}-{number}", f"**Answer.** {match[2].strip()}", "fragment")
            start = match.end()


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """A text in parts that fit on a slide, each with what it begins."""
    part, begins = "", "slide" if text.startswith(("# ", "## ")) else ""
    for block in text.split("\n\n"):
        if part and _height(f"{part}\n\n{block}") > ALONE:
            yield part, begins
            part, begins = block, "subslide"
        else:
            part = f"{part}\n\n{block}" if part else block
    if part:
        yield part, begins


def _written(name: str, text: str, begins: str) -> Piece:
    without_links = re.sub(r"(?<!!)\[([^\]\n]+)\]\((?!https?:)[^)\s]+\)", r"\1", text)  # to files elsewhere
    return Piece(markdown_cell(name, with_formulas_drawn(without_links)), _height(text), begins)


def _height(text: str) -> float:
    """About how many pixels a Markdown text takes; links count with their words alone."""
    height: float = DRAWN * len(IMAGE.findall(text))
    for block in re.sub(r"\]\([^)]*\)", "", IMAGE.sub("", text)).split("\n\n"):
        if block.startswith("```"):
            height += CODE_LINE * (block.count("\n") + 1)
        elif block.startswith("$$"):
            height += 2.4 * LINE
        elif block.startswith("#"):
            letters, line, around = HEADING if block.startswith("##") else TITLE
            height += line * _lines(block, letters) + around
        elif block.strip():
            height += LINE * (_lines(block, LETTERS) + 0.4)
    return height


def _lines(text: str, letters: int) -> int:
    """How many lines a text takes where so many letters fit on one."""
    return sum(max(1, math.ceil(len(line) / letters)) for line in text.splitlines())


def _code(cell: Cell) -> Iterator[Piece]:
    """A cell of code; what it gave is a piece of its own where both do not fit on one slide."""
    outputs = [_still(output) for output in cell["outputs"]]
    quiet = bool(outputs) and (
        cell["metadata"].get("jupyter", {}).get("source_hidden", False) or all(map(_is_guess, cell["outputs"]))
    )
    cell = with_text(cell, "") if quiet else cell
    code = 0.0 if quiet else CODE_LINE * (len(text_of(cell).splitlines()) + 1.5)
    below = sum(_height_of_output(output, PICTURE) for output in outputs)
    tags = ["printed-table"] if any(_is_wide_table(output) for output in outputs) else []
    tags += ["output-quiet"] if quiet else []
    whole = {**cell, "metadata": {"tags": tags} if tags else {}, "outputs": outputs}
    live = [output for output in outputs if _is_live(output)]
    if not live and code + below <= ALONE:
        yield Piece(whole, code + below)
        return
    if not quiet:
        yield Piece({**whole, "outputs": []}, code)
    for number, shown in enumerate([[output] for output in outputs] if len(live) > 1 else [outputs]):
        alone = {**whole, "id": f"{cell['id']}-output-{number}", "outputs": shown}
        kind, picture = ("output-alone", ALONE) if len(shown) == 1 else ("output-with-words", WITH_WORDS)
        height = sum(_height_of_output(output, picture) for output in shown)
        if height > ALONE and not any("data" in output for output in shown):
            kind, height = "output-small", 0.6 * height  # its lines are shorter then, and do not wrap
        alone["metadata"] = {"tags": [kind, *tags]}
        yield Piece(with_text(alone, ""), height, "subslide")


def _is_live(output: Mapping[str, Any]) -> bool:
    """Whether an output is the still picture of a live view, which needs the whole of a slide."""
    data = output.get("data", {})
    return "image/svg+xml" in data or "dk-explorer" in "".join(data.get("text/html", ""))


def _is_guess(output: Mapping[str, Any]) -> bool:
    """Whether an output is a box to guess in."""
    return _printed(output).startswith(GUESS)


def _still(output: Mapping[str, Any]) -> dict[str, Any]:
    """An output without the view that needs a kernel, in favour of its picture or its words."""
    data = {kind: content for kind, content in output.get("data", {}).items() if kind != WIDGET}
    if _is_guess(output):
        data = {"text/plain": [WRITE_DOWN + _printed(output).removeprefix(GUESS)]}
    return {**output, "data": data} if "data" in output else dict(output)


def _height_of_output(output: Mapping[str, Any], picture: float) -> float:
    data = output.get("data", {})
    if _is_live(output) or "image/png" in data:
        return picture
    html = "".join(data.get("text/html", ""))
    if CLAIM in html:
        bars = html.count("inline-block")
        return CLAIM_LINE * math.ceil((len("".join(data["text/plain"])) + 7 * bars) / CLAIMED)
    if html:
        return ROW * (html.count("<tr") + 1)
    return CODE_LINE * _lines(_printed(output), IN_COLUMNS if _is_wide_table(output) else PRINTED) + 20


def _printed(output: Mapping[str, Any]) -> str:
    return "".join(output.get("data", {}).get("text/plain", output.get("text", "")))


def _is_wide_table(output: Mapping[str, Any]) -> bool:
    """Whether an output prints columns that would not fit side by side, so that its letters have to be smaller."""
    wide = [line for line in _printed(output).splitlines() if len(line) > PRINTED]
    return "text/html" not in output.get("data", {}) and any(len(re.findall(r"\S {2,}\S", row)) > 3 for row in wide)


def _solved(exercise: Written, name: str) -> Piece:
    text = f"**One way to solve {exercise.number}**\n\n```python\n{exercise.solution}\n```"
    return Piece(markdown_cell(f"{name}-solution", text), _height(text), "subslide")
