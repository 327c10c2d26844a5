"""Rank sweep: one trained model, evaluated at every rank."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dylora_kit.core.modes import evaluating
from dylora_kit.core.rank import RankHandle, check_rank
from dylora_kit.evaluation.metrics import METRICS, Metric
from dylora_kit.progress import progress_bar

if TYPE_CHECKING:
    import pandas as pd


def sweep(
    model: nn.Module,
    adapters: RankHandle,
    eval_data: Any,
    *,
    metric: str | Sequence[str] | Metric = "accuracy",
    ranks: Iterable[int] | None = None,
    method: str = "DyLoRA",
    seed: int | None = None,
    batch_size: int = 64,
    collate: Callable[[list[Any]], dict[str, Any]] | None = None,
    progress: bool = True,
) -> "pd.DataFrame":
    """Evaluates a model at several ranks. Nothing is trained, and the rank is afterwards what it was.

    Arguments:
        eval_data: a map-style dataset of dicts with a `"labels"` entry.
        metric: a name of `METRICS`, several of them, or a function of the logits (n, …) and the labels (n, …) to a
            number.
        ranks: default is 1 to r.
        method, seed: go into the frame as they are, so that frames can be put one under another.
        collate: makes a batch of a list of examples; default is torch's.

    Returns a tidy frame with the columns method, rank, metric, value, seed, and one row per rank and metric. The
    value is NaN where the model's answers are not finite.
    """
    import pandas as pd

    if callable(metric):
        measures = {getattr(metric, "__name__", type(metric).__name__): metric}
    else:
        names = (metric,) if isinstance(metric, str) else tuple(metric)
        if not names:
            raise ValueError("no metric is given: name at least one, such as 'accuracy'")
        unknown = [name for name in names if name not in METRICS]
        if unknown:
            known = ", ".join(map(repr, METRICS))
            raise ValueError(f"unknown metric {unknown[0]!r}: expected one of {known}, or a function")
        measures = {name: METRICS[name] for name in names}
    wanted = [check_rank(rank, adapters.r) for rank in (range(1, adapters.r + 1) if ranks is None else ranks)]
    outputs, labels = predict(
        model, adapters, eval_data, ranks=wanted, batch_size=batch_size, collate=collate, progress=progress
    )
    finite = {rank: bool(np.isfinite(outputs[rank]).all()) for rank in wanted}
    rows = [
        (method, rank, name, measure(outputs[rank], labels) if finite[rank] else float("nan"), seed)
        for name, measure in measures.items()
        for rank in wanted
    ]
    return pd.DataFrame(rows, columns=["method", "rank", "metric", "value", "seed"])


def predict(
    model: nn.Module,
    adapters: RankHandle,
    data: Any,
    *,
    ranks: Iterable[int],
    batch_size: int = 64,
    collate: Callable[[list[Any]], dict[str, Any]] | None = None,
    progress: bool = False,
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The model's logits at each rank, `{rank: (n, …)}`, and the labels (n, …), in the order of the data.

    Texts of about the same length are run together, so that little is padding.
    """
    from torch.utils.data import DataLoader

    adapters.check_usable(model)
    if len(data) == 0:
        raise ValueError("the data is empty: there is nothing to evaluate")
    wanted = list(dict.fromkeys(ranks))
    device = next(model.parameters()).device
    outputs: dict[int, list[Tensor]] = {rank: [] for rank in wanted}
    labels: list[Tensor] = []
    order = list(range(len(data)))
    if collate:
        order.sort(key=token_counts(data).__getitem__)
    loader: DataLoader[Any] = DataLoader(
        data, batch_size, sampler=order, collate_fn=collate, generator=torch.Generator()
    )
    with (
        evaluating(model),
        progress_bar(len(loader) * len(wanted), "rank sweep", show=progress) as bar,
    ):
        for batch in loader:
            labels.append(batch["labels"])
            inputs = {key: value.to(device) for key, value in batch.items()}
            for rank in wanted:
                bar.set_postfix(rank=rank)
                with adapters.at(rank):
                    outputs[rank].append(model(**inputs).logits.float().cpu())
                bar.update()
    back = torch.tensor(order).argsort()
    return {rank: torch.cat(parts)[back].numpy() for rank, parts in outputs.items()}, torch.cat(labels)[back].numpy()


def token_counts(data: Any) -> list[int]:
    """How many tokens each example has; 0 where the data has no texts.

    >>> token_counts([{"input_ids": [5, 6, 7]}, {"input_ids": [5]}])
    [3, 1]
    """
    if len(data) == 0 or "input_ids" not in data[0]:
        return [0] * len(data)
    columns = getattr(data, "column_names", ())  # of a datasets.Dataset, whose rows are slow to read
    ids = data["input_ids"] if "input_ids" in columns else (data[index]["input_ids"] for index in range(len(data)))
    return [len(one) for one in ids]
