"""The opening of lesson 08: a printed curve beside three measured ones, and a field that is left empty."""

from dylora_kit.lessons.openings.drawing import INK, LINE, PALE, SOFT, card, circle, line
from dylora_kit.lessons.openings.drawing import sheet as whole
from dylora_kit.plots.drawing import BLUE, GREEN, ORANGE
from dylora_kit.widgets.svg_cards.shapes import box, text

# heights above the axis, from rank 1 to rank 4: a sketch, not a measurement
PRINTED = (14, 62, 98, 112)
MEASURED = ((20, 54, 92, 112), (58, 78, 99, 112), (88, 102, 109, 112))
WIDTH, HEIGHT, TOP, FLOOR = 252, 172, 82, 232  # of a card, and where the axes lie
SPREAD = 11


def opening() -> str:
    """The picture as SVG."""
    colours = (ORANGE, GREEN, BLUE)
    measured = [_curve(386, heights, colour, True) for heights, colour in zip(MEASURED, colours, strict=True)]
    gap = box(688, TOP + 12, 216, HEIGHT - 24, f"fill:none;stroke:{SOFT};stroke-width:3;stroke-dasharray:9 8")
    return whole(
        "Three cards side by side. The first has one rising curve, as a paper prints it. The second has three measured "
        "curves with their spread, and each of them could be the first one. The third card is an empty dashed field.",
        "The paper prints one curve. Which one is it?",
        312,
        card(40, TOP, WIDTH, HEIGHT),
        _axes(60),
        _curve(60, PRINTED, INK, False),
        text(166, 288, "printed", "mid b"),
        text(329, 178, "?", "mid huge", SOFT),
        card(366, TOP, WIDTH, HEIGHT, "#ffffff", BLUE),
        _axes(386),
        *measured,
        text(492, 288, "measured, in three ways", "mid b"),
        card(670, TOP, WIDTH, HEIGHT),
        gap,
        text(796, 176, "not run", "mid large soft"),
        text(796, 288, "and what is missing", "mid b"),
    )


def _axes(x: float) -> str:
    """The floor of a curve, with a mark for each rank."""
    marks = [line([(x + 12 + 62 * at, FLOOR), (x + 12 + 62 * at, FLOOR + 8)], PALE, 3) for at in range(4)]
    return line([(x, FLOOR), (x + 210, FLOOR)], LINE, 3) + "".join(marks)


def _curve(x: float, heights: tuple[int, ...], colour: str, spread: bool) -> str:
    """A curve over four ranks; a measured one has the spread of its seeds."""
    points = [(x + 12.0 + 62 * at, float(FLOOR - 14 - height)) for at, height in enumerate(heights)]
    whiskers = [line([(left, y - SPREAD), (left, y + SPREAD)], colour, 3) for left, y in points[:3]] if spread else []
    return line(points, colour, 4) + "".join(whiskers) + "".join(circle(left, y, 6, colour) for left, y in points)
