"""The card with texts of the test set, and what the model predicts for them."""

from textwrap import wrap

from dylora_kit.widgets.svg_cards.scene import Scene
from dylora_kit.widgets.svg_cards.shapes import head, text

LETTERS, LINES, HEIGHT = 52, 3, 282  # of a line, of a text, and of the card in pixels


def texts_card(scene: Scene) -> str:
    """The first texts, as many as fit, each with the predicted class and whether it is right, as SVG."""
    out, y, right, count = [], 78, 0, 0
    for example in scene.texts:
        lines = wrap(example.shown, LETTERS, max_lines=LINES, placeholder=" …")
        if y + 15 * (len(lines) - 1) > HEIGHT - 12:
            break
        colour = "var(--dk-2)" if example.right else "var(--dk-wrong)"
        verdict = example.predicted + (" ✓" if example.right else " ✗")
        out.append(text(346, y, verdict, "b", colour))
        if not example.right:
            out.append(text(346, y + 16, f"is {example.label}", "b tiny", colour))
        out += [text(18, y + 15 * index, line, "soft") for index, line in enumerate(lines)]
        y += 15 * max(len(lines), 2) + 12
        right, count = right + example.right, count + 1
    return head("Predictions", f"test texts, read live: {right} of {count} right") + "".join(out)
