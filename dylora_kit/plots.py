"""Static figures, for print, GitHub and readers without a kernel. The text of each (`alt`) says what it shows."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dylora_kit.core.targets import short_names

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = "#0072b2", "#c77c00", "#009e73"  # Okabe-Ito, orange darkened for white paper
RIGHT, WRONG = "#00734f", "#b84300"  # darker again, for thin text
COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#999999")
MARKERS = ("o", "s", "D", "^", "v", "P")


def rank_curves(
    frame: "pd.DataFrame",
    title: str = "",
    *,
    methods: Sequence[str] | None = None,
    unit: str = "rank",
    bottom: float = 0.0,
) -> "Image":
    """A metric by rank, one line per method; with several seeds, their mean and a band of one standard deviation.

    Arguments:
        frame: what `sweep` returns, or several of them one under another.
        methods: which to draw, in this order; default is all.
        unit: what b counts.
        bottom: where the vertical axis starts, as a value of the metric; if not at 0, the axis says so.

    Raises `ValueError` for a frame without rows or with several metrics, for a method that is not in it, and for more
    methods than there are colours.
    """
    import seaborn as sns
    from matplotlib.figure import Figure

    names = _one_metric(frame, methods)
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
    axes.set(
        xlabel=f"{unit} b",
        ylabel=f"{metric}, %" + (f" (from {100 * bottom:.0f} up)" if bottom else ""),
        ylim=(100 * bottom, max(102 - 2 * bottom, 102 * frame["value"].max())),
        title=title,
        xticks=sorted(set(frame["rank"])),
    )
    means = frame.groupby(["method", "rank"])["value"].mean()
    axes.legend(title=None, frameon=False, loc="best")
    _plain_frame(axes)
    ends = [f"{name} from {_first_and_last(means[name], unit)}" for name in names]
    return _image(figure, f"{metric.capitalize()} by {unit}: {'; '.join(ends)}.")


def trade_off(frame: "pd.DataFrame", title: str = "", *, sizes: str = "stored") -> "Image":
    """A metric by size, one marker for each size of a method, with one standard deviation; the size on a log scale.

    Arguments:
        frame: one metric by method, rank and seed, with a column of sizes above 0; over the seeds they are averaged.
        sizes: that column.

    Raises `ValueError` for a frame that is empty, lacks a column, or has a method's rank twice for one seed.
    """
    from matplotlib.figure import Figure

    lacking = [name for name in ("method", "rank", "metric", "value", "seed", sizes) if name not in frame]
    if lacking:
        raise ValueError(f"the frame has no column {lacking[0]!r}: it has {', '.join(map(str, frame.columns))}")
    methods = _one_metric(frame)
    twice = frame[frame.duplicated(["method", "rank", "seed"])]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(f"the frame has {row['method']!r} at rank {row['rank']} twice for seed {row['seed']}: pass "
                         "the rows of one training for each")  # fmt: skip
    if not (frame[sizes] > 0).all():
        raise ValueError(f"sizes must be greater than 0: the smallest in {sizes!r} is {frame[sizes].min()}")
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes, highest = figure.subplots(), []
    for method, colour, marker in zip(methods, COLOURS, MARKERS, strict=False):
        groups = frame[frame["method"] == method].groupby("rank")
        size, value, spread = groups[sizes].mean(), 100 * groups["value"].mean(), 100 * groups["value"].std().fillna(0)
        axes.errorbar(size, value, yerr=spread, color=colour, marker=marker, linewidth=2, markersize=7, capsize=3,
                      linestyle="-" if len(size) > 1 else "", label=method)  # fmt: skip
        if value.isna().all():
            raise ValueError(f"{method!r} has no value that is a number: look at how it was measured")
        best = value.idxmax()
        highest.append(f"{method} up to {value[best]:.0f} % with {size[best]:,.0f}")
    metric = frame["metric"].iloc[0]
    axes.set(xscale="log", xlabel=f"{sizes} parameters", ylabel=f"{metric}, %", title=title)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.legend(frameon=False)
    _plain_frame(axes)
    return _image(figure, f"{metric.capitalize()} by {sizes} parameters: {'; '.join(highest)}.")


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
    return _image(figure, f"Right answers on {len(labels)} pictures. {'; '.join(counts)}.")


def picture_rows(rows: Mapping[str, Any], title: str = "", *, signed: bool = False) -> "Image":
    """Rows of pictures with their names before them.

    Arguments:
        rows: by name, each of shape (n, height, width): from −1 to 1, or of any size where `signed`.
        signed: draw numbers below zero in orange, zero white and those above in blue, each picture to its own size.
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
        for place in line:
            place.set_xticks([])
            place.set_yticks([])
            place.spines[:].set_visible(signed)
            place.spines[:].set_color("#c9c9cf")
    figure.suptitle(title)
    names = "; ".join(f"{name} ({len(pictures)})" for name, pictures in rows.items())
    return _image(figure, f"Rows of pictures. {title or 'From the top'}: {names}.")


def spectra(values: Mapping[str, Sequence[float]], title: str = "") -> "Image":
    """Singular values by their index, one line per method.

    Arguments:
        values: the singular values of each method, largest first.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    axes = figure.subplots()
    for (name, spectrum), colour, marker in zip(values.items(), COLOURS, MARKERS, strict=False):
        indices = range(1, len(spectrum) + 1)
        axes.plot(indices, spectrum, color=colour, marker=marker, linewidth=2, markersize=7, label=name)
    most = max(len(spectrum) for spectrum in values.values())
    axes.set(
        xlabel="index i", ylabel="singular value $\\sigma_i$", ylim=(0, None), title=title, xticks=range(1, most + 1)
    )
    axes.legend(frameon=False)
    _plain_frame(axes)
    ends = [f"{name} from {spectrum[0]:.2g} down to {spectrum[-1]:.2g}" for name, spectrum in values.items()]
    return _image(figure, f"Singular values: {'; '.join(ends)}.")


def energy_curves(frame: "pd.DataFrame", title: str = "") -> "Image":
    """How much of ΔW the first b rows hold, by rank, one panel per method: mean over the layers (and seeds).

    Beside it the best choice of rank b, and the average over every order of the rows.

    Arguments:
        frame: what `ordering` returns, or several of them one under another.
    """
    from matplotlib.figure import Figure

    means = 100 * frame.groupby(["method", "rank"], sort=False)[["best", "captured", "any_order"]].mean()
    methods = list(dict.fromkeys(frame["method"]))
    figure = Figure(figsize=(7.2, 3.3), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    lines = {"best": ("best possible", "#5b5b63", "--", ""), "captured": ("first b rows", BLUE, "-", "o"),
             "any_order": ("b rows at random", ORANGE, ":", "s")}  # fmt: skip
    for axes, method in zip(panels, methods, strict=True):
        energies = means.loc[method]
        for column, (label, colour, dash, marker) in lines.items():
            axes.plot(energies.index, energies[column], color=colour, linestyle=dash, marker=marker, linewidth=2,
                      label=label)  # fmt: skip
        axes.set(title=method, xlabel="rank b", ylim=(0, 103), xticks=energies.index)
        _plain_frame(axes)
    panels[0].set_ylabel("share of the energy, %")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower center")
    figure.suptitle(title)
    shares = [
        f"{method} at rank {rank} holds {means.loc[(method, rank), 'captured']:.0f} %"
        for method in methods
        for rank in dict.fromkeys((1, max(int(means.loc[method].index.max()) // 2, 1)))
    ]
    return _image(figure, f"Energy that the first b rows hold: {'; '.join(shares)}.")


def ordering_map(frame: "pd.DataFrame", title: str = "") -> "Image":
    """The ordering score of every layer at every rank, one heat map per method; 100 is as good as the best choice.

    Arguments:
        frame: what `ordering` returns, or several of them one under another.
    """
    import seaborn as sns
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(frame["method"]))
    layers = list(dict.fromkeys(frame["layer"]))
    figure = Figure(figsize=(7.2, 1.0 + 0.34 * len(layers)), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for axes, method in zip(panels, methods, strict=True):
        scores = frame[frame["method"] == method].groupby(["layer", "rank"])["score"].mean().unstack("rank")
        sns.heatmap(100 * scores.reindex(layers), annot=True, fmt=".0f", cmap="Blues", vmin=0, vmax=140, cbar=False,
                    linewidths=1, yticklabels=short_names(layers), annot_kws={"size": 8}, ax=axes)  # fmt: skip
        axes.set(title=method, xlabel="rank b", ylabel="")
        axes.tick_params(left=False, bottom=False, labelrotation=0)
    figure.suptitle(title)
    means = frame.groupby(["method", "rank"])["score"].mean()
    ends = [f"{name} from {_first_and_last(means[name])}" for name in methods]
    return _image(figure, f"Ordering score by layer and rank: {'; '.join(ends)}.")


def _one_metric(frame: "pd.DataFrame", methods: Sequence[str] | None = None) -> list[str]:
    """The methods to draw: those given, or all; `ValueError` if there are too many, or not one metric."""
    if frame.empty or frame["metric"].nunique() > 1:
        raise ValueError(f"expected a frame with one metric: got {sorted(set(frame['metric'])) or 'no rows'}")
    names = list(methods or dict.fromkeys(frame["method"]))
    if len(names) > len(COLOURS):
        raise ValueError(f"one figure shows up to {len(COLOURS)} methods: got {len(names)}")
    return names


def _first_and_last(values: Any, unit: str = "rank") -> str:
    """A series by rank in words, such as "50 % at rank 1 to 90 % at rank 8"."""
    first, last = values.index[0], values.index[-1]
    return f"{100 * values[first]:.0f} % at {unit} {first} to {100 * values[last]:.0f} % at {unit} {last}"


def _plain_frame(axes: Any) -> None:
    """Horizontal lines behind the curves, and no frame but the lower axis."""
    axes.grid(axis="y", color="#d8d8dc", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)


def _image(figure: "Figure", alt: str) -> "Image":
    """The figure as a PNG with its text."""
    from IPython.display import Image

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160, facecolor="white")
    return Image(file.getvalue(), width=720, alt=alt)
