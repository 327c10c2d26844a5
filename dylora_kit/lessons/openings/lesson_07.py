"""The opening of lesson 07: the rows of a LoRA as they are, then ordered, then cut by a slider."""

from dylora_kit.lessons.openings.drawing import INK, arrow, card, rows, sheet, slider
from dylora_kit.plots.drawing import BLUE, ORANGE
from dylora_kit.widgets.svg_cards.shapes import box, text

ORDERED = (176, 132, 100, 74, 54, 38, 26, 16)  # a sketch, not a measurement
JUMBLED = ((96, 30, -9), (120, 8, 6), (84, 52, -4), (128, 14, 9), (104, 36, -7), (90, 10, 4), (118, 44, 8),
           (100, 22, -6))  # length, indent and tilt of each row  # fmt: skip
THICK, GAP, TOP = 12, 7, 96


def opening() -> str:
    """The picture as SVG."""
    return sheet(
        "Three stages of one adapter: eight rows in a jumble, the same adapter with its rows in order from the longest "
        "to the shortest, and the ordered rows with a slider below them that stands at 3 of 8.",
        "Your LoRA works at one rank. Give it all of them.",
        312,
        card(40, 82, 216, 168, "#ffffff"),
        _jumble(62, TOP),
        text(148, 282, "a LoRA you have", "mid b"),
        arrow(274, 166, 72),
        text(310, 150, "order", "mid b"),
        card(364, 82, 216, 168, "#ffffff"),
        rows(384, TOP, ORDERED, THICK, GAP - 1, 8, BLUE),
        text(472, 282, "strongest first", "mid b"),
        arrow(598, 166, 72),
        text(634, 150, "teach", "mid b"),
        card(688, 82, 232, 168, "#ffffff", BLUE),
        rows(708, TOP, [0.9 * length for length in ORDERED], 8, 4, 3, BLUE),
        slider(718, 212, 172, 8, 3, BLUE, labels=False),
        text(804, 282, "any rank you like", "mid b"),
    )


def _jumble(x: float, y: float) -> str:
    """Rows that lie across each other."""
    out = []
    for index, (length, indent, tilt) in enumerate(JUMBLED):
        left, top = x + indent, y + index * (THICK + GAP - 1)
        bar = box(left, top, length, THICK, f"fill:{ORANGE};stroke:{INK};stroke-width:1")
        out.append(f'<g transform="rotate({tilt} {left + length / 2:.1f} {top + THICK / 2:.1f})">{bar}</g>')
    return "".join(out)
