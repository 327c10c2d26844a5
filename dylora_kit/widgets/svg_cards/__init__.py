"""The cards of the live views, as SVG: functions of numbers alone, called anew at every move of a slider.

Text, lines and card faces take JupyterLab's colours, so both themes work. Each method has one Okabe–Ito colour and one
marker; the active rank is marked on every card.

In reading order:

- `scene`: what the explorer's cards are drawn from, as numbers
- `shapes`: text, boxes and markers
- `curves`: the metric by rank
- `matrices`: the factors in use, the singular values, the ordering
- `pictures`, `texts`: predictions of images, reconstructions; predictions of texts
- `bars`: a bar for each of several things, as dials show
- `comparison`: what a printed and a measured table are drawn from, as numbers
- `compared`: the two, side by side on one scale
"""

import re
import textwrap
from collections.abc import Callable, Sequence
from html import escape

from dylora_kit.widgets.svg_cards.bars import Bar, bars_card
from dylora_kit.widgets.svg_cards.compared import compared_cards
from dylora_kit.widgets.svg_cards.curves import metric_card
from dylora_kit.widgets.svg_cards.matrices import matrices_card, ordering_card, spectrum_card
from dylora_kit.widgets.svg_cards.pictures import predictions_card, reconstructions_card
from dylora_kit.widgets.svg_cards.scene import Example, Layer, Scene, Series
from dylora_kit.widgets.svg_cards.shapes import text
from dylora_kit.widgets.svg_cards.texts import texts_card

__all__ = [
    "CARD_WIDTH",
    "STYLE",
    "VIEWS",
    "WIDTH",
    "Bar",
    "Example",
    "Layer",
    "Scene",
    "Series",
    "bars_card",
    "cards_of",
    "compared_cards",
    "explorer",
    "metric_card",
    "page",
    "still",
]

WIDTH, GAP = 960, 16
NOTE_LETTERS = 140  # in a line of that width
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
CARD_WIDTH = (WIDTH - GAP) // 2

STYLE = """<style>
.dk-explorer {
  padding: 2px;
  --ink: var(--jp-ui-font-color1, #1b1b1f); --soft: var(--jp-ui-font-color2, #5b5b63);
  --line: var(--jp-border-color2, #c9c9cf); --face: var(--jp-layout-color2, #eeeef1);
  --dk-0: #0072b2; --dk-1: #9a5a00; --dk-2: #00734f; --dk-3: #a03a78; --dk-4: #0f7093; --dk-wrong: #b84300;
}
body[data-jp-theme-light="false"] .dk-explorer, html[theme="dark"] .dk-explorer, body.vscode-dark .dk-explorer {
  --dk-0: #56b4e9; --dk-1: #e69f00; --dk-2: #2fc79a; --dk-3: #e59bc6; --dk-4: #9adcf5; --dk-wrong: #ff8a4c;
}
.dk-explorer .dk-cards { display: flex; flex-wrap: wrap; gap: 16px; max-width: 960px; }
.dk-explorer svg { display: block; flex: 1 1 320px; min-width: 0; max-width: 472px; overflow: visible;
  font-family: var(--jp-ui-font-family, system-ui, sans-serif); }
.dk-explorer .card { fill: var(--face); fill-opacity: .45; stroke: var(--line); }
.dk-explorer text { fill: var(--ink); font-size: 13px; }
.dk-explorer .soft { fill: var(--soft); font-size: 12px; }
.dk-explorer .head { font-size: 15px; font-weight: 600; }
.dk-explorer .big { font-size: 22px; font-weight: 700; }
.dk-explorer .tiny { font-size: 11px; }
.dk-explorer .over { paint-order: stroke; stroke: var(--jp-layout-color1, #fff); stroke-width: 4px; }
.dk-explorer .guess { font-size: 20px; font-weight: 700; }
.dk-explorer .mid { text-anchor: middle; } .dk-explorer .end { text-anchor: end; }
.dk-explorer .b { font-weight: 700; fill: var(--ink); }
</style>"""


def cards_of(scene: Scene, views: Sequence[str]) -> list[tuple[str, int]]:
    """The cards of `views`, which are keys of `VIEWS`: what is inside each, as SVG, and its height in pixels."""
    return [(draw(scene), height) for draw, height in (VIEWS[name] for name in views)]


def explorer(scene: Scene, views: Sequence[str]) -> str:
    """The cards of `views` as HTML."""
    marks = {"rank": str(scene.rank), "method": scene.series[scene.active].name}
    return page(cards_of(scene, views), scene.finding, **marks)


def page(cards: Sequence[tuple[str, int]], finding: str, **data: str) -> str:
    """Cards as HTML: two in a row, or one where the page is narrow.

    Arguments:
        cards: what is inside each card, as SVG, and its height in pixels.
        finding: what the cards show, for screen readers, to which the whole is one image.
        data: attributes that are kept as `data-…`, by which a test can tell what is on show.
    """
    faced = _faced(cards)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {CARD_WIDTH} {height}">{inside}</svg>'
        for inside, height in faced
    ]
    lines = [height + GAP for _, height in faced[::2]]
    shape = (WIDTH if len(faced) > 1 else CARD_WIDTH) / max(sum(lines), 1)  # by which a screen is filled
    marks = "".join(f' data-{key}="{escape(value)}"' for key, value in data.items())
    return (
        f'<div class="dk-explorer"><div class="dk-cards" role="img"{marks} aria-label="{escape(finding)}" '
        f'style="--dk-shape:{shape:.2f}">{"".join(drawn)}</div></div>'
    )


def still(
    cards: Sequence[tuple[str, int]], finding: str, label: str, value: float, low: float, high: float, note: str = "",
    *, of: bool = True,
) -> str:  # fmt: skip
    """The cards as one SVG that needs no page around it, below a drawing of the slider: for a notebook that is saved.

    Arguments:
        cards, finding: as for `page`.
        label, value, low, high: of the slider; where it has one value alone, only its label is drawn.
        note: words below the cards.
        of: whether the highest value stands behind that of the slider, as in "rank 3 of 8".
    """
    drawn, top = _slider(label, value, low, high, of), 52
    faced = _faced(cards)
    for index, (inside, height) in enumerate(faced):
        x = (index % 2) * (CARD_WIDTH + GAP)
        size = f'width="{CARD_WIDTH}" height="{height}" viewBox="0 0 {CARD_WIDTH} {height}"'
        drawn.append(f'<svg x="{x}" y="{top}" {size}>{inside}</svg>')
        top += (height + GAP) * (index % 2 == 1 or index == len(faced) - 1)
    for line in textwrap.wrap(note, NOTE_LETTERS):
        drawn.append(text(8, top + 6, line, "soft"))
        top += 20
    sheet = f'<rect width="{WIDTH}" height="{top}" style="fill:var(--jp-layout-color0, #fff)"/>'
    whole = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="dk-explorer" width="{WIDTH}" height="{top}" '
        f'viewBox="0 0 {WIDTH} {top}" role="img" aria-label="{escape(finding)}" '
        f'style="max-width:100%;height:auto;padding:0;font-family:system-ui,sans-serif">'
        f"<title>{escape(finding)}</title>{STYLE}{sheet}{''.join(drawn)}</svg>"
    )
    return _NOT_IN_XML.sub("", whole)


def _slider(label: str, value: float, low: float, high: float, of: bool) -> list[str]:
    """A drawing of a slider, with a mark for each of a few whole numbers; its label alone where it has one value."""
    left, length, y = 26 + 8 * len(label), 330, 24
    drawn = [text(8, y + 5, label)]
    if high <= low:
        return drawn
    step = length / (high - low)
    drawn.append(
        f'<line x1="{left}" x2="{left + length}" y1="{y}" y2="{y}" style="stroke:var(--line);stroke-width:4"/>'
    )
    knob = f'<circle cx="{left + step * (value - low):.1f}" cy="{y}" r="8" style="fill:var(--dk-0)"/>'
    few = range(round(high - low) + 1) if high - low < 16 and float(high - low).is_integer() else ()
    marks = [text(left + step * number, y + 21, f"{low + number:g}", "tiny soft mid") for number in few]
    number = f"{value:g} of {high:g}" if of else f"{value:g}"
    return [*drawn, knob, *marks, text(left + length + 24, y + 5, number, "b")]


def _faced(cards: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """What is inside each card with a face behind it, and the card's height, which is that of its neighbour."""
    faced = []
    for index, (inside, _) in enumerate(cards):
        height = max(card_height for _, card_height in cards[index - index % 2 :][:2])
        face = f'<rect class="card" x=".5" y=".5" rx="10" width="{CARD_WIDTH - 1}" height="{height - 1}"/>'
        faced.append((face + inside, height))
    return faced


VIEWS: dict[str, tuple[Callable[[Scene], str], int]] = {  # each with its height in pixels
    "accuracy": (metric_card, 282),
    "error": (metric_card, 282),
    "matrices": (matrices_card, 282),
    "ordering": (ordering_card, 282),
    "reconstructions": (reconstructions_card, 282),
    "spectrum": (spectrum_card, 236),
    "predictions": (predictions_card, 236),
    "texts": (texts_card, 282),
}
