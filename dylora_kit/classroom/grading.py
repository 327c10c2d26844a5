"""A lesson as nbgrader wants it: the solution between marks, and a locked cell that gives the points."""

import json
from collections.abc import Sequence

from dylora_kit.classroom.cells import Cell, Notebook, code_cell, text_of, with_cells, with_text
from dylora_kit.classroom.clone import Written

SCHEMA = 3  # of nbgrader's metadata
POINTS = 1  # for each exercise
CONFIG = """\
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "dylora"
c.CourseDirectory.root = __file__.rpartition("nbgrader_config.py")[0] or "."
c.ExecutePreprocessor.timeout = 600  # seconds for one cell: some of them train
"""


def for_nbgrader(student: Notebook, exercises: Sequence[Written]) -> Notebook:
    """The source version of an assignment.

    `nbgrader generate_assignment` makes the version for students out of it: without what stands between the marks of
    the solution, and without the hidden test. `nbgrader autograde` puts the test back, which stops where an answer is
    not right. A notebook whose exercises are empty still runs through.

    Arguments:
        student: the lesson as `for_students` makes it.
        exercises: those of the lesson.
    """
    by_check = {exercise.check: exercise for exercise in exercises}
    cells: list[Cell] = []
    for cell in student["cells"]:
        text = text_of(cell)
        asked = next((exercise for line, exercise in by_check.items() if line in text.splitlines()), None)
        if cell["cell_type"] == "code" and asked is not None:
            cells += _pair(cell, asked)
        else:
            cells.append(cell)
    return with_cells(student, cells)


def _pair(cell: Cell, exercise: Written) -> list[Cell]:
    """The cell for the answer, and the locked one that checks it."""
    name = exercise.number.replace(".", "-")
    first, *body = exercise.solution.split("\n")
    marked = [first, "    ### BEGIN SOLUTION", *body, "    ### END SOLUTION"]
    function = exercise.check.rpartition(", ")[2].rstrip(")")
    test = [
        exercise.check,
        "### BEGIN HIDDEN TESTS",
        "from dylora_kit.lessons import EXERCISES",
        f"feedback = EXERCISES[{json.dumps(exercise.number)}].feedback({function})",
        'assert feedback == "correct", feedback',
        "### END HIDDEN TESTS",
    ]
    answer = with_text(cell, "\n".join(marked))
    check = code_cell(f"{cell['id']}-check", "\n".join(test))
    answer["metadata"] = {"nbgrader": _metadata(f"exercise-{name}", solution=True)}
    check["metadata"] = {"nbgrader": _metadata(f"check-{name}", solution=False)}
    return [answer, check]


def _metadata(name: str, *, solution: bool) -> dict[str, object]:
    """What nbgrader reads of a cell: an answer may be changed, a test is locked and gives points."""
    kind = {"schema_version": SCHEMA, "grade_id": name, "cell_type": "code", "task": False}
    if solution:
        return {**kind, "solution": True, "grade": False, "locked": False}
    return {**kind, "solution": False, "grade": True, "locked": True, "points": POINTS}
