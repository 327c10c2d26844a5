"""Static figures, for print, GitHub and readers without a kernel. Each comes with a text that says what it shows."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072b2", "#c77c00", "#009e73"  # Okabe-Ito, orange darkened for white paper
RIGHT, WRONG = "#00734f", "#b84300"  # darker again, for thin text
COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#999999")
MARKERS = ("o", "s", "D", "^", "v", "P")


def rank_curves(frame: "pd.DataFrame", title: str = "", *, methods: Sequence[str] | None = None) -> "Image":
    """A metric by rank, one line per method; with several seeds, their mean and a band of one standard deviation.

    Arguments:
        frame: what `sweep` returns, or several of them one under another.
        methods: which to draw, in this order; default is all.
    """
    import seaborn as sns
    from matplotlib.figure import Figure

    if frame.empty or frame["metric"].nunique() > 1:
        raise ValueError(f"expected a frame with one metric: got {sorted(set(frame['metric'])) or 'no rows'}")
    names = list(methods or dict.fromkeys(frame["method"]))
    if len(names) > len(COLOURS):
        raise ValueError(f"one figure shows up to {len(COLOURS)} methods: got {len(names)}")
    missing = [name for name in names if not (frame["method"] == name).any()]
    if missing:
        raise ValueError(f"the frame has no method {missing[0]!r}: it has {', '.join(dict.fromkeys(frame['method']))}")
    metric = frame["metric"].iloc[0]
    per_method = frame.groupby("method")["rank"].nunique()  # dotted where only some ranks were measured
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
        dashes={name: "" if per_method[name] == per_method.max() else (1, 2) for name in names},
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
    images: Mapping[str, np.ndarray],
    labels: np.ndarray,
    predicted: Mapping[str, Mapping[int | None, np.ndarray]],
    title: str = "",
) -> "Image":
    """Pictures across, ranks down: what each method says at each rank; a wrong answer is crossed and marked by colour.

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
    words = {"ha": "center", "va": "center", "fontfamily": "DejaVu Sans"}
    names = [*images, "right answer", *(method if rank is None else f"{method}, b = {rank}" for method, rank in rows)]
    for line, name in enumerate(names):
        axes[line, 0].text(-0.25, 0.5, name, ha="right", va="center", transform=axes[line, 0].transAxes)
    for column, label in enumerate(labels):
        for line, pictures in enumerate(images.values()):
            axes[line, column].imshow(pictures[column], cmap="gray")
        axes[len(images), column].text(0.5, 0.5, str(label), **words)
        for line, (method, rank) in enumerate(rows, start=len(images) + 1):
            said = predicted[method][rank][column]
            look = {"color": RIGHT} if said == label else {"color": WRONG, "fontweight": "bold"}
            axes[line, column].text(0.5, 0.5, f"{said} {'✓' if said == label else '✗'}", **words, **look)
    for each in axes.flat:
        each.set_axis_off()
    figure.suptitle(title)
    right = [int((predicted[method][rank] == labels).sum()) for method, rank in rows]
    counts = [f"{name}: {count}" for name, count in zip(names[-len(rows) :], right, strict=True)]
    return _image(figure, f"Right answers on {len(labels)} pictures. {'; '.join(counts)}.")


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
