"""The opening of lesson 05: eight trainings to find one rank, crossed out, beside one training with a slider."""

from dylora_kit.lessons.openings.drawing import INK, card, cross, rows, sheet, slider
from dylora_kit.plots.drawing import BLUE, ORANGE
from dylora_kit.widgets.svg_cards.shapes import text

RANKS = 8
WIDTH, HEIGHT, STEP_X, STEP_Y = 104, 86, 116, 98  # of a card, and from one to the next


def opening() -> str:
    """The picture as SVG."""
    out = []
    for b in range(1, RANKS + 1):
        x, y = 40 + (b - 1) % 4 * STEP_X, 82 + (b - 1) // 4 * STEP_Y
        out.append(card(x, y, WIDTH, HEIGHT) + rows(x + 12, y + 12, [80] * b, 4, 4, b, ORANGE))
        out.append(cross(x + 8, y + 8, WIDTH - 16, HEIGHT - 16, INK, 4))
    chosen = card(592, 82, 328, 184, "#ffffff", BLUE)
    return sheet(
        "Eight cards, one for each rank from 1 to 8, each a training of its own and each crossed out. Beside them one "
        "card with eight rows and a slider that stands at 3.",
        "Eight trainings for one rank? Or one for all?",
        312,
        *out,
        text(266, 294, "a training for each rank", "mid small soft"),
        text(545, 186, "or", "mid large b", INK),
        chosen,
        rows(632, 100, [248] * RANKS, 7, 4.5, 3, BLUE),
        slider(640, 214, 232, RANKS, 3, BLUE),
        text(756, 294, "one training, and a slider", "mid small b"),
    )
