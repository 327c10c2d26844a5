"""The card with a bar for each of several things."""

from collections.abc import Sequence
from dataclasses import dataclass

from dylora_kit.widgets.svg_cards.shapes import box, head, text

ROOM = 16  # letters of a name


@dataclass
class Bar:
    """One bar: how long it is, what is written beside it, and a second length, outlined, to compare with."""

    name: str
    value: float
    said: str
    other: float | None = None


def bars_card(
    title: str,
    subtitle: str,
    bars: Sequence[Bar],
    *,
    kind: int = 0,
    wide: int = 268,
    legend: tuple[str, str] | None = None,
) -> tuple[str, int]:
    """The card and its height.

    Arguments:
        kind: which method's colour the bars have.
        wide: how long the longest bar is.
        legend: what the filled and the outlined bars are, if there are both.
    """
    left, top, width = 118, 74, wide
    down = 26 if len(bars) <= 12 else 18
    most = max([*(bar.value for bar in bars), *(bar.other or 0 for bar in bars), 1e-12])
    solid = f"fill:var(--dk-{kind});stroke:var(--dk-{kind})"
    outline = "fill:none;stroke:var(--ink);stroke-dasharray:3 2;opacity:.75"
    out = [head(title, subtitle)]
    for line, bar in enumerate(bars):
        y = top + line * down
        name = bar.name if len(bar.name) <= ROOM else "…" + bar.name[1 - ROOM :]
        out.append(text(left - 10, y + down / 2 + 3, name, "soft end"))
        if bar.value > 0:
            out.append(box(left, y + 2, width * bar.value / most, down - 8, solid))
        if bar.other is not None:
            out.append(box(left, y + 2, width * bar.other / most, down - 8, outline))
        longest = max(bar.value, bar.other or 0)
        out.append(text(left + width * longest / most + 8, y + down / 2 + 3, bar.said, "b"))
    height = top + len(bars) * down + 14
    if legend is not None:
        second = left + 40 + 7 * len(legend[0])
        for x, words, look in ((left, legend[0], solid), (second, legend[1], outline)):
            out.append(box(x, height, 14, 14, look))
            out.append(text(x + 21, height + 12, words, "soft"))
        height += 30
    return "".join(out), height
