"""The picture that each lesson opens with: a question, drawn, whose numbers are left for the student to predict.

In reading order:

- `drawing`: the panel that all of them have, and the marks drawn on it
- `lesson_00`, `lesson_01`, `lesson_02`, `lesson_03`, `lesson_04`, `lesson_05`, `lesson_06`, `lesson_07`,
  `lesson_08`: one picture each
"""

from collections.abc import Callable

from dylora_kit.lessons.openings import (
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

OPENINGS: dict[str, Callable[[], str]] = {
    "lesson_00.svg": lesson_00.opening,
    "lesson_01.svg": lesson_01.opening,
    "lesson_02.svg": lesson_02.opening,
    "lesson_03.svg": lesson_03.opening,
    "lesson_04.svg": lesson_04.opening,
    "lesson_05.svg": lesson_05.opening,
    "lesson_06.svg": lesson_06.opening,
    "lesson_07.svg": lesson_07.opening,
    "lesson_08.svg": lesson_08.opening,
}


def drawn() -> dict[str, bytes]:
    """Each picture by the name of its file. The same digits give the same bytes.

    >>> list(drawn())[0]
    'lesson_00.svg'
    """
    return {name: opening().encode() for name, opening in OPENINGS.items()}
