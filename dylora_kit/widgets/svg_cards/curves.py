"""The card with one curve per method: its metric at every rank."""

import math
from collections.abc import Callable, Mapping, Sequence

from dylora_kit.widgets.svg_cards.scene import Scene, Series
from dylora_kit.widgets.svg_cards.shapes import apart, head, marker, star, text

GUESS = 84  # the width of a guess's words


def metric_card(scene: Scene) -> str:
    """The metric of every method by rank, with the values at the active rank on the right, as SVG."""
    left, top, width, height = 50, 70, 268, 158
    step = width / max(scene.r - 1, 1)
    x_of = lambda rank: left + step * (rank - 1)  # noqa: E731
    most = max((value for series in scene.series for value in _finite(series.values).values()), default=1.0)
    ticks = [0.25 * tick for tick in range(max(5, math.ceil(4 * min(most, 2.0)) + 1))]  # an error can exceed 100 %
    y_of = lambda value: top + height * (1 - min(value / ticks[-1], 1.0))  # noqa: E731
    out = [head(f"{scene.metric.capitalize()} by {scene.unit}, in %", scene.subtitle)]
    for tick in ticks:
        y = y_of(tick)
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" style="stroke:var(--line);opacity:.7"/>')
        out.append(text(left - 9, y + 4, f"{100 * tick:.0f}", "soft end"))
    for rank in range(1, scene.r + 1):
        if scene.r <= 16 or rank in (1, scene.rank, scene.r):
            out.append(text(x_of(rank), top + height + 19, str(rank), "b mid" if rank == scene.rank else "soft mid"))
    out.append(text(left + width / 2, top + height + 38, f"{scene.unit} b", "soft mid"))
    x = x_of(scene.rank)
    out.append(
        f'<line x1="{x}" x2="{x}" y1="{top - 6}" y2="{top + height}" style="stroke:var(--ink);stroke-dasharray:3 4"/>'
    )
    if scene.waits:
        out.append(text(left + 12, top + height / 2, "The curves wait for your guess,", "soft"))
        out.append(text(left + 12, top + height / 2 + 18, "or for your first move.", "soft"))
    for series in scene.series if not scene.waits else ():
        colour = f"var(--dk-{series.kind})"
        for values, look in (
            (series.before, "stroke-width:2;opacity:.35;stroke-dasharray:5 4"),
            (series.values, "stroke-width:2.5"),
        ):
            points = " ".join(f"{x_of(rank):.1f},{y_of(value):.1f}" for rank, value in sorted(_finite(values).items()))
            out.append(f'<polyline points="{points}" style="fill:none;stroke:{colour};{look}"/>')
        for rank, value in sorted(_finite(series.values).items()):
            active = rank == scene.rank
            out.append(marker(series.kind, x_of(rank), y_of(value), 6.5 if active else 3.5, colour, active))
    out += _guesses(scene, x_of, y_of)
    out += [mark for series in scene.series if not scene.waits for mark in _before(series, x_of(1), y_of)]
    labelled = [series for series in scene.series if scene.rank in series.values]
    heights = [y_of(_finite(series.values).get(scene.rank, 0.0)) for series in labelled]
    for series, y in zip(labelled, apart(heights, 44, top + 6, top + height - 10), strict=True):
        colour, value = f"var(--dk-{series.kind})", series.values[scene.rank]
        shown = f"{100 * value:.0f} %" if math.isfinite(value) else "not finite"
        out.append(text(left + width + 22, y + 6, shown, "big dk-value", colour))
        out.append(text(left + width + 22, y + 23, series.name, "", colour))
    return "".join(out)


def _before(series: Series, x: float, y_of: Callable[[float], float]) -> list[str]:
    """A word at the left end of a curve of before, if it is apart from the curve of now."""
    before, now = _finite(series.before).get(1), _finite(series.values).get(1)
    if before is None or now is None or abs(before - now) < 0.08:
        return []
    return [text(x + 8, y_of(before) - 7, "before", "tiny over", f"var(--dk-{series.kind})")]


def _guesses(scene: Scene, x_of: Callable[[int], float], y_of: Callable[[float], float]) -> list[str]:
    """Each guess as an open star in the colour of its method, with a line to what it turned out to be."""
    out = []
    taken = [
        (x_of(rank), y_of(value))
        for series in (() if scene.waits else scene.series)
        for rank, value in _finite(series.values).items()
    ]
    for rank, guessed, index in scene.guesses:
        about = scene.series[index]
        colour, x, y = f"var(--dk-{about.kind})", x_of(rank), y_of(guessed)
        if rank in (known := _finite(about.values)):
            reach = f'x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y_of(known[rank]):.1f}"'
            out.append(f'<line {reach} style="stroke:{colour};stroke-width:1.5;stroke-dasharray:1 3"/>')
        out.append(star(x, y, 8, colour))
        left = x + 12 if rank <= scene.r / 2 else x - 12 - GUESS
        label = _free_height(left, y, taken, y_of(1.0), y_of(0.0))
        taken += [(left, label), (left + GUESS, label)]
        side = (left, "tiny over") if left > x else (left + GUESS, "tiny over end")
        out.append(text(side[0], label + 4, f"your guess, {100 * guessed:.0f}", side[1], colour))
    return out


def _free_height(x: float, y: float, taken: Sequence[tuple[float, float]], top: float, bottom: float) -> float:
    """The height nearest to y at which words from x on cover nothing of what is taken; y if there is none."""
    beside = [height for place, height in taken if x - 7 <= place <= x + GUESS + 7]
    ways = [y + way * step for step in range(0, 120, 4) for way in (1, -1)]
    free = (way for way in ways if top <= way <= bottom and all(abs(way - height) >= 16 for height in beside))
    return next(free, y)


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {rank: value for rank, value in values.items() if math.isfinite(value)}
