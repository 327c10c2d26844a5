"""What the results files say: the rows of one, and cells of a table, mean ± standard deviation over seeds."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dylora_kit.paper.runs import read_results
from dylora_kit.paper.settings import SEEDS, R
from dylora_kit.synthetic.names import METRICS
from dylora_kit.tasks import glue

Rows = list[dict[str, str]]  # of a table: column → cell
MISSING = "–"
COLUMNS = ["method", "r", "rank", "cut", "metric", "value", "seed", "stored", "cpu_seconds", "step_flops", "score"]
WRITTEN = {"f1": "F1", "matthews": "Matthews", "pearson": "Pearson", "bleu": "BLEU"}
RANKS = {"rank b = 1": 1} | {str(b): b for b in range(2, R + 1)}  # the columns of a table of all ranks


def results_of(folder: Path, stem: str, task: str, metric: str | None = None) -> pd.DataFrame:
    """The rows of a results file, `{stem}-{task}.csv`; none if it is not there.

    Arguments:
        folder: where the results files are.
        stem: the study, such as `"table2"`.
        task: such as `"digits-turned"` or `"world-sentiment"`.
        metric: default is the task's own.

    Raises `ValueError` if the file has no rows of the metric.
    """
    path = folder / f"{stem}-{task}.csv"
    frame = read_results(path)
    if frame.empty:
        return pd.DataFrame(columns=COLUMNS)
    if "domain" in frame:
        frame = frame[frame["domain"] == task.removeprefix("digits-")]
    if "metric" not in frame:
        return frame
    metric = metric or METRICS.get(task.removeprefix("world-"), "accuracy")
    rows = frame[frame["metric"] == metric]
    if rows.empty:
        raise ValueError(f"{path} has no rows of the metric {metric!r}: measure it again")
    return rows


def title(task: str) -> str:
    """A task as a table names it.

    >>> title("digits-turned"), title("world-similarity"), title("glue-stsb"), title("glue-cola (subset)")
    ('turned digits', 'similarity', 'STS-B', 'CoLA (subset)')
    """
    tier, _, name = task.partition("-")
    if tier == "glue":
        known, space, part = name.partition(" ")
        return glue.SPECS[known].folder + space + part
    return f"{name} digits" if tier == "digits" else name


def with_metric(task: str, metric: str | None = None) -> str:
    """A task as a table names it, and its metric, which is the task's own unless another is given.

    >>> with_metric("digits-turned"), with_metric("world-similarity"), with_metric("world-describe", "slot error rate")
    ('turned digits (accuracy)', 'similarity (Pearson)', 'describe (slot error rate)')
    """
    metric = metric or METRICS.get(task.removeprefix("world-"), "accuracy")
    return f"{title(task)} ({WRITTEN.get(metric, metric)})"


def cell(values: Iterable[float], *, seeds: int = len(SEEDS), percent: bool = True) -> str:
    """Mean ± standard deviation, and of how many seeds where it is not all of them.

    Arguments:
        seeds: how many all are.
        percent: in percent with one decimal, else as they are with two.

    >>> cell([0.5, 0.6]), cell([0.5, 0.6], seeds=2), cell([0.5, 0.6], seeds=2, percent=False), cell([])
    ('55.0 ± 7.1 (2)', '55.0 ± 7.1', '0.55 ± 0.07', '–')
    """
    column = (100 if percent else 1) * pd.Series(list(values), dtype=float)
    if column.empty:
        return MISSING
    places = 1 if percent else 2
    spread = f" ± {column.std(skipna=False):.{places}f}" if len(column) > 1 else ""
    return f"{column.mean(skipna=False):.{places}f}{spread}" + (f" ({len(column)})" if len(column) != seeds else "")


def mean_with_interval(frame: pd.DataFrame, ranks: Sequence[int]) -> str:
    """The mean over some ranks, in percent, and where 95 of 100 bootstrap draws of the seeds have it.

    With fewer than five seeds there is no interval, for draws of so few say little.

    Arguments:
        frame: rows of one method, with rank, seed and value.

    >>> frame = pd.DataFrame({"rank": [1, 8, 1, 8], "seed": [10, 10, 42, 42], "value": [0.5, 0.9, 0.6, 0.9]})
    >>> mean_with_interval(frame, [1, 8]), mean_with_interval(frame, [1, 2])
    ('72.5', '–')
    """
    by_rank = frame.pivot(index="seed", columns="rank", values="value")
    if not set(ranks) <= set(by_rank):
        return MISSING
    means = 100 * by_rank[list(ranks)].mean(axis=1, skipna=False).to_numpy()
    draws = np.random.default_rng(0).choice(means, (2000, len(means))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{means.mean():.1f}" + (f" ({low:.1f} to {high:.1f})" if len(means) >= len(SEEDS) else "")


def at_every_rank(frame: pd.DataFrame, what: str, methods: Sequence[str], *, percent: bool = True) -> Rows:
    """One row for each method that was measured, its cells by rank.

    Arguments:
        frame: rows with method, rank, seed and value.
        what: what was measured. In its brackets, how many seeds is added where it is not five.
        methods: in this order.
    """
    seeds = frame["seed"].nunique()
    if seeds != len(SEEDS):
        what = f"{what.removesuffix(')')}, {seeds} seed{'s' * (seeds > 1)})"
    values = {key: list(of) for key, of in frame.groupby(["method", "rank"])["value"]}
    return [
        {"task": what, "method": method}
        | {column: cell(values.get((method, b), ()), seeds=seeds, percent=percent) for column, b in RANKS.items()}
        for method in methods
        if any(key[0] == method for key in values)
    ]
