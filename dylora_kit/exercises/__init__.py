"""The exercises of the lessons, by number. `dylora_kit.lessons.check` runs them."""

from dylora_kit.exercises import lesson_01, lesson_02, lesson_03, lesson_04, lesson_05
from dylora_kit.exercises.exercise import Exercise

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
}
