"""The card with texts of the test set, and what the model predicts for them."""

from textwrap import wrap

from dylora_kit.widgets.svg_cards.scene import Scene
from dylora_kit.widgets.svg_cards.shapes import head, text

LETTERS, LINES, HEIGHT, STEP = 42, 3, 282, 16  # of a line, lines of a text; the card and a line in pixels


def texts_card(scene: Scene) -> str:
    """The first texts, as many as fit, each with the predicted class and whether it is right, as SVG."""
    out, y, right, count = [], 78, 0, 0
    for example in scene.texts:
        lines = wrap(example.shown, LETTERS, max_lines=LINES, placeholder=" …")
        if y + STEP * (len(lines) - 1) > HEIGHT - 12:
            break
        colour = "var(--dk-2)" if example.right else "var(--dk-wrong)"
        verdict = example.predicted + (" ✓" if example.right else " ✗")
        out.append(text(328, y, verdict, "b", colour))
        if not example.right:
            out.append(text(328, y + STEP, f"is {example.label}", "b tiny", colour))
        out += [text(18, y + STEP * index, line) for index, line in enumerate(lines)]
        y += STEP * max(len(lines), 2) + 10
        right, count = right + example.right, count + 1
    return head("Predictions", f"test texts, read live: {right} of {count} right") + "".join(out)
