"""The opening of lesson 02: a frozen matrix and the two thin ones beside it, to scale, and a lens on their rows."""

from dylora_kit.lessons.openings.drawing import INK, SOFT, circle, line, sheet
from dylora_kit.plots.drawing import BLUE, WRONG
from dylora_kit.widgets.svg_cards.shapes import box, text

D, R = 768, 8  # a layer of RoBERTa-base, and an adapter as the paper has it
SIDE, TOP = 196, 84  # of W₀, in pixels


def opening() -> str:
    """The picture as SVG."""
    thin = R * SIDE / D
    middle, blue = TOP + SIDE / 2, f"fill:{BLUE}"
    out = [box(40, TOP, SIDE, SIDE, "fill:#dedbd2"), text(138, middle - 16, "W₀", "mid huge")]
    out += [text(138, middle + 22, f"{D * D:,}", "mid b"), text(138, middle + 50, "numbers, frozen", "mid small")]
    out += [line([(254, middle), (282, middle)], INK, 5), line([(268, middle - 14), (268, middle + 14)], INK, 5)]
    out += [box(304, TOP, thin, SIDE, blue), text(318, TOP + 22, "B", "b large"), circle(332, middle, 4, INK)]
    out += [box(356, middle - thin / 2, SIDE, thin, blue), text(372, middle - 14, "A", "b large")]
    out += [text(356, middle + 58, f"{2 * D * R:,}", "b"), text(356, middle + 86, "numbers, trained", "small")]
    return sheet(
        f"To scale: a square W₀ with {D * D:,} frozen numbers, and beside it two lines, B and A, with {2 * D * R:,} "
        f"trained ones. A lens shows the {R} rows of A, and scissors that are about to cut off half of them.",
        "Eight thin rows. Cut half of them: which half?",
        304,
        *out,
        _lens(528, middle, 772),
        text(356, TOP + 20, "one layer of RoBERTa-base,", "soft small"),
        text(356, TOP + 48, "drawn to scale", "soft small"),
    )


def _lens(x: float, middle: float, centre: float) -> str:
    """A small ring around the end of A, and the same as a lens sees it: eight rows, and where scissors would cut."""
    radius, thick, gap = 92.0, 11.0, 7.0
    out = [line([(x + 3, middle - 14), (centre - 34, middle - 85)], SOFT, 1.5)]
    out += [line([(x + 3, middle + 14), (centre - 34, middle + 85)], SOFT, 1.5)]
    out += [circle(x, middle, 14, "none", INK, 2.5), circle(centre, middle, radius, "#ffffff", INK, 4)]
    for row in range(R):
        top = middle + (row - R / 2) * (thick + gap) + gap / 2
        far = max(abs(top - middle), abs(top + thick - middle))
        half = (radius**2 - far**2) ** 0.5 - 9
        out.append(box(centre - half, top, 2 * half, thick, f"fill:{BLUE}"))
    out.append(line([(centre - radius - 14, middle), (centre + radius - 8, middle)], WRONG, 3, "7 6"))
    return "".join(out) + _scissors(centre + radius - 2, middle)


def _scissors(x: float, y: float) -> str:
    """Open scissors that point to the left."""
    blades = line([(x, y - 13), (x + 42, y + 10)], WRONG, 4) + line([(x, y + 13), (x + 42, y - 10)], WRONG, 4)
    return blades + circle(x + 50, y + 15, 9, "none", WRONG, 4) + circle(x + 50, y - 15, 9, "none", WRONG, 4)
