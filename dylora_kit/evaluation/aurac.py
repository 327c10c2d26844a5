"""AURAC: one number for the quality at all ranks, the area under the curve of accuracy over rank."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 2000  # of the seeds, with replacement
MIDDLE = (0.025, 0.975)  # of the draws: a 95 % interval


def area(values: Mapping[int, float], *, log: bool = False) -> float:
    """The area under a curve of values over rank, by trapezoids, divided by the range of ranks: a mean height.

    Arguments:
        values: `{rank: value}`, at two ranks or more.
        log: whether ranks count by their logarithm to base 2, so that from 1 to 2 is as far as from 4 to 8.

    Raises `ValueError` for a rank below 1, and for fewer than two ranks.

    Source: Modoranu, Safaryan and Alistarh, arXiv 2605.07850.

    >>> area({1: 0.5, 2: 0.8, 4: 0.9}), round(area({1: 0.5, 2: 0.8, 4: 0.9}, log=True), 6)
    (0.7833333333333333, 0.75)
    """
    if len(values) < 2 or min(values) < 1:
        raise ValueError(f"an area needs the values at two ranks or more, counted from 1: got {list(values)}")
    ranks = np.array(sorted(values), dtype=float)
    heights = np.array([values[int(rank)] for rank in ranks])
    places = np.log2(ranks) if log else ranks
    trapezoids = np.diff(places) * (heights[1:] + heights[:-1]) / 2  # (n − 1,)
    return float(trapezoids.sum() / (places[-1] - places[0]))


def aurac(frame: "pd.DataFrame", *, log: bool = False) -> "pd.DataFrame":
    """The area under the accuracy-rank curve of each method in frames of `sweep`, with a bootstrap interval over seeds.

    It is the mean height of the curve, so it has the unit of the metric. Over linear rank the high ranks count most;
    over the logarithm each doubling counts alike.

    Arguments:
        frame: rows with the columns method, rank, metric, value and seed, such as frames of `sweep` one under another.
        log: whether ranks count by their logarithm to base 2.

    Returns a tidy frame with the columns method, metric, aurac, low, high, seeds: the mean over seeds, and where 95 of
    100 bootstrap draws of the seeds have it. With one seed low and high are NaN: nothing says how sure it is.

    Raises `ValueError` if a column is missing, if a method has one rank twice for a seed, or other ranks for one seed
    than for another, and for fewer than two ranks. NaN where a value is NaN.

    Source: Modoranu, Safaryan and Alistarh, arXiv 2605.07850; the interval is the kit's.

    >>> import pandas as pd
    >>> rows = [("DyLoRA", b, "accuracy", value, 10) for b, value in ((1, 0.5), (2, 0.8), (4, 0.9))]
    >>> aurac(pd.DataFrame(rows, columns=["method", "rank", "metric", "value", "seed"]), log=True)["aurac"].tolist()
    [0.75]
    """
    import pandas as pd

    lacking = {"method", "rank", "metric", "value", "seed"} - set(frame)
    if lacking:
        raise ValueError(f"the frame has no column {min(lacking)!r}: pass what sweep returns")
    rows = []
    for (method, metric), of in frame.groupby(["method", "metric"], sort=False):
        by_seed = _by_seed(of, f"{method!r} ({metric})")
        areas = np.array([area(values, log=log) for values in by_seed])
        rows.append((method, metric, areas.mean(), *_interval(areas), len(areas)))
    return pd.DataFrame(rows, columns=["method", "metric", "aurac", "low", "high", "seeds"])


def _by_seed(rows: "pd.DataFrame", what: str) -> list[dict[int, float]]:
    """`{rank: value}` of each seed; rows without a seed are those of one."""
    found: list[dict[int, float]] = []
    for _, of in rows.groupby("seed", dropna=False):
        if of["rank"].duplicated().any():
            twice = of["rank"][of["rank"].duplicated()].iloc[0]
            raise ValueError(f"{what} has rank {twice} twice for one seed: pass each training once, under its own name")
        found.append({int(rank): float(value) for rank, value in zip(of["rank"], of["value"], strict=True)})
        if found[0].keys() != found[-1].keys():
            raise ValueError(f"{what} has other ranks for one seed than for another: measure the same ranks for all")
    return found


def _interval(areas: np.ndarray) -> tuple[float, float]:
    if len(areas) < 2:
        return float("nan"), float("nan")
    means = np.random.default_rng(0).choice(areas, (DRAWS, len(areas))).mean(1)
    low, high = np.quantile(means, MIDDLE)
    return float(low), float(high)
