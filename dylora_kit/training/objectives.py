"""What a training step minimises, as the ranks at which a batch is run and the weight of each loss.

An objective is a function `(b, sampler, batch_size) -> [(weight, rank), …]`, where b is the rank drawn for this
optimizer step. The loss is Σ weight · L(batch at rank). The training loop runs the terms one after another and
backpropagates each at its own rank, so the memory is that of one forward pass and a recomputed forward (gradient
checkpointing) sees the rank it had. A rank may be a tensor with one rank per example; with k times as many, the batch
is run k times over, as one. A weight may be a tensor with one weight per example, for a loss with one value for each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dylora_kit.core.rank import Rank
from dylora_kit.training.sampling import RankSampler

Objective = Callable[[int, RankSampler, int], Sequence[tuple[float | Tensor, Rank]]]


def individual_loss(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
    """The paper's loss, Eq. 9: the whole batch at the one rank b that was drawn for this step.

    >>> from dylora_kit.training.sampling import Uniform
    >>> individual_loss(3, RankSampler(Uniform(1, 8), seed=0), batch_size=32)
    [(1.0, 3)]
    """
    return [(1.0, b)]


def summation_loss(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
    """Nested dropout's loss, Eq. 2: Σ p_B(b) · L(batch at rank b) over every rank; ignores the draw.

    >>> from dylora_kit.training.sampling import Uniform
    >>> summation_loss(3, RankSampler(Uniform(1, 2), seed=0), batch_size=32)
    [(0.5, 1), (0.5, 2)]
    """
    return [(p, rank) for rank, p in sampler.distribution.probabilities.items()]


def summation_in_one(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float | Tensor, Rank]]:
    """The summation loss as one batch: every example once at every rank. One forward pass, with its memory.

    The gradients are those of `summation_loss` if an example's output does not depend on the others of its batch. If
    the ranks are not equally probable, `train` needs a loss with one value per example.

    >>> from dylora_kit.training.sampling import Uniform
    >>> summation_in_one(3, RankSampler(Uniform(1, 2), seed=0), batch_size=3)
    [(1.0, tensor([1, 1, 1, 2, 2, 2]))]
    """
    probabilities = sampler.distribution.probabilities
    ranks = torch.tensor(list(probabilities)).repeat_interleave(batch_size)
    weights = torch.tensor(list(probabilities.values())).repeat_interleave(batch_size) / batch_size
    return [(1.0 if torch.allclose(weights, weights[0]) else weights, ranks)]


def mixed_loss(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
    """Nested dropout's original scheme (Rippel et al. 2014): each example of the batch at a rank of its own.

    >>> from dylora_kit.training.sampling import Uniform
    >>> [(weight, ranks)] = mixed_loss(3, RankSampler(Uniform(1, 8), seed=0), batch_size=4)
    >>> weight, ranks.shape
    (1.0, torch.Size([4]))
    """
    return [(1.0, sampler.draw_many(batch_size))]


def stratified_loss(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
    """`mixed_loss` without chance in how often a rank stands in the batch: each has its share, as p_B says.

    So every step trains every rank, if there are as many examples, in one pass over the batch.

    >>> from dylora_kit.training.sampling import Uniform
    >>> [(weight, ranks)] = stratified_loss(3, RankSampler(Uniform(1, 2), seed=0), batch_size=6)
    >>> weight, ranks
    (1.0, tensor([1, 1, 1, 2, 2, 2]))
    """
    return [(1.0, sampler.draw_evenly(batch_size))]


def sandwich_loss(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
    """The batch at the lowest rank, at b and at the highest rank, a third each (Yu and Huang, arXiv 1903.05134).

    >>> from dylora_kit.training.sampling import Uniform
    >>> sandwich_loss(3, RankSampler(Uniform(1, 8), seed=0), batch_size=32)
    [(0.3333333333333333, 1), (0.3333333333333333, 3), (0.3333333333333333, 8)]
    """
    ranks = (sampler.distribution.lo, b, sampler.distribution.hi)
    return [(ranks.count(rank) / 3, rank) for rank in dict.fromkeys(ranks)]


def size_of(batch: Mapping[str, Any]) -> int:
    """How many examples a batch has: the length of its first column that has one.

    >>> size_of({"labels": torch.tensor([0, 1])}), size_of({"return_loss": True, "text": ["a", "b", "c"]})
    (2, 3)
    """
    lengths = (len(value) for value in batch.values() if _has_length(value))
    size = next(lengths, None)
    if size is None:
        raise ValueError("a batch has no column with one entry per example: collate=… must give a dict of tensors")
    return size


def repeated(batch: dict[str, Any], rank: Rank) -> dict[str, Any]:
    """The batch k times over if there are k ranks for each of its examples; else the batch as it is.

    >>> repeated({"labels": torch.tensor([0, 1]), "text": ["a", "b"]}, torch.tensor([1, 1, 2, 2]))
    {'labels': tensor([0, 1, 0, 1]), 'text': ['a', 'b', 'a', 'b']}
    """
    n = size_of(batch)
    if not isinstance(rank, Tensor) or rank.dim() != 1 or len(rank) == n or len(rank) % n:
        return batch  # if the length does not fit, the layers raise
    times = len(rank) // n
    return {
        name: _times(value, times) if _has_length(value) and len(value) == n else value for name, value in batch.items()
    }


def _has_length(value: Any) -> bool:
    return value.dim() > 0 if isinstance(value, Tensor) else isinstance(value, list | tuple)


def _times(value: Any, times: int) -> Any:
    return torch.cat([value] * times) if isinstance(value, Tensor) else list(value) * times


def weighted(loss: Tensor, weight: float | Tensor) -> Tensor:
    """A term's loss times its weight, as one number: Σ weight · loss over the examples, or weight · mean of the loss.

    Raises `ValueError` for one weight per example where the loss is not one value per example.

    >>> weighted(torch.tensor([1.0, 3.0]), 0.5), weighted(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.0]))
    (tensor(1.), tensor(0.5000))
    """
    if not isinstance(weight, Tensor) or weight.dim() == 0:
        return weight * loss.mean()
    if loss.shape != weight.shape:
        raise ValueError(
            f"this objective weighs {len(weight)} examples one by one, but the loss has shape {tuple(loss.shape)}: "
            "pass a loss that gives one value per example"
        )
    return (weight.to(loss) * loss).sum()
