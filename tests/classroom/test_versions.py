"""What students get holds no solution and runs as the lesson does; what teachers get is solved, and right."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dylora_kit import lessons as kit_lessons
from dylora_kit.classroom.cells import folds, text_of, without_lines_of_unsolved
from dylora_kit.classroom.clone import Lesson, exercises_of, lessons_of, notes_of
from dylora_kit.classroom.versions import for_students, for_teachers, hints, solutions
from dylora_kit.lessons.exercise import KITS_OWN_RUNS, NOT_DONE

ROOT = Path(__file__).parents[2]
LESSONS = lessons_of(ROOT)
EXERCISES = {exercise.number: lesson for lesson in LESSONS for exercise in exercises_of(lesson)}
ADDRESS = "https://github.com/you/your_repository"


@pytest.fixture(params=LESSONS, ids=lambda lesson: lesson.name)
def lesson(request: pytest.FixtureRequest) -> Lesson:
    return request.param


def code_of(notebook: dict[str, Any]) -> list[str]:
    return [text_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(notebook: dict[str, Any]) -> str:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "\n".join("".join(output.get("text", "")) for output in outputs)


def text_in(notebook: dict[str, Any]) -> str:
    return "\n\n".join(text_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")


def test_students_get_the_code_of_the_lesson_unchanged_so_it_runs_as_the_lesson_does(lesson: Lesson) -> None:
    student = for_students(lesson, LESSONS, None)
    assert code_of(student) == code_of(lesson.notebook)
    assert not [cell for cell in student["cells"] if cell.get("outputs") or cell.get("execution_count")]


def test_students_get_no_hint_no_solution_and_no_answer(lesson: Lesson) -> None:
    text = text_in(for_students(lesson, LESSONS, None))
    folded = [content for cell in lesson.notebook["cells"] for _, content in folds(text_of(cell))]
    assert folded and not [content for content in folded if content in text]
    assert "<details>" not in text and "Solution" not in text


def test_students_get_everything_else_that_is_written(lesson: Lesson) -> None:
    words = text_in(for_students(lesson, LESSONS, None))
    for line in text_in(lesson.notebook).splitlines():
        if line.startswith(("#", "**Exercise", "**Predict", "- ")):
            assert line in words


@pytest.mark.parametrize("number", EXERCISES)
def test_the_teachers_notebook_prints_correct_at_each_check(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    lesson = EXERCISES[number]
    teacher = for_teachers(lesson, exercises_of(lesson), notes_of(ROOT, lesson.number), LESSONS, None)
    (code,) = (text for text in code_of(teacher) if f'lessons.check("{number}"' in text)
    exec(code, {"torch": torch, "lessons": kit_lessons})
    assert capsys.readouterr().out == f"{number}: correct\n"


def test_teachers_get_hints_answers_and_notes_in_the_open_and_the_outputs(lesson: Lesson) -> None:
    exercises = exercises_of(lesson)
    teacher = for_teachers(lesson, exercises, notes_of(ROOT, lesson.number), LESSONS, None)
    text = text_in(teacher)
    assert "<details>" not in text and text.count("**Hint.**") == len(exercises)
    assert "**Answer.**" in text and "**For the instructor**" in text and "**Misconception:**" in text
    saved = [without_lines_of_unsolved(cell)["outputs"] for cell in lesson.notebook["cells"] if "outputs" in cell]
    checks = [bool(cell.get("outputs")) for cell in teacher["cells"] if "lessons.check" in text_of(cell)]
    assert sum(map(bool, saved)) == sum(bool(cell.get("outputs")) for cell in teacher["cells"])
    said = (NOT_DONE, KITS_OWN_RUNS)
    assert all(words in printed(lesson.notebook) and words not in printed(teacher) for words in said)
    assert not any(checks), "what an empty exercise printed is not what the solution prints"


def test_only_the_lines_that_say_that_an_exercise_is_not_solved_are_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kit_lessons.check("02.2", None)
    kit_lessons.yours("02.2", None)
    said = capsys.readouterr().out
    kept = "not done yet, they said\n02.2: correct\n"
    cell = {"cell_type": "code", "outputs": [{"output_type": "stream", "text": text} for text in (said + kept, said)]}
    (output,) = without_lines_of_unsolved(cell)["outputs"]
    assert "".join(output["text"]) == kept and cell["outputs"][1]["text"] == said


def test_ids_stay_unique(lesson: Lesson) -> None:
    teacher = for_teachers(lesson, exercises_of(lesson), notes_of(ROOT, lesson.number), LESSONS, None)
    ids = [cell["id"] for cell in teacher["cells"]]
    assert len(set(ids)) == len(ids)


def test_the_source_is_not_changed_by_making_versions_of_it() -> None:
    (before,), (lesson,) = lessons_of(ROOT, ["03"]), lessons_of(ROOT, ["03"])
    for_students(lesson, LESSONS, ADDRESS)
    for_teachers(lesson, exercises_of(lesson), notes_of(ROOT, "03"), LESSONS, ADDRESS)
    assert lesson == before


def test_links_lead_to_what_is_there_to_the_repository_or_become_words(clone: Path) -> None:
    (lesson,) = lessons_of(clone, ["03"])
    both = lessons_of(clone)
    beside = text_in(for_students(lesson, both, ADDRESS))
    assert "[lesson 00](00_begin.ipynb)" in beside
    assert f"[lesson 01]({ADDRESS}/blob/main/notebooks/01_gone.ipynb)" in beside
    assert f"[results]({ADDRESS}/blob/main/data/results/README.md#a)" in beside
    alone = text_in(for_students(lesson, [lesson], None))
    assert "See lesson 00, lesson 01 and results." in alone
    assert "![A picture](images/picture.png)" in alone


def test_with_an_address_the_setup_cell_fetches_the_kit_and_no_badge_opens_the_solved_notebook(clone: Path) -> None:
    pyproject = clone / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + f'\n[project.urls]\nRepository = "{ADDRESS}"\n')
    (lesson,) = lessons_of(clone, ["03"])
    student = for_students(lesson, [lesson], ADDRESS)
    assert f'address = "{ADDRESS}"' in "".join(code_of(student))
    assert "colab.research" in text_in(lesson.notebook) and "colab.research" not in text_in(student)


def test_hints_and_solutions_are_two_texts_that_name_each_exercise() -> None:
    everything = [(lesson, exercises_of(lesson)) for lesson in LESSONS]
    hinted, solved = hints(everything), solutions(everything)
    for lesson, exercises in everything:
        assert f"## {lesson.number} {lesson.title}" in solved
        for exercise in exercises:
            assert f"**{exercise.number}.** {exercise.hint}" in hinted and exercise.solution in solved
            assert exercise.solution not in hinted
        assert all(" minutes" in exercise.task for exercise in exercises)
    assert "Try for as many minutes as the exercise says" in hinted
    assert solved.count("**Answer.**") == 26 and "<details>" not in solved + hinted
