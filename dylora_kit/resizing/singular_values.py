"""The singular value decomposition of ΔW = B·A, without ΔW; the closest cut of it, and what its values tell."""

import torch
from torch import Tensor


def svd_of_product(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of B·A, in float64.

    The QR decompositions of both leave a matrix of at most (r, r), which has the same singular values. All three steps
    are exact but for rounding.

    Arguments:
        A: (r, d_in).
        B: (d_out, r).

    Returns u (d_out, m), s (k,) with the largest first, and vh (n, d_in), where m = min(d_out, r), n = min(d_in, r)
    and k = min(m, n).

    >>> _, s, _ = svd_of_product(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.eye(2))
    >>> s
    tensor([4., 3.], dtype=torch.float64)
    """
    q_b, r_b = torch.linalg.qr(B.double())  # (d_out, r) → (d_out, m), (m, r)
    q_a, r_a = torch.linalg.qr(A.double().T)  # (d_in, r) → (d_in, n), (n, r)
    u, s, vh = torch.linalg.svd(r_b @ r_a.T)  # (m, r) · (r, n) → (m, n)
    return q_b @ u, s, vh @ q_a.T  # (d_out, m) · (m, m), (n, n) · (n, d_in)


def singular_values_of_product(A: Tensor, B: Tensor) -> Tensor:
    """The singular values of B·A alone, the largest first, in float64: (min(r, d_in, d_out),).

    >>> singular_values_of_product(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.eye(2))
    tensor([4., 3.], dtype=torch.float64)
    """
    right = torch.linalg.qr(A.double().T, mode="r")[1]  # (d_in, r) → (n, r)
    left = torch.linalg.qr(B.double(), mode="r")[1]  # (d_out, r) → (m, r)
    values: Tensor = torch.linalg.svdvals(left @ right.T)  # (m, r) · (r, n) → (m, n)
    return values


def cut_to(b: int, u: Tensor, s: Tensor, vh: Tensor) -> tuple[Tensor, Tensor]:
    """A (b, d_in) and B (d_out, b) from the b largest singular values, √s in each of the two.

    By the Eckart-Young theorem no matrix of rank b is closer than their product. Where s is zero, B has a column of
    zeros, and A a row of length 1, so that it can still be trained.

    Arguments:
        u, s, vh: of `svd_of_product`, and b is at most the length of s.

    >>> A, B = cut_to(1, *svd_of_product(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.eye(2)))
    >>> B @ A
    tensor([[0., 0.],
            [0., 4.]], dtype=torch.float64)
    """
    root = s[:b].sqrt()
    return torch.where(root > 0, root, 1.0)[:, None] * vh[:b], u[:, :b] * root


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
