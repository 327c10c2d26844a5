"""MatryoshkaLoRA: every step trains all rows, through a fixed diagonal between the two matrices."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType

import torch
from torch import Tensor, nn

from dylora_kit.core.handle import Adapters
from dylora_kit.core.layer import DyLoRALinear
from dylora_kit.core.low_rank import LowRankAdapter
from dylora_kit.core.low_rank_product import PlainProduct
from dylora_kit.core.rank import check_rank


def start_as_published(adapters: Adapters, seed: int = 0) -> None:
    """Draws each `lora_A` anew, uniformly between −1/√r and 1/√r, in place.

    The published code draws a matrix of shape (d_in, r) by Kaiming's rule, which takes r for the number of inputs, so
    that the bound is not 1/√d_in.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in adapters.layers.values():
        with torch.no_grad():
            start = torch.empty(layer.lora_A.shape).uniform_(-(layer.r**-0.5), layer.r**-0.5, generator=generator)
            layer.lora_A.copy_(start)


def diagonal(layer: LowRankAdapter, ranks: Sequence[int]) -> Tensor:
    """P, shape (r,): Pᵢ is the sum of the scales s(k) of the training ranks k ≥ i.

    So B·P·A is the sum of s(k)·B[:, :k]·A[:k] over the training ranks.

    >>> layer = DyLoRALinear(nn.Linear(6, 5), r=4, lora_alpha=1)
    >>> diagonal(layer, [1, 2, 4])  # s(k) = 1/k
    tensor([1.7500, 0.7500, 0.2500, 0.2500])
    """
    return torch.tensor([sum(layer.scale(k) for k in ranks if k >= row) for row in range(1, layer.r + 1)])


@contextmanager
def all_ranks_summed(adapters: Adapters, ranks: Sequence[int]) -> Iterator[None]:
    """A block in which every layer computes the sum over training ranks, base(x) + Σ s(k)·B[:, :k]·A[:k]·x, as one.

    The rank is not looked at, and s(k) is the layer's scale at rank k: with `lora_alpha=1`, 1/k under `"alpha/b"` and
    1/√k under `"alpha/sqrt(b)"`. After the block a layer computes s(b)·B[:, :b]·A[:b] again, which is what is published
    for inference.

    Arguments:
        ranks: the training ranks, such as `[1, 2, 4, 8]`.

    Raises `ValueError` for ranks out of range or named twice, and for adapters that are not those of plain linear
    layers without dropout.

    Source: Modoranu, Safaryan and Alistarh, arXiv 2605.07850.

    >>> from dylora_kit.core.adapters import attach
    >>> adapters = attach(nn.Sequential(nn.Linear(6, 5)), r=4, lora_alpha=1, target_modules=["0"])
    >>> with all_ranks_summed(adapters, [1, 2, 4]):
    ...     adapters.model(torch.randn(3, 6)).shape
    torch.Size([3, 5])
    """
    ranks = [check_rank(rank, adapters.r) for rank in ranks]
    if not ranks or len(set(ranks)) < len(ranks):
        raise ValueError(f"the training ranks must be named once each, and at least one of them: got {ranks}")
    for name, layer in adapters.layers.items():
        if type(layer) is not DyLoRALinear or type(layer.base_layer) is not nn.Linear or layer.lora_dropout:
            raise ValueError(f"{name!r} is no plain linear layer without dropout: adapt others for MatryoshkaLoRA")

    def summed(layer: DyLoRALinear, x: Tensor) -> Tensor:
        scaled = diagonal(layer, ranks).to(layer.lora_A)[:, None] * layer.lora_A  # (r, 1) · (r, d_in) → (r, d_in)
        return PlainProduct.apply(x, layer.weight, layer.bias, scaled, layer.lora_B, layer.r, False, 1.0)

    for layer in adapters.layers.values():
        layer.forward = MethodType(summed, layer)
    try:
        yield
    finally:
        for layer in adapters.layers.values():
            layer.__dict__.pop("forward", None)


@torch.no_grad()
def keep_diagonal(adapters: Adapters, ranks: Sequence[int]) -> None:
    """Puts P into `lora_B`, in place: at rank b a layer then computes B[:, :b]·P[:b]·A[:b], at r what was trained.

    The scaling becomes `"alpha/r"`, since P holds the scales already.
    """
    diagonals = {name: diagonal(layer, ranks) for name, layer in adapters.layers.items()}
    adapters.scaling = "alpha/r"
    for name, layer in adapters.layers.items():
        layer.lora_B.mul_((diagonals[name] / layer.scale(layer.r)).to(layer.lora_B))  # (d_out, r) · (r,) → (d_out, r)
