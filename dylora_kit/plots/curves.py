"""A metric by rank or by size: curves, differences between curves, and what quality costs."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dylora_kit.plots.drawing import COLOURS, DASHES, MARKERS, first_and_last, image, looks, one_metric, plain_frame

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image


def rank_curves(
    frame: "pd.DataFrame",
    title: str = "",
    *,
    methods: Sequence[str] | None = None,
    unit: str = "rank",
    bottom: float = 0.0,
    top: float = 1.0,
    across: str = "",
) -> "Image":
    """A metric by rank, one line per method; with several seeds, their mean and a band of one standard deviation.

    Arguments:
        frame: what `sweep` returns, or several of them one under another.
        methods: which to draw, in this order; default is all.
        unit: what b counts.
        bottom: where the vertical axis starts, as a value of the metric; if not at 0, the axis says so.
        top: where it ends, if no value is above; if not at 1, the axis says so.
        across: what the horizontal axis is called; default is the unit and b.

    Raises `ValueError` for a frame without rows or with several metrics, for a method that is not in it, and for more
    methods than there are colours.
    """
    import seaborn as sns
    from matplotlib.figure import Figure

    names = one_metric(frame, methods)
    missing = [name for name in names if not (frame["method"] == name).any()]
    if missing:
        raise ValueError(f"the frame has no method {missing[0]!r}: it has {', '.join(dict.fromkeys(frame['method']))}")
    metric, look = frame["metric"].iloc[0], looks(names)
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
        palette={name: COLOURS[look[name]] for name in names},
        markers={name: MARKERS[look[name]] for name in names},
        dashes={name: DASHES[look[name]] if per_method[name] == per_method.max() else (1, 2) for name in names},
        errorbar="sd" if frame["seed"].nunique() > 1 else None,
        linewidth=2,
        markersize=7,
        ax=axes,
    )
    axes.set(
        xlabel=across or f"{unit} b",
        ylabel=f"{metric}, %" + (f" (from {100 * bottom:.0f} up)" if bottom else "") + " (not up to 100)" * (top < 1),
        ylim=(100 * bottom, max(102 * top - 2 * bottom, 102 * frame["value"].max())),
        title=title,
        xticks=sorted(set(frame["rank"])),
    )
    means = frame.groupby(["method", "rank"])["value"].mean()
    legend = axes.legend(title=None, frameon=False, loc="best")
    if len(names) > 4:  # more lines leave no free place
        legend.remove()
        figure.legend(*axes.get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower center")
    plain_frame(axes)
    ends = [f"{name} from {first_and_last(means[name], unit)}" for name in names]
    return image(figure, f"{metric.capitalize()} by {unit}: {'; '.join(ends)}.")


def differences(
    frame: "pd.DataFrame",
    against: str,
    title: str = "",
    *,
    methods: Sequence[str] | None = None,
    unit: str = "rank",
) -> "Image":
    """How far methods are from one of them, by rank, in points: the mean over the seeds and its 95 % interval.

    For lines that nearly lie upon each other. Seeds are paired: the difference is taken within each, and the interval
    is that of a t distribution.

    Arguments:
        frame: one metric by method, rank and seed.
        against: the method that the others are compared with, drawn as zero.
        methods: which to draw, in this order; default is all others.
        unit: what b counts.

    Raises `ValueError` for a method that is not in the frame, for less than two seeds that both methods have, and for
    more methods than there are colours.
    """
    from matplotlib.figure import Figure
    from scipy.stats import t

    chosen = methods or [name for name in dict.fromkeys(frame["method"]) if name != against]
    names = one_metric(frame, chosen)
    values = 100 * frame.pivot_table(index=["method", "seed"], columns="rank", values="value")
    missing = [name for name in (against, *names) if name not in values.index.levels[0]]
    if missing:
        raise ValueError(f"the frame has no method {missing[0]!r}: it has {', '.join(values.index.levels[0])}")
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes, words = figure.subplots(), []
    axes.axhline(0, color="#5b5b63", linewidth=2, linestyle="--", label=against)
    for place, (name, look) in enumerate(looks(names).items()):
        ahead = (values.loc[name] - values.loc[against]).dropna(how="all").dropna(axis=1)
        if len(ahead) < 2:
            raise ValueError(f"{name!r} and {against!r} have {len(ahead)} seed in common: an interval needs two")
        reach = t.ppf(0.975, len(ahead) - 1) * ahead.std() / len(ahead) ** 0.5
        shifted = ahead.columns + 0.08 * (place - (len(names) - 1) / 2)
        axes.errorbar(shifted, ahead.mean(), yerr=reach, color=COLOURS[look], marker=MARKERS[look], linewidth=2,
                      markersize=7, capsize=3, label=name)  # fmt: skip
        first, last = ahead.columns[0], ahead.columns[-1]
        words.append(f"{name} {ahead[first].mean():+.1f} at {unit} {first} and {ahead[last].mean():+.1f} at {last}")
    metric = frame["metric"].iloc[0]
    axes.set(xlabel=f"{unit} b", ylabel=f"{metric}, points more", title=title, xticks=sorted(set(frame["rank"])))
    axes.legend(frameon=False)
    plain_frame(axes)
    return image(figure, f"Points of {metric} more than {against}: {'; '.join(words)}.")


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
    methods = one_metric(frame)
    twice = frame[frame.duplicated(["method", "rank", "seed"])]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(f"the frame has {row['method']!r} at rank {row['rank']} twice for seed {row['seed']}: pass "
                         "the rows of one training for each")  # fmt: skip
    if not (frame[sizes] > 0).all():
        raise ValueError(f"sizes must be greater than 0: the smallest in {sizes!r} is {frame[sizes].min()}")
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes, highest = figure.subplots(), []
    for method, look in looks(methods).items():
        groups = frame[frame["method"] == method].groupby("rank")
        size, value, spread = groups[sizes].mean(), 100 * groups["value"].mean(), 100 * groups["value"].std().fillna(0)
        line: dict[str, Any] = {"linestyle": "-", "markersize": 7}
        point: dict[str, Any] = {"linestyle": "", "markersize": 10, "markeredgecolor": "white", "zorder": 3}
        axes.errorbar(size, value, yerr=spread, color=COLOURS[look], marker=MARKERS[look], linewidth=2, capsize=3,
                      label=method, **line if len(size) > 1 else point)  # fmt: skip
        if value.isna().all():
            raise ValueError(f"{method!r} has no value that is a number: look at how it was measured")
        best = value.idxmax()
        highest.append(f"{method} up to {value[best]:.0f} % with {size[best]:,.0f}")
    metric = frame["metric"].iloc[0]
    axes.set(xscale="log", xlabel=f"{sizes} parameters", ylabel=f"{metric}, %", title=title)
    axes.set_xticks(_round_sizes(frame[sizes].min(), frame[sizes].max()), minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False)
    plain_frame(axes)
    return image(figure, f"{metric.capitalize()} by {sizes} parameters: {'; '.join(highest)}.")


def _round_sizes(low: float, high: float) -> list[int]:
    """Round numbers between two sizes, for a log scale.

    >>> _round_sizes(1418, 152_202)
    [2000, 5000, 10000, 20000, 50000, 100000]
    """
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [round(digit * 10**ten) for ten in tens for digit in (1, 2, 5) if low <= digit * 10**ten <= high]


def cost_plane(frame: "pd.DataFrame", title: str = "", *, cost: str = "CPU-seconds", of: str = "quality") -> "Image":
    """What methods achieve by what they cost: one marker each, and one standard deviation over the seeds both ways.

    Arguments:
        frame: one row for each method and seed, with columns method, seed, cost (above 0) and value, a share of 1.
        cost: what is spent, and in which unit.
        of: what the value is.

    Raises `ValueError` for a frame without rows, one that lacks a column, and more methods than there are colours.
    """
    from matplotlib.figure import Figure

    lacking = [name for name in ("method", "seed", "cost", "value") if name not in frame]
    if lacking:
        raise ValueError(f"the frame has no column {lacking[0]!r}: it has {', '.join(map(str, frame.columns))}")
    methods = one_metric(frame.assign(metric=of))
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    axes, words = figure.subplots(), []
    for method, look in looks(methods).items():
        rows = frame[frame["method"] == method]
        spent, value = rows["cost"].mean(), 100 * rows["value"].mean()
        spreads = {"xerr": rows["cost"].std(), "yerr": 100 * rows["value"].std()} if len(rows) > 1 else {}
        axes.errorbar(spent, value, **spreads, color=COLOURS[look], marker=MARKERS[look], markersize=9, capsize=3,
                      linestyle="", label=method)  # fmt: skip
        words.append(f"{method} {value:.1f} % for {spent:,.0f}")
    axes.set(xlabel=cost, ylabel=f"{of}, %", title=title)
    axes.margins(0.18)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    plain_frame(axes)
    return image(figure, f"{of} by {cost}: {'; '.join(words)}.")


def standings(frame: "pd.DataFrame", title: str = "", *, of: str = "quality") -> "Image":
    """What methods achieve on several tasks: a row for each method, a marker for each task, one standard deviation.

    The first task orders the rows. Behind a method's name stands how many times the others' cost it had, if that is
    more than 1.5: the mean over the tasks of its cost by that of the method in the middle.

    Arguments:
        frame: one row for each method, task and seed, with columns method, task, seed, cost (above 0) and value, a
            share of 1.
        of: what the value is.

    Raises `ValueError` for a frame without rows, one that lacks a column, and more tasks than there are colours.
    """
    from matplotlib.figure import Figure

    lacking = [name for name in ("method", "task", "seed", "cost", "value") if name not in frame]
    if lacking:
        raise ValueError(f"the frame has no column {lacking[0]!r}: it has {', '.join(map(str, frame.columns))}")
    tasks = looks(one_metric(frame.assign(metric=of, method=frame["task"])))
    means = frame.pivot_table(index="method", columns="task", values="value").sort_values(next(iter(tasks)))
    costs = frame.pivot_table(index="method", columns="task", values="cost")
    times = (costs / costs.median()).mean(axis=1)
    figure = Figure(figsize=(8.6, 1.6 + 0.42 * len(means)), layout="constrained")
    axes, words = figure.subplots(), []
    for place, (task, look) in enumerate(tasks.items()):
        of_task = frame[frame["task"] == task].groupby("method")["value"]
        value, spread = 100 * of_task.mean().reindex(means.index), 100 * of_task.std().reindex(means.index)
        heights = [row + 0.14 * ((len(tasks) - 1) / 2 - place) for row in range(len(means))]
        axes.errorbar(value, heights, xerr=spread.fillna(0), color=COLOURS[look], marker=MARKERS[look], markersize=8,
                      capsize=3, linestyle="", label=task)  # fmt: skip
        words.append(f"{task}: {'; '.join(f'{name} {value[name]:.1f} %' for name in value.dropna().index[::-1])}")
    names = [f"{name} ({times[name]:.0f} × the time)" if times[name] > 1.5 else name for name in means.index]
    axes.set(xlabel=f"{of}, %", title=title, yticks=range(len(names)), yticklabels=names)
    plain_frame(axes)
    figure.legend(frameon=False, loc="outside lower center", ncols=len(tasks))
    return image(figure, f"{of} on {'. On '.join(words)}.")
