"""The singular values of ΔW = B·A, without ΔW, and what they tell."""

import torch
from torch import Tensor


def singular_values_of_product(A: Tensor, B: Tensor) -> Tensor:
    """The singular values of B·A alone, the largest first, in float64: (min(r, d_in, d_out),).

    >>> singular_values_of_product(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.eye(2))
    tensor([4., 3.], dtype=torch.float64)
    """
    right = torch.linalg.qr(A.double().T, mode="r")[1]  # (d_in, r) → (n, r)
    left = torch.linalg.qr(B.double(), mode="r")[1]  # (d_out, r) → (m, r)
    values: Tensor = torch.linalg.svdvals(left @ right.T)  # (m, r) · (r, n) → (m, n)
    return values


def effective_rank(s: Tensor) -> float:
    """How many singular values a layer uses: exp of the entropy of s / Σs; 0 if all are zero.

    From 1, if one value is alone, to their number, if all are equal (Roy and Vetterli, "The effective rank", EUSIPCO
    2007).

    >>> round(effective_rank(torch.tensor([2.0, 2.0, 0.0])), 6)
    2.0
    """
    if not s.any():
        return 0.0
    shares = s[s > 0] / s.sum()
    return float((-shares * shares.log()).sum().exp())


def energy_beyond(b: int, s: Tensor) -> float:
    """The energy, Σ s², that a cut to the b largest singular values loses.

    >>> energy_beyond(1, torch.tensor([4.0, 3.0]))
    9.0
    """
    return float(s[b:].square().sum())
