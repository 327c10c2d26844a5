"""The card with bars, one below another."""

from collections.abc import Sequence
from dataclasses import dataclass

from dylora_kit.widgets.svg_cards.shapes import box, head, text

NAME_LETTERS = 16  # of a name that is longer, the end is shown


@dataclass
class Bar:
    """A bar with its name on the left and a label on the right."""

    name: str
    value: float  # the filled length
    label: str
    other: float | None = None  # the outlined length, to compare with


def bars_card(
    title: str,
    subtitle: str,
    bars: Sequence[Bar],
    *,
    kind: int = 0,
    width: int = 268,
    legend: tuple[str, str] | None = None,
) -> tuple[str, int]:
    """The card as SVG, and its height in pixels.

    Arguments:
        title, subtitle: what the bars are, and in which unit.
        bars: from the top.
        kind: the index of the method whose colour the bars have.
        width: of the longest bar, in pixels.
        legend: what the filled and the outlined bars are, if there are both.
    """
    left, top = 118, 74
    line_height = 26 if len(bars) <= 12 else 18
    most = max([*(bar.value for bar in bars), *(bar.other or 0 for bar in bars), 1e-12])
    solid = f"fill:var(--dk-{kind});stroke:var(--dk-{kind})"
    outline = "fill:none;stroke:var(--ink);stroke-dasharray:3 2;opacity:.75"
    out = [head(title, subtitle)]
    for line, bar in enumerate(bars):
        y = top + line * line_height
        name = bar.name if len(bar.name) <= NAME_LETTERS else "…" + bar.name[1 - NAME_LETTERS :]
        out.append(text(left - 10, y + line_height / 2 + 3, name, "soft end"))
        if bar.value > 0:
            out.append(box(left, y + 2, width * bar.value / most, line_height - 8, solid))
        if bar.other is not None:
            out.append(box(left, y + 2, width * bar.other / most, line_height - 8, outline))
        longest = max(bar.value, bar.other or 0)
        out.append(text(left + width * longest / most + 8, y + line_height / 2 + 3, bar.label, "b"))
    height = top + len(bars) * line_height + 14
    if legend is not None:
        second = left + 40 + 7 * len(legend[0])
        for x, meaning, look in ((left, legend[0], solid), (second, legend[1], outline)):
            out.append(box(x, height, 14, 14, look))
            out.append(text(x + 21, height + 12, meaning, "soft"))
        height += 30
    return "".join(out), height
