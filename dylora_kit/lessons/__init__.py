"""What the notebooks call: `claim` tests what they state, `check` what a student writes, `yours` lets that run.

In reading order:

- `claims`: a finding beside its numbers
- `exercise`: what all exercises share: running an answer and comparing it
- `threads`: how many threads a step takes
- `sandbox`: the tiny model on which a student's training step runs
- `lesson_00`, `lesson_01`, `lesson_02`, `lesson_03`, `lesson_04`, `lesson_05`, `lesson_06`, `lesson_07`,
  `lesson_08`: the exercises, with typical mistakes and hints
- `capstone`: a choice of your own against a task that you do not see
- `installed`: whether the packages that the kit takes are there, for setup cells
- `repository_address`: where the repository is, for badges and setup cells
- `openings`: the picture that each lesson opens with
"""

from collections.abc import Callable
from typing import Any

from dylora_kit.lessons import (
    lesson_00,
    lesson_01,
    lesson_02,
    lesson_03,
    lesson_04,
    lesson_05,
    lesson_06,
    lesson_07,
    lesson_08,
)
from dylora_kit.lessons.capstone import Capstone
from dylora_kit.lessons.claims import claim
from dylora_kit.lessons.exercise import CORRECT, KITS_OWN_RUNS, YOURS_RUNS, Exercise, ready_for_the_lesson

__all__ = ["EXERCISES", "Capstone", "check", "claim", "yours"]

EXERCISES: dict[str, Exercise] = {
    "00.1": lesson_00.LOST,
    "01.1": lesson_01.TRUNCATE,
    "01.2": lesson_01.SUMMATION,
    "02.1": lesson_02.LORA,
    "02.2": lesson_02.CUT,
    "02.3": lesson_02.BEST,
    "03.1": lesson_03.FORWARD,
    "03.2": lesson_03.STEP,
    "03.3": lesson_03.UPDATE,
    "04.1": lesson_04.SHARE,
    "04.2": lesson_04.DRIFT,
    "04.3": lesson_04.FACTORS,
    "05.1": lesson_05.SMALLEST,
    "05.2": lesson_05.PARAMETERS,
    "05.3": lesson_05.GREEDY,
    "06.1": lesson_06.LABELS,
    "06.2": lesson_06.FUSED,
    "06.3": lesson_06.DIFFERENCES,
    "07.1": lesson_07.LOST,
    "07.2": lesson_07.ENOUGH,
    "08.1": lesson_08.DIFFERENCE,
    "08.2": lesson_08.UNEQUAL,
}


def check(exercise_id: str, answer: Any) -> None:
    """Runs an answer to an exercise, and prints "not done yet", a hint for the mistake it recognises, or "correct".

    It never raises, so a notebook whose exercises are not solved runs through.

    Arguments:
        exercise_id: a key of `EXERCISES`: the lesson, a dot, and the number of the exercise.
        answer: the student's function.

    >>> check("02.2", lambda A, B, b: B[:, :b] @ A[:b])
    02.2: correct
    >>> check("02.2", None)
    02.2: not done yet
    """
    exercise = EXERCISES.get(str(exercise_id))
    if exercise is None:
        print(f"there is no exercise {exercise_id!r}: the exercises are {', '.join(EXERCISES)}")
    else:
        print(f"{exercise_id}: {exercise.feedback(answer)}")


def yours(exercise_id: str, answer: Any) -> Callable[..., Any]:
    """The student's function where it is right, else the kit's own; prints which of the two runs from here on.

    Arguments:
        exercise_id: as for `check`.
        answer: the student's function.

    Raises `ValueError` for an exercise that there is not.

    >>> cut = yours("02.2", None)
    02.2: the kit's own runs here, until yours is right
    """
    exercise = EXERCISES.get(str(exercise_id))
    if exercise is None:
        raise ValueError(f"there is no exercise {exercise_id!r}: the exercises are {', '.join(EXERCISES)}")
    if exercise.feedback(answer) == CORRECT:
        print(f"{exercise_id}: {YOURS_RUNS}")
        return ready_for_the_lesson(answer, exercise.trained_through)
    print(f"{exercise_id}: {KITS_OWN_RUNS}")
    return exercise.solution
