"""The box for a guess: what counts as one, and when the truth is shown beside it."""

import pytest

from dylora_kit.widgets.prediction_box import Guess


def box() -> Guess:
    return Guess("Of 100, right:", rank=1)


def test_a_number_that_stands_there_is_no_guess_until_it_is_changed_or_the_button_is_pressed() -> None:
    typed, pressed = box(), box()
    assert not typed.made and typed.said == "no guess yet"
    typed.number.value = 40
    pressed.button.click()
    assert typed.made and typed.said == "you said 40 %"
    assert pressed.made and pressed.said == "you said 0 %"


@pytest.mark.parametrize("typed", [150, -1])
def test_a_number_that_cannot_be_is_no_guess_and_the_box_says_so(typed: int) -> None:
    guess = box()
    guess.reveal(0.5)
    guess.number.value = typed
    guess.button.click()
    assert not guess.made and guess.share is None
    assert "a guess is from 0 to 100 %" in guess.answer.value and "50" not in guess.answer.value
    guess.number.value = 60
    assert guess.said == "you said 60 %, the answer is 50 %"


def test_the_truth_waits_for_a_guess_also_where_all_cells_were_run() -> None:
    guess = box()
    guess.reveal(0.126)
    assert "13" not in guess.answer.value and "waits" in guess.answer.value
    guess.number.value = 50
    assert "you said 50 %, the answer is 13 %" in guess.answer.value
    guess.number.value = 20
    assert "you said 20 %, the answer is 13 %" in guess.answer.value


def test_a_guess_made_before_is_told_when_the_truth_is_known() -> None:
    guess = box()
    guess.number.value = 12
    assert "you said 12 %" in guess.answer.value
    guess.reveal(1.0)
    assert "the answer is 100 %" in guess.answer.value


def test_a_saved_notebook_asks_the_question_and_does_not_tell_the_answer() -> None:
    guess = box()
    guess.reveal(0.77)
    guess.number.value = 3
    assert guess._repr_mimebundle_()["text/plain"].endswith("Of 100, right: … %")


def test_an_answer_is_chosen_from_a_few() -> None:
    guess = Guess("First up:", choices=["rank 1", "rank 8"])
    assert not guess.made and guess.number.value is None
    guess.reveal("rank 8")
    assert "waits" in guess.answer.value and "rank 8" not in guess.answer.value
    guess.number.value = "rank 1"
    assert guess.said == "you said rank 1, the answer is rank 8"
    assert guess.share is None, "an answer cannot be drawn on a curve"


def test_a_number_of_something_else_is_no_share() -> None:
    guess = Guess("As large at rank:", unit="", most=64)
    guess.number.value = 32
    guess.reveal(31.6)
    assert guess.said == "you said 32, the answer is 31.6"
    times = Guess("It takes", unit="times as much")
    times.number.value = 8
    times.reveal(8.619)
    assert times.said == "you said 8 times as much, the answer is 8.62 times as much"
    assert guess.share is times.share is None


def test_a_guess_may_have_decimals() -> None:
    times = Guess("It takes", unit="times as much")
    times.number.value = 8.5
    assert times.said == "you said 8.5 times as much"
    share = box()
    share.number.value = 12.5
    share.reveal(0.3)
    assert share.said == "you said 12.5 %, the answer is 30 %" and share.share == 0.125


def test_answers_that_cannot_be_chosen_are_refused() -> None:
    with pytest.raises(ValueError, match="two different answers or more"):
        Guess("?", choices=["one"])
    with pytest.raises(ValueError, match="two different answers or more"):
        Guess("?", choices=["one", "one"])
    with pytest.raises(ValueError, match="there is no answer 'maybe' to choose"):
        Guess("?", choices=["yes", "no"]).reveal("maybe")
    with pytest.raises(ValueError, match=r"the answer in percent is a share of 1, up to 1: got 17\.1"):
        Guess("?").reveal(17.1)


def test_markup_in_an_answer_is_shown_as_text() -> None:
    guess = Guess("?", choices=["<b>", "c"])
    guess.number.value = "<b>"
    assert "<b>you said &lt;b&gt;</b>" in guess.answer.value
