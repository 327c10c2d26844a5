"""The two cards of a comparison: what was printed, and what was measured again, on one scale."""

import math
from collections.abc import Callable

from dylora_kit.widgets.svg_cards.comparison import Comparison, Line, Measured, Side
from dylora_kit.widgets.svg_cards.shapes import apart, box, head, marker, text

HEIGHT = 306
LEFT, TOP, WIDE, HIGH = 46, 70, 248, 168  # of the field that is drawn in
LABELS = LEFT + WIDE + 22  # where the names stand


def compared_cards(shown: Comparison, rank: int) -> list[tuple[str, int]]:
    """The paper's card and the kit's, as SVG, each with its height in pixels.

    Arguments:
        rank: the one that is marked, where the comparison has ranks.
    """
    draw = {"curves": _curves, "pairs": _pairs, "plane": _plane}
    cards = []
    for side in (shown.paper, shown.kit):
        out = [head(side.who, side.what)]
        if shown.kind == "words":
            out += _words(shown, side)
        else:
            out += draw[shown.kind](shown, side, rank) if side.lines else _instead(side)
        cards.append(("".join(out), HEIGHT))
    return cards


def limits(shown: Comparison, side: Side) -> tuple[float, float, float]:
    """The ends of the scale of one half, and the distance of its marks.

    Both halves have the same scale. Where it would leave each of them little room, they only have the same length, so
    that a point is as long in both.

    >>> line = Line("LoRA", {1: Measured(83.0, 2.5), 8: Measured(91.0)})
    >>> paper, kit = Side("", "", (line,)), Side("", "", (Line("LoRA", {1: Measured(20.0), 8: Measured(25.0)}),))
    >>> shown = Comparison("", "", "", "", "curves", "", paper, kit, "")
    >>> limits(shown, paper), limits(shown, kit)
    ((80, 92, 2), (20, 32, 2))
    """
    ends = [_ends(half) for half in (shown.paper, shown.kit) if half.lines]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    longest = max(end - start for start, end in ends)
    if high - low > 1.6 * longest:
        (low, high), span = _ends(side), longest
    else:
        span = high - low
    step = next((step for step in (0.1, 0.5, 1, 2, 5, 10, 20) if span <= 6 * step), 25)
    start, marks = step * math.floor(low / step + 1e-9), math.floor(span / step) + 1
    marks += start + marks * step < high - 1e-9
    return start, start + marks * step, step


def _ends(side: Side) -> tuple[float, float]:
    reached = [_reach(value) for line in side.lines for value in line.values.values()]
    return min(low for low, _ in reached), max(high for _, high in reached)


def _reach(value: Measured) -> tuple[float, float]:
    spread = value.spread if math.isfinite(value.spread) else 0.0
    return value.mean - spread, value.mean + spread


def _instead(side: Side) -> list[str]:
    """A field that is left empty, and why."""
    look = "fill:none;stroke:var(--soft);stroke-width:1.5;stroke-dasharray:6 5"
    lines = [text(LEFT + 16, TOP + 44 + 22 * at, words, "" if at else "b") for at, words in enumerate(side.instead)]
    return [box(LEFT - 28, TOP, 436, HIGH + 40, look), *lines]


def _upright(shown: Comparison, side: Side) -> tuple[Callable[[float], float], list[str]]:
    """Where a value stands in a field whose values go up, and the marks of that scale."""
    low, high, step = limits(shown, side)

    def y_of(value: float) -> float:
        return TOP + HIGH * (high - value) / (high - low)

    out = []
    for mark in range(round((high - low) / step) + 1):
        value = low + mark * step
        out.append(_rule(LEFT, y_of(value), LEFT + WIDE, y_of(value)))
        out.append(text(LEFT - 8, y_of(value) + 4, f"{value:g}", "soft end"))
    return y_of, out


def _rule(x: float, y: float, to_x: float, to_y: float, look: str = "stroke:var(--line);opacity:.7") -> str:
    return f'<line x1="{x:.1f}" x2="{to_x:.1f}" y1="{y:.1f}" y2="{to_y:.1f}" style="{look}"/>'


def _mark(line: Line, x: float, y: float, size: float) -> str:
    return marker(line.colour, x, y, size, f"var(--dk-{line.colour})", not line.hollow)


def _whisker(line: Line, x: float, y: float, to_x: float, to_y: float) -> str:
    return _rule(x, y, to_x, to_y, f"stroke:var(--dk-{line.colour});stroke-width:1.5;opacity:.75")


def _curves(shown: Comparison, side: Side, rank: int) -> list[str]:
    """A line for each method over the ranks, which stand at equal distances; names and numbers at the marked one."""
    y_of, out = _upright(shown, side)
    ranks = shown.ranks
    x_of = {at: LEFT + 10 + (WIDE - 20) * place / max(len(ranks) - 1, 1) for place, at in enumerate(ranks)}
    for at in ranks:
        out.append(text(x_of[at], TOP + HIGH + 19, f"{at}", "b mid" if at == rank else "soft mid"))
    out.append(text(LEFT + WIDE / 2, TOP + HIGH + 40, shown.across, "soft mid"))
    out.append(_rule(x_of[rank], TOP - 6, x_of[rank], TOP + HIGH, "stroke:var(--ink);stroke-dasharray:3 4"))
    for line in side.lines:
        values = {int(at): value for at, value in sorted(line.values.items()) if math.isfinite(value.mean)}
        points = " ".join(f"{x_of[at]:.1f},{y_of(value.mean):.1f}" for at, value in values.items())
        dashes = ";stroke-dasharray:5 4" if line.hollow else ""
        out.append(
            f'<polyline points="{points}" style="fill:none;stroke:var(--dk-{line.colour});stroke-width:2{dashes}"/>'
        )
        for at, value in values.items():
            low, high = _reach(value)
            out.append(_whisker(line, x_of[at], y_of(low), x_of[at], y_of(high)))
            out.append(_mark(line, x_of[at], y_of(value.mean), 5.5 if at == rank else 3.5))
    named = [line for line in side.lines if rank in line.values]
    heights = apart([y_of(line.values[rank].mean) for line in named], 34, TOP + 4, TOP + HIGH + 10)
    for line, y in zip(named, heights, strict=True):
        out += _named(line, f"{line.values[rank]}", LABELS, y)
    if not named:
        out.append(text(LABELS, TOP + 20, f"nothing at rank {rank}", "soft"))
    return out


def _named(line: Line, number: str, x: float, y: float) -> list[str]:
    """A number and below it the name that it belongs to, with the marker before them."""
    colour = f"var(--dk-{line.colour})"
    return [_mark(line, x, y - 2, 4), text(x + 12, y + 3, number, "b dk-value", colour),
            text(x + 12, y + 18, line.name, "", colour)]  # fmt: skip


def _pairs(shown: Comparison, side: Side, rank: int) -> list[str]:
    """Two dots in each row, a line between them, and on the right how far the second is from the first."""
    low, high, step = limits(shown, side)
    left, wide = 142, 230

    def x_of(value: float) -> float:
        return left + wide * (value - low) / (high - low)

    out, height = [], HIGH / len(shown.rows)
    for mark in range(round((high - low) / step) + 1):
        x = x_of(low + mark * step)
        out.append(_rule(x, TOP, x, TOP + HIGH))
        out.append(text(x, TOP + HIGH + 17, f"{low + mark * step:g}", "soft mid"))
    for at, row in enumerate(shown.rows):
        y = TOP + height * (at + 0.5)
        out.append(text(left - 12, y + 4, row, "soft end"))
        pair = [(line, line.values[at]) for line in side.lines if at in line.values]
        if len(pair) == 2:
            ends = [x_of(value.mean) for _, value in pair]
            out.append(_rule(ends[0], y, ends[1], y, "stroke:var(--soft);stroke-width:1.5"))
            ahead = pair[1][1].mean - pair[0][1].mean
            out.append(text(left + wide + 18, y + 4, f"{ahead:+.1f}".replace("-", "−"), "b dk-value"))
        elif pair:
            out.append(text(left + wide + 18, y + 4, f"{pair[0][1]}", "b dk-value"))
        for shift, (line, value) in zip((-5, 5), pair, strict=False):
            start, end = _reach(value)
            out.append(_whisker(line, x_of(start), y + shift, x_of(end), y + shift))
            out.append(_mark(line, x_of(value.mean), y, 5))
    for place, line in enumerate(side.lines):
        x = left - 60 + 150 * place
        out += [_mark(line, x, TOP + HIGH + 42, 5), text(x + 12, TOP + HIGH + 46, line.name, "soft")]
    if len(side.lines) == 2:
        out.append(text(left + wide + 18, TOP - 6, "change", "soft"))
    return out


def _plane(shown: Comparison, side: Side, rank: int) -> list[str]:
    """Quality upwards and cost to the right, on a scale of powers of ten or two; each point has a letter."""
    y_of, out = _upright(shown, side)
    costs = [x for line in side.lines for x in line.values]
    base = 10 if max(costs) > 16 * min(costs) else 2
    low, high = math.floor(math.log(min(costs), base) - 0.1), math.ceil(math.log(max(costs), base) + 0.1)

    def x_of(cost: float) -> float:
        return LEFT + WIDE * (math.log(cost, base) - low) / (high - low)

    for power in range(low, high + 1):
        out.append(text(x_of(base**power), TOP + HIGH + 19, _short(base**power), "soft mid"))
    out.append(text(LEFT + WIDE / 2, TOP + HIGH + 40, shown.across, "soft mid"))
    points = [(line, x, value) for line in side.lines for x, value in line.values.items()]
    least = min(34.0, (HIGH + 20) / len(points))
    for at, (line, x, value) in enumerate(points):
        letter, (bottom, top) = chr(ord("A") + at), _reach(value)
        out.append(_whisker(line, x_of(x), y_of(bottom), x_of(x), y_of(top)))
        out.append(_mark(line, x_of(x), y_of(value.mean), 5))
        right, down = ((9, -5), (-16, 15), (-16, -5), (9, 15))[at % 4]  # points may lie upon each other
        out.append(text(x_of(x) + right, y_of(value.mean) + down, letter, "b"))
        y, colour = TOP + least * at, f"var(--dk-{line.colour})"
        out.append(text(LABELS - 8, y + 4, f"{letter}  {value}", "b dk-value", colour))
        out.append(text(LABELS + 8, y + min(18.0, 0.5 * least + 3), line.name, "tiny", colour))
    return out


def _words(shown: Comparison, side: Side) -> list[str]:
    """What each row says of this half."""
    out = []
    for at, (row, words) in enumerate(zip(shown.rows, side.instead, strict=True)):
        y = TOP + 34 * at + 12
        out += [text(18, y, row, "soft"), text(170, y, words, "b"), _rule(18, y + 12, 450, y + 12)]
    return out


def _short(number: float) -> str:
    """A number in a few letters.

    >>> _short(1000000), _short(2000), _short(0.5)
    ('1M', '2k', '0.5')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"
