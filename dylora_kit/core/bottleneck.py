"""Nested bottleneck adapters: a DyLoRA layer with an activation between its two matrices (the paper's future work)."""

from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.core.base_weights import device_of
from dylora_kit.core.layer import DyLoRALinear, runs_bare, sizes_of
from dylora_kit.core.low_rank import check_one_rank, new_matrices
from dylora_kit.core.low_rank_product import autocasts, low_rank_sum, through_operations
from dylora_kit.storage.peft_files import Block

KINDS = ("parallel", "houlsby")


def check_bottleneck(kind: Any) -> str | None:
    """`kind` as it is; `ValueError` if there is no bottleneck of this kind."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"unknown bottleneck {kind!r}: expected None or one of {', '.join(map(repr, KINDS))}")
    return kind


class Bottleneck(DyLoRALinear):
    """A frozen linear layer plus a bottleneck of r units, of which the first b run, from 1 to r.

    At the active rank b it computes, with s = α/b,

        h = base(x) + s · gelu(x · lora_A[:b]ᵀ) · lora_B[:, :b]ᵀ             `"parallel"` (He et al. 2022)
        h = base(x) + s · gelu(base(x) · lora_A[:b]ᵀ) · lora_B[:, :b]ᵀ       `"houlsby"` (Houlsby et al. 2019)

    Units beyond b are not read, as in DyLoRA, whose rank, sampler, optimizer and files it takes. There are no biases.
    It has no ΔW: nothing that merges, orders, cuts or exports one takes it.

    Arguments:
        kind: `"parallel"` reads what the layer reads, `"houlsby"` what it gives.
        base_layer, r, lora_alpha, scaling, lora_dropout, generator: as of `DyLoRALinear`. With `"alpha/r"` and
            `lora_alpha=r`, s = 1, as in Houlsby's.

    Attributes:
        lora_A: into the units, shape (r, d_in), with d_in = d_out for `"houlsby"`.
        lora_B: out of them, shape (d_out, r); starts at zero.

    Raises `ValueError` for an unknown kind, and what `DyLoRALinear` raises.

    >>> layer = Bottleneck("houlsby", nn.Linear(6, 4), r=3)
    >>> layer.rank = 2
    >>> layer(torch.randn(5, 6)).shape, layer.lora_A.shape
    (torch.Size([5, 4]), torch.Size([3, 4]))
    """

    def __init__(
        self,
        kind: str,
        base_layer: nn.Module,
        r: int,
        lora_alpha: float = 16,
        scaling: str = "alpha/b",
        lora_dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        if check_bottleneck(kind) is None:
            raise ValueError(f"a bottleneck needs a kind: one of {', '.join(map(repr, KINDS))}")
        d_in, d_out = sizes_of(base_layer)
        weight: Any = base_layer.weight
        d_read = d_in if kind == "parallel" else d_out
        matrices = new_matrices(d_read, d_out, r, generator, weight, device_of(base_layer))
        super(DyLoRALinear, self).__init__(*matrices, lora_alpha, scaling, lora_dropout)
        self.base_layer, self.kind = base_layer.requires_grad_(False), kind
        self.mark = 1.0 + KINDS.index(kind)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Maps x of shape (…, d_in) to (…, d_out) at the active rank."""
        h = self.base_layer(x, *args, **kwargs)
        if runs_bare(self, self.active):
            return h
        return self._with_units(h, x)

    def _with_units(self, h: Tensor, x: Tensor) -> Tensor:
        """h (…, d_out) and what the first b units make of x (…, d_in) or, for `"houlsby"`, of h."""
        active, gate, mask = self.active, None, None
        b, frozen, scale = active.of(self.name), active.frozen, 1.0
        compiling = torch.compiler.is_compiling()
        A: Tensor = self.lora_A
        B: Tensor = self.lora_B
        if active.per_example is None:
            scale = self.scale(b)
        else:  # x, and not h, tells where the examples are: h may be a copy in another order of memory
            gate, mask = self._gate_and_mask(x, active.per_example, self.r if compiling else b, frozen)
            frozen = False  # the mask says more
        if through_operations():
            check_one_rank(gate)
        if compiling:  # compiled code leaves b open, and torch has no gradient of a slice of open size
            A, B = _first_units(A, b, frozen, dim=0), _first_units(B, b, frozen, dim=1)
            b, frozen = self.r, False
        read = x if self.kind == "parallel" else h
        dtype = h.dtype if autocasts(read) else A.dtype
        read = F.dropout(read, self.lora_dropout, self.training)
        return low_rank_sum(h, read, None, None, dtype, A, B, b, frozen, scale, gate, mask, activation=F.gelu)

    def check_product(self, purpose: str) -> NoReturn:
        """Raises `ValueError`: there is no ΔW."""
        raise ValueError(
            f"the bottleneck of {self.name!r} has no ΔW, since an activation stands between its matrices: {purpose} "
            "is for a LoRA alone"
        )

    def delta(self, rank: int | None = None) -> Tensor:
        """There is none: raises `ValueError`."""
        self.check_product("ΔW")

    def block(self) -> Block:
        """There is none: raises `ValueError`."""
        self.check_product("writing ΔW = B·A")

    def extra_repr(self) -> str:
        """As of any module."""
        return f"kind={self.kind!r}, {super().extra_repr()}"


def _first_units(matrix: Tensor, b: int, frozen: bool, dim: int) -> Tensor:
    """The matrix with zeros beyond unit b along a dimension; frozen, with a gradient for unit b alone."""
    unit = torch.arange(1, matrix.shape[dim] + 1, device=matrix.device)
    unit = unit[:, None] if dim == 0 else unit  # (r, 1) or (r,)
    if frozen:
        matrix = torch.where(unit == b, matrix, matrix.detach())
    return torch.where(unit <= b, matrix, 0.0)
