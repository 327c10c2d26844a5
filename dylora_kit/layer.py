"""One adapted layer: the paper's Eq. 4–7 and 10, for any module that maps (…, d_in) to (…, d_out)."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks

from dylora_kit.lowrank import LowRank
from dylora_kit.rank import ActiveRank, Rank, check_rank

SCALINGS: dict[str, Callable[[float, int, int], float]] = {
    "alpha/b": lambda alpha, b, r: alpha / b,
    "alpha/r": lambda alpha, b, r: alpha / r,
    "alpha/sqrt(b)": lambda alpha, b, r: alpha / math.sqrt(b),
}


def check_scaling(scaling: Any) -> str:
    """`scaling`, or `ValueError` if there is none of this name."""
    if scaling not in SCALINGS:
        raise ValueError(f"unknown scaling {scaling!r}: expected one of {', '.join(map(repr, SCALINGS))}")
    return scaling


class DyLoRALinear(nn.Module):
    """A frozen linear layer plus a low-rank adapter that runs at any rank from 1 to r.

    At the active rank b it computes (Eq. 7)

        h = base(x) + (α/b) · (x · lora_A[:b]ᵀ) · lora_B[:, :b]ᵀ

    Rows of `lora_A` and columns of `lora_B` beyond b are not read. At b = r this is plain LoRA.

    Arguments:
        base_layer: an `nn.Linear` with weight (d_out, d_in). It is frozen.
        r: the maximum rank, which is what is allocated.
        lora_alpha: α, greater than 0.
        scaling: `"alpha/b"` (the paper), `"alpha/r"` or `"alpha/sqrt(b)"`.
        lora_dropout: dropout on the adapter's input, in training.
        generator: draws the start of `lora_A`; without it the global generator does.

    Attributes:
        lora_A: the paper's W_dw, shape (r, d_in); starts Gaussian with mean 0 and deviation 1/√d_in.
        lora_B: the paper's W_up, shape (d_out, r); starts at zero.
        rank: the active rank b; starts at r.
        frozen: if true, gradients reach row and column b only (Eq. 10).

    Raises `ValueError` for a rank, α, scaling or dropout out of range, `TypeError` for another kind of module.

    >>> layer = DyLoRALinear(nn.Linear(6, 4), r=3, lora_alpha=16)
    >>> layer.rank = 2
    >>> layer(torch.randn(5, 6)).shape
    torch.Size([5, 4])
    >>> layer.delta(rank=1).shape
    torch.Size([4, 6])
    """

    def __init__(
        self,
        base_layer: nn.Module,
        r: int,
        lora_alpha: float = 16,
        scaling: str = "alpha/b",
        lora_dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(base_layer, nn.Linear):
            raise TypeError(f"cannot adapt a {type(base_layer).__name__}: expected an nn.Linear")
        self.in_features, self.out_features = base_layer.in_features, base_layer.out_features
        self.r = check_rank(r, min(self.in_features, self.out_features))
        number = isinstance(lora_alpha, int | float) and not isinstance(lora_alpha, bool)
        if not number or not 0 < lora_alpha < math.inf:
            raise ValueError(f"lora_alpha must be a finite number greater than 0: got {lora_alpha!r}")
        check_scaling(scaling)
        if not isinstance(lora_dropout, int | float) or not 0 <= lora_dropout < 1:
            raise ValueError(f"lora_dropout must be at least 0 and less than 1: got {lora_dropout!r}")
        self._lora_alpha, self._scaling, self._lora_dropout = lora_alpha, scaling, float(lora_dropout)
        self.base_layer = base_layer.requires_grad_(False)
        weight = base_layer.weight
        # as PEFT does: adapters of a half-precision or quantised base are trained in float32
        dtype = weight.dtype if weight.dtype in (torch.float32, torch.float64) else torch.float32
        start = torch.empty(self.r, self.in_features, dtype=torch.float32, device="cpu")
        nn.init.normal_(start, std=self.in_features**-0.5, generator=generator)
        self.lora_A = nn.Parameter(start.to(weight.device, dtype))
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, self.r, device=weight.device, dtype=dtype))
        # A leaf whose gradient says which rows a backward pass reached: a gradient of lora_A can be zero on a row
        # that was used, so the optimizer cannot tell from the gradient. On the CPU, where the optimizer reads it.
        self.reached = torch.zeros(self.r, dtype=torch.float32, device="cpu", requires_grad=True)
        self.name = ""
        self.active = ActiveRank({"": self.r})
        self._original: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The base layer's weight, for code that reads it from the module it replaced."""
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        return self.base_layer.bias

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

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Maps x of shape (…, d_in) to (…, d_out) at the active rank."""
        if self.active.merged:
            if self.training and torch.is_grad_enabled():
                raise RuntimeError("the adapters are merged into the base weights: call unmerge() before training")
            return self.base_layer(x, *args, **kwargs)
        b, frozen, per_example = self.active.of(self.name), self.active.frozen, self.active.per_example
        if per_example is None:
            low, scale, gate, own = (b - 1 if frozen else 0), self.scale(b), None, None
        else:
            low, scale = 0, 1.0
            gate, own = self._gates(x, per_example.clamp(max=self.r), b, frozen)
        ranks = (self.lora_A, self.lora_B, self.reached, low, b, scale, gate, own)
        if self._is_plain(x) and not (args or kwargs):
            return LowRank.apply(None, x, self.base_layer.weight, self.base_layer.bias, x.dtype, *ranks)
        h = self.base_layer(x, *args, **kwargs)
        dtype = h.dtype if torch.is_autocast_enabled(x.device.type) else self.lora_A.dtype
        x = F.dropout(x, self.lora_dropout, self.training)
        return LowRank.apply(h, x, None, None, dtype, *ranks)

    def _is_plain(self, x: Tensor) -> bool:
        """Whether base and adapter can be computed in one go: nothing else looks at the base layer or its output."""
        base = self.base_layer
        return (
            type(base) is nn.Linear
            and type(base.weight) is nn.Parameter
            and not (base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad))
            and x.dtype == base.weight.dtype == self.lora_A.dtype
            and not (self.lora_dropout and self.training)
            and not torch.is_autocast_enabled(x.device.type)
            and not (base._forward_hooks or base._forward_pre_hooks or base._backward_hooks or base._backward_pre_hooks)
            and not (module_hooks._global_forward_hooks or module_hooks._global_forward_pre_hooks)
            and "forward" not in base.__dict__
        )

    def _gates(self, x: Tensor, ranks: Tensor, b: int, frozen: bool) -> tuple[Tensor, Tensor | None]:
        """For one rank per example: what each of b rows counts in each of n = N·… inputs, and which get a gradient."""
        if x.dim() < 2 or len(x) != len(ranks):
            raise ValueError(
                f"the rank tensor names {len(ranks)} examples, but the batch holds {len(x)}: pass one each"
            )
        scales = torch.tensor([self.scale(rank) for rank in range(1, self.r + 1)], dtype=torch.float64, device="cpu")
        number = torch.arange(1, b + 1, device="cpu")
        gate = (number <= ranks[:, None]) * scales[ranks - 1, None]  # (N, b)
        own = number == ranks[:, None] if frozen else None
        every = x[..., 0].numel() // len(x)
        gate = gate.to(x.device, self.lora_A.dtype).repeat_interleave(every, 0)  # (n, b)
        return gate, None if own is None else own.to(x.device).repeat_interleave(every, 0)

    @torch.no_grad()
    def delta(self, rank: int | None = None) -> Tensor:
        """ΔW at a rank (default: the active one), scale included, shape (d_out, d_in), in the adapter's dtype."""
        if rank is None and self.active.per_example is not None:
            raise ValueError("each example has its own rank: say at which rank to compute ΔW")
        b = self.active.of(self.name) if rank is None else check_rank(rank, self.r)
        return self.scale(b) * (self.lora_B[:, :b] @ self.lora_A[:b])  # (d_out, b) · (b, d_in) → (d_out, d_in)

    def merge(self, rank: int | None = None) -> None:
        """Adds ΔW at a rank (default: the active one) to the base weight, until `unmerge`."""
        self._check_standalone()
        if self.active.merged:
            raise ValueError("the adapter is merged already: call unmerge() first")
        if rank is not None:
            self.active.value = check_rank(rank, self.r)
        self._swap_in(self.merged_weight())
        self.active.merged = True

    def unmerge(self) -> None:
        """Puts the original weight back, bit for bit."""
        self._check_standalone()
        if not self.active.merged:
            raise ValueError("the adapter is not merged: call merge() first")
        self._unmerge_weight()
        self.active.merged = False

    def merged_weight(self) -> Tensor:
        """The base weight plus ΔW at the active rank, (d_out, d_in), in the base weight's type."""
        weight = self.weight.detach()
        if not weight.is_floating_point():
            raise ValueError(f"cannot merge into a weight of type {weight.dtype}: merge into the unquantised model")
        return (weight.to(self.lora_A.dtype) + self.delta()).to(weight.dtype)

    def _swap_in(self, merged: Tensor) -> None:
        weight = self.weight
        self._original, weight.data = weight.data, merged  # W + Δ − Δ is not W in floating point, so W itself is kept

    def _unmerge_weight(self) -> None:
        assert self._original is not None
        weight = self.weight  # the model may have been moved meanwhile
        weight.data, self._original = self._original.to(weight.device, weight.dtype), None

    def extra_repr(self) -> str:
        return f"r={self.r}, lora_alpha={self.lora_alpha}, scaling={self.scaling!r}, lora_dropout={self.lora_dropout}"
