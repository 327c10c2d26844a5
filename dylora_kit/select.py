"""Search-free choice of a rank: one for all layers, or one for each, from one trained model and with no retraining."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dylora_kit.evaluate import METRICS, evaluating
from dylora_kit.rank import RankHandle

if TYPE_CHECKING:
    import pandas as pd

    from dylora_kit.adapt import Adapters

LOWER_IS_BETTER = ("error", "loss", "slot error rate", "perplexity", "mse", "ter")


@dataclass(frozen=True)
class Choice:
    """A chosen rank, and how sure the choice is. It can be assigned wherever a rank can.

    Attributes:
        rank: what was chosen, by the mean over seeds.
        best: the rank with the best mean.
        values: the mean at each rank.
        shares: how many of the seeds, each by itself, would choose each rank: shares that add up to 1.
        seeds: how many seeds there are. With one, the shares say nothing about how sure the choice is.
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
            sure = "from one seed, so how sure this is cannot be said"
        else:
            sure = f"of {self.seeds} seeds " + ", ".join(
                f"{share * self.seeds:.0f} choose rank {rank}" for rank, share in self.shares.items()
            )
        return f"rank {self.rank} ({self.values[self.rank]:.4g}; the best is {self.values[self.best]:.4g} at rank "\
               f"{self.best}); {sure}"  # fmt: skip


def smallest_rank(frame: "pd.DataFrame", *, tolerance: float = 0.01) -> Choice:
    """The smallest rank whose value is within a tolerance of the best.

    Arguments:
        frame: a `sweep` of one method by one metric, with one seed or with several under one another; or a
            `bootstrap` of one model.
        tolerance: how much worse than the best is good enough, in the metric's own unit.

    A rank whose value is not a number for some seed is not chosen. Raises `ValueError` if none is left, and for a frame
    with several metrics or methods.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"rank": [1, 2, 3], "metric": "accuracy", "value": [0.7, 0.895, 0.9], "seed": 0})
    >>> smallest_rank(frame).rank, smallest_rank(frame, tolerance=0).rank
    (2, 3)
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be 0 or more: got {tolerance!r}")
    _check(frame)
    most = tolerance + 1e-9  # 0.90 − 0.89 is a little more than 0.01 in floating point
    return _chosen(frame, lambda values, best: [rank for rank in values if values[best] - values[rank] <= most])


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
    lacking = [column for column in ("rank", "metric", "value", "seed") if column not in frame]
    if lacking:
        raise ValueError(f"the frame has no column {lacking[0]!r}: pass the result of a sweep")
    if frame.empty:
        raise ValueError("the frame is empty: pass the result of a sweep")
    for column in ("metric", "method"):
        if column in frame and frame[column].nunique() > 1:
            found = ", ".join(map(str, frame[column].unique()))
            raise ValueError(f"the frame has more than one {column} ({found}): pass the rows of one")
    twice = frame[frame.duplicated(["rank", "seed"])]
    if len(twice):
        raise ValueError(f"the frame has rank {twice['rank'].iloc[0]} twice for one seed: pass one sweep for each seed")


def _chosen(frame: "pd.DataFrame", rule: Callable[[dict[int, float], int], list[int]]) -> Choice:
    sign = -1.0 if str(frame["metric"].iloc[0]).lower() in LOWER_IS_BETTER else 1.0
    table = frame.assign(seed=frame["seed"].fillna(-1)).pivot(index="seed", columns="rank", values="value")
    table = sign * table.loc[:, table.notna().all()].sort_index(axis=1)
    if table.empty:
        raise ValueError("no rank has a value for every seed: look at what the sweep found")

    def choose(row: "pd.Series[float]") -> tuple[int, int]:
        values = {int(rank): float(value) for rank, value in row.items()}
        best = max(values, key=lambda rank: values[rank])  # of equals the first, which is the smallest
        return min(rule(values, best)), best

    mean = table.mean()
    rank, best = choose(mean)
    alone = [choose(row)[0] for _, row in table.iterrows()]
    shares = {one: alone.count(one) / len(alone) for one in sorted(set(alone))}
    return Choice(rank, best, {int(one): sign * value for one, value in mean.items()}, shares, len(alone))


def bootstrap(
    outputs: Mapping[int, np.ndarray],
    labels: np.ndarray,
    *,
    metric: str = "accuracy",
    resamples: int = 200,
    seed: int = 0,
) -> "pd.DataFrame":
    """A sweep's frame in which each "seed" is a resampling of the examples, the same ones at every rank.

    It says how much a choice of rank owes to the examples at hand, where only one model was trained.

    Arguments:
        outputs, labels: what `predict` returns.
        metric: a name of `METRICS`.

    A rank with outputs that are not finite has no value. Raises `ValueError` for an unknown metric.
    """
    import pandas as pd

    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}: expected one of {', '.join(map(repr, METRICS))}")
    score = METRICS[metric]
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


def latency(model: nn.Module, adapters: RankHandle, batch: Mapping[str, Any], *, repeats: int = 20) -> dict[int, float]:
    """Seconds that a forward pass of a batch takes at each rank: medians, the ranks taking turns."""
    import time

    times: dict[int, list[float]] = {rank: [] for rank in range(1, adapters.r + 1)}
    device = next(model.parameters()).device
    inputs = {key: value.to(device) for key, value in batch.items()}
    with evaluating(model):
        for repeat in range(repeats + 1):
            for rank, found in times.items():
                with adapters.at(rank):
                    _wait(device)
                    start = time.perf_counter()
                    model(**inputs)
                    _wait(device)
                    if repeat:  # the first round warms up
                        found.append(time.perf_counter() - start)
    return {rank: float(np.median(found)) for rank, found in times.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Cut:
    """A rank for each layer.

    Attributes:
        ranks: `{layer: rank}`, which can be assigned to `adapters.rank`.
        parameters: how many adapter parameters they use.
        loss: the mean loss on the data they were chosen on.
        path: a frame with the columns parameters, layer, rank, loss: the steps from rank 1 everywhere to the budget.
    """

    ranks: dict[str, int]
    parameters: int
    loss: float
    path: "pd.DataFrame"

    def within(self, budget: int) -> "Cut":
        """The best cut on the way to this one that uses no more than a smaller budget; nothing is run again."""
        way = self.path[self.path["parameters"] <= budget]
        if way.empty:
            least = self.path["parameters"].min()
            raise ValueError(f"a budget of {budget} parameters is too small: rank 1 in every layer takes {least}")
        best = way["loss"].idxmin()
        rises = way.loc[1:best]  # row 0 is rank 1 in every layer
        ranks = dict.fromkeys(self.ranks, 1) | dict(zip(rises["layer"], rises["rank"], strict=True))
        return Cut(ranks, int(way["parameters"][best]), float(way["loss"][best]), way)


def ranks_per_layer(
    model: nn.Module,
    adapters: "Adapters",
    data: Any,
    *,
    budget: int,
    batch_size: int = 256,
    collate: Callable[[list[Any]], dict[str, Any]] | None = None,
) -> Cut:
    """One rank per layer within a budget of parameters, with no retraining.

    Every layer is nested, so each can be cut at a rank of its own. All start at rank 1. Then, as long as the budget
    allows, the layer rises by one whose rise lowers the loss the most for its parameters, even if it raises it: what is
    returned is the best cut on the way. The loss is the one that the model itself reports, as transformers' models do.

    Arguments:
        data: labelled examples to choose on, such as a validation part; not those that are reported on.
        budget: the most adapter parameters that may be used; at least those of rank 1.

    Raises `ValueError` for a budget that is too small. The active rank is afterwards what it was.
    """
    import pandas as pd

    sizes = {name: layer.in_features + layer.out_features for name, layer in adapters.layers.items()}
    ranks = dict.fromkeys(sizes, 1)
    used = sum(sizes.values())
    if budget < used:
        raise ValueError(f"a budget of {budget} parameters is too small: rank 1 in every layer takes {used}")

    def loss_at(some: dict[str, int]) -> float:
        with adapters.at(some):
            return _loss(model, data, batch_size, collate)

    loss = loss_at(ranks)
    path: list[tuple[int, str, int, float]] = [(used, "", 1, loss)]
    best = (loss, used, ranks)
    while True:
        rises = [
            name for name, rank in ranks.items() if rank < adapters.layers[name].r and used + sizes[name] <= budget
        ]
        if not rises:
            break
        losses = {name: loss_at(ranks | {name: ranks[name] + 1}) for name in rises}
        chosen = max(rises, key=lambda name: (loss - losses[name]) / sizes[name])
        ranks = ranks | {chosen: ranks[chosen] + 1}
        loss, used = losses[chosen], used + sizes[chosen]
        path.append((used, chosen, ranks[chosen], loss))
        if loss < best[0] or best[0] != best[0]:  # anything is better than no number
            best = (loss, used, ranks)
    frame = pd.DataFrame(path, columns=["parameters", "layer", "rank", "loss"])
    return Cut(best[2], best[1], best[0], frame)


def _loss(model: nn.Module, data: Any, batch_size: int, collate: Callable[[list[Any]], dict[str, Any]] | None) -> float:
    """The mean over examples of the loss that the model reports."""
    from torch.utils.data import DataLoader

    device, total = next(model.parameters()).device, 0.0
    loader: DataLoader[Any] = DataLoader(data, batch_size, collate_fn=collate, generator=torch.Generator())
    with evaluating(model):
        for batch in loader:
            found = model(**{key: value.to(device) for key, value in batch.items()}).loss
            total += float(found) * len(batch["labels"])
    return total / len(data)
