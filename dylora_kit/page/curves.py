"""The accuracy by rank as a picture: SVG that takes its colours from the page's style."""

from collections.abc import Mapping, Sequence

NAMES = {"dylora": "DyLoRA", "lora": "plain LoRA, cut"}
BELOW = {"dylora": 2, "lora": 3}  # the rank below whose point each curve has its name


def curves(right: Mapping[str, Sequence[int]], total: int, *, kind: str, width: int, height: int, letter: int) -> str:
    """One curve for each model of `NAMES`, as SVG; the middle of rank b is at (b − ½) / r of the width.

    Arguments:
        right: how many digits each model reads rightly at rank 1 to r.
        total: of how many.
        kind: the class of the picture, by which the style can tell a wide one from a tall one.
        width, height: of the drawing, in its own units.
        letter: the height of its text, in the same units.
    """
    r = len(right["dylora"])
    top, base = 1.5 * letter, height - 1.7 * letter
    shares = {name: [count / total for count in counts] for name, counts in right.items()}

    def x(rank: int) -> float:
        return round(width * (rank - 0.5) / r, 1)

    def y(share: float) -> float:
        return round(base - (base - top) * share, 1)

    parts = [_ticks(width, letter, {tick: y(tick / 100) for tick in (0, 25, 50, 75, 100)})]
    parts += [f'<text class="rank" data-rank="{b}" x="{x(b)}" y="{height - 0.4 * letter}">{b}</text>'
              for b in range(1, r + 1)]  # fmt: skip
    parts.append(f'<line class="at" x1="0" x2="0" y1="{top}" y2="{base}" transform="translate({x(r)} 0)"/>')
    for name, values in shares.items():
        points = " ".join(f"{x(b)},{y(share)}" for b, share in enumerate(values, 1))
        parts.append(f'<polyline class="curve {name}" pathLength="1" points="{points}"/>')
        parts += [_point(name, b, x(b), y(share), letter) for b, share in enumerate(values, 1)]
    for name, b in BELOW.items():
        place = f'x="{x(b) + letter / 2}" y="{y(shares[name][b - 1]) + 2 * letter:.1f}"'
        parts.append(f'<text class="name {name}" {place}>{NAMES[name]}</text>')
    parts.append(f'<text class="unknown" x="{x(1)}" y="{y(0.4)}">?</text>')
    parts.append(f'<g class="guess"><path d="M0-{letter / 2}L{letter / 2} 0L0 {letter / 2}L-{letter / 2} 0Z"/>'
                 f'<text x="{0.8 * letter}" y="{0.35 * letter}">your guess</text></g>')  # fmt: skip
    said = "; ".join(f"{NAMES[name]}: {', '.join(_percent(values))}" for name, values in shares.items())
    return (
        f'<svg class="curves {kind}" viewBox="0 0 {width} {height}" role="img" data-top="{top}" data-base="{base}" '
        f'aria-label="Digits read rightly, in percent, at rank 1 to {r}. {said}.">{"".join(parts)}</svg>'
    )


def _ticks(width: int, letter: int, heights: Mapping[int, float]) -> str:
    """A line across for each percentage, with its number above the right end, where no curve is."""
    return "".join(
        f'<g class="tick"><line x1="0" x2="{width}" y1="{y}" y2="{y}"/>'
        f'<text x="{width}" y="{round(y - 0.3 * letter, 1)}">{tick} %</text></g>'
        for tick, y in heights.items()
    )


def _point(name: str, rank: int, x: float, y: float, letter: int) -> str:
    """A circle for DyLoRA, a square for the plain LoRA, so that colour is not needed to tell them apart."""
    size = 0.34 * letter
    mark = f'class="point {name}" data-rank="{rank}"'
    if name == "dylora":
        return f'<circle {mark} cx="{x}" cy="{y}" r="{size:.1f}"/>'
    side = 1.8 * size
    return f'<rect {mark} x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.1f}" height="{side:.1f}"/>'


def _percent(shares: Sequence[float]) -> list[str]:
    """Shares as whole percent.

    >>> _percent([0.094, 1.0])
    ['9', '100']
    """
    return [f"{100 * share:.0f}" for share in shares]
