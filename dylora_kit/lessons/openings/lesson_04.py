"""The opening of lesson 04: four switches, and how often each row is trained where the first one stands."""

from dylora_kit.lessons.openings.drawing import INK, LINE, SOFT, sheet
from dylora_kit.plots.drawing import BLUE
from dylora_kit.training.sampling import Geometric, Uniform
from dylora_kit.widgets.svg_cards.shapes import box, text

SWITCHES = (
    ("How is b drawn?", "evenly", "mostly small"),
    ("Which rows learn?", "1 to b", "b alone"),
    ("Do the others move?", "not at all", "they drift"),
    ("What is minimised?", "one rank", "all ranks"),
)
R = 8
SMALL = Geometric(0.35, 1, R)


def opening() -> str:
    """The picture as SVG."""
    out = [_switch(90 + 50 * index, *switch) for index, switch in enumerate(SWITCHES)]
    return sheet(
        "Four switches with two positions each: how b is drawn, which rows learn, whether the others move, what is "
        "minimised. On the right, how often each of eight rows is trained: row 1 in every step, each row below it "
        "less often, and much less so where mostly small b are drawn.",
        "Four switches. Which would you flip?",
        304,
        *out,
        _bars(632, 112),
    )


def _switch(y: float, question: str, first: str, second: str) -> str:
    """A question with two answers, the first of which is on."""
    x, width, height = 310, 144, 40
    pill = f'rx="20" height="{height}"'
    out = [text(40, y + 27, question, "b")]
    out.append(f'<rect x="{x}" y="{y}" width="{2 * width}" {pill} fill="#ffffff" stroke="{SOFT}" stroke-width="2"/>')
    out.append(f'<rect x="{x}" y="{y}" width="{width}" {pill} fill="{BLUE}"/>')
    out.append(text(x + width / 2, y + 27, first, "mid small b", "#ffffff"))
    out.append(text(x + 1.5 * width, y + 27, second, "mid small"))
    return "".join(out)


def _bars(x: float, y: float) -> str:
    """A bar for each row, as long as the share of the steps that train it, and an outline for the other position."""
    thick, pitch, longest = 13.0, 19.5, 206.0
    out = [text(x, y - 10, "How often each row learns", "small")]
    frequencies = zip(Uniform(1, R).update_frequencies(R), SMALL.update_frequencies(R), strict=True)
    for row, (evenly, small) in enumerate(frequencies, 1):
        top = y + 4 + pitch * (row - 1)
        out.append(box(x + 50, top, longest * evenly, thick, f"fill:{BLUE}"))
        out.append(box(x + 50, top, longest * small, thick, f"fill:none;stroke:{INK};stroke-width:2;"
                       "stroke-dasharray:4 3"))  # fmt: skip
        if row in (1, R):
            out.append(text(x + 38, top + 13, str(row), "end small b"))
    out.append(box(x + 50, y + 166, 16, 14, f"fill:{BLUE}") + text(x + 72, y + 180, "evenly", "small soft"))
    out.append(box(x + 158, y + 166, 16, 14, f"fill:none;stroke:{INK};stroke-width:2;stroke-dasharray:4 3"))
    return "".join(out) + text(x + 180, y + 180, "mostly small", "small soft") + box(x + 49, y, 2, 160, f"fill:{LINE}")
