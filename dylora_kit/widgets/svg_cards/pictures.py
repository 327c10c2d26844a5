"""The cards with pictures of the test set: the predictions, and what an autoencoder rebuilds from a short code."""

import base64
import io

import torch
import torch.nn.functional as F
from torch import Tensor

from dylora_kit.widgets.svg_cards.scene import Scene
from dylora_kit.widgets.svg_cards.shapes import head, text

SIDE = 58  # of a picture


def predictions_card(scene: Scene) -> str:
    """The first pictures, each with the predicted class and whether it is right, as SVG."""
    right = sum(example.right for example in scene.examples)
    out = [head("Predictions", f"test images, seen live: {right} of {len(scene.examples)} right")]
    for index, example in enumerate(scene.examples):
        x, y = 18 + (index % 5) * 88, 64 + (index // 5) * 84
        colour = "var(--dk-2)" if example.right else "var(--dk-wrong)"
        frame = f'style="fill:none;stroke:{colour};stroke-width:{2 if example.right else 3}"'
        size = f'x="{x}" y="{y}" width="{SIDE}" height="{SIDE}"'
        out.append(f'<image {size} href="{example.shown}" style="image-rendering:pixelated"/>')
        out.append(f'<rect {size} rx="2" {frame}/>')
        out.append(text(x + SIDE + 7, y + SIDE / 2 + 7, example.predicted, "guess"))
        verdict = "✓ right" if example.right else f"✗ is {example.label}"
        out.append(text(x, y + SIDE + 16, verdict, "b", colour))
    return "".join(out)


def reconstructions_card(scene: Scene) -> str:
    """Rows of pictures: the real ones, and below them what each model rebuilds, as SVG."""
    numbers = "1 number" if scene.rank == 1 else f"{scene.rank} numbers"
    out = [head("Rebuilt from the code", f"test digits, each rebuilt live from {numbers}")]
    width, height = 312.0, 40.0
    for line, (name, strip) in enumerate(scene.rebuilt.items()):
        y = 64 + line * (height + 11)
        colour = "" if line == 0 else f"var(--dk-{line - 1})"
        size = f'x="144" y="{y}" width="{width}" height="{height}"'
        out.append(f'<image {size} href="{strip}" style="image-rendering:pixelated"/>')
        out.append(text(134, y + height / 2 + 5, name, "end", colour))
    return "".join(out)


def side_by_side(pictures: Tensor) -> str:
    """Images (n, height, width) in one row with gaps between, as a data URI."""
    return data_uri(torch.cat(list(F.pad(pictures, (0, 1), value=torch.nan)), dim=1)[:, :-1])


def data_uri(pixels: Tensor) -> str:
    """An image of shape (height, width), values from −1 (black) to 1 (white), NaN for clear, as a data URI."""
    from matplotlib.pyplot import imsave

    file = io.BytesIO()
    imsave(file, pixels.float().cpu().numpy(), cmap="gray", vmin=-1, vmax=1, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
