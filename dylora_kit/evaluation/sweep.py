"""Rank sweep: one trained model, evaluated at every rank."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from dylora_kit.core.rank import check_rank
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.evaluation.at_ranks import Forward, KeptOutputs, outputs_of, required_labels, run_at_ranks, run_order
from dylora_kit.evaluation.metrics import Metric
from dylora_kit.evaluation.running import Running, RunningLoss, running
from dylora_kit.training.batches import Batch, Collate, labels_of, own_loss
from dylora_kit.training.counting import Counting
from dylora_kit.training.next_token import Shift

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
    collate: Collate | None = None,
    forward: Forward | None = None,
    shift: bool | None = None,
    progress: bool = True,
) -> "pd.DataFrame":
    """Evaluates a model at several ranks. Nothing is trained, and the rank is afterwards what it was.

    Labels of −100 do not count in a metric by name. `"loss"` is the mean of the model's own loss over the labels that
    count, whatever the batch size, and `"perplexity"` its exponential; over the examples for a transformers model
    `…ForCTC`, and over the answers within their texts for one that answers questions. A loss that is another mean, such
    as one with a weight for each class, is taken for a mean over labels, and so depends on the batch size: for such a
    loss `metric` has to be a function, which sees all logits at once.

    Arguments:
        adapters: the handle on the model's rank.
        eval_data: a map-style dataset of dicts with a `"labels"` entry, such as a `datasets.Dataset` or a list. A
            column `label` is passed on as `labels`.
        metric: a name of `METRICS`, `"loss"` or `"perplexity"`, several names, or a function of the logits (n, …) and
            the labels (n, …) to a number. A name is added up batch by batch, so that one batch of logits is in memory
            at a time; a function gets what `predict` returns, all logits at all ranks.
        ranks: default is 1 to r.
        method, seed: go into the frame as they are, so that frames can be put one under another.
        collate: makes a batch of a list of examples; default stacks each column, whose examples need one length.
        forward: `(model, batch) → outputs (n, …)`, for a model that is called otherwise than `model(**batch)`, or whose
            output has no `logits`. What it returns may also have `logits`, and `loss`.
        shift: whether a metric by name compares the logits at a token with the label of the next one, as causal
            language models need it. By default that is decided by the model's own loss on the first batch with labels
            that count: which of the two cross-entropies it is. If it is neither, or there is no loss, the name of the
            model's class decides: `…ForCausalLM` or `…LMHeadModel`. Models from sequence to sequence, and those for
            masked words or classes of tokens, are not shifted. It is about logits (n, tokens, classes) alone.

    Returns a tidy frame with the columns method, rank, metric, value, seed, and one row per rank and metric. The
    value is NaN where outputs that count are not finite, and where no label counts. Raises `ValueError` for an unknown
    metric, a rank out of range, and data that is empty or does not fit.
    """
    import pandas as pd

    ranks = [check_rank(rank, adapters.r) for rank in (range(1, adapters.r + 1) if ranks is None else ranks)]
    how: dict[str, Any] = {"batch_size": batch_size, "collate": collate, "forward": forward, "progress": progress}
    if callable(metric):
        names = [getattr(metric, "__name__", type(metric).__name__)]
        outputs, labels = predict(model, adapters, eval_data, ranks=ranks, **how)
        values = {
            (names[0], rank): metric(logits, labels) if np.isfinite(logits).all() else float("nan")
            for rank, logits in outputs.items()
        }
    else:
        names = [metric] if isinstance(metric, str) else list(metric)
        if not names:
            raise ValueError("no metric is given: name at least one, such as 'accuracy'")
        sums = _Sums(adapters.model, names, ranks, shift)
        order = run_at_ranks(model, adapters, eval_data, ranks, sums.add, **how)
        values = sums.values(np.argsort(order))
    rows = [(method, rank, name, values[name, rank], seed) for name in names for rank in ranks]
    return pd.DataFrame(rows, columns=["method", "rank", "metric", "value", "seed"])


def predict(
    model: nn.Module,
    adapters: RankHandle,
    data: Any,
    *,
    ranks: Iterable[int],
    batch_size: int = 64,
    collate: Collate | None = None,
    forward: Forward | None = None,
    progress: bool = False,
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The model's logits at each rank, `{rank: (n, …)}`, and the labels (n, …), in the order of the data.

    Arguments: as in `sweep`. With `collate`, texts of about the same length are run together, so that there is little
    padding. Batches of different lengths are padded to the longest: logits with 0, labels with −100 (NaN if they are no
    whole numbers). Nothing is shifted or left out. All logits at all ranks are in memory; `sweep` by a metric's name
    needs those of one batch.
    """
    kept = KeptOutputs(ranks)
    order = run_at_ranks(
        model, adapters, data, list(kept.outputs), kept.add,
        batch_size=batch_size, collate=collate, forward=forward, progress=progress,
    )  # fmt: skip
    return kept.arrays(order)


def sweep_and_predict(
    model: nn.Module,
    adapters: RankHandle,
    data: Any,
    *,
    metric: str,
    first: int,
    ranks: Iterable[int],
    collate: Collate | None = None,
) -> tuple[dict[int, float], dict[int, np.ndarray], np.ndarray]:
    """What `sweep` and `predict` say, from one evaluation: each batch is run once at each rank.

    Arguments: as in `sweep`.
        first: of how many examples the outputs and labels are returned.

    Returns the metric by rank, and the logits by rank, `{rank: (first, …)}`, and the labels (first, …) of the first
    examples.
    """
    ranks, order = list(dict.fromkeys(ranks)), run_order(data, collate)
    sums = _Sums(adapters.model, [metric], ranks, shift=None)
    kept = KeptOutputs(ranks, sorted(order.index(number) for number in range(min(first, len(order)))))

    def add(rank: int, batch: Batch, output: Any) -> None:
        sums.add(rank, batch, output)
        kept.add(rank, batch, output)

    run_at_ranks(model, adapters, data, ranks, add, batch_size=64, collate=collate, forward=None, progress=False)
    values = sums.values(np.argsort(order))
    return {rank: values[metric, rank] for rank in ranks}, *kept.arrays(order)


class _Sums:
    """Metrics by name at several ranks, to which batches are added."""

    def __init__(self, model: nn.Module, names: Sequence[str], ranks: Sequence[int], shift: bool | None) -> None:
        self.shift, self.counting = Shift(model, shift), Counting(model)
        self.metrics: dict[int, dict[str, Running]] = {rank: {name: running(name) for name in names} for rank in ranks}
        kinds = {isinstance(running(name), RunningLoss) for name in names}
        self.of_loss, self.of_outputs = True in kinds, False in kinds

    def add(self, rank: int, batch: Batch, output: Any) -> None:
        otherwise = "return logits and loss from forward=…, or take another metric"
        loss = own_loss(output, batch, otherwise) if self.of_loss else getattr(output, "loss", None)
        labels = required_labels(batch) if self.of_outputs else labels_of(batch)
        outputs = outputs_of(output, batch) if self.of_outputs else getattr(output, "logits", None)
        if labels is not None:
            outputs, labels = self.shift.applied(outputs, labels, loss)
        for metric in self.metrics[rank].values():
            if isinstance(metric, RunningLoss):
                assert loss is not None
                metric.add_loss(*self.counting.mean(loss, batch, labels))
            else:
                assert outputs is not None and labels is not None
                metric.add(outputs, labels)

    def values(self, original: np.ndarray) -> dict[tuple[str, int], float]:
        """Each metric at each rank; `original` as for `Running.value`."""
        return {
            (name, rank): metric.value(original)
            for rank, metrics in self.metrics.items()
            for name, metric in metrics.items()
        }
