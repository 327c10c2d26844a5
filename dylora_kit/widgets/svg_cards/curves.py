"""The card with one curve per method: what each achieves at every rank."""

import math

from dylora_kit.widgets.svg_cards.scene import Scene
from dylora_kit.widgets.svg_cards.shapes import apart, head, marker, text


def metric_card(scene: Scene) -> str:
    left, top, width, height = 50, 70, 268, 158
    step = width / max(scene.r - 1, 1)
    at = lambda rank: left + step * (rank - 1)  # noqa: E731
    most = max((value for one in scene.series for value in one.values.values()), default=1.0)
    ticks = [0.25 * tick for tick in range(max(5, math.ceil(4 * min(most, 2.0)) + 1))]  # an error can exceed 100 %
    up = lambda value: top + height * (1 - min(value / ticks[-1], 1.0))  # noqa: E731
    out = [head(f"{scene.metric.capitalize()} by {scene.unit}, in %", scene.subtitle)]
    for tick in ticks:
        y = up(tick)
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" style="stroke:var(--line);opacity:.7"/>')
        out.append(text(left - 9, y + 4, f"{100 * tick:.0f}", "soft end"))
    for rank in range(1, scene.r + 1):
        if scene.r <= 16 or rank in (1, scene.rank, scene.r):
            out.append(text(at(rank), top + height + 19, str(rank), "b mid" if rank == scene.rank else "soft mid"))
    out.append(text(left + width / 2, top + height + 38, f"{scene.unit} b", "soft mid"))
    x = at(scene.rank)
    out.append(
        f'<line x1="{x}" x2="{x}" y1="{top - 6}" y2="{top + height}" style="stroke:var(--ink);stroke-dasharray:3 4"/>'
    )
    for kind, one in enumerate(scene.series):
        colour = f"var(--dk-{kind})"
        for values, look in (
            (one.before, "stroke-width:2;opacity:.35;stroke-dasharray:5 4"),
            (one.values, "stroke-width:2.5"),
        ):
            points = " ".join(f"{at(rank):.1f},{up(value):.1f}" for rank, value in sorted(values.items()))
            out.append(f'<polyline points="{points}" style="fill:none;stroke:{colour};{look}"/>')
        for rank, value in sorted(one.values.items()):
            here = rank == scene.rank
            out.append(marker(kind, at(rank), up(value), 6.5 if here else 3.5, colour, here))
    if scene.guess is not None:
        rank, value = scene.guess
        out.append(marker(2, at(rank), up(value), 5, "var(--ink)", False))
        out.append(text(at(rank) + 12, up(value) + 4, "your guess", "soft"))
    shown = [(kind, one) for kind, one in enumerate(scene.series) if scene.rank in one.values]
    places = apart([up(one.values[scene.rank]) for _, one in shown], 44, top + 6, top + height - 10)
    for (kind, one), y in zip(shown, places, strict=True):
        colour, value = f"var(--dk-{kind})", one.values[scene.rank]
        out.append(text(left + width + 22, y + 6, f"{100 * value:.0f} %", "big dk-value", colour))
        out.append(text(left + width + 22, y + 23, one.name, "", colour))
    return "".join(out)
