"""Pixels as a picture that a page can show."""

import base64
import io

from torch import Tensor


def data_uri(pixels: Tensor) -> str:
    """An image of shape (height, width), values from −1 (black) to 1 (white), NaN for clear, as a data URI."""
    from matplotlib.pyplot import imsave

    file = io.BytesIO()
    imsave(file, pixels.float().cpu().numpy(), cmap="gray", vmin=-1, vmax=1, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
