"""The opening of lesson 03: a die for the rank, and nested dolls that each hold the same B and A, cut to b."""

from dylora_kit.lessons.openings.drawing import INK, LINE, SOFT, arrow, circle, line, polygon, sheet
from dylora_kit.plots.drawing import BLUE, ORANGE
from dylora_kit.widgets.svg_cards.shapes import box, text

RANKS, DRAWN = (1, 2, 4, 8), 4
THICK, LONG = 5, 46  # of a row, in pixels
CHEEK = "#f0b39a"
BASE = 268  # where the dolls stand
HEIGHTS, PLACES = {1: 118, 2: 134, 4: 158, 8: 192}, {1: 386, 2: 508, 4: 654, 8: 834}


def opening() -> str:
    """The picture as SVG."""
    out = [_die(122, 162, 80, DRAWN), arrow(226, 162, 76), text(264, 142, "draw b", "mid b")]
    out += [box(48, BASE + 14, 30, 9, f"fill:{ORANGE}"), text(90, BASE + 26, "row 1: in every one", "small")]
    for b in RANKS:
        out.append(_doll(b))
        out.append(text(PLACES[b], BASE + 30, f"b = {b}", "mid b" if b == DRAWN else "mid soft"))
    return sheet(
        f"A die with eight faces shows {DRAWN}. Beside it four nested dolls, for ranks 1, 2, 4 and 8: each holds the "
        f"first columns of B and rows of A, and would fit into the next; the doll of rank {DRAWN} is chosen.",
        "One adapter. Before every step, roll for its rank.",
        316,
        *out,
    )


def _die(x: float, y: float, radius: float, number: int) -> str:
    """A die with eight triangles, seen from the front."""
    outline, front = polygon(x, y, radius, 6), polygon(x, y, radius, 3)
    out = [f'<polygon points="{_joined(outline)}" fill="#e2edf5" stroke="{INK}" stroke-width="4" '
           'stroke-linejoin="round"/>']  # fmt: skip
    out.append(f'<polygon points="{_joined(front)}" fill="#ffffff" stroke="{INK}" stroke-width="3" '
               'stroke-linejoin="round"/>')  # fmt: skip
    return "".join(out) + text(x, y + 22, str(number), "mid huge", BLUE)


def _joined(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _doll(b: int) -> str:
    """A doll whose belly shows b columns of B and b rows of A."""
    x, height = PLACES[b], HEIGHTS[b]
    half = 0.34 * height if b > 2 else 0.37 * height
    chosen = b == DRAWN
    edge, face = (BLUE, "#e2edf5") if chosen else (SOFT, "#f0eee7")
    dy = lambda share: BASE - share * height  # noqa: E731

    def side(sign: int) -> str:
        a = sign * half
        places = [(0.62, 0), (1.02, 0.1), (1.12, 0.52), (0.52, 0.66), (0.78, 0.78), (0.62, 1), (0, 1)]
        points = [f"{x + a * across:.1f} {dy(up):.1f}" for across, up in (places if sign < 0 else places[::-1])]
        return f"{points[0]}C{' '.join(points[1:4])}C{' '.join(points[4:])}"

    out = [
        f'<path d="M{side(-1)}L{side(1)}Z" fill="{face}" stroke="{edge}" '
        f'stroke-width="{5 if chosen else 2.5}" stroke-linejoin="round"/>'
    ]
    return "".join(out) + _face(x, dy(0.82), 0.105 * height, edge) + _matrices(b, x, dy(0.32), chosen)


def _face(x: float, y: float, radius: float, edge: str) -> str:
    eyes = circle(x - 0.38 * radius, y - 0.1 * radius, 2, INK) + circle(x + 0.38 * radius, y - 0.1 * radius, 2, INK)
    smile = line([(x - 0.3 * radius, y + 0.38 * radius), (x, y + 0.52 * radius), (x + 0.3 * radius, y + 0.38 * radius)],
                 INK, 1.8)  # fmt: skip
    low, wide = y + 0.24 * radius, 0.62 * radius
    cheeks = circle(x - wide, low, 2.6, CHEEK) + circle(x + wide, low, 2.6, CHEEK)
    return circle(x, y, radius, "#ffffff", edge, 2) + cheeks + eyes + smile


def _matrices(b: int, x: float, y: float, chosen: bool) -> str:
    """B standing and A lying, b rows thick; row 1 is the outermost of each."""
    size = b * THICK + 4 + LONG
    left, top = x - size / 2, y - size / 2
    out = []
    for row in range(b):
        at = row * THICK
        look = f"fill:{ORANGE if row == 0 else BLUE};stroke:{LINE if not chosen else '#ffffff'};stroke-width:.8"
        out.append(box(left + at, top + b * THICK + 4, THICK, LONG, look))
        out.append(box(left + b * THICK + 4, top + at, LONG, THICK, look))
    return "".join(out)
