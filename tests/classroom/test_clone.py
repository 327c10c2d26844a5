"""The lessons of a clone: every exercise is found with its solution, and what is missing is named."""

import json
from pathlib import Path

import pytest
from small_clone import lesson_03

from dylora_kit.classroom.clone import clone_folder, exercises_of, lessons_of, notes_of
from dylora_kit.lessons import EXERCISES

ROOT = Path(__file__).parents[2]


def change(clone: Path, old: str, new: str) -> None:
    text = json.dumps(lesson_03(), ensure_ascii=False)
    assert text.count(old)
    (clone / "notebooks" / "03_small.ipynb").write_text(text.replace(old, new))


def test_every_exercise_of_the_notebooks_is_found_with_text_hint_and_solution() -> None:
    found = [exercise for lesson in lessons_of(ROOT) for exercise in exercises_of(lesson)]
    assert [exercise.number for exercise in found] == list(EXERCISES)
    for exercise in found:
        assert exercise.task.startswith(f"**Exercise {exercise.number}.**") and exercise.hint
        assert exercise.stub.endswith("    ...") and "..." not in exercise.solution.splitlines()


def test_every_lesson_has_notes_for_instructors() -> None:
    for lesson in lessons_of(ROOT):
        notes = notes_of(ROOT, lesson.number)
        assert notes.goal and notes.skipped.startswith("step ") and notes.remarks, lesson.name
    assert notes_of(ROOT, "09").remarks == ()


def test_lessons_can_be_named_by_number_and_come_in_their_order(clone: Path) -> None:
    assert [lesson.name for lesson in lessons_of(clone, ["3", "00"])] == ["00_begin", "03_small"]
    with pytest.raises(ValueError, match="there is no lesson '09': the lessons are 00, 03"):
        lessons_of(clone, ["00", "9"])


def test_a_place_without_notebooks_says_what_is_missing(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clone_folder() == clone
    monkeypatch.setenv("DYLORA_KIT_HOME", str(clone / "data"))
    with pytest.raises(FileNotFoundError, match=r"there are no notebooks in .*: the class is made from a clone"):
        clone_folder()


def test_an_exercise_without_a_solution_is_named(clone: Path) -> None:
    change(clone, "<summary>Solution</summary>", "<summary>Idea</summary>")
    (lesson,) = lessons_of(clone, ["03"])
    with pytest.raises(ValueError, match=r"exercise 03\.1 in 03_small\.ipynb has no solution: expected"):
        exercises_of(lesson)


def test_a_solution_that_is_another_function_is_refused(clone: Path) -> None:
    change(clone, '```python\\n", "def forward(x, W,', '```python\\n", "def forwards(x, W,')
    (lesson,) = lessons_of(clone, ["03"])
    with pytest.raises(ValueError, match=r"begins with 'def forwards.*': expected the line of the empty function"):
        exercises_of(lesson)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"cells": []}', '{"cells": 3}'])
def test_a_damaged_notebook_is_one_sentence(clone: Path, content: str) -> None:
    (clone / "notebooks" / "03_small.ipynb").write_text(content)
    with pytest.raises(ValueError, match=r"03_small\.ipynb"):
        lessons_of(clone)
