"""A slider over any one number, and the picture that a function draws of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import ipywidgets

from dylora_kit.widgets import svg_cards
from dylora_kit.widgets.live_view import PLAIN, LiveView, rounded


@dataclass
class View:
    """What a dial shows: a finding, as a sentence, and the cards that show it, each with its height in pixels."""

    finding: str
    cards: Sequence[tuple[str, int]]


class Dial(LiveView):
    """A slider with a box for its number, and below it what `draw` makes of the number, drawn anew at every move.

    Arguments:
        label: what the number is.
        draw: `value → View`.
        low, high, step: the numbers it can take; whole if all three are.
        value: where it starts; default is `low`.

    Raises `ValueError` unless low ≤ value ≤ high, and 0 < step ≤ high − low.

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
        whole = all(isinstance(limit, Integral) for limit in (low, high, step, start))
        slider_class = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        number_class = ipywidgets.BoundedIntText if whole else ipywidgets.BoundedFloatText
        limits = {"value": start, "min": low, "max": high, "step": step}
        self.slider = slider_class(**limits, description=label, readout=False, style=PLAIN, layout={"width": "420px"})
        self.number = number_class(**limits, description="=", layout={"width": "110px"}, style=PLAIN)
        super().__init__([[self.slider, self.number]], css_class="dk-dial-box")
        for name in ("slider", "number", "picture"):
            getattr(self, name).add_class(f"dk-dial-{name}")
        self.refresh()

    def refresh(self) -> None:
        """Draws what the number means now."""
        value = rounded(self.slider.value)
        self._view = self._draw(value)
        self.picture.value = svg_cards.page(self._view.cards, self._view.finding, value=f"{value:g}")

    def summary(self) -> str:
        """What is on show, as text."""
        return self._view.finding

    def in_saved_notebook(self) -> dict[str, str]:
        """A picture of the dial."""
        slider = (self.slider.description, rounded(self.slider.value), self.slider.min, self.slider.max)
        return {"image/svg+xml": svg_cards.still(self._view.cards, self._view.finding, *slider, of=False)}
