"""The marks that cards are drawn with, as SVG."""

import math
from html import escape
from itertools import pairwise


def text(x: float, y: float, words: str, css_class: str = "", colour: str = "") -> str:
    """A line of text, escaped; (x, y) is the left end of its baseline, or what the class says."""
    look = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css_class}"{look}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, look: str) -> str:
    """A rectangle; `look` is its CSS."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" style="{look}"/>'


def head(title: str, subtitle: str) -> str:
    """The two lines at the top of a card."""
    return text(18, 28, title, "head") + text(18, 48, subtitle, "soft")


def marker(kind: int, x: float, y: float, size: float, colour: str, filled: bool) -> str:
    """The marker of a method by its look: a circle, a square, a diamond, a triangle."""
    look = f'style="stroke:{colour};stroke-width:2;fill:{colour if filled else "var(--jp-layout-color1, #fff)"}"'
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" {look}/>'
    if kind == 3:
        tips = f"{x - size:.1f},{y + size:.1f} {x + size:.1f},{y + size:.1f} {x:.1f},{y - size:.1f}"
        return f'<polygon points="{tips}" {look}/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if kind == 2 else ""
    side = 1.8 * size
    return f'<rect x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side}" height="{side}"{turn} {look}/>'


def star(x: float, y: float, size: float, colour: str) -> str:
    """An open star of five points, which no method has for its marker."""
    turns = [(size if point % 2 == 0 else 0.45 * size, math.pi * point / 5) for point in range(10)]
    points = " ".join(f"{x + far * math.sin(turn):.1f},{y - far * math.cos(turn):.1f}" for far, turn in turns)
    return f'<polygon points="{points}" style="stroke:{colour};stroke-width:2;fill:var(--jp-layout-color1, #fff)"/>'


def apart(places: list[float], least: float, low: float, high: float) -> list[float]:
    """Moves labels apart, keeping their order, until neighbours are `least` apart, between `low` and `high`.

    >>> apart([100, 101], 44, 0, 200)
    [100, 144]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [min(max(place, low), high) for place in places]
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    over = max(max(moved, default=0) - high, 0)
    return [place - over for place in moved]
