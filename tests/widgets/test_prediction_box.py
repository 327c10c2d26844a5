"""The box for a guess: what counts as one, and when the truth is shown beside it."""

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


def test_the_truth_waits_for_a_guess_also_where_all_cells_were_run() -> None:
    guess = box()
    guess.reveal(0.126)
    assert "13" not in guess.answer.value and "waits" in guess.answer.value
    guess.number.value = 50
    assert "you said 50 %, it is 13 %" in guess.answer.value
    guess.number.value = 20
    assert "you said 20 %, it is 13 %" in guess.answer.value


def test_a_guess_made_before_is_told_when_the_truth_is_known() -> None:
    guess = box()
    guess.number.value = 12
    assert "you said 12 %" in guess.answer.value
    guess.reveal(1.0)
    assert "it is 100 %" in guess.answer.value


def test_a_saved_notebook_asks_the_question_and_does_not_tell_the_answer() -> None:
    guess = box()
    guess.reveal(0.77)
    guess.number.value = 3
    assert guess._repr_mimebundle_()["text/plain"].endswith("Of 100, right: … %")
