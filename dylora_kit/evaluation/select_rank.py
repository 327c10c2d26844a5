"""Search-free choice of a rank for all layers, from one trained model and with no retraining."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dylora_kit.core.modes import evaluating
from dylora_kit.core.offload import input_device
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.evaluation.at_ranks import FORWARD, Forward
from dylora_kit.evaluation.metrics import LOWER_IS_BETTER, metric_named
from dylora_kit.training.batches import as_batch, call, on_device
from dylora_kit.training.next_token import shifted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Choice:
    """A chosen rank, and how many of the seeds would choose it. It can be assigned wherever a rank can.

    Attributes:
        rank: what was chosen, by the mean over seeds.
        best: the rank with the best mean.
        values: the mean at each rank.
        shares: the share of the seeds that, each by itself, would choose a rank: `{rank: share}`; they add up to 1.
        seeds: how many seeds there are. With one, the shares say nothing about how certain the choice is.
    """

    rank: int
    best: int
    values: dict[int, float]
    shares: dict[int, float]
    seeds: int

    def __index__(self) -> int:
        return self.rank

    def __str__(self) -> str:
        if self.seeds == 1:
            certainty = "from one seed, so how sure this is cannot be said"
        else:
            certainty = f"of {self.seeds} seeds " + ", ".join(
                f"{share * self.seeds:.0f} choose rank {rank}" for rank, share in self.shares.items()
            )
        return f"rank {self.rank} ({self.values[self.rank]:.4g}; the best is {self.values[self.best]:.4g} at rank "\
               f"{self.best}); {certainty}"  # fmt: skip


def smallest_rank(frame: "pd.DataFrame", *, tolerance: float = 0.01) -> Choice:
    """The smallest rank whose value is within a tolerance of the best.

    Arguments:
        frame: a `sweep` of one method by one metric, with one seed or with several under one another; or a
            `bootstrap` of one model.
        tolerance: how much worse than the best is good enough, in the metric's own unit.

    A rank whose value is not finite for some seed is not chosen. Raises `ValueError` if none is left, and for a frame
    with several metrics or methods.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"rank": [1, 2, 3], "metric": "accuracy", "value": [0.7, 0.895, 0.9], "seed": 0})
    >>> smallest_rank(frame).rank, smallest_rank(frame, tolerance=0).rank
    (2, 3)
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be 0 or more: got {tolerance!r}")
    _check(frame)
    margin = tolerance + 1e-9  # 0.90 − 0.89 is a little more than 0.01 in floating point
    return _chosen(frame, lambda values, best: [rank for rank in values if values[best] - values[rank] <= margin])


def best_rank(frame: "pd.DataFrame", *, costs: Mapping[int, float], budget: float) -> Choice:
    """The best rank that a budget allows; among equally good ones the smallest.

    Arguments:
        frame: as for `smallest_rank`.
        costs: what each rank costs, in any unit: parameters, bytes, seconds; see `parameters` and `latency`.
        budget: the most that may be spent, in the same unit.

    Raises `ValueError` if no rank is cheap enough, or the costs of a rank are not given.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"rank": [1, 2, 3], "metric": "accuracy", "value": [0.7, 0.8, 0.9], "seed": 0})
    >>> best_rank(frame, costs={1: 100, 2: 200, 3: 300}, budget=250).rank
    2
    """
    _check(frame)
    missing = sorted(set(frame["rank"]) - set(costs))
    if missing:
        raise ValueError(f"the costs do not say what rank {missing[0]} costs: give one for each rank of the frame")
    allowed = frame[[costs[rank] <= budget for rank in frame["rank"]]]
    if allowed.empty:
        cheapest = min(costs[rank] for rank in frame["rank"])
        raise ValueError(f"no rank costs {budget:g} or less: the cheapest costs {cheapest:g}")
    return _chosen(allowed, lambda values, best: [best])


def _check(frame: "pd.DataFrame") -> None:
    """Raises `ValueError` unless the frame is a sweep of one method by one metric, with each rank once for a seed."""
    lacking = [column for column in ("rank", "metric", "value", "seed") if column not in frame]
    if lacking:
        raise ValueError(f"the frame has no column {lacking[0]!r}: pass the result of a sweep")
    if frame.empty:
        raise ValueError("the frame is empty: pass the result of a sweep")
    for column in ("metric", "method"):
        if column in frame and frame[column].nunique() > 1:
            values = ", ".join(map(str, frame[column].unique()))
            raise ValueError(f"the frame has more than one {column} ({values}): pass the rows of one")
    twice = frame[frame.duplicated(["rank", "seed"])]
    if len(twice):
        raise ValueError(f"the frame has rank {twice['rank'].iloc[0]} twice for one seed: pass one sweep for each seed")


def _chosen(frame: "pd.DataFrame", rule: Callable[[dict[int, float], int], list[int]]) -> Choice:
    """The smallest of the ranks that a rule allows, by the mean over seeds, and what each seed alone would choose.

    Arguments:
        rule: `(values, best) → ranks`: the value at each rank, where more is better, and the best rank.
    """
    sign = -1.0 if str(frame["metric"].iloc[0]).lower() in LOWER_IS_BETTER else 1.0
    # a sweep without a seed counts as one seed
    table = frame.assign(seed=frame["seed"].fillna(-1)).pivot(index="seed", columns="rank", values="value")
    table = sign * table.loc[:, np.isfinite(table).all()].sort_index(axis=1)
    if table.empty:
        raise ValueError("no rank has a value for every seed: look at what the sweep found")

    def choose(row: "pd.Series[float]") -> tuple[int, int]:
        values = {int(rank): float(value) for rank, value in row.items()}
        best = max(values, key=lambda rank: values[rank])  # of equals the first, which is the smallest
        return min(rule(values, best)), best

    mean = table.mean()
    rank, best = choose(mean)
    alone = [choose(row)[0] for _, row in table.iterrows()]
    shares = {choice: alone.count(choice) / len(alone) for choice in sorted(set(alone))}
    return Choice(rank, best, {int(column): sign * value for column, value in mean.items()}, shares, len(alone))


def bootstrap(
    outputs: Mapping[int, np.ndarray],
    labels: np.ndarray,
    *,
    metric: str = "accuracy",
    resamples: int = 200,
    seed: int = 0,
    shift: bool = False,
) -> "pd.DataFrame":
    """A sweep's frame in which each "seed" is a resampling of the examples, the same ones at every rank.

    It says how much a choice of rank owes to the examples at hand, where only one model was trained.

    Arguments:
        outputs, labels: what `predict` returns.
        metric: a name of `METRICS`.
        shift: whether the logits at a token are compared with the label of the next one, as causal language models
            need it.

    A rank with outputs that are not finite has no value. Raises `ValueError` for an unknown metric.

    >>> logits = np.array([[0.1, 0.9], [0.8, 0.2]])
    >>> bootstrap({1: logits}, np.array([1, 0]), resamples=2)["value"].tolist()
    [1.0, 1.0]
    """
    import pandas as pd

    score = metric_named(metric)
    if shift:
        outputs = {rank: shifted(values, labels)[0] for rank, values in outputs.items()}
        labels = labels[:, 1:]
    finite = {rank: bool(np.isfinite(values).all()) for rank, values in outputs.items()}
    rng, rows = np.random.default_rng(seed), []
    for number in range(resamples):
        drawn = rng.integers(len(labels), size=len(labels))
        rows += [
            (rank, metric, score(values[drawn], labels[drawn]) if finite[rank] else float("nan"), number)
            for rank, values in outputs.items()
        ]
    return pd.DataFrame(rows, columns=["rank", "metric", "value", "seed"])


def parameters(adapters: RankHandle) -> dict[int, int]:
    """How many adapter parameters each rank uses; in float32 each takes four bytes."""
    return {rank: adapters.num_parameters(rank) for rank in range(1, adapters.r + 1)}


def latency(
    model: nn.Module, adapters: RankHandle, batch: Any, *, repeats: int = 20, forward: Forward | None = None
) -> dict[int, float]:
    """Seconds that a forward pass of a batch takes at each rank: lower quartiles, the ranks taking turns.

    What else runs on the machine only adds time, so the lower quartile says more than the median.

    Arguments:
        batch: a dict of tensors or lists (n, …), such as `data[:8]` of a `datasets.Dataset`, or a list of examples.
        forward: as in `sweep`.
    """
    import time

    times: dict[int, list[float]] = {rank: [] for rank in range(1, adapters.r + 1)}
    device = input_device(model)
    inputs = on_device(as_batch(batch), device)
    with evaluating(model):
        for repeat in range(repeats + 1):
            for rank, seconds in times.items():
                with adapters.at(rank):
                    _wait(device)
                    start = time.perf_counter()
                    _ = forward(model, dict(inputs)) if forward else call(model, inputs, FORWARD)
                    _wait(device)
                    if repeat:  # the first round warms up
                        seconds.append(time.perf_counter() - start)
    return {rank: float(np.quantile(seconds, 0.25)) for rank, seconds in times.items()}


def _wait(device: torch.device) -> None:
    """Waits until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
