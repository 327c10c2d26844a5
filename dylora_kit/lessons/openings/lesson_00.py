"""The opening of lesson 00: a digit that lies on its side, a network with eight rows, and how few of them it needs."""

from dylora_kit.lessons.openings.drawing import INK, LINE, arrow, card, line, pixels, rows, sheet, slider
from dylora_kit.plots.drawing import BLUE
from dylora_kit.tasks import digits
from dylora_kit.widgets.svg_cards.shapes import text

SHOWN = 15  # the scan, by its number in the test set
ROWS, USED = 8, 3


def opening() -> str:
    """The picture as SVG."""
    middle = 140
    return sheet(
        "A handwritten digit that lies on its side goes into a frozen network with an adapter of eight rows, of which "
        "three are in use, a slider below them; what comes out is a question mark.",
        "Eight rows read this digit. How few are enough?",
        272,
        pixels(digits.load("turned").test.pixel_values[SHOWN, 0], 44, middle - 58, 116),
        arrow(176, middle, 44),
        card(236, middle - 58, 180, 116, "#eceae3"),
        text(326, middle - 4, "network,", "mid b"),
        text(326, middle + 26, "frozen", "mid"),
        line([(436, middle), (464, middle)], INK, 5),
        line([(450, middle - 14), (450, middle + 14)], INK, 5),
        rows(490, 82, [196] * ROWS, 9, 4.6, USED, BLUE),
        slider(500, 211, 176, ROWS, USED, BLUE),
        arrow(704, middle, 44),
        _bubble(768, middle - 58, 148, 116),
        text(842, middle + 20, "?", "mid huge"),
    )


def _bubble(x: float, y: float, width: float, height: float) -> str:
    """A speech bubble with its tail at the lower left."""
    low = y + height
    tail = f"M{x + 30} {low - 1}L{x + 18} {low + 26}L{x + 62} {low - 1}"
    return card(x, y, width, height) + (
        f'<path d="{tail}" fill="#ffffff" stroke="{LINE}" stroke-width="2" stroke-linejoin="round"/>'
    )
