"""A slider over any one number, and the picture that a function draws of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import ipywidgets

from dylora_kit.widgets import svg_cards as cards

_ROW = {"align_items": "center", "flex_flow": "row wrap", "width": "100%"}
_PLAIN = {"description_width": "initial"}

# ipywidgets gives sliders' handles no name that a screen reader could say: it is added in the page
_NAME = """<img alt="" src="data:," onerror="for (const box of this.closest('.dk-dial-box').querySelectorAll(
'.widget-slider')) box.querySelector('[role=slider]')?.setAttribute('aria-label',
box.querySelector('.widget-label').textContent); this.remove()">"""


@dataclass
class View:
    """What a dial shows: what was found, in a sentence, and cards that show it, each with its height."""

    finding: str
    cards: Sequence[tuple[str, int]]


class Dial(ipywidgets.VBox):
    """A slider with a box for its number, and below it what `draw` makes of the number, drawn anew at every move.

    Arguments:
        label: what the number is.
        draw: `value → View`.
        low, high, step: the numbers it can take; whole if all three are.
        value: where it starts; default is `low`.

    `summary()` gives the finding as text.
    """

    def __init__(
        self,
        label: str,
        draw: Callable[[float], View],
        *,
        low: float,
        high: float,
        step: float = 1,
        value: float | None = None,
    ) -> None:
        start = low if value is None else value
        if not low <= start <= high or not low < high or not 0 < step <= high - low < math.inf:
            raise ValueError(
                "expected low ≤ value ≤ high, and a step above 0 that fits between: "
                f"got {low}, {start}, {high} and {step}"
            )
        self._draw = draw
        whole = all(isinstance(number, Integral) for number in (low, high, step, start))
        slider = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        box = ipywidgets.BoundedIntText if whole else ipywidgets.BoundedFloatText
        limits = {"value": start, "min": low, "max": high, "step": step}
        self.slider = slider(**limits, description=label, readout=False, style=_PLAIN, layout={"width": "420px"})
        self.number = box(**limits, description="=", layout={"width": "110px"}, style=_PLAIN)
        self.picture = ipywidgets.HTML(layout={"width": "100%", "max_width": f"{cards.WIDTH}px"})
        self.slider.observe(lambda _: self.refresh(), "value")  # before the link: the picture travels first
        ipywidgets.link((self.slider, "value"), (self.number, "value"), (self._rounded, self._rounded))
        for mark in ("slider", "number", "picture"):
            getattr(self, mark).add_class(f"dk-dial-{mark}")
        style = ipywidgets.HTML(cards.STYLE + _NAME, layout={"height": "0", "margin": "0"})
        row = ipywidgets.HBox([self.slider, self.number], layout=_ROW)
        super().__init__([row, self.picture, style], layout={"max_width": f"{cards.WIDTH}px"})
        self.add_class("dk-dial-box")
        self.refresh()

    def refresh(self) -> None:
        """Draws what the number means now."""
        value = self._rounded(self.slider.value)
        self._view = self._draw(value)
        self.picture.value = cards.page(self._view.cards, self._view.finding, value=f"{value:g}")

    @staticmethod
    def _rounded(value: float) -> float:
        """A number without the dust of floating point, which a front end adds: 0.15 and not 0.15000000000000002."""
        return value if isinstance(value, int) else round(value, 12)

    def close(self) -> None:
        """Takes the view out of the page and out of memory."""
        open_widgets = list(self.children)
        for widget in open_widgets:
            open_widgets.extend(getattr(widget, "children", ()))
            widget.close()
        super().close()

    def summary(self) -> str:
        """What is on show, as text."""
        return self._view.finding

    def __repr__(self) -> str:
        return f"A live view (run the notebook to use it). {self.summary()}"
