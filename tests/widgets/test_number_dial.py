"""A dial: one number, one picture, drawn by a function."""

import re

import pytest

from dylora_kit.widgets import svg_cards as cards
from dylora_kit.widgets.number_dial import Dial, View


def squares(value: float) -> View:
    bars = [cards.Bar(f"{n} & more", n * value, f"{n * value:g}", other=10.0) for n in (1, 2, 3)]
    return View(
        f"3 · {value:g} = {3 * value:g}", [cards.bars_card("Products", "of three", bars, legend=("now", "ten"))]
    )


def test_moving_the_slider_draws_anew() -> None:
    dial = Dial("Factor", squares, low=1, high=5)
    assert dial.summary() == "3 · 1 = 3"
    dial.slider.value = 4
    assert dial.summary() == "3 · 4 = 12" and 'aria-label="3 · 4 = 12"' in dial.picture.value
    assert 'data-value="4"' in dial.picture.value and dial.number.value == 4
    dial.number.value = 2
    assert dial.slider.value == 2 and "3 · 2 = 6" in repr(dial)


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


def test_what_a_front_end_sends_is_shown_without_its_dust() -> None:
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


def test_bars_are_as_long_as_their_values_and_inside_the_card() -> None:
    inside, height = cards.bars_card(
        "Title", "", [cards.Bar("a <b", 2.0, "two"), cards.Bar("c", 0.0, "none", other=4.0)]
    )
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', inside)]
    assert widths[1] == 2 * widths[0] and max(widths) < cards.CARD_WIDTH
    assert "a &lt;b" in inside and "two" in inside and "none" in inside
    assert max(float(y) for y in re.findall(r' y="([\d.]+)"', inside)) < height


def test_names_and_legends_stay_inside_the_card() -> None:
    long = "roberta.encoder.layer.0.attention.self.query"
    inside, _ = cards.bars_card(
        "Title", "", [cards.Bar(long, 2.0, "two", 1.0)], legend=("a rank for each layer", "one for all")
    )
    assert ">…" in inside and long not in inside
    places = [
        (float(x), words)
        for x, words in re.findall(r'<text x="([\d.]+)" y="[\d.]+" class="soft"[^>]*>([^<]+)<', inside)
    ]
    assert all(x + 7 * len(words) < cards.CARD_WIDTH for x, words in places) and len(places) == 2
