"""Pictures of the data, and what models say of them or make of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dylora_kit.plots.drawing import BLUE, ORANGE, RIGHT, WRONG, image

if TYPE_CHECKING:
    from IPython.display import Image


def predictions_by_rank(
    images: Mapping[str, np.ndarray],
    labels: np.ndarray,
    predicted: Mapping[str, Mapping[int | None, np.ndarray]],
    title: str = "",
) -> "Image":
    """Pictures across, ranks down: what each method predicts at each rank, marked right or wrong by sign and colour.

    Arguments:
        images: rows of pictures by name, each of shape (n, height, width).
        labels: the right answers, shape (n,).
        predicted: `{method: {rank: classes of shape (n,)}}`; the rank None for a method that has none.
    """
    from matplotlib.figure import Figure

    rows = [(method, rank) for method, ranks in predicted.items() for rank in ranks]
    heights = [1.5] * len(images) + [1.0] * (1 + len(rows))
    figure = Figure(figsize=(7.2, 0.5 + 0.42 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), len(labels), squeeze=False, gridspec_kw={"height_ratios": heights})
    centred = {"ha": "center", "va": "center", "fontfamily": "DejaVu Sans"}
    names = [*images, "right answer", *(method if rank is None else f"{method}, b = {rank}" for method, rank in rows)]
    for line, name in enumerate(names):
        axes[line, 0].text(-0.25, 0.5, name, ha="right", va="center", transform=axes[line, 0].transAxes)
    for column, label in enumerate(labels):
        for line, pictures in enumerate(images.values()):
            axes[line, column].imshow(pictures[column], cmap="gray")
        axes[len(images), column].text(0.5, 0.5, str(label), **centred)
        for line, (method, rank) in enumerate(rows, start=len(images) + 1):
            answer = predicted[method][rank][column]
            look = {"color": RIGHT} if answer == label else {"color": WRONG, "fontweight": "bold"}
            axes[line, column].text(0.5, 0.5, f"{answer} {'✓' if answer == label else '✗'}", **centred, **look)
    for cell in axes.flat:
        cell.set_axis_off()
    figure.suptitle(title)
    right = [int((predicted[method][rank] == labels).sum()) for method, rank in rows]
    counts = [f"{name}: {count}" for name, count in zip(names[-len(rows) :], right, strict=True)]
    return image(figure, f"Right answers on {len(labels)} pictures. {'; '.join(counts)}.", photographs=True)


def picture_rows(rows: Mapping[str, Any], title: str = "", *, signed: bool = False) -> "Image":
    """Rows of pictures with their names before them.

    Arguments:
        rows: by name, each of shape (n, height, width): from −1 to 1, or of any size where `signed`.
        signed: draw numbers below zero in orange, zero white and those above in blue, each picture to its own size,
            and number the columns.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    count = max(len(pictures) for pictures in rows.values())
    figure = Figure(figsize=(7.2, 0.3 + 0.66 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    both = LinearSegmentedColormap.from_list("both", [ORANGE, "white", BLUE])
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        line[0].text(-0.25, 0.5, name, ha="right", va="center", transform=line[0].transAxes)
        for place, picture in zip(line, pictures, strict=False):
            most = (float(np.abs(picture).max()) or 1.0) if signed else 1.0
            place.imshow(picture, cmap=both if signed else "gray", vmin=-most, vmax=most)
        for number, place in enumerate(line, 1):
            if signed and name == next(iter(rows)):
                place.set_title(f"{number}", fontsize=9, pad=3)
            place.set_xticks([])
            place.set_yticks([])
            place.spines[:].set_visible(signed)
            place.spines[:].set_color("#c9c9cf")
    figure.suptitle(title)
    names = "; ".join(f"{name} ({len(pictures)})" for name, pictures in rows.items())
    return image(figure, f"Rows of pictures. {title or 'From the top'}: {names}.", photographs=True)
