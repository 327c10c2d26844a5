"""What all figures share: colours, a plain frame, words for a curve, and the picture with its text."""

import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072b2", "#c77c00", "#009e73"  # Okabe-Ito, orange darkened for white paper
RIGHT, WRONG = "#00734f", "#b84300"  # darker again, for thin text
COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#999999")
_OUT_OF_SIGHT = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap"
_DARK = """<style>body[data-jp-theme-light="false"] .jp-OutputArea:has(.dk-figure) .jp-RenderedImage img {
  filter: invert(.93) hue-rotate(180deg); border-radius: 6px; }</style>"""
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES = ("", (6, 2), (6, 2, 1.5, 2), (3, 1.5), (8, 2, 2, 2, 2, 2), (10, 3))  # in units of the line's width
# methods that have the same look in every figure
_OWN = {"DyLoRA": 0, "LoRA, cut to b": 1, "LoRA, cut by SVD": 2, "LoRA, cut, scale α/r": 3, "LoRA, one per rank": 4,
        "α/b": 1, "SVD": 2, "α/r": 3, "the paper's LoRA": 5}  # fmt: skip


def looks(names: Sequence[str]) -> dict[str, int]:
    """Which colour, marker and dashes each method has: an index for each name.

    >>> looks(["DyLoRA", "nested", "LoRA, cut to b"])
    {'DyLoRA': 0, 'nested': 2, 'LoRA, cut to b': 1}
    """
    own = {name: _OWN[name] for name in names if name in _OWN}
    free = iter(index for index in range(len(COLOURS)) if index not in own.values())
    return {name: own[name] if name in own else next(free) for name in names}


def one_metric(frame: "pd.DataFrame", methods: Sequence[str] | None = None) -> list[str]:
    """The methods to draw: those given, or all; `ValueError` if there are too many, or not one metric."""
    if frame.empty or frame["metric"].nunique() > 1:
        raise ValueError(f"expected a frame with one metric: got {sorted(set(frame['metric'])) or 'no rows'}")
    names = list(methods or dict.fromkeys(frame["method"]))
    if len(names) > len(COLOURS):
        raise ValueError(f"one figure shows up to {len(COLOURS)} methods: got {len(names)}")
    return names


def first_and_last(values: Any, unit: str = "rank") -> str:
    """A series by rank in words, such as "50 % at rank 1 to 90 % at rank 8"."""
    first, last = values.index[0], values.index[-1]
    return f"{100 * values[first]:.0f} % at {unit} {first} to {100 * values[last]:.0f} % at {unit} {last}"


def plain_frame(axes: Any) -> None:
    """Horizontal lines behind the curves, and no frame but the lower axis."""
    axes.grid(axis="y", color="#d8d8dc", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)


def image(figure: "Figure", alt: str, *, photographs: bool = False) -> "Image":
    """The figure as a PNG, which is shown with its text for those who do not see it.

    Arguments:
        photographs: whether it holds pictures that would be others if dark and light were exchanged, as JupyterLab's
            dark theme does with figures.
    """
    from IPython.display import Image, display

    class Picture(Image):
        """A picture, and after it, out of sight, what it shows: JupyterLab and nbconvert give an image no text."""

        def _ipython_display_(self) -> None:
            display(Image(self.data, width=self.width, alt=self.alt))
            looks = "" if photographs else _DARK
            hidden = f'<span class="dk-figure" style="{_OUT_OF_SIGHT}">{escape(self.alt)}</span>'
            display({"text/html": looks + hidden, "text/plain": self.alt}, raw=True)

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160, facecolor="white")
    return Picture(file.getvalue(), width=720, alt=alt)
