"""Rank sweep: one trained model, evaluated at every rank."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dylora_kit.core.modes import evaluating
from dylora_kit.core.rank import RankHandle, check_rank
from dylora_kit.evaluation.metrics import IGNORED, Metric
from dylora_kit.evaluation.running import Running, RunningLoss, running
from dylora_kit.progress import progress_bar
from dylora_kit.training.batches import Batch, Collate, call, check_data, labels_of, on_device, own_loss, stacked
from dylora_kit.training.counting import Counting
from dylora_kit.training.next_token import Shift
from dylora_kit.training.objectives import size_of

if TYPE_CHECKING:
    import pandas as pd

Forward = Callable[[nn.Module, Batch], Any]
FORWARD = "pass forward=…, a function (model, batch) → outputs (n, …)"


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
        order = _run(model, adapters, eval_data, ranks, sums.add, **how)
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
    kept = _Kept(ranks)
    order = _run(
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
    ranks, order = list(dict.fromkeys(ranks)), _order(data, collate)
    sums = _Sums(adapters.model, [metric], ranks, shift=None)
    kept = _Kept(ranks, sorted(order.index(number) for number in range(min(first, len(order)))))

    def add(rank: int, batch: Batch, output: Any) -> None:
        sums.add(rank, batch, output)
        kept.add(rank, batch, output)

    _run(model, adapters, data, ranks, add, batch_size=64, collate=collate, forward=None, progress=False)
    values = sums.values(np.argsort(order))
    return {rank: values[metric, rank] for rank in ranks}, *kept.arrays(order)


class _Kept:
    """The outputs for examples at several ranks, and their labels.

    Arguments:
        wanted: the places of the examples in the order in which they are run, the first place first; default is all.
    """

    def __init__(self, ranks: Iterable[int], wanted: Sequence[int] | None = None) -> None:
        self.outputs: dict[int, list[Tensor]] = {rank: [] for rank in ranks}
        self.labels: list[Tensor] = []
        self._wanted, self._seen = wanted, 0
        self._rows: slice | list[int] = slice(None)  # those of the present batch

    def add(self, rank: int, batch: Batch, output: Any) -> None:
        if rank == next(iter(self.outputs)):
            labels = _required_labels(batch)
            if self._wanted is not None:
                self._rows = [place - self._seen for place in self._wanted if 0 <= place - self._seen < len(labels)]
            self._seen += len(labels)
            if self._rows:
                self.labels.append(labels[self._rows].cpu())
        outputs = _outputs_of(output, batch)
        if self._rows:
            self.outputs[rank].append(outputs[self._rows].float().cpu())

    def arrays(self, order: Sequence[int]) -> tuple[dict[int, np.ndarray], np.ndarray]:
        """Outputs by rank and labels, in the order of the data; `order` is that in which it was run."""
        run = list(order) if self._wanted is None else [order[place] for place in self._wanted]
        original = torch.tensor(run).argsort()  # where each example of the data is in the order it was run in
        fill = float("nan") if self.labels[0].is_floating_point() else IGNORED
        outputs = {rank: _joined(parts, 0.0)[original].numpy() for rank, parts in self.outputs.items()}
        return outputs, _joined(self.labels, fill)[original].numpy()


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
        labels = _required_labels(batch) if self.of_outputs else labels_of(batch)
        outputs = _outputs_of(output, batch) if self.of_outputs else getattr(output, "logits", None)
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


def _run(
    model: nn.Module,
    adapters: RankHandle,
    data: Any,
    ranks: Sequence[int],
    take: Callable[[int, Batch, Any], None],
    *,
    batch_size: int,
    collate: Collate | None,
    forward: Forward | None,
    progress: bool,
) -> list[int]:
    """Runs each batch at each rank, and hands rank, batch and output on; returns the order of the examples."""
    from torch.utils.data import DataLoader

    adapters.check_usable(model)
    check_data(data, "the data is empty: there is nothing to evaluate")
    ranks = list(dict.fromkeys(ranks))
    device = next(model.parameters()).device
    order = _order(data, collate)
    loader: DataLoader[Any] = DataLoader(
        data, batch_size, sampler=order, collate_fn=collate or stacked, generator=torch.Generator()
    )
    with (
        evaluating(model),
        progress_bar(len(loader) * len(ranks), "rank sweep", show=progress) as bar,
    ):
        for examples in loader:
            batch = on_device(examples, device)
            for rank in ranks:
                bar.set_postfix(rank=rank)
                with adapters.at(rank):  # the output has no name here, so that it is gone before the next forward pass
                    take(rank, batch, forward(model, dict(batch)) if forward else call(model, batch, FORWARD))
                bar.update()
    return order


def _order(data: Any, collate: Collate | None) -> list[int]:
    """The order in which examples are run: that of their lengths, where batches are padded."""
    order = list(range(len(data)))
    if collate:
        order.sort(key=token_counts(data).__getitem__)
    return order


def _required_labels(batch: Batch) -> Tensor:
    labels = labels_of(batch)
    if labels is None:
        raise ValueError(
            f"the data has no 'labels', only {', '.join(map(repr, batch))}: call the column with the answers 'labels'"
        )
    return labels


def _outputs_of(output: Any, batch: Batch) -> Tensor:
    """The logits in a model's output (n, …), or the output itself if it is a tensor with one entry per example."""
    outputs = getattr(output, "logits", output)
    if not isinstance(outputs, Tensor) or outputs.dim() == 0:
        raise ValueError(f"the model's output has no logits (it is a {type(output).__name__}): {FORWARD}")
    if len(outputs) != (n := size_of(batch)):
        raise ValueError(f"the model gives {len(outputs)} outputs for a batch of {n} examples: {FORWARD}")
    return outputs


def _joined(parts: list[Tensor], fill: float) -> Tensor:
    """Batches one after another, (n, …), those with shorter examples filled up to the longest."""
    if len({part.dim() for part in parts}) > 1:
        raise ValueError(f"batches differ in more than their lengths: {tuple(parts[0].shape)} and others")
    longest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    filled = []
    for part in parts:
        if list(part.shape[1:]) != longest:
            whole = part.new_full((len(part), *longest), fill)
            whole[tuple(slice(size) for size in part.shape)] = part
            part = whole
        filled.append(part)
    return torch.cat(filled)


def token_counts(data: Any) -> list[int]:
    """How many tokens each example has; 0 where the data has no texts.

    >>> token_counts([{"input_ids": [5, 6, 7]}, {"input_ids": [5]}])
    [3, 1]
    """
    if len(data) == 0 or not isinstance(data[0], Mapping) or "input_ids" not in data[0]:
        return [0] * len(data)
    columns = getattr(data, "column_names", ())  # of a datasets.Dataset, whose rows are slow to read
    texts = data["input_ids"] if "input_ids" in columns else (data[index]["input_ids"] for index in range(len(data)))
    return [len(tokens) for tokens in texts]
