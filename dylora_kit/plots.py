"""Static figures, for print, GitHub and readers without a kernel. Each comes with a text that says what it shows."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, WRONG = "#0072b2", "#c77c00", "#009e73", "#d55e00"  # Okabe-Ito, orange darkened for white paper
COLOURS = (BLUE, ORANGE, GREEN)
MARKERS = ("o", "s", "D")


def rank_curves(frame: "pd.DataFrame", title: str = "", *, methods: Sequence[str] | None = None) -> "Image":
    """A metric by rank, one line per method; with several seeds, their mean and a band of one standard deviation.

    Arguments:
        frame: what `sweep` returns, or several of them one under another.
        methods: which to draw, in this order; default is all.
    """
    import seaborn as sns
    from matplotlib.figure import Figure

    names = list(methods or dict.fromkeys(frame["method"]))
    missing = [name for name in names if not (frame["method"] == name).any()]
    if missing:
        raise ValueError(f"the frame has no method {missing[0]!r}: it has {', '.join(dict.fromkeys(frame['method']))}")
    metric = frame["metric"].iloc[0]
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    sns.lineplot(
        frame.assign(value=100 * frame["value"]),
        x="rank",
        y="value",
        hue="method",
        style="method",
        hue_order=names,
        style_order=names,
        palette=dict(zip(names, COLOURS, strict=False)),
        markers=dict(zip(names, MARKERS, strict=False)),
        dashes=False,
        errorbar="sd" if frame["seed"].nunique() > 1 else None,
        linewidth=2,
        markersize=7,
        ax=axes,
    )
    axes.set(xlabel="rank b", ylabel=f"{metric}, %", ylim=(0, 102), title=title, xticks=sorted(set(frame["rank"])))
    axes.legend(title=None, frameon=False, loc="lower right")
    _calm(axes)
    means = frame.groupby(["method", "rank"])["value"].mean()
    said = [f"{name} from {_ends(means[name])}" for name in names]
    return _image(figure, f"{metric.capitalize()} by rank: {'; '.join(said)}.")


def predictions_by_rank(
    images: np.ndarray, labels: np.ndarray, predicted: dict[str, dict[int, np.ndarray]], title: str = ""
) -> "Image":
    """Pictures across, ranks down: what each method says at each rank; a wrong answer is crossed and marked by colour.

    Arguments:
        images: shape (n, height, width).
        labels: shape (n,).
        predicted: `{method: {rank: classes of shape (n,)}}`.
    """
    from matplotlib.figure import Figure

    rows = [(method, rank) for method, ranks in predicted.items() for rank in ranks]
    figure = Figure(figsize=(7.2, 0.62 + 0.42 * (len(rows) + 1)), layout="constrained")
    axes = figure.subplots(
        len(rows) + 1, len(images), squeeze=False, gridspec_kw={"height_ratios": [1.5] + [1] * len(rows)}
    )
    for column, (image, label) in enumerate(zip(images, labels, strict=True)):
        axes[0, column].imshow(image, cmap="gray")
        for row, (method, rank) in enumerate(rows, start=1):
            said = predicted[method][rank][column]
            right = said == label
            axes[row, column].text(
                0.5, 0.5, f"{said} {'✓' if right else '✗'}", ha="center", va="center",
                color=GREEN if right else WRONG, fontweight="normal" if right else "bold", fontfamily="DejaVu Sans",
            )  # fmt: skip
    for row, (method, rank) in enumerate(rows, start=1):
        axes[row, 0].text(
            -0.25, 0.5, f"{method}, b = {rank}", ha="right", va="center", transform=axes[row, 0].transAxes
        )
    for each in axes.flat:
        each.set_axis_off()
    figure.suptitle(title)
    counts = [f"{method} at rank {rank} {int((predicted[method][rank] == labels).sum())}" for method, rank in rows]
    return _image(figure, f"Right answers on {len(labels)} pictures: {'; '.join(counts)}.")


def _ends(values: Any) -> str:
    first, last = values.index[0], values.index[-1]
    return f"{100 * values[first]:.0f} % at rank {first} to {100 * values[last]:.0f} % at rank {last}"


def _calm(axes: Any) -> None:
    axes.grid(axis="y", color="#d8d8dc", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)


def _image(figure: "Figure", alt: str) -> "Image":
    from IPython.display import Image

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160, facecolor="white")
    return Image(file.getvalue(), width=720, alt=alt)
