"""nbgrader takes what is exported: a right answer gets all points, an empty one none."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
from small_clone import write_clone

from dylora_kit.classroom.clone import Lesson, exercises_of, lessons_of
from dylora_kit.classroom.export import Wishes, made
from dylora_kit.classroom.exported_folder import write_export
from dylora_kit.classroom.grading import for_nbgrader
from dylora_kit.classroom.versions import for_students

ROOT = Path(__file__).parents[2]
SOLVED = "    return x @ W.T + alpha / b * (x @ A[:b].T) @ B[:, :b].T\n"


@pytest.mark.parametrize("lesson", lessons_of(ROOT), ids=lambda lesson: lesson.name)
def test_each_exercise_is_an_answer_and_a_locked_test_of_one_point(lesson: Lesson) -> None:
    exercises = exercises_of(lesson)
    source = for_nbgrader(for_students(lesson, [lesson], None), exercises)
    marked = [cell["metadata"]["nbgrader"] for cell in source["cells"] if "nbgrader" in cell["metadata"]]
    names = [mark["grade_id"] for mark in marked]
    assert len(names) == len(set(names)) == 2 * len(exercises)
    answers, tests = marked[::2], marked[1::2]
    assert all(mark["solution"] and not mark["grade"] and not mark["locked"] for mark in answers)
    assert all(mark["locked"] and mark["grade"] and mark["points"] == 1 and not mark["solution"] for mark in tests)
    nbformat.validate(nbformat.from_dict(source))


@pytest.fixture(scope="module")
def grader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with this one's packages, and nbgrader, whose menu and buttons have no place in a student's."""
    folder = tmp_path_factory.mktemp("grader")
    venv.create(folder, with_pip=True)
    (there,) = folder.glob("lib/python*/site-packages")
    (there / "here.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", "nbgrader==0.9.6"], check=True)
    return folder / "bin"


def run(grader: Path, course: Path, *words: str) -> str:
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(course / "no-config"), "PYTHONPATH": str(ROOT)}
    here = str(Path(sys.executable).parent)  # nbgrader calls alembic, which may have been there before
    environment["PATH"] = os.pathsep.join([str(grader), here, environment["PATH"]])
    environment.pop("DYLORA_KIT_HOME", None)
    done = subprocess.run(words, cwd=course, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, grader: Path) -> Path:
    """A course with the small lesson, as it is given out."""
    folder = tmp_path_factory.mktemp("class")
    clone = write_clone(folder / "clone")
    write_export(folder / "my-class", made(clone, Wishes(lessons=["03"], slides=False, nbgrader=True)).contents)
    run(grader, folder / "my-class" / "nbgrader", "nbgrader", "generate_assignment", "03_small")
    return folder / "my-class" / "nbgrader"


SCORES = """import json
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    every = book.assignment_submissions("03_small")
    print(json.dumps({one.student.id: [one.score, one.max_score] for one in every}))
"""


def test_what_is_given_out_has_neither_solution_nor_test_and_a_right_answer_gets_all_points(
    course: Path, grader: Path
) -> None:
    given = nbformat.read(course / "release" / "03_small" / "03_small.ipynb", 4)
    text = "\n".join(cell.source for cell in given.cells)
    assert "YOUR CODE HERE" in text and "down = x @ A" not in text and "assert" not in text
    assert 'lessons.check("03.1", forward)' in text
    for student, answer in {"ada": SOLVED, "bob": None}.items():
        folder = course / "submitted" / student / "03_small"
        folder.mkdir(parents=True)
        (blank,) = (cell for cell in given.cells if "YOUR CODE HERE" in cell.source)
        empty = blank.source
        if answer:
            blank.source = empty.split("\n")[0] + "\n" + answer
        nbformat.write(given, folder / "03_small.ipynb")
        blank.source = empty
    run(grader, course, "nbgrader", "autograde", "03_small")
    assert json.loads(run(grader, course, "python", "-c", SCORES)) == {"ada": [1.0, 1.0], "bob": [0.0, 1.0]}


def test_nbgrader_finds_the_solution_valid(course: Path, grader: Path) -> None:
    said = run(grader, course, "nbgrader", "validate", "source/03_small/03_small.ipynb")
    assert "Success! Your notebook passes all the tests." in said
