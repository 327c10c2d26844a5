"""A training step of the user's own: what it is given, and what is noted of it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dylora_kit.core.rank import Rank
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.training.batches import Batch
from dylora_kit.training.sampling import RankSampler

# (adapters, sampler, optimizer, loss, batch): it draws, sets the rank, and moves the weights; loss(batch) is a scalar
OwnStep = Callable[[RankHandle, RankSampler, torch.optim.Optimizer, Callable[[Batch], Tensor], Batch], object]


def check_own_step(step: OwnStep | None, **others: Any) -> None:
    """Raises `ValueError` for a step that is no function, and for settings that only the kit's own step looks at.

    Arguments:
        others: those settings by name, each None or False where it is as by default.
    """
    if step is None:
        return
    if not callable(step):
        raise ValueError(f"step=… must be a function (adapters, sampler, optimizer, loss, batch): got {step!r}")
    ignored = [name for name, value in others.items() if value]
    if ignored:
        raise ValueError(f"{ignored[0]}=… is for the kit's own step, and a step of yours does not look at it: "
                         "do it in your step, or leave it out")  # fmt: skip


def take(
    step: OwnStep,
    adapters: RankHandle,
    sampler: RankSampler,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Batch], Tensor],
    batch: Batch,
) -> tuple[Rank, float]:
    """Takes one step; returns the rank and the value of its last loss. Raises `ValueError` if it computed none."""
    seen: list[tuple[Rank, float]] = []

    def noted(part: Batch) -> Tensor:
        value = loss(part)
        seen.append((adapters.rank, value.item()))
        return value

    step(adapters, sampler, optimizer, noted, batch)
    if not seen:
        raise ValueError("your step computed no loss: call loss(batch), and backward() of what it returns")
    return seen[-1]
