"""Singular values of ΔW, and how much of it the first rows hold."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dylora_kit.core.targets import short_names
from dylora_kit.plots.drawing import BLUE, COLOURS, MARKERS, ORANGE, first_and_last, image, plain_frame

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image


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
    plain_frame(axes)
    ends = [f"{name} from {spectrum[0]:.2g} down to {spectrum[-1]:.2g}" for name, spectrum in values.items()]
    return image(figure, f"Singular values: {'; '.join(ends)}.")


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
        plain_frame(axes)
    panels[0].set_ylabel("share of the energy, %")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower center")
    figure.suptitle(title)
    shares = [
        f"{method} at rank {rank} holds {means.loc[(method, rank), 'captured']:.0f} %"
        for method in methods
        for rank in dict.fromkeys((1, max(int(means.loc[method].index.max()) // 2, 1)))
    ]
    return image(figure, f"Energy that the first b rows hold: {'; '.join(shares)}.")


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
    ends = [f"{name} from {first_and_last(means[name])}" for name in methods]
    return image(figure, f"Ordering score by layer and rank: {'; '.join(ends)}.")
