"""Rank sweep: one trained model, evaluated at every rank."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dylora_kit.core.modes import evaluating
from dylora_kit.core.rank import RankHandle, check_rank
from dylora_kit.evaluation.metrics import Metric, metric_named
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
        adapters: the handle on the model's rank.
        eval_data: a map-style dataset of dicts with a `"labels"` entry.
        metric: a name of `METRICS`, several of them, or a function of the logits (n, …) and the labels (n, …) to a
            number.
        ranks: default is 1 to r.
        method, seed: go into the frame as they are, so that frames can be put one under another.
        collate: makes a batch of a list of examples; default is torch's.

    Returns a tidy frame with the columns method, rank, metric, value, seed, and one row per rank and metric. The
    value is NaN where the model's outputs are not finite. Raises `ValueError` for an unknown metric, a rank out of
    range, and data that is empty.
    """
    import pandas as pd

    if callable(metric):
        metrics = {getattr(metric, "__name__", type(metric).__name__): metric}
    else:
        names = (metric,) if isinstance(metric, str) else tuple(metric)
        if not names:
            raise ValueError("no metric is given: name at least one, such as 'accuracy'")
        metrics = {name: metric_named(name, ", or a function") for name in names}
    ranks = [check_rank(rank, adapters.r) for rank in (range(1, adapters.r + 1) if ranks is None else ranks)]
    outputs, labels = predict(
        model, adapters, eval_data, ranks=ranks, batch_size=batch_size, collate=collate, progress=progress
    )
    finite = {rank: bool(np.isfinite(outputs[rank]).all()) for rank in ranks}
    rows = [
        (method, rank, name, measure(outputs[rank], labels) if finite[rank] else float("nan"), seed)
        for name, measure in metrics.items()
        for rank in ranks
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

    Arguments: as in `sweep`. With `collate`, texts of about the same length are run together, so that there is little
    padding.
    """
    from torch.utils.data import DataLoader

    adapters.check_usable(model)
    check_not_empty(data, "evaluate")
    ranks = list(dict.fromkeys(ranks))
    device = next(model.parameters()).device
    outputs: dict[int, list[Tensor]] = {rank: [] for rank in ranks}
    labels: list[Tensor] = []
    order = list(range(len(data)))
    if collate:
        order.sort(key=token_counts(data).__getitem__)
    loader: DataLoader[Any] = DataLoader(
        data, batch_size, sampler=order, collate_fn=collate, generator=torch.Generator()
    )
    with (
        evaluating(model),
        progress_bar(len(loader) * len(ranks), "rank sweep", show=progress) as bar,
    ):
        for batch in loader:
            labels.append(batch["labels"])
            inputs = {key: value.to(device) for key, value in batch.items()}
            for rank in ranks:
                bar.set_postfix(rank=rank)
                with adapters.at(rank):
                    outputs[rank].append(model(**inputs).logits.float().cpu())
                bar.update()
    original = torch.tensor(order).argsort()  # where each example of the data is in the order it was run in
    logits = {rank: torch.cat(parts)[original].numpy() for rank, parts in outputs.items()}
    return logits, torch.cat(labels)[original].numpy()


def check_not_empty(data: Any, purpose: str) -> None:
    """Raises `ValueError` for data without examples; the purpose is a verb, such as `"evaluate"`."""
    if len(data) == 0:
        raise ValueError(f"the data is empty: there is nothing to {purpose}")


def token_counts(data: Any) -> list[int]:
    """How many tokens each example has; 0 where the data has no texts.

    >>> token_counts([{"input_ids": [5, 6, 7]}, {"input_ids": [5]}])
    [3, 1]
    """
    if len(data) == 0 or "input_ids" not in data[0]:
        return [0] * len(data)
    columns = getattr(data, "column_names", ())  # of a datasets.Dataset, whose rows are slow to read
    texts = data["input_ids"] if "input_ids" in columns else (data[index]["input_ids"] for index in range(len(data)))
    return [len(tokens) for tokens in texts]
