"""The explorer's cards, each an SVG: pure functions of numbers, drawn anew at every move of the slider.

Text, lines and card faces take JupyterLab's colours, so both themes work. Each method has one Okabe–Ito colour and one
marker; the active rank is marked on every card.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

WIDTH, GAP = 960, 16
CARD_WIDTH = (WIDTH - GAP) // 2

STYLE = """<style>
.dk-explorer {
  padding: 2px;
  --ink: var(--jp-ui-font-color1, #1b1b1f); --soft: var(--jp-ui-font-color2, #5b5b63);
  --line: var(--jp-border-color2, #c9c9cf); --face: var(--jp-layout-color2, #eeeef1);
  --dk-0: #0072b2; --dk-1: #9a5a00; --dk-2: #00734f; --dk-3: #a03a78; --dk-wrong: #b84300;
}
body[data-jp-theme-light="false"] .dk-explorer, html[theme="dark"] .dk-explorer, body.vscode-dark .dk-explorer {
  --dk-0: #56b4e9; --dk-1: #e69f00; --dk-2: #2fc79a; --dk-3: #e59bc6; --dk-wrong: #ff8a4c;
}
.dk-explorer .dk-cards { display: flex; flex-wrap: wrap; gap: 16px; max-width: 960px; }
.dk-explorer svg { display: block; flex: 1 1 400px; min-width: 0; max-width: 472px; overflow: visible;
  font-family: var(--jp-ui-font-family, system-ui, sans-serif); }
.dk-explorer .card { fill: var(--face); fill-opacity: .45; stroke: var(--line); }
.dk-explorer text { fill: var(--ink); font-size: 13px; }
.dk-explorer .soft { fill: var(--soft); font-size: 12px; }
.dk-explorer .head { font-size: 15px; font-weight: 600; }
.dk-explorer .big { font-size: 22px; font-weight: 700; }
.dk-explorer .tiny { font-size: 11px; }
.dk-explorer .mid { text-anchor: middle; } .dk-explorer .end { text-anchor: end; }
.dk-explorer .b { font-weight: 700; fill: var(--ink); }
</style>"""


@dataclass
class Series:
    """One method's curve: value (0 to 1) by rank."""

    name: str
    values: dict[int, float]
    before: dict[int, float] = field(default_factory=dict)  # the curve before the latest training, drawn pale


@dataclass
class Example:
    """One picture of the test set and what the model makes of it."""

    image: str  # data URI
    predicted: str
    label: str

    @property
    def right(self) -> bool:
        return self.predicted == self.label


@dataclass
class Scene:
    """What one state of the explorer shows. `active` is the index of the method the other cards are about."""

    rank: int
    r: int
    series: Sequence[Series]
    active: int
    metric: str
    subtitle: str
    layer: str
    layer_rank: int  # the rank and the maximum of this layer, smaller where rank_pattern says so
    layer_r: int
    d_in: int
    d_out: int
    scaling: str
    scale: float
    now: Sequence[float]  # singular values of ΔW at the active rank
    full: Sequence[float]  # … and at rank r
    examples: Sequence[Example]
    guess: tuple[int, float] | None = None

    @property
    def colour(self) -> str:
        return f"var(--dk-{self.active})"


def explorer(scene: Scene, views: Sequence[str]) -> str:
    """The cards of `views` as HTML: two in a row, or one where the page is narrow.

    The whole is one image that names its finding for screen readers.
    """
    drawn = []
    for first in range(0, len(views), 2):
        row = [VIEWS[name] for name in views[first : first + 2]]
        height = max(card_height for _, card_height in row)
        for draw, _ in row:
            face = f'<rect class="card" x=".5" y=".5" rx="10" width="{CARD_WIDTH - 1}" height="{height - 1}"/>'
            size = f'viewBox="0 0 {CARD_WIDTH} {height}"'
            drawn.append(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{face}{draw(scene)}</svg>')
    return (
        f'<div class="dk-cards" role="img" data-rank="{scene.rank}" '
        f'data-method="{escape(scene.series[scene.active].name)}" aria-label="{escape(finding(scene))}">'
        f"{''.join(drawn)}</div>"
    )


def finding(scene: Scene) -> str:
    """The state in one sentence.

    >>> curve = Series("DyLoRA", {3: 0.92})
    >>> scene = Scene(3, 8, [curve], 0, "accuracy", "", "q", 3, 8, 64, 64, "α/b", 5.3, [1], [1], [])
    >>> finding(scene)
    'Rank 3 of 8: DyLoRA has an accuracy of 92 %.'
    """
    said = [
        f"{one.name} has an {scene.metric} of {100 * one.values[scene.rank]:.0f} %"
        for one in scene.series
        if scene.rank in one.values
    ]
    return f"Rank {scene.rank} of {scene.r}: {'; '.join(said)}."


def _text(x: float, y: float, words: str, kind: str = "", colour: str = "") -> str:
    look = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{look}>{escape(words)}</text>'


def _box(x: float, y: float, width: float, height: float, look: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" style="{look}"/>'


def _head(title: str, subtitle: str) -> str:
    return _text(18, 28, title, "head") + _text(18, 48, subtitle, "soft")


def _marker(kind: int, x: float, y: float, size: float, colour: str, filled: bool) -> str:
    look = f'style="stroke:{colour};stroke-width:2;fill:{colour if filled else "var(--jp-layout-color1, #fff)"}"'
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" {look}/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if kind == 2 else ""
    side = 1.8 * size
    return f'<rect x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side}" height="{side}"{turn} {look}/>'


def _metric_card(scene: Scene) -> str:
    left, top, width, height = 50, 70, 268, 158
    step = width / max(scene.r - 1, 1)
    at = lambda rank: left + step * (rank - 1)  # noqa: E731
    up = lambda value: top + height * (1 - value)  # noqa: E731
    out = [_head(f"{scene.metric.capitalize()} by rank, in %", scene.subtitle)]
    for tick in (0, 25, 50, 75, 100):
        y = up(tick / 100)
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" style="stroke:var(--line);opacity:.7"/>')
        out.append(_text(left - 9, y + 4, str(tick), "soft end"))
    for rank in range(1, scene.r + 1):
        if scene.r <= 16 or rank in (1, scene.rank, scene.r):
            out.append(_text(at(rank), top + height + 19, str(rank), "b mid" if rank == scene.rank else "soft mid"))
    out.append(_text(left + width / 2, top + height + 38, "rank b", "soft mid"))
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
            out.append(_marker(kind, at(rank), up(value), 6.5 if here else 3.5, colour, here))
    if scene.guess is not None:
        rank, value = scene.guess
        out.append(_marker(2, at(rank), up(value), 5, "var(--ink)", False))
        out.append(_text(at(rank) + 12, up(value) + 4, "your guess", "soft"))
    shown = [(kind, one) for kind, one in enumerate(scene.series) if scene.rank in one.values]
    places = _apart([up(one.values[scene.rank]) for _, one in shown], 44, top + 6, top + height - 10)
    for (kind, one), y in zip(shown, places, strict=True):
        colour, value = f"var(--dk-{kind})", one.values[scene.rank]
        out.append(_text(left + width + 22, y + 6, f"{100 * value:.0f} %", "big dk-value", colour))
        out.append(_text(left + width + 22, y + 23, one.name, "", colour))
    return "".join(out)


def _apart(places: list[float], least: float, low: float, high: float) -> list[float]:
    """Moves labels apart, keeping their order, so that each has `least` to itself between `low` and `high`.

    >>> _apart([100, 101], 44, 0, 200)
    [100, 144]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [min(max(place, low), high) for place in places]
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    over = max(max(moved, default=0) - high, 0)
    return [place - over for place in moved]


def _matrices_card(scene: Scene) -> str:
    unit = 136 / max(scene.d_in, scene.d_out)
    tall, wide, thick, used = scene.d_out * unit, scene.d_in * unit, scene.layer_r * unit, scene.layer_rank * unit
    top, x = 82, 30.0
    pale = "fill:none;stroke:var(--soft);stroke-dasharray:3 3"
    solid = f"fill:{scene.colour};stroke:{scene.colour}"
    out = [_head("What the layer computes", "h = W₀x + scale · B[:, :b] · A[:b] · x, drawn to scale")]
    middle, below = top + tall / 2, top + max(tall, 60) + 22
    out.append(_box(x, top, wide, tall, "fill:var(--line);fill-opacity:.5;stroke:var(--line)"))
    out.append(_text(x + wide / 2, middle + 6, "W₀", "head mid"))
    out.append(_text(x + wide / 2, below, f"{scene.d_out} × {scene.d_in}, frozen", "soft mid"))
    x += wide + 26
    out.append(_text(x, middle + 6, "+", "head mid"))
    x += 26
    out += [_box(x, top, thick, tall, pale), _box(x, top, used, tall, solid)]
    out.append(_text(x + thick / 2, top - 9, "B", "head mid"))
    out.append(_text(x + thick / 2, below, f"{scene.d_out} × {scene.layer_rank}", "b mid"))
    x += thick + 24
    out.append(_text(x, middle + 6, "·", "head mid"))
    x += 22
    out += [_box(x, middle - thick / 2, wide, thick, pale), _box(x, middle - thick / 2, wide, used, solid)]
    out.append(_text(x + wide / 2, middle - thick / 2 - 9, "A", "head mid"))
    out.append(_text(x + wide / 2, below, f"{scene.layer_rank} × {scene.d_in}", "b mid"))
    out.append(
        _text(
            18,
            below + 27,
            f"scale {scene.scaling} = {scene.scale:.2f}  ·  dashed rows and columns are not read",
            "soft",
        )
    )
    return "".join(out)


def _spectrum_card(scene: Scene) -> str:
    left, top, height = 40, 70, 92
    width = min(44.0, 316 / scene.layer_r)
    most = max([*scene.now, *scene.full, 1e-12])
    solid = f"fill:{scene.colour};stroke:{scene.colour}"
    outline = "fill:none;stroke:var(--ink);stroke-dasharray:3 2;opacity:.75"
    out = [_head("Singular values of ΔW", f"layer {scene.layer}")]
    base = top + height
    for index in range(scene.layer_r):
        x, here = left + index * width, index < scene.layer_rank
        for values, look in ((scene.now, solid), (scene.full, outline)):
            tall = height * values[index] / most if index < len(values) else 0
            if tall > 0:
                out.append(_box(x, base - tall, 0.68 * width, tall, look))
        if scene.layer_r <= 16 or index in (0, scene.layer_r - 1):
            out.append(_text(x + 0.34 * width, base + 18, str(index + 1), "b mid" if here else "soft mid"))
    out.append(f'<line x1="{left - 6}" x2="{left + 316}" y1="{base}" y2="{base}" style="stroke:var(--line)"/>')
    x = 372
    out.append(_box(x, top + 8, 14, 14, solid))
    out.append(_text(x + 21, top + 20, f"at rank {scene.layer_rank}"))
    if scene.layer_rank < scene.layer_r:
        out.append(_box(x, top + 34, 14, 14, outline))
        out.append(_text(x + 21, top + 46, f"at rank {scene.layer_r}"))
    return "".join(out)


def _predictions_card(scene: Scene) -> str:
    right = sum(example.right for example in scene.examples)
    out = [_head("Predictions", f"test images, seen live: {right} of {len(scene.examples)} right")]
    for index, example in enumerate(scene.examples):
        x, y = 18 + (index % 5) * 90, 64 + (index // 5) * 60
        colour = "var(--dk-2)" if example.right else "var(--dk-wrong)"
        frame = f'style="fill:none;stroke:{colour};stroke-width:{2 if example.right else 3}"'
        out.append(
            f'<image x="{x}" y="{y}" width="44" height="44" href="{example.image}" style="image-rendering:pixelated"/>'
            f'<rect x="{x}" y="{y}" width="44" height="44" rx="2" {frame}/>'
        )
        out.append(_text(x + 50, y + 19, example.predicted, "head"))
        verdict = "✓" if example.right else f"✗ is {example.label}"
        out.append(_text(x + 50, y + 39, verdict, "b tiny", colour))
    return "".join(out)


VIEWS: dict[str, tuple[Callable[[Scene], str], int]] = {
    "accuracy": (_metric_card, 282),
    "matrices": (_matrices_card, 282),
    "spectrum": (_spectrum_card, 196),
    "predictions": (_predictions_card, 196),
}
