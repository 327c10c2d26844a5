"""What every live view shares, on the smallest one."""

import re
from typing import Any

import ipywidgets
import pytest
from IPython.core.formatters import DisplayFormatter

import dylora_kit as dk
from dylora_kit.widgets.browser_side import BrowserSide
from dylora_kit.widgets.live_view import LiveView


class Doubled(LiveView):
    """A number, and its double as the picture."""

    def __init__(self) -> None:
        self.slider, self.number = ipywidgets.IntSlider(value=1), ipywidgets.BoundedIntText(value=1)
        self.note = ipywidgets.HTML()
        super().__init__([[self.slider, self.number], [], [self.note]], css_class="dk-doubled")
        self.refresh()

    def refresh(self) -> None:
        self.picture.value = str(2 * self.slider.value)

    def summary(self) -> str:
        return f"The double is {self.picture.value}."

    def in_saved_notebook(self) -> dict[str, str]:
        return {"image/svg+xml": f"<svg>{self.picture.value}</svg>"}


def test_rows_stand_above_the_picture_and_empty_ones_are_left_out() -> None:
    view = Doubled()
    *rows, picture, _ = view.children[1:]
    staying, below = rows
    assert [row.children for row in (*staying.children, below)] == [
        (view.slider, view.number, view.wide),
        (view.note,),
    ]
    assert "dk-stays" in staying._dom_classes
    assert picture is view.picture
    assert {"dk-live-view", "dk-doubled"} <= set(view._dom_classes)


def test_the_switch_shows_which_way_it_goes() -> None:
    switch, seen = Doubled().wide, []
    for pressed in (True, False):
        switch.value = pressed
        seen.append((switch.description, switch.icon))
    assert seen == [("Full width", "compress"), ("Full width", "expand")]


def test_the_picture_travels_before_the_number_box_follows() -> None:
    view, order = Doubled(), []
    view.picture.observe(lambda _: order.append("picture"), "value")
    view.number.observe(lambda _: order.append("number"), "value")
    view.slider.value = 4
    assert order == ["picture", "number"]
    assert (view.picture.value, view.number.value) == ("8", 4)


def test_a_number_that_is_typed_moves_the_slider_and_the_picture() -> None:
    view = Doubled()
    view.number.value = 7
    assert (view.slider.value, view.picture.value) == (7, "14")


def test_its_text_is_the_summary() -> None:
    assert repr(Doubled()) == "A live view (run the notebook to use it). The double is 2."


def test_a_saved_notebook_has_the_view_its_text_and_a_picture_of_what_is_on_show() -> None:
    view = Doubled()
    view.slider.value = 3
    bundle = view._repr_mimebundle_()
    assert bundle["image/svg+xml"] == "<svg>6</svg>" and bundle["text/plain"].endswith("The double is 6.")
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == view.model_id


@pytest.mark.parametrize("make", [Doubled, lambda: dk.Guess("Of 100, right:")], ids=["view", "guess"])
def test_ipywidgets_7_does_not_show_it_in_its_own_way(make: Any) -> None:
    """Whose `_ipython_display_` IPython would prefer to the bundle."""
    view = make()
    assert not callable(view._ipython_display_)
    shown, _ = DisplayFormatter().format(view)
    assert shown == view._repr_mimebundle_() and shown["text/plain"] == repr(view)


def test_closing_closes_every_control() -> None:
    view = Doubled()
    inner = [view, view.slider, view.number, view.note, view.picture, *view.children]
    assert all(widget.comm is not None for widget in inner)
    view.close()
    assert all(widget.comm is None for widget in inner)


def test_no_script_stands_in_the_page_itself() -> None:
    view = Doubled()
    markup = "".join(child.value for child in view.children if isinstance(child, ipywidgets.HTML))
    assert "<style>" in markup and not re.search(r"<script|\son\w+=|javascript:", markup)
    assert isinstance(view.children[0], BrowserSide)


def test_a_view_on_no_page_catches_up_when_it_is_shown_again() -> None:
    view = Doubled()
    view.catch_up(3)
    assert view.picture.value == "6", "where no page counts, it may be on show"
    view._repr_mimebundle_()
    view._view_count = 1
    view._view_count = 0  # what a page sends that shows it no more
    view.catch_up(5)
    assert (view.slider.value, view.picture.value) == (3, "6")
    view._view_count = 1
    assert (view.slider.value, view.picture.value) == (5, "10")
