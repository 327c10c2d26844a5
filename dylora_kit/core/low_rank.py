"""The low-rank part of an adapted layer: A, B and the active rank; Eq. 4–7 without the layer underneath."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.core.batch_axis import repeats
from dylora_kit.core.low_rank_product import (
    LowRankProduct,
    PlainProduct,
    add_product,
    autocasts,
    low_rank_sum,
    plain_product,
    product,
    through_operations,
)
from dylora_kit.core.rank import ActiveRank, Rank, check_rank
from dylora_kit.storage.peft_files import Block

SCALINGS: dict[str, Callable[[float, int, int], float]] = {
    "alpha/b": lambda alpha, b, r: alpha / b,
    "alpha/r": lambda alpha, b, r: alpha / r,
    "alpha/sqrt(b)": lambda alpha, b, r: alpha / math.sqrt(b),
}


def check_scaling(scaling: Any) -> str:
    """`scaling` as it is; `ValueError` if there is none of this name."""
    if scaling not in SCALINGS:
        raise ValueError(f"unknown scaling {scaling!r}: expected one of {', '.join(map(repr, SCALINGS))}")
    return scaling


def new_matrices(
    d_in: int, d_out: int, r: int, generator: torch.Generator | None, like: Tensor, device: torch.device | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    """lora_A (r, d_in), Gaussian with mean 0 and deviation 1/√d_in, and lora_B (d_out, r), zero.

    They are on a device, by default that of `like`, and of its type if that is float32 or float64. A rank may be above
    d_in or d_out, as in PEFT; raises `ValueError` for one below 1.

    >>> A, B = new_matrices(d_in=6, d_out=4, r=3, generator=None, like=torch.zeros(1))
    >>> A.shape, B.shape
    (torch.Size([3, 6]), torch.Size([4, 3]))
    """
    r = check_rank(r, None)
    # as PEFT does: adapters of a half-precision or quantised base are trained in float32
    dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
    device = device or like.device
    with torch.inference_mode(False):  # which would make tensors that cannot be trained
        start = torch.empty(r, d_in, dtype=torch.float32, device="cpu")
        nn.init.normal_(start, std=d_in**-0.5, generator=generator)
        lora_B = torch.zeros(d_out, r, device=device, dtype=dtype)
        return nn.Parameter(start.to(device, dtype)), nn.Parameter(lora_B)


class LowRankAdapter(nn.Module):
    """Two matrices whose product, cut to the active rank b and scaled, is added to a layer's output.

    Arguments:
        lora_A: the paper's W_dw, shape (r, d_in).
        lora_B: the paper's W_up, shape (d_out, r).
        lora_alpha, scaling, lora_dropout: see `DyLoRALinear`.

    Attributes:
        name: its name in a model, empty where it stands alone.
        active: the rank, shared by all adapters of a model.
    """

    def __init__(
        self, lora_A: nn.Parameter, lora_B: nn.Parameter, lora_alpha: float, scaling: str, lora_dropout: float
    ) -> None:
        super().__init__()
        self.r, self.in_features = lora_A.shape
        self.out_features = len(lora_B)
        number = isinstance(lora_alpha, int | float) and not isinstance(lora_alpha, bool)
        if not number or not 0 < lora_alpha < math.inf:
            raise ValueError(f"lora_alpha must be a finite number greater than 0: got {lora_alpha!r}")
        check_scaling(scaling)
        if not isinstance(lora_dropout, int | float) or not 0 <= lora_dropout < 1:
            raise ValueError(f"lora_dropout must be at least 0 and less than 1: got {lora_dropout!r}")
        self._lora_alpha, self._scaling, self._lora_dropout = lora_alpha, scaling, float(lora_dropout)
        self.lora_A, self.lora_B = lora_A, lora_B
        self.name = ""
        self.active = ActiveRank({"": self.r})

    @property
    def lora_alpha(self) -> float:
        """α, as it was given."""
        return self._lora_alpha

    @property
    def lora_dropout(self) -> float:
        """Dropout on the adapter's input, as it was given."""
        return self._lora_dropout

    @property
    def scaling(self) -> str:
        """How the scale depends on the rank. `adapters.scaling` changes it for a whole model."""
        return self._scaling

    @property
    def rank(self) -> Rank:
        """The active rank; assign to change it. A layer that belongs to a model takes it from `adapters.rank`."""
        return self.active.of(self.name) if self.active.per_example is None else self.active.value

    @rank.setter
    def rank(self, value: Rank) -> None:
        self._check_standalone()
        self.active.value = value

    @property
    def frozen(self) -> bool:
        """Whether gradients reach row and column b only (Eq. 10)."""
        return self.active.frozen

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self._check_standalone()
        self.active.frozen = bool(value)

    def _check_standalone(self) -> None:
        if self.name:
            raise ValueError(f"layer {self.name!r} shares its model's rank: set it on the adapters handle")

    def scale(self, rank: int) -> float:
        """The factor before B·A at a rank, for instance α/b."""
        return SCALINGS[self.scaling](self.lora_alpha, rank, self.r)

    def add_to(self, h: Tensor | None, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """h + scale · (x · lora_A[:b]ᵀ) · lora_B[:, :b]ᵀ, (…, d_out), for x of shape (…, d_in).

        Instead of h, the weight and bias of the linear layer that makes it may be given.
        """
        active = self.active
        b, frozen, gate, mask = active.of(self.name), active.frozen, None, None
        A, B = self.lora_A, self.lora_B
        if active.per_example is None:
            scale = self.scale(b)
        else:
            scale = 1.0
            gate, mask = self._gate_and_mask(x, active.per_example, b, frozen)
            frozen = False  # the mask says more
        operations = through_operations()
        if h is None and weight is not None and gate is None and not operations:
            if torch.is_grad_enabled():
                return PlainProduct.apply(x, weight, bias, A, B, b, frozen, scale)
            return plain_product(x, weight, bias, A, B, b, scale)[0]
        if h is None:
            h, dtype = F.linear(x, weight, bias), x.dtype  # type: ignore[arg-type]
        else:
            dtype = h.dtype if autocasts(x) else A.dtype
            x = F.dropout(x, self.lora_dropout, self.training)
        if operations:
            check_one_rank(gate)
            return low_rank_sum(h, x, None, None, dtype, A, B, b, frozen, scale, None, None)
        if torch.is_grad_enabled():
            return LowRankProduct.apply(h, x, dtype, A, B, b, frozen, scale, gate, mask)
        return product(h, x, dtype, A, B, b, scale, gate)[0]

    def add_in_place(self, h: Tensor, x: Tensor) -> None:
        """`add_to` for an h (n, d_out) of the type of x and A, which it changes; without gradients and dropout."""
        active = self.active
        b, gate = active.of(self.name), None
        if active.per_example is None:
            scale = self.scale(b)
        else:
            scale, (gate, _) = 1.0, self._gate_and_mask(x, active.per_example, b, False)
        add_product(h, x, self.lora_A, self.lora_B, b, scale, gate)

    def _gate_and_mask(self, x: Tensor, ranks: Tensor, b: int, frozen: bool) -> tuple[Tensor, Tensor | None]:
        """For one rank per example, ranks (N,): what `LowRankProduct` multiplies z and its gradient by.

        With n inputs: the gate (n, b) is the scale for rows up to the example's rank, else 0; the
        mask (n, b) is True at the row of that rank, and None unless frozen.
        """
        each, times = repeats(self.active, x, self.name)
        if torch.compiler.is_compiling():
            return self._new_gate_and_mask(x, ranks, b, frozen, each, times)
        known = self.active.gates  # layers that are alike share them
        kind = (self.r, self.lora_alpha, self.scaling, b, frozen, each, times, x.device, self.lora_A.dtype)
        if kind not in known:
            known[kind] = self._new_gate_and_mask(x, ranks, b, frozen, each, times)
        return known[kind]

    def _new_gate_and_mask(
        self, x: Tensor, ranks: Tensor, b: int, frozen: bool, each: int, times: int
    ) -> tuple[Tensor, Tensor | None]:
        ranks = ranks.clamp(max=self.r)
        scales = torch.tensor([self.scale(rank) for rank in range(1, self.r + 1)], dtype=torch.float64, device="cpu")
        rows = torch.arange(1, b + 1, device="cpu")
        gate = ((rows <= ranks[:, None]) * scales[ranks - 1, None]).to(x.device, self.lora_A.dtype)  # (N, b)
        mask = (rows == ranks[:, None]).to(x.device) if frozen else None  # (N, b)
        return _repeated(gate, each, times), None if mask is None else _repeated(mask, each, times)

    def check_product(self, purpose: str) -> None:
        """Raises `ValueError` that names the purpose for an adapter that is no product of its two matrices."""

    @torch.no_grad()
    def delta(self, rank: int | None = None) -> Tensor:
        """ΔW at a rank (default: the active one), scale included, shape (d_out, d_in), in the adapter's dtype."""
        if rank is None:
            self.active.check_not_mixed("say at which rank to compute ΔW")
        b = self.active.of(self.name) if rank is None else check_rank(rank, self.r)
        return self.scale(b) * (self.lora_B[:, :b] @ self.lora_A[:b])  # (d_out, b) · (b, d_in) → (d_out, d_in)

    def block(self) -> Block:
        """A (b, d_in), B (d_out, b) and the scale at the active rank b: ΔW = scale · B·A."""
        b = self.active.of(self.name)
        return self.lora_A.detach()[:b], self.lora_B.detach()[:, :b], self.scale(b)

    def check_finite(self, consequence: str) -> None:
        """Raises `ValueError` that ends with the consequence if lora_A or lora_B holds a value that is not finite."""
        if not bool(self.lora_A.isfinite().all() and self.lora_B.isfinite().all()):
            raise ValueError(f"the adapter of {self.name!r} holds values that are not finite: {consequence}")

    def extra_repr(self) -> str:
        return f"r={self.r}, lora_alpha={self.lora_alpha}, scaling={self.scaling!r}, lora_dropout={self.lora_dropout}"


def check_one_rank(gate: Tensor | None) -> None:
    """Raises `NotImplementedError` for one rank per example, since a transform may have taken the batch away."""
    if gate is not None:
        raise NotImplementedError(
            "one rank for each example does not go through torch.func, forward-mode derivatives and traces: "
            "set one rank, as in adapters.rank = 3"
        )


def _repeated(rows: Tensor, each: int, times: int) -> Tensor:
    """Each row so often in a row, and then all of them so often: (N, b) → (n, b)."""
    return rows.repeat_interleave(each, 0).repeat(times, 1)
