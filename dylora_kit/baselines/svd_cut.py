"""The closest cut of a LoRA that was trained at one rank: a singular value decomposition of each ΔW; and a new head."""

import copy
from typing import Any

import torch
from torch import nn

from dylora_kit.core.handle import Adapters
from dylora_kit.training.batches import Collate
from dylora_kit.training.loop import train
from dylora_kit.training.sampling import Fixed, RankSampler


def svd_cut(adapters: Adapters) -> tuple[nn.Module, Adapters]:
    """A copy of an adapted model in which every prefix is the closest cut.

    ΔW at rank b is the singular value decomposition of ΔW at rank r, cut to b. By the Eckart-Young theorem no matrix
    of rank b is closer to ΔW; what is closest need not be best for the task. At rank r the copy does what the original
    does. Its scaling is `"alpha/r"`, since a singular value must not grow when others are cut away. `adapters.order()`
    does the same to the adapters themselves.

    Returns the copied model, its frozen weights included, and its handle. The original is not touched. Raises
    `ValueError` while merged, and for an adapter that is not finite.

    >>> from dylora_kit.core.adapters import attach
    >>> adapters = attach(nn.Sequential(nn.Linear(6, 5)), r=3, target_modules=["0"])
    >>> model, cut = svd_cut(adapters)
    >>> cut.rank = 1
    """
    adapters.check_usable()
    adapters.check_unmerged("cutting")
    model, cut = copy.deepcopy((adapters.model, adapters))
    cut.order()
    return model, cut


def refit_head(
    adapters: Adapters,
    train_data: Any,
    *,
    rank: int,
    steps: int = 500,
    lr: float = 4e-3,
    batch_size: int = 32,
    seed: int = 0,
    collate: Collate | None = None,
) -> tuple[nn.Module, Adapters]:
    """A copy of an adapted model whose `modules_to_save` alone are trained on, at one rank.

    A head that was trained on what the adapters give at rank r need not fit what a cut of them gives.

    Arguments:
        train_data, steps, batch_size, seed, collate: as in `train`; the optimizer is Adam.
        lr: its learning rate. Try several on validation data: at rank 1 the head is far from its start, and on turned
            digits 0.1 is right there, and 0.004 from rank 4 on.
        rank: at which the head is trained.

    Returns the copied model and its handle, at that rank. The original is not touched. Raises `ValueError` if there is
    no head, that is, the adapters were attached without `modules_to_save`.
    """
    if not adapters.saved_modules:
        raise ValueError("there is no head to refit: these adapters were attached without modules_to_save")
    model, copied = copy.deepcopy((adapters.model, adapters))
    for parameter in copied.nested_parameters():
        parameter.requires_grad_(False)
    head = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sampler = RankSampler(Fixed(rank), seed=seed)
    optimizer = torch.optim.Adam(head, lr=lr)
    train(model, copied, train_data, sampler=sampler, optimizer=optimizer, steps=steps, batch_size=batch_size,
          seed=seed, collate=collate, progress=False)  # fmt: skip
    copied.rank = rank
    return model, copied
