"""A lesson as slides: the metadata that `jupyter nbconvert --to slides` reads, and what the speaker says."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dylora_kit.classroom.cells import Cell, Notebook, markdown_cell, text_of, with_cells
from dylora_kit.classroom.clone import Lesson, Notes, Written
from dylora_kit.classroom.slide_pieces import ALONE, Piece, pieces_of

WAIT = "Wait here: let everyone say a guess before you go on."
STYLE = Path(__file__).with_name("slides.css")


def for_slides(lesson: Lesson, exercises: Sequence[Written], notes: Notes) -> Notebook:
    """A notebook whose cells are marked as slides, for a screen of 1920 by 1080.

    Each step begins a slide, and goes on in slides below it. What follows a question to predict is on the next one,
    answers come at a key press, and the notes for instructors are the speaker's.
    """
    cells, title = list[Cell](), ""
    for number, slide in enumerate(_packed(pieces_of(lesson, list(exercises)))):
        (first, *_), begins = slide
        said = _said(slide[0], exercises, notes, opening=number == 0)
        heading = re.match(r"## (.+)", text_of(first.cell)) if first.cell["cell_type"] == "markdown" else None
        title = heading[1] if heading else title
        if title and not heading:
            above = f'<div class="step">{title}</div>'
            cells.append(_marked(markdown_cell(f"{first.cell['id']}-step", above), begins))
            begins = "-"
        for piece in slide[0]:
            kind = begins if piece is first else piece.begins or "-"
            cells.append(_marked(piece.cell, kind))
            if piece is first and said:
                cells.append(_marked(markdown_cell(f"{piece.cell['id']}-notes", "\n\n".join(said)), "notes"))
    cells[0] = {
        **cells[0],
        "source": [f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n\n", *cells[0]["source"]],
    }
    return with_cells(lesson.notebook, cells)


def _packed(pieces: Sequence[Piece]) -> list[tuple[list[Piece], str]]:
    """The pieces of each slide, and what it is: a slide, or one below it."""
    slides: list[tuple[list[Piece], str]] = []
    full, guess = 0.0, False
    for piece in pieces:
        if piece.begins == "skip":
            if slides:
                slides[-1][0].append(piece)
            continue
        if not slides or piece.begins in ("slide", "subslide") or guess or full + piece.height > ALONE:
            slides.append(([piece], "slide" if not slides or piece.begins == "slide" else "subslide"))
            full = piece.height
        else:
            slides[-1][0].append(piece)
            full += piece.height
        guess = piece.asks_for_a_guess
    return slides


def _said(pieces: Sequence[Piece], exercises: Sequence[Written], notes: Notes, *, opening: bool) -> list[str]:
    """What the speaker is told at a slide."""
    first = pieces[0]
    begins_step = first.begins == "slide" and bool(first.step)
    said = [notes.goal] if opening and notes.goal else []
    about: dict[str, str] = {}
    for remark in notes.remarks:
        steps = re.findall(r"\bStep (\d+)", remark)
        if remark.startswith("**Exercises:**"):
            about |= dict(re.findall(r"(\d\d\.\d) ([^()]*\([^)]*\))", remark))
        elif remark.startswith("**Discuss:**"):
            said += [remark] if first.begins == "slide" and "What you measured" in "".join(first.cell["source"]) else []
        elif steps:
            said += [remark] if begins_step and first.step in steps else []
        elif opening:
            said.append(remark)
    skipped = re.findall(r"step (\d+)", notes.skipped)
    said += ["This step can be skipped: nothing after it needs it."] if begins_step and first.step in skipped else []
    asked = {piece.exercise for piece in pieces}
    for exercise in exercises:
        if exercise.number in asked:
            takes = re.search(r"\*\w+, (\d+ minutes)\.\*", exercise.task)
            expected = f": {about[exercise.number]}" if exercise.number in about else ""
            said.append(f"Exercise {exercise.number}{f', {takes[1]}' if takes else ''}{expected}.")
            said += [f"If nobody moves, say: {exercise.hint}"] if exercise.hint else []
    return said + ([WAIT] if any(piece.asks_for_a_guess for piece in pieces) else [])


def _marked(cell: Cell, kind: str) -> Cell:
    metadata: dict[str, Any] = {**cell["metadata"], "slideshow": {"slide_type": kind}}
    return {**cell, "metadata": metadata}
