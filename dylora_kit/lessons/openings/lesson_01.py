"""The opening of lesson 01: one real digit, rebuilt by PCA from its first 8, 4, 2 and 1 numbers."""

import torch
from torch import Tensor

from dylora_kit.baselines.autoencoder import pca
from dylora_kit.lessons.openings.drawing import LINE, SOFT, arrow, line, pixels, sheet
from dylora_kit.plots.drawing import BLUE, ORANGE
from dylora_kit.tasks import digits
from dylora_kit.widgets.svg_cards.shapes import box, text

SHOWN = 17  # the scan, by its number in the test set
LENGTHS = (8, 4, 2, 1)
SIDE, STEP = 128, 186  # of a picture, and from one to the next, in pixels


def opening() -> str:
    """The picture as SVG."""
    real, rebuilt, code = rebuilt_digit(SHOWN)
    out = [pixels(real, 40, 84, SIDE), text(104, 284, "64 pixels", "mid b"), arrow(182, 148, 32)]
    for place, (b, picture) in enumerate(zip(LENGTHS, rebuilt, strict=True), 1):
        x = 40 + STEP * place + 8
        out += [pixels(picture, x, 84, SIDE), _code(code, b, x, 238)]
        out.append(text(x + SIDE / 2, 284, f"{b} numbers" if b > 1 else "1 number", "mid b"))
    return sheet(
        "A real handwritten digit of 64 pixels, and beside it the same digit rebuilt from its first 8, 4, 2 and 1 "
        "numbers: the shape blurs, step by step.",
        "Throw away numbers. When is the digit gone?",
        304,
        *out,
    )


def rebuilt_digit(number: int) -> tuple[Tensor, list[Tensor], list[float]]:
    """A test digit (8, 8), what PCA rebuilds of it from the first numbers of its code, and that code of eight."""
    data = digits.load_pixels("upright")
    model, scan = pca(data.train, k=max(LENGTHS)), data.test[number]["pixel_values"][None]
    with torch.no_grad():
        code = model.code.units(scan)[0]
        rebuilt = []
        for b in LENGTHS:
            model.code.rank = b
            rebuilt.append(data.test.pictures(model(scan).logits)[0])
    return data.test.pictures(scan)[0], rebuilt, code.tolist()


def _code(code: list[float], kept: int, x: float, y: float) -> str:
    """The numbers of a code as bars up (blue) and down (orange) from a line; those that are not kept are dots."""
    step, longest = SIDE / len(code), max(abs(value) for value in code)
    out = [line([(x, y), (x + SIDE, y)], LINE, 2)]
    for index, value in enumerate(code):
        left, length = x + index * step + 2, 20 * abs(value) / longest
        if index >= kept:
            out.append(box(left + step / 2 - 4, y - 2, 4, 4, f"fill:{SOFT}"))
        elif value > 0:
            out.append(box(left, y - length, step - 4, length, f"fill:{BLUE}"))
        else:
            out.append(box(left, y, step - 4, length, f"fill:{ORANGE}"))
    return "".join(out)
