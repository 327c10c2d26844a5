"""What the opening pictures share: the light panel with its question, and the marks that are drawn on it, as SVG."""

import math
from collections.abc import Sequence
from html import escape

from torch import Tensor

from dylora_kit.widgets.svg_cards.shapes import box, text

WIDTH = 960
INK, SOFT, LINE, PAPER = "#14161b", "#545862", "#c9c6bd", "#faf9f5"
PALE = "#a9a69c"  # of what is there and not in use
GREYS = 16  # steps from black to white, as the digits were scanned

_STYLE = (
    "text{font-family:system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-size:22px;fill:#14161b}"
    ".ask{font-size:32px;font-weight:700;letter-spacing:-.4px}.soft{fill:#545862}.b{font-weight:700}"
    ".small{font-size:20px}.large{font-size:27px}.huge{font-size:54px;font-weight:800}"
    ".mid{text-anchor:middle}.end{text-anchor:end}"
)


def sheet(title: str, question: str, height: int, *parts: str) -> str:
    """An opening picture: a light panel, the question at its top, and what is drawn below.

    Arguments:
        title: what is to be seen, for who does not see it.
        question: the line at the top.
        height: of the whole, in pixels.
        parts: the drawing, as SVG.
    """
    panel = f'<rect x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="18" fill="{PAPER}" stroke="{LINE}"/>'
    lines = [panel, text(40, 54, question, "ask"), *(part for part in parts if part)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def line(points: Sequence[tuple[float, float]], colour: str = INK, width: float = 3, dashes: str = "") -> str:
    """A line through some points, with round ends."""
    through = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    look = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{through}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
        f'stroke-linecap="round" stroke-linejoin="round"{look}/>'
    )


def circle(x: float, y: float, radius: float, fill: str, stroke: str = "none", width: float = 0) -> str:
    """A disc, with an outline where `width` is above 0."""
    edge = f' stroke="{stroke}" stroke-width="{width:g}"' if width else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}"{edge}/>'


def card(x: float, y: float, width: float, height: float, fill: str = "#ffffff", edge: str = LINE) -> str:
    """A sheet of paper with round corners."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="12" fill="{fill}" '
        f'stroke="{edge}" stroke-width="2"/>'
    )


def arrow(x: float, y: float, length: float, colour: str = SOFT) -> str:
    """An arrow to the right that ends at x + length."""
    tip = x + length
    return line([(x, y), (tip, y)], colour, 4) + line([(tip - 11, y - 10), (tip, y), (tip - 11, y + 10)], colour, 4)


def cross(x: float, y: float, width: float, height: float, colour: str, thick: float = 5) -> str:
    """Two strokes from corner to corner."""
    return line([(x, y), (x + width, y + height)], colour, thick) + line([(x + width, y), (x, y + height)], colour,
                                                                         thick)  # fmt: skip


def tick(x: float, y: float, size: float, colour: str) -> str:
    """A check mark in a square of this size."""
    places = [(x, y + 0.55 * size), (x + 0.36 * size, y + 0.9 * size), (x + size, y + 0.1 * size)]
    return line(places, colour, 0.2 * size)


def rows(x: float, y: float, lengths: Sequence[float], thick: float, gap: float, used: int, colour: str) -> str:
    """Bars one below another; the first `used` are filled, the others are pale outlines."""
    out = []
    for index, length in enumerate(lengths):
        top = y + index * (thick + gap)
        if index < used:
            out.append(box(x, top, length, thick, f"fill:{colour}"))
        else:
            out.append(
                box(x + 0.75, top + 0.75, length - 1.5, thick - 1.5, f"fill:none;stroke:{PALE};stroke-width:1.5")
            )
    return "".join(out)


def slider(x: float, y: float, length: float, stops: int, at: int, colour: str, labels: bool = True) -> str:
    """A slider with stops from 1 on, its knob at one of them, the numbers below."""
    step = length / (stops - 1)
    knob = x + step * (at - 1)
    out = [line([(x, y), (x + length, y)], LINE, 8), line([(x, y), (knob, y)], colour, 8)]
    out += [circle(x + step * stop, y, 3, PAPER if stop < at else SOFT) for stop in range(stops)]
    out.append(circle(knob, y, 15, "#ffffff", colour, 6))
    for stop in range(1, stops + 1) if labels else ():
        out.append(text(x + step * (stop - 1), y + 43, str(stop), "mid b" if stop == at else "mid small soft"))
    return "".join(out)


def pixels(picture: Tensor, x: float, y: float, size: float) -> str:
    """A picture (8, 8), values from −1 (black) to 1 (white), in steps of grey: one path for each grey."""
    steps = (picture.double().clamp(-1, 1).add(1).mul(GREYS / 2)).round().int().tolist()
    runs: dict[int, list[str]] = {}
    for line_number, values in enumerate(steps):
        start = 0
        for column in range(1, len(values) + 1):
            if column == len(values) or values[column] != values[start]:
                runs.setdefault(values[start], []).append(f"M{start} {line_number}h{column - start}v1H{start}z")
                start = column
    side = len(steps)
    paths = []
    for grey, places in sorted(runs.items()):
        shade = round(255 * grey / GREYS)
        paths.append(f'<path fill="#{shade:02x}{shade:02x}{shade:02x}" d="{"".join(places)}"/>')
    frame = f'<rect width="{side}" height="{side}" fill="none" stroke="{INK}" stroke-width="{4 * side / size:.2f}"/>'
    where = f'transform="translate({x:.1f} {y:.1f}) scale({size / side:g})"'
    return f'<g {where} shape-rendering="crispEdges">{frame}{"".join(paths)}</g>'


def polygon(x: float, y: float, radius: float, corners: int, turned: float = 0.0) -> list[tuple[float, float]]:
    """The corners of a regular polygon, the first at the top, turned clockwise by so many degrees."""
    angles = [math.radians(turned + 360 * corner / corners - 90) for corner in range(corners)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
