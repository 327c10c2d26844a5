"""What the notebooks call to hold their own text, and the student's code, to account."""

from typing import Any

from dylora_kit.exercises import EXERCISES


def claim(text: str, condition: Any, **measured: float) -> None:
    """States a finding beside the numbers that were measured for it, and raises `AssertionError` if it is false.

    >>> claim("the sky is up", 3 > 2, up=3, down=2)
    ✓ the sky is up (up = 3, down = 2)
    """
    numbers = ", ".join(f"{name.replace('_', ' ')} = {value:.4g}" for name, value in measured.items())
    said = f"{text} ({numbers})" if numbers else text
    if not bool(condition):
        raise AssertionError(f"✗ not what was measured: {said}")
    print(f"✓ {said}")


def check(exercise_id: str, answer: Any) -> None:
    """Runs an answer to an exercise, and prints "not done yet", a hint for the mistake it recognises, or "correct".

    It never raises, so a notebook whose exercises are not solved runs through.

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
