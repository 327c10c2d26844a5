"""The slider and the player of a training: they stand at the same moment, and a move of either is told once."""

from dylora_kit.widgets.time_controls import TimeControls


def made(count: int) -> tuple[TimeControls, list[int]]:
    """Controls at the latest of some moments, and the moments that they ask for."""
    asked: list[int] = []

    def go_to(index: int) -> None:
        asked.append(index)
        controls.stand_at(index, count)

    controls = TimeControls(go_to)
    controls.stand_at(count - 1, count)
    return controls, asked


def test_standing_at_a_moment_moves_both_and_asks_for_nothing() -> None:
    controls, asked = made(5)
    assert (controls.slider.value, controls.play.value, controls.play.max) == (1.0, 4, 4)
    controls.stand_at(1, 6)
    assert (controls.slider.value, controls.play.value, controls.play.max) == (0.2, 1, 5)
    assert asked == []


def test_a_move_of_either_is_asked_for_once_and_the_other_follows() -> None:
    controls, asked = made(5)
    controls.slider.value = 0.5
    assert asked == [2] and controls.play.value == 2
    controls.play.value = 3
    assert asked == [2, 3] and controls.slider.value == 0.75


def test_one_moment_is_the_first_and_the_latest() -> None:
    controls, asked = made(1)
    assert (controls.slider.step, controls.slider.value, controls.play.max) == (1.0, 0.0, 0)
    assert asked == []
