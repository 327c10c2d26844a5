"""What the notebooks call to test what they state (`claim`) and what a student writes (`check`).

In reading order:

- `exercise`: what all exercises share: running an answer and comparing it
- `sandbox`: the tiny model on which a student's training step runs
- `lesson_01`, `lesson_02`, `lesson_03`, `lesson_04`, `lesson_05`, `lesson_06`, `lesson_07`:
  the exercises, with typical mistakes and hints
- `repository_address`: where the repository is, for badges and setup cells
"""

from typing import Any

from dylora_kit.lessons import lesson_01, lesson_02, lesson_03, lesson_04, lesson_05, lesson_06, lesson_07
from dylora_kit.lessons.exercise import Exercise

EXERCISES: dict[str, Exercise] = {
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
}


def claim(text: str, condition: Any, *, required: bool = True, **measured: float) -> None:
    """Prints a finding beside the numbers that were measured for it, or raises `AssertionError` if it is false.

    Arguments:
        text: the finding.
        condition: whether it is true.
        required: False where a lesson is run with another model than its own: what is false is printed with ✗ then.
        measured: the numbers, by name; `_` is printed as a space.

    >>> claim("the sky is up", 3 > 2, up=3, down=2)
    ✓ the sky is up (up = 3, down = 2)
    """
    numbers = ", ".join(f"{name.replace('_', ' ')} = {value:.4g}" for name, value in measured.items())
    finding = f"{text} ({numbers})" if numbers else text
    if required and not bool(condition):
        raise AssertionError(f"✗ not what was measured: {finding}")
    print(f"{'✓' if condition else '✗'} {finding}")


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
