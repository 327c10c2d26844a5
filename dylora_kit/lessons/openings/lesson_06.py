"""The opening of lesson 06: a card of facts, and a sentence that reads well and has one of them wrong."""

from html import escape

from dylora_kit.lessons.openings.drawing import arrow, card, cross, line, sheet, tick
from dylora_kit.plots.drawing import RIGHT, WRONG
from dylora_kit.widgets.svg_cards.shapes import text

FACTS = (("name", "the Copper Lion"), ("food", "British"), ("terrace", "no"), ("opens", "at six"))


def opening() -> str:
    """The picture as SVG."""
    out = [card(40, 84, 320, 186)]
    for index, (name, value) in enumerate(FACTS):
        y = 120 + 42 * index
        out += [text(60, y, name, "soft small"), text(156, y, value, "b small")]
        if index:
            out.append(line([(60, y - 27), (340, y - 27)], "#e6e3db", 1.5))
    return sheet(
        "A card with four facts about a restaurant, and a text written from them: it has the name, the terrace and the "
        "opening time right, and the food wrong: Thai, where the card says British.",
        "It reads well. Is it true?",
        312,
        *out,
        arrow(380, 177, 44),
        card(444, 84, 476, 186),
        _right(470, 130, "The Copper Lion", 212),
        _words(722, 130, "is a", 48),
        _wrong(476, 188, "Thai", 64),
        _words(586, 188, "place with", 130),
        _right(728, 188, "no terrace.", 138),
        _words(470, 246, "It opens", 106),
        _right(588, 246, "at six.", 78),
        text(200, 298, "the facts", "mid soft"),
        text(682, 298, "what a model might write", "mid soft"),
    )


def _words(x: float, y: float, words: str, length: float, look: str = "large", colour: str = "#14161b") -> str:
    """Words that are as long as they are said to be, whatever the font."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{look}" style="fill:{colour}" textLength="{length:.1f}" '
        f'lengthAdjust="spacingAndGlyphs">{escape(words)}</text>'
    )


def _right(x: float, y: float, words: str, length: float) -> str:
    """Words with a solid line below them and a check mark behind."""
    return (
        _words(x, y, words, length)
        + line([(x, y + 9), (x + length, y + 9)], RIGHT, 3)
        + (tick(x + length + 8, y - 18, 18, RIGHT))
    )


def _wrong(x: float, y: float, words: str, length: float) -> str:
    """Words in a dashed box, with a cross behind."""
    frame = (
        f'<rect x="{x - 9}" y="{y - 30}" width="{length + 18}" height="42" rx="7" fill="#fdeee2" stroke="{WRONG}" '
        'stroke-width="3" stroke-dasharray="7 5"/>'
    )
    return frame + _words(x, y, words, length, "large b", WRONG) + cross(x + length + 18, y - 17, 15, 15, WRONG)
