"""In-place distillation: rank r learns from the labels, and in the same step the ranks below learn what r answers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.core.rank import Rank
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.training.batches import Batch, call, own_loss
from dylora_kit.training.objectives import sandwich_loss
from dylora_kit.training.sampling import RankSampler

OTHERWISE = "in-place distillation is for models that give logits (n, classes) and a loss"


def sandwich_from_the_top(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
    """The terms of `sandwich_loss`, the highest rank first, so that the others can learn from it.

    >>> from dylora_kit.training.sampling import Uniform
    >>> [rank for _, rank in sandwich_from_the_top(3, RankSampler(Uniform(1, 8), seed=0), batch_size=32)]
    [8, 3, 1]
    """
    return sandwich_loss(b, sampler, batch_size)[::-1]


class InPlaceDistillation:
    """A loss for `train`, with an objective whose first rank is r, such as `sandwich_from_the_top`.

    At rank r it is the model's own loss. At the ranks after it, on the same batch, it is the mean divergence
    KL(answers ‖ outputs) from what rank r answered; no gradient flows into the answers.

    Arguments:
        adapters: the handle on the rank of a classifier, whose output has logits (n, classes) and a loss.

    Source: Yu and Huang, arXiv 1903.05134.
    """

    def __init__(self, adapters: RankHandle) -> None:
        self.adapters = adapters
        self._batch, self._answers = Batch(), torch.empty(0)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch at the present rank.

        Raises `ValueError` if rank r did not run on this batch before, or if there are no logits (n, classes).
        """
        output = call(model, batch, OTHERWISE)
        logits = getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[-1] < 2:
            raise ValueError(f"{OTHERWISE}: got {'none' if logits is None else tuple(logits.shape)}")
        if self.adapters.rank == self.adapters.r:
            self._batch, self._answers = batch, logits.detach().log_softmax(-1)  # (n, classes)
            return own_loss(output, batch, OTHERWISE)
        if batch is not self._batch:
            raise ValueError("rank r has not answered this batch: take an objective whose first rank is r")
        return F.kl_div(logits.log_softmax(-1), self._answers, reduction="batchmean", log_target=True)
