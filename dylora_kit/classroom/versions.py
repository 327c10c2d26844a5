"""A lesson for students, without hints and solutions, and for teachers, with all of them."""

import re
from collections.abc import Sequence

from dylora_kit.classroom.cells import (
    Cell,
    Notebook,
    folds,
    markdown_cell,
    not_run,
    text_of,
    unfolded,
    with_cells,
    with_text,
    without_folds,
    without_lines_of_unsolved,
)
from dylora_kit.classroom.clone import Lesson, Notes, Written
from dylora_kit.lessons.repository_address import BADGE


def for_students(lesson: Lesson, together: Sequence[Lesson], address: str | None) -> Notebook:
    """A notebook that is to be run: no outputs, no hints, no solutions, no answers.

    Arguments:
        together: the lessons that lie in one folder with it; links to other ones lead to the repository.
        address: of the repository, or None; without it, a link that would lead nowhere becomes plain words.
    """
    cells = []
    for cell in lesson.notebook["cells"]:
        if cell["cell_type"] == "code":
            cells.append(not_run(cell))
        elif text := without_folds(text_of(cell)):
            cells.append(with_text(cell, _moved(text, together, address)))
    return with_cells(lesson.notebook, cells)


def for_teachers(
    lesson: Lesson, exercises: Sequence[Written], notes: Notes, together: Sequence[Lesson], address: str | None
) -> Notebook:
    """A notebook to look things up in: outputs, hints and answers are open, and each exercise is solved.

    Arguments:
        exercises: those of the lesson; the cell of each holds its solution, and no output, since it was not run so.
        notes: what is told to instructors alone; it stands below the title.
        together, address: as in `for_students`.
    """
    solved = {exercise.place: f"{exercise.solution}\n\n{exercise.check}" for exercise in exercises}
    cells: list[Cell] = []
    for place, cell in enumerate(lesson.notebook["cells"]):
        if place in solved:
            cells.append(with_text(not_run(cell), solved[place]))
        elif cell["cell_type"] == "code":
            cells.append(without_lines_of_unsolved(cell))
        elif text := unfolded(text_of(cell), leave_out="Solution"):
            cells.append(with_text(cell, _moved(text, together, address)))
    told = told_to_instructors(notes)
    below_title = [markdown_cell("for-the-instructor", told)] if told else []
    return with_cells(lesson.notebook, [*cells[:1], *below_title, *cells[1:]])


def told_to_instructors(notes: Notes) -> str:
    """The notes for instructors on one lesson as Markdown; empty where there are none."""
    parts = [f"**Goal.** {notes.goal}"] if notes.goal else []
    parts += [f"**Can be skipped:** {notes.skipped}."] if notes.skipped else []
    parts += ["\n".join(f"- {remark}" for remark in notes.remarks)] if notes.remarks else []
    return "\n\n".join(["**For the instructor**", *parts]) if parts else ""


def hints(lessons: Sequence[tuple[Lesson, Sequence[Written]]]) -> str:
    """The hints of all exercises as Markdown, to be handed out when someone is stuck."""
    parts = ["# Hints", "One for each exercise. Try for as many minutes as the exercise says before you read one."]
    for lesson, exercises in lessons:
        with_hint = [exercise for exercise in exercises if exercise.hint]
        parts += [f"## {lesson.number} {lesson.title}"] if with_hint else []
        parts += [f"**{exercise.number}.** {exercise.hint}" for exercise in with_hint]
    return "\n\n".join(parts) + "\n"


def solutions(lessons: Sequence[tuple[Lesson, Sequence[Written]]]) -> str:
    """The solutions, and the answers to the questions at the end of each lesson, as Markdown."""
    parts = ["# Solutions and answers"]
    for lesson, exercises in lessons:
        parts.append(f"## {lesson.number} {lesson.title}")
        for exercise in exercises:
            parts += [exercise.task or f"**Exercise {exercise.number}.**", f"```python\n{exercise.solution}\n```"]
        for cell in lesson.notebook["cells"]:
            text = text_of(cell)
            if any(name == "Answer" for name, _ in folds(text)):
                parts.append(unfolded(text).replace("## ", "### ", 1))
    return "\n\n".join(parts) + "\n"


def _moved(text: str, together: Sequence[Lesson], address: str | None) -> str:
    """A text whose links still lead somewhere when its notebook lies in another folder.

    The badge goes: what it opens is the notebook of the repository, which is another one.
    """
    text = "\n\n".join(part for part in text.split("\n\n") if not part.startswith(BADGE))
    beside = {f"{lesson.name}.ipynb" for lesson in together}

    def led(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        if "://" in target or target.startswith(("#", "images/")) or target.split("#")[0] in beside:
            return match[0]
        if address is None:
            return words
        place = target[3:] if target.startswith("../") else f"notebooks/{target}"
        return f"[{words}]({address}/blob/main/{place})"

    return re.sub(r"(?<!!)\[([^\]\n]+)\]\(([^)\s]+)\)", led, text)
