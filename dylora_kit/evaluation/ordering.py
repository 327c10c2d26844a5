"""Singular-value ordering: how much of a trained ΔW its first b rows and columns span."""

import itertools
import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dylora_kit.core.handle import Adapters
from dylora_kit.core.low_rank import LowRankAdapter

if TYPE_CHECKING:
    import pandas as pd

CHOICES = 100  # of b rows, which are drawn where there are more

Factors = tuple[Tensor, Tensor, Tensor]  # see _factors


@torch.no_grad()
def ordering(adapters: Adapters, *, method: str = "DyLoRA") -> "pd.DataFrame":
    """For each layer and rank b: the energy of ΔW that the prefix b spans, beside the best and the average choice.

    The energy of a matrix is the sum of its squared singular values. A prefix spans the part of ΔW (at rank r) that
    lies in the column space of `lora_B[:, :b]` and the row space of `lora_A[:b]`; sizes and scale do not matter.

    - captured: the share of the energy that the prefix spans, 0 to 1;
    - best: the share that the b largest singular values hold, which no rank b exceeds (Eckart-Young);
    - any_order: the average share over every choice of b rows, which is what a prefix spans if rows have no order;
    - score: captured / best. 1 means that the prefix spans directions as good as the best ones. It does not say how
      good the prefix itself is, which has sizes and a scale of its own: the accuracy says that.

    Arguments:
        method: goes into the frame as it is, so that frames can be put one under another.

    Returns a tidy frame with the columns method, layer, rank, captured, best, any_order, score.
    A layer whose ΔW is zero is left out: it has no directions yet. Raises `ValueError` for one that is not finite.

    >>> from torch import nn
    >>> from dylora_kit.core.adapters import attach
    >>> adapters = attach(nn.Sequential(nn.Linear(6, 5)), r=2, target_modules=["0"])
    >>> _ = nn.init.normal_(adapters.layers["0"].lora_B)
    >>> ordering(adapters)["score"].iloc[-1].round(6)
    np.float64(1.0)
    """
    import pandas as pd

    adapters.check_usable()
    rows = []
    for name, layer in adapters.layers.items():
        factors = _factors(layer)
        if factors is None:
            continue
        for b, best in enumerate(_best(factors), start=1):
            captured = _captured(factors, torch.arange(b)[None]).item()
            average = _captured(factors, _choices(layer.r, b)).mean().item()
            rows.append((method, name, b, captured, best, average, captured / best))
    return pd.DataFrame(rows, columns=["method", "layer", "rank", "captured", "best", "any_order", "score"])


@torch.no_grad()
def scores(adapters: Adapters) -> dict[str, list[float]]:
    """The score of `ordering` alone: by layer, at the ranks 1 … r; zeros where ΔW is zero."""
    by_layer: dict[str, list[float]] = {}
    for name, layer in adapters.layers.items():
        factors = _factors(layer)
        if factors is None:
            by_layer[name] = [0.0] * layer.r
            continue
        best = _best(factors)
        captured = [_captured(factors, torch.arange(b)[None]).item() for b in range(1, len(best) + 1)]
        by_layer[name] = [share / limit for share, limit in zip(captured, best, strict=True)]
    return by_layer


def _factors(layer: LowRankAdapter) -> Factors | None:
    """Rᴮ (r, r), Rᴬ (r, r) and M = Rᴮ·Rᴬᵀ; None if B·A is zero.

    With B = Qᴮ·Rᴮ and Aᵀ = Qᴬ·Rᴬ, B·A is Qᴮ·M·Qᴬᵀ: M has the same singular values and angles, and is small.
    """
    layer.check_product("an ordering of its rows")
    layer.check_finite("it has no ordering")
    A, B = layer.lora_A.detach().cpu().double(), layer.lora_B.detach().cpu().double()
    right, left = torch.linalg.qr(A.T)[1], torch.linalg.qr(B)[1]  # (d_in, r) → (r, r), (d_out, r) → (r, r)
    product = left @ right.T  # (r, r) · (r, r) → (r, r)
    return (left, right, product) if product.square().sum() > 0 else None


def _captured(factors: Factors, choices: Tensor) -> Tensor:
    """The share of energy that each choice of b rows spans: choices (n, b) → (n,)."""
    left, right, product = factors
    inside = _basis(left, choices).mT @ product @ _basis(right, choices)  # (n, b, r) · (r, r) · (n, r, b) → (n, b, b)
    return inside.square().sum((1, 2)) / product.square().sum()


def _basis(columns: Tensor, choices: Tensor) -> Tensor:
    """Orthonormal vectors that span the chosen columns, (n, r, b); zeros where columns are zero or repeat others."""
    scaled = F.normalize(columns, dim=0)
    u, s, _ = torch.linalg.svd(scaled[:, choices].movedim(1, 0), full_matrices=False)
    return u * (s > 1e-6)[:, None]  # the matrices were trained in float32: what is smaller is rounding


def _best(factors: Factors) -> list[float]:
    """The share of energy that the b largest singular values hold, for b = 1 … r."""
    _, _, product = factors
    energies = torch.linalg.svdvals(product).square()
    return (energies.cumsum(0) / energies.sum()).tolist()


def _choices(r: int, b: int) -> Tensor:
    """Every choice of b out of r rows, or `CHOICES` that are drawn: (n, b)."""
    if math.comb(r, b) <= CHOICES:
        return torch.tensor(list(itertools.combinations(range(r), b)))
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randperm(r, generator=generator)[:b] for _ in range(CHOICES)])
