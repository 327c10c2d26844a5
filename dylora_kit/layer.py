"""One adapted layer: the paper's Eq. 4–7 and 10, for any module that maps (…, d_in) to (…, d_out)."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.rank import ActiveRank, Rank, check_rank

SCALINGS: dict[str, Callable[[float, int, int], float]] = {
    "alpha/b": lambda alpha, b, r: alpha / b,
    "alpha/r": lambda alpha, b, r: alpha / r,
    "alpha/sqrt(b)": lambda alpha, b, r: alpha / math.sqrt(b),
}


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
        if isinstance(lora_alpha, bool) or not lora_alpha > 0 or math.isinf(lora_alpha):
            raise ValueError(f"lora_alpha must be a finite number greater than 0: got {lora_alpha!r}")
        if scaling not in SCALINGS:
            raise ValueError(f"unknown scaling {scaling!r}: expected one of {', '.join(map(repr, SCALINGS))}")
        if not 0 <= lora_dropout < 1:
            raise ValueError(f"lora_dropout must be at least 0 and less than 1: got {lora_dropout!r}")
        self.lora_alpha, self.scaling, self.lora_dropout = lora_alpha, scaling, float(lora_dropout)
        self.base_layer = base_layer.requires_grad_(False)
        weight = base_layer.weight
        # as PEFT does: adapters of a half-precision or quantised base are trained in float32
        dtype = weight.dtype if weight.dtype in (torch.float32, torch.float64) else torch.float32
        start = torch.empty(self.r, self.in_features)
        nn.init.normal_(start, std=self.in_features**-0.5, generator=generator)
        self.lora_A = nn.Parameter(start.to(weight.device, dtype))
        self.lora_B = nn.Parameter(torch.zeros(self.out_features, self.r, device=weight.device, dtype=dtype))
        # A leaf whose gradient says which rows a backward pass reached: a gradient of lora_A can be zero on a row
        # that was used, so the optimizer cannot tell from the gradient. On the CPU, where the optimizer reads it.
        self.reached = torch.zeros(self.r, requires_grad=True)
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
        h = self.base_layer(x, *args, **kwargs)
        if self.active.merged:
            if self.training and torch.is_grad_enabled():
                raise RuntimeError("the adapters are merged into the base weights: call unmerge() before training")
            return h
        x = F.dropout(x, self.lora_dropout, self.training)
        if x.dtype != self.lora_A.dtype and not torch.is_autocast_enabled(x.device.type):
            x = x.to(self.lora_A.dtype)
        b = self.active.of(self.name)
        if self.active.per_example is not None:
            return self._add_mixed(h, x, b, self.active.per_example.clamp(max=self.r))
        low = b - 1 if self.active.frozen else 0
        z = F.linear(x, self._rows(low, b))  # (…, d_in) · (d_in, b) → (…, b)
        return self._add(h, z, self._columns(low, b), self.scale(b))

    def _add(self, h: Tensor, z: Tensor, columns: Tensor, scale: float) -> Tensor:
        """h + scale · z · columnsᵀ, with z (…, b) and columns (d_out, b), in one kernel where the types allow."""
        if h.dtype == columns.dtype == z.dtype:
            flat = torch.addmm(  # (n, d_out) + (n, b) · (b, d_out) → (n, d_out)
                h.reshape(-1, self.out_features), z.reshape(-1, z.shape[-1]), columns.T, alpha=scale
            )
            return flat.view(h.shape)
        return h + (F.linear(z, columns) * scale).to(h.dtype)  # (…, b) · (b, d_out) → (…, d_out)

    def _add_mixed(self, h: Tensor, x: Tensor, b: int, ranks: Tensor) -> Tensor:
        """One rank per example: x is (N, …, d_in), ranks (N,), b their maximum."""
        if x.dim() < 2 or len(x) != len(ranks):
            raise ValueError(
                f"the rank tensor names {len(ranks)} examples, but the batch holds {len(x)}: pass one each"
            )
        used = torch.arange(b) < ranks[:, None]  # (N, b)
        scale = torch.tensor([self.scale(int(rank)) for rank in ranks], dtype=self.lora_A.dtype)[:, None]
        shape = (len(ranks), *[1] * (x.dim() - 2), b)
        gate = (used * scale).view(shape).to(x.device, self.lora_A.dtype)
        if not self.active.frozen:
            z = F.linear(x, self._rows(0, b)) * gate  # (N, …, d_in) · (d_in, b) → (N, …, b)
            return self._add(h, z, self._columns(0, b), 1.0)
        # Eq. 10 per example: only the row and column of its own rank get its gradient
        own = torch.arange(b) == ranks[:, None] - 1  # (N, b)
        drawn = own.any(0).to(self.reached.dtype)
        own = own.view(shape).to(x.device)
        z = torch.where(own, F.linear(x, self._rows(0, b, drawn)), F.linear(x, self.lora_A[:b].detach())) * gate
        h = self._add(h, torch.where(own, 0, z), self.lora_B[:, :b].detach(), 1.0)
        return self._add(h, torch.where(own, z, 0), self._columns(0, b), 1.0)

    def _rows(self, low: int, b: int, drawn: Tensor | None = None) -> Tensor:
        """lora_A[:b], shape (b, d_in), whose gradient reaches rows low+1 … b."""
        if not (torch.is_grad_enabled() and (self.lora_A.requires_grad or self.lora_B.requires_grad)):
            return self.lora_A[:b]
        return _Truncate.apply(self.lora_A, self.reached, drawn, low, b, 0)

    def _columns(self, low: int, b: int) -> Tensor:
        """lora_B[:, :b], shape (d_out, b), whose gradient reaches columns low+1 … b."""
        if low == 0 or not torch.is_grad_enabled():
            return self.lora_B[:, :b]
        return _Truncate.apply(self.lora_B, None, None, low, b, 1)

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
        self._merge_weight()
        self.active.merged = True

    def unmerge(self) -> None:
        """Puts the original weight back, bit for bit."""
        self._check_standalone()
        if not self.active.merged:
            raise ValueError("the adapter is not merged: call merge() first")
        self._unmerge_weight()
        self.active.merged = False

    def _merge_weight(self) -> None:
        weight = self.weight
        if not weight.is_floating_point():
            raise ValueError(f"cannot merge into a weight of type {weight.dtype}: merge into the unquantised model")
        merged = (weight.detach().to(self.lora_A.dtype) + self.delta()).to(weight.dtype)
        self._original, weight.data = weight.data, merged  # W + Δ − Δ is not W in floating point, so W itself is kept

    def _unmerge_weight(self) -> None:
        assert self._original is not None
        self.weight.data, self._original = self._original, None

    def extra_repr(self) -> str:
        return f"r={self.r}, lora_alpha={self.lora_alpha}, scaling={self.scaling!r}, lora_dropout={self.lora_dropout}"


class _Truncate(torch.autograd.Function):
    """The first b rows (dim 0) or columns (dim 1) of a parameter; gradient only to those after `low`.

    `reached`, of shape (r,), gets a gradient of ones for the rows this backward pass reached (or `drawn`, if given).
    """

    @staticmethod
    def forward(
        ctx: Any, param: Tensor, reached: Tensor | None, drawn: Tensor | None, low: int, b: int, dim: int
    ) -> Tensor:
        ctx.drawn, ctx.low, ctx.b, ctx.dim, ctx.r = drawn, low, b, dim, param.shape[dim]
        ctx.rows_dtype = None if reached is None else reached.dtype
        return param.narrow(dim, 0, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        low, rest = ctx.low, ctx.r - ctx.b
        kept = grad.narrow(ctx.dim, low, ctx.b - low)
        grad_param = F.pad(kept, (0, 0, low, rest) if ctx.dim == 0 else (low, rest))
        if ctx.rows_dtype is None:
            return grad_param, None, None, None, None, None
        rows = torch.ones(ctx.b - low, dtype=ctx.rows_dtype) if ctx.drawn is None else ctx.drawn
        rows = F.pad(rows, (low, rest) if ctx.drawn is None else (0, ctx.r - len(rows)))
        return grad_param, rows, None, None, None, None
