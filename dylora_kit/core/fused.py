"""Fused projections: query, key and value in one layer, their parts by name, and the layer that adapts some of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.base_weights import device_of
from dylora_kit.core.layer import Wrapper, is_untouched, runs_bare, sizes_of, stores_transposed
from dylora_kit.core.low_rank import LowRankAdapter, new_matrices
from dylora_kit.core.low_rank_product import through_operations
from dylora_kit.core.names import submodule
from dylora_kit.core.splits import SPLITS, Parts
from dylora_kit.storage.peft_files import Block

ADAPTED = ("q", "v")  # what is adapted when the whole projection is named, as in the paper
# what architectures call a fused projection
FUSED_NAMES = (
    "c_attn", "query_key_value", "qkv_proj", "qkv", "Wqkv", "wqkv", "W_pack", "in_proj_qkv", "in_proj_qkvz",
    "c_attn_qkv",
)  # fmt: skip


def parts_of(model: nn.Module, name: str) -> Parts | None:
    """The outputs of each part of the projection called `name`; None if it is not a fused one whose split is known.

    >>> parts_of(nn.Sequential(nn.Linear(2, 6)), "0") is None
    True
    """
    parent_name, _, child_name = name.rpartition(".")
    parent = submodule(model, parent_name)
    split = SPLITS.get((type(parent).__name__, child_name))
    if split is None:
        return None
    module = submodule(model, name)
    d_out = int(getattr(module, "nf", 0) or getattr(module, "out_features", 0))
    try:
        parts = split(parent, d_out)
    except AttributeError:  # another class of the same name
        return None
    if parts and sum(len(outputs) for outputs in parts.values()) != d_out:
        raise ValueError(f"{name!r} has {d_out} outputs, which do not split into {', '.join(parts)} as they should")
    return parts or None


def check_split_known(model: nn.Module, name: str) -> None:
    """Raises `ValueError` for a projection whose name says that it is fused, and whose split is not in `SPLITS`."""
    parent_name, _, child_name = name.rpartition(".")
    if child_name in FUSED_NAMES and parts_of(model, name) is None:
        parent = type(submodule(model, parent_name)).__name__
        raise ValueError(
            f"{name!r} looks like a fused projection, and how {parent} splits it is not known here: "
            "pass split_fused=False to adapt it as one layer"
        )


class DyLoRAFused(Wrapper):
    """A frozen projection whose output is several in one, such as query, key and value, with an adapter for some.

    Each adapter has matrices of its own, and adds to its own part of the output; the other parts are untouched.

    Arguments:
        base_layer: the projection, weight (d_out, d_in) or, for transformers' `Conv1D`, (d_in, d_out).
        parts: which outputs belong to each adapted part, `{name: indices}`.
        r: the maximum rank of each part.
        lora_alpha: α, one for all parts or one for each.
        scaling, lora_dropout, generator: as in `DyLoRALinear`.

    Attributes:
        adapters: the `LowRankAdapter` of each part.

    >>> fused = DyLoRAFused(nn.Linear(6, 12), {"q": range(4), "v": range(8, 12)}, {"q": 3, "v": 2})
    >>> fused(torch.randn(5, 6)).shape
    torch.Size([5, 12])
    """

    def __init__(
        self,
        base_layer: nn.Module,
        parts: Mapping[str, Sequence[int]],
        r: Mapping[str, int],
        lora_alpha: float | Mapping[str, float] = 16,
        scaling: str = "alpha/b",
        lora_dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        d_in, _ = sizes_of(base_layer)
        weight: Any = base_layer.weight
        alphas = lora_alpha if isinstance(lora_alpha, Mapping) else dict.fromkeys(parts, lora_alpha)
        self.adapters = nn.ModuleDict()
        for name, outputs in parts.items():
            matrices = new_matrices(d_in, len(outputs), r[name], generator, weight, device_of(base_layer))
            self.adapters[name] = LowRankAdapter(*matrices, alphas[name], scaling, lora_dropout)
        self.base_layer = base_layer.requires_grad_(False)
        self.parts = {name: list(outputs) for name, outputs in parts.items()}
        self._runs = _runs(self.parts)
        for name, outputs in self.parts.items():
            indices = torch.tensor(outputs, device=device_of(base_layer))
            self.register_buffer(f"outputs_{name}", indices, persistent=False)

    def part(self, name: str) -> LowRankAdapter:
        """The adapter of one part."""
        return self.adapters[name]  # type: ignore[return-value]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Maps x of shape (…, d_in) to (…, d_out), every part at the active rank."""
        h = self.base_layer(x, *args, **kwargs)
        if runs_bare(self, self._first.active):
            return h
        if self._runs is not None and self._adds_in_place(x, h):
            flat = h.view(-1, h.shape[-1])  # (n, d_out)
            for name, start, stop in self._runs:
                self.part(name).add_in_place(flat[:, start:stop], x)
            return h
        if self._runs is not None:  # then slices do, which are faster than indices
            pieces, done = [], 0
            for name, start, stop in self._runs:
                pieces += [h[..., done:start], self.part(name).add_to(h[..., start:stop], x)]
                done = stop
            return torch.cat([*pieces, h[..., done:]], dim=-1)
        for name in self.parts:
            indices = getattr(self, f"outputs_{name}")
            h = h.index_copy(-1, indices, self.part(name).add_to(h.index_select(-1, indices), x))
        return h

    def _adds_in_place(self, x: Tensor, h: Tensor) -> bool:
        """Whether h is the layer's own, no gradient is wanted and all types are the same."""
        return (
            not torch.is_grad_enabled()
            and (type(self.base_layer) is nn.Linear or stores_transposed(self.base_layer))
            and is_untouched(self.base_layer)
            and not self.training
            and x.dtype == h.dtype == self._first.lora_A.dtype
            and h.is_contiguous()
            and not through_operations()
        )

    @property
    def _first(self) -> LowRankAdapter:
        return self.part(next(iter(self.parts)))

    def block(self) -> Block:
        """A, B and the scale of all parts as one adapter: A (Σ b, d_in), B (d_out, Σ b), zero where a part has no row.

        The scale is the largest of the parts; columns of B make up for the others.
        """
        parts = {name: self.part(name).block() for name in self.parts}
        scale = max(part_scale for _, _, part_scale in parts.values())
        _, d_out = sizes_of(self.base_layer)
        A = torch.cat([part_A for part_A, _, _ in parts.values()])  # (Σ b, d_in)
        B, start = A.new_zeros(d_out, len(A)), 0
        for name, (part_A, part_B, part_scale) in parts.items():
            stop = start + len(part_A)
            B[self.parts[name], start:stop] = part_B * (part_scale / scale)
            start = stop
        return A, B, scale

    def delta_as_weight(self) -> Tensor:
        """ΔW of all parts at the active rank in the layout of the base layer's weight; zero elsewhere."""
        d_in, d_out = sizes_of(self.base_layer)
        delta = self._first.lora_A.new_zeros(d_out, d_in)
        for name, outputs in self.parts.items():
            delta[outputs] = self.part(name).delta()
        return delta.T if stores_transposed(self.base_layer) else delta


def _runs(parts: Mapping[str, list[int]]) -> list[tuple[str, int, int]] | None:
    """The parts in order, as (name, first output, after the last); None if the outputs of one are not in a row.

    >>> _runs({"v": [4, 5], "q": [0, 1]})
    [('q', 0, 2), ('v', 4, 6)]
    """
    runs = sorted(((name, outputs[0], outputs[-1] + 1) for name, outputs in parts.items()), key=lambda run: run[1])
    return runs if all(parts[name] == list(range(start, stop)) for name, start, stop in runs) else None
