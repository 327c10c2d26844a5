"""A dial: one number, one picture, drawn by a function."""

import xml.etree.ElementTree as ET

import pytest

from dylora_kit.widgets import svg_cards
from dylora_kit.widgets.number_dial import Dial, View


def squares(value: float) -> View:
    bars = [svg_cards.Bar(f"{n} & more", n * value, f"{n * value:g}", other=10.0) for n in (1, 2, 3)]
    return View(
        f"3 · {value:g} = {3 * value:g}", [svg_cards.bars_card("Products", "of three", bars, legend=("now", "ten"))]
    )


def test_moving_the_slider_draws_anew() -> None:
    dial = Dial("Factor", squares, low=1, high=5)
    assert dial.summary() == "3 · 1 = 3"
    dial.slider.value = 4
    assert dial.summary() == "3 · 4 = 12" and 'aria-label="3 · 4 = 12"' in dial.picture.value
    assert 'data-value="4"' in dial.picture.value and dial.number.value == 4
    dial.number.value = 2
    assert dial.slider.value == 2 and "3 · 2 = 6" in repr(dial)


def test_a_saved_notebook_has_a_picture_of_the_dial() -> None:
    dial = Dial("Factor", squares, low=0.5, high=2.5, step=0.5, value=1.5)
    picture = ET.fromstring(dial._repr_mimebundle_()["image/svg+xml"])
    words = [text.text for text in picture.iter() if text.text]
    assert picture.attrib["aria-label"] == "3 · 1.5 = 4.5" and {"Factor", "1.5", "Products"} <= set(words)
    assert "1.5 of 2.5" not in words, "its highest value is no total"


def test_a_closed_dial_gives_its_memory_back() -> None:
    dial = Dial("Factor", squares, low=1, high=5)
    inner = [dial, dial.slider, dial.number, dial.picture, *dial.children]
    assert all(widget.comm is not None for widget in inner)
    dial.close()
    assert all(widget.comm is None for widget in inner)


def test_a_dial_over_fractions() -> None:
    dial = Dial("p", squares, low=0.05, high=0.95, step=0.05, value=0.5)
    assert dial.summary() == "3 · 0.5 = 1.5"
    dial.slider.value = 0.75
    assert dial.number.value == 0.75


def test_a_number_is_shown_without_the_rounding_error_of_a_front_end() -> None:
    seen: list[float] = []

    def draw(value: float) -> View:
        seen.append(value)
        return squares(value)

    dial = Dial("p", draw, low=0.05, high=0.95, step=0.05)
    dial.slider.value = 0.15000000000000002
    assert dial.number.value == seen[-1] == 0.15
    whole = Dial("n", draw, low=1, high=5)
    whole.slider.value = 3
    assert whole.number.value == seen[-1] == 3 and isinstance(seen[-1], int)


@pytest.mark.parametrize(
    "limits",
    [
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "value": 3},
        {"low": 0, "high": 1, "step": 0},
        {"low": 0, "high": float("inf")},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="low ≤ value ≤ high, and a step above 0 that fits"):
        Dial("x", squares, **limits)
