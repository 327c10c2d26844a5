"""Exercises of lesson 02: LoRA."""

from typing import Any

import torch
from torch import Tensor

from dylora_kit.lessons.exercise import Exercise, random


def _layers() -> list[tuple[Any, ...]]:
    """x (4, 6), W (5, 6), A (r, 6), B (5, r), alpha, which r does not divide."""
    return [
        (random(4, 6, seed=r), random(5, 6, seed=r + 10), random(r, 6, seed=r + 20), random(5, r, seed=r + 30), 7)
        for r in (2, 3)
    ]


def lora(x: Tensor, W: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """Eq. 4, shapes (n, d_in), (d_out, d_in), (r, d_in), (d_out, r) → (n, d_out)."""
    return x @ W.T + alpha / len(A) * (x @ A.T) @ B.T


LORA = Exercise(
    cases=_layers,
    solution=lora,
    mistakes={
        "the scale is missing: multiply the adapter's part by α/r": lambda x, W, A, B, alpha: lora(x, W, A, B, len(A)),
        "the scale is α, and Eq. 4 has α/r: divide by the number of rows of A": lambda x, W, A, B, alpha: lora(
            x, W, A, B, alpha * len(A)
        ),
        "the scale multiplies W x as well: it belongs to the adapter's part alone": lambda x, W, A, B, alpha: (
            alpha / len(A) * (x @ W.T + (x @ A.T) @ B.T)
        ),
        "W x is missing: the adapter's part is added to what the frozen layer computes": lambda x, W, A, B, alpha: lora(
            x, 0 * W, A, B, alpha
        ),
        "you round α/r to a whole number: // drops the rest, / keeps it": lambda x, W, A, B, alpha: lora(
            x, W, A, B, alpha // len(A) * len(A)
        ),
        "the scale is α/√r: Eq. 4 divides by r itself": lambda x, W, A, B, alpha: lora(
            x, W, A, B, alpha * len(A) ** 0.5
        ),
        "you divide by the wrong size: r is the number of columns of B, not of its rows": lambda x, W, A, B, alpha: (
            lora(x, W, A, B, alpha * len(A) / len(B))
        ),
        "you divide by the wrong size: r is the number of rows of A, not d_in": lambda x, W, A, B, alpha: lora(
            x, W, A, B, alpha * len(A) / A.shape[1]
        ),
    },
    shapes="the shapes do not fit: x (n, d_in) meets A first, then B, and W, A and B have to be transposed for that",
)


def _pairs() -> list[tuple[Any, ...]]:
    """A (r, 6), B (5, r), b: every b is smaller than r, d_in and d_out."""
    return [(random(4, 6, seed=b), random(5, 4, seed=b + 10), b) for b in (1, 2, 3)]


CUT = Exercise(
    cases=_pairs,
    solution=lambda A, B, b: B[:, :b] @ A[:b],
    mistakes={
        "you keep one row too few: ranks count from 1, so b = 1 keeps one row": lambda A, B, b: (
            B[:, : b - 1] @ A[: b - 1]
        ),
        "you keep one row too many: a Python slice [:b] already stops before index b": lambda A, B, b: (
            B[:, : b + 1] @ A[: b + 1]
        ),
        "you keep the last b rows: the prefix is the first b": lambda A, B, b: B[:, -b:] @ A[-b:],
        "you slice the wrong axis of B: B has the shape (d_out, r), so its rank is the second axis, B[:, :b]": (
            lambda A, B, b: B[:b] @ A[:b]
        ),
        "you slice A alone: the columns of B have to go as well": lambda A, B, b: B @ A[:b],
        "you slice the wrong axis of A: A has the shape (r, d_in), so its rank is the first axis, A[:b]": (
            lambda A, B, b: B[:, :b] @ A[:, :b]
        ),
        "you cut the finished product: that drops outputs or inputs of the layer, not ranks": lambda A, B, b: (B @ A)[
            :, :b
        ],
        "nothing is cut: take A[:b] and B[:, :b]": lambda A, B, b: B @ A,
        "you leave row 1 out: ranks count from 1, and a Python slice from 0": lambda A, B, b: (
            B[:, 1 : b + 1] @ A[1 : b + 1]
        ),
        "you keep row b alone: rank b keeps every row up to b": lambda A, B, b: B[:, b - 1 : b] @ A[b - 1 : b],
        "you cut rows of the finished product: that drops outputs of the layer, not ranks": lambda A, B, b: (B @ A)[:b],
        "there is a scale in it: return the product alone": lambda A, B, b: B[:, :b] @ A[:b] / b,
        "you computed it transposed: ΔW has the shape (d_out, d_in), like B @ A": lambda A, B, b: (B[:, :b] @ A[:b]).T,
    },
    shapes="the shapes do not fit: B comes first, B[:, :b] @ A[:b], (d_out, b) · (b, d_in)",
)


def _deltas() -> list[tuple[Any, ...]]:
    """ΔW (5, 6), b."""
    return [(random(5, 6, seed=b), b) for b in (1, 2)]


def _svd(delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.linalg.svd(delta, full_matrices=False)


def best_cut(delta: Tensor, b: int) -> Tensor:
    """The closest matrix of rank b (Eckart-Young)."""
    U, S, Vh = _svd(delta)
    return U[:, :b] * S[:b] @ Vh[:b]


def _reversed_cut(delta: Tensor, b: int) -> Tensor:
    U, S, Vh = _svd(delta)
    return U[:, -b:] * S[-b:] @ Vh[-b:]


def _no_values(delta: Tensor, b: int) -> Tensor:
    U, _, Vh = _svd(delta)
    return U[:, :b] @ Vh[:b]


def _whole(delta: Tensor, b: int) -> Tensor:
    return delta


def _untransposed(delta: Tensor, b: int) -> Tensor:
    U, S, Vh = _svd(delta)
    return U[:, :b] * S[:b] @ Vh[:, :b].T  # takes columns of Vh, as if it were V: (5, b) · (b, 5)


BEST = Exercise(
    cases=_deltas,
    solution=best_cut,
    mistakes={
        "you keep one direction too few": lambda delta, b: best_cut(delta, b - 1),
        "you keep one direction too many": lambda delta, b: best_cut(delta, b + 1),
        "you keep the smallest singular values: torch sorts them largest first": _reversed_cut,
        "the singular values are missing: scale each column of U by its own": _no_values,
        "you slice the wrong axis of Vh: torch.linalg.svd gives V already transposed, so take rows, Vh[:b]": (
            _untransposed
        ),
        "nothing is cut: slice U, S and Vh to b": _whole,
        "you keep direction b alone: rank b keeps the first b": lambda delta, b: (
            best_cut(delta, b) - best_cut(delta, b - 1)
        ),
    },
    shapes="the shapes do not fit: U[:, :b], S[:b] and Vh[:b] belong together, and Vh is transposed already",
)
