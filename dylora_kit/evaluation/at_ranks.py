"""A model run over data at several ranks, and what is kept of its outputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dylora_kit.core.modes import evaluating
from dylora_kit.core.offload import input_device
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.progress import progress_bar
from dylora_kit.training.batches import IGNORED, Batch, Collate, call, check_data, labels_of, on_device, stacked
from dylora_kit.training.objectives import size_of

Forward = Callable[[nn.Module, Batch], Any]
FORWARD = "pass forward=…, a function (model, batch) → outputs (n, …)"


def run_at_ranks(
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
    ranks = list(dict.fromkeys(ranks))
    device = input_device(model)
    order = run_order(data, collate)
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


def run_order(data: Any, collate: Collate | None) -> list[int]:
    """The order in which examples are run: that of their lengths, where batches are padded."""
    check_data(data, "the data is empty: there is nothing to evaluate")
    order = list(range(len(data)))
    if collate:
        order.sort(key=token_counts(data).__getitem__)
    return order


class KeptOutputs:
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
            labels = required_labels(batch)
            if self._wanted is not None:
                self._rows = [place - self._seen for place in self._wanted if 0 <= place - self._seen < len(labels)]
            self._seen += len(labels)
            if self._rows:
                self.labels.append(labels[self._rows].cpu())
        outputs = outputs_of(output, batch)
        if self._rows:
            self.outputs[rank].append(outputs[self._rows].float().cpu())

    def arrays(self, order: Sequence[int]) -> tuple[dict[int, np.ndarray], np.ndarray]:
        """Outputs by rank and labels, in the order of the data; `order` is that in which it was run."""
        run = list(order) if self._wanted is None else [order[place] for place in self._wanted]
        original = torch.tensor(run).argsort()  # where each example of the data is in the order it was run in
        fill = float("nan") if self.labels[0].is_floating_point() else IGNORED
        outputs = {rank: _joined(parts, 0.0)[original].numpy() for rank, parts in self.outputs.items()}
        return outputs, _joined(self.labels, fill)[original].numpy()


def required_labels(batch: Batch) -> Tensor:
    labels = labels_of(batch)
    if labels is None:
        raise ValueError(
            f"the data has no 'labels', only {', '.join(map(repr, batch))}: call the column with the answers 'labels'"
        )
    return labels


def outputs_of(output: Any, batch: Batch) -> Tensor:
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
