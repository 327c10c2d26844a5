"""Adapted layers: a frozen one underneath, and the adapters that add to its output."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks

from dylora_kit.core.base_weights import check_finite, check_mergeable, device_of, sharded
from dylora_kit.core.low_rank import LowRankAdapter, new_matrices
from dylora_kit.core.low_rank_product import autocasts
from dylora_kit.core.rank import ActiveRank, check_rank
from dylora_kit.storage.peft_files import Block


class Wrapper(nn.Module):
    """What stands in a model where a frozen layer stood."""

    base_layer: Any  # a linear layer, also a quantised one
    mark = 0.0  # what tells its state from that of another kind of adapter, whose matrices may fit as well
    _original: Tensor | None = None  # the weight before merging, while merged

    @property
    def weight(self) -> Tensor:
        """The base layer's weight, for code that reads it from the module it replaced."""
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        return self.base_layer.bias

    def delta_as_weight(self) -> Tensor:
        """ΔW at the active rank in the layout of the base layer's weight."""
        raise NotImplementedError

    def block(self) -> Block:
        """A (n, d_in), B (d_out, n) and a scale at the active rank: ΔW = scale · B·A."""
        raise NotImplementedError

    @property
    def holds_merged(self) -> bool:
        """Whether ΔW is at present added to the base layer's weight."""
        return self._original is not None

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module. While merged it is that of the plain layer, with ΔW in its weight."""
        return self.base_layer.state_dict(*args, **kwargs) if self.holds_merged else super().state_dict(*args, **kwargs)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """As of any module, and a `weight` of one value, its mark.

        Whatever reads the state as that of a plain model (`from_pretrained` where a model around this one was saved,
        a load that is not strict) then raises for the shape, where it would leave a layer as it was drawn. Not under
        FSDP, which accelerate lets have nothing but divided tensors in the state.
        """
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if sharded(self.base_layer._parameters.get("weight")) is None:
            destination[f"{prefix}weight"] = torch.tensor([self.mark])

    def check_loads(self, state: Mapping[str, Any], prefix: str) -> None:
        """Raises `ValueError` for a state, with names that begin with the prefix, which this layer would read wrongly.

        That is any state while merged, one of a model without adapters or with merged ones, and one of a bottleneck
        for a LoRA, or the other way round.
        """
        if self.holds_merged:
            raise ValueError("the adapters are merged into the base weights: call unmerge() before loading a state")
        weight = state.get(f"{prefix}weight")
        if weight is None:
            return
        if f"{prefix}base_layer.weight" in state:
            if weight.numel() == 1 and not weight.is_meta and weight.item() != self.mark:
                raise ValueError(
                    f"the state has another kind of adapter at {prefix.removesuffix('.')!r} than this model, a LoRA or "
                    "a bottleneck: attach the kind that was saved, as in attach(…, bottleneck='parallel')"
                )
        else:
            raise ValueError(
                f"the state holds {prefix + 'weight'!r} of a model without adapters, or with merged ones, and this "
                "model has an adapter there: load it into a model without adapters (before attach, or after detach)"
            )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        self.check_loads(state_dict, prefix)
        state_dict.pop(f"{prefix}weight", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """The base weight plus ΔW at the active rank, in the base weight's layout and type."""
        weight, delta = self.weight.detach(), self.delta_as_weight()
        return (weight.to(delta.dtype) + delta).to(weight.dtype)

    def swap_in(self, merged: Tensor) -> None:
        """Puts a merged weight in place of the original, which is kept: W + ΔW − ΔW is not W in floating point."""
        weight = self.weight
        self._original, weight.data = weight.data, merged

    def swap_out(self) -> None:
        """Puts the original weight back."""
        assert self._original is not None
        weight = self.weight  # the model may have been moved meanwhile
        weight.data, self._original = self._original.to(weight.device, weight.dtype), None

    def unwrapped(self, merged: Tensor | None = None) -> nn.Module:
        """The base layer, with a merged weight to keep."""
        if merged is not None:
            self.weight.data = merged
        self._original = None
        return self.base_layer


class DyLoRALinear(LowRankAdapter, Wrapper):
    """A frozen linear layer plus a low-rank adapter that runs at any rank from 1 to r.

    At the active rank b it computes (Eq. 7)

        h = base(x) + (α/b) · (x · lora_A[:b]ᵀ) · lora_B[:, :b]ᵀ

    Rows of `lora_A` and columns of `lora_B` beyond b are not read. At b = r this is plain LoRA.

    Arguments:
        base_layer: an `nn.Linear` with weight (d_out, d_in), or transformers' `Conv1D` with weight (d_in, d_out). It is
            frozen.
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
        d_in, d_out = sizes_of(base_layer)
        weight: Any = base_layer.weight
        matrices = new_matrices(d_in, d_out, r, generator, weight, device_of(base_layer))
        super().__init__(*matrices, lora_alpha, scaling, lora_dropout)
        self.base_layer = base_layer.requires_grad_(False)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Maps x of shape (…, d_in) to (…, d_out) at the active rank."""
        if runs_bare(self, self.active):
            return self.base_layer(x, *args, **kwargs)
        if not (args or kwargs) and self._is_plain(x):
            frozen = self.base_layer._parameters
            return self.add_to(None, x, frozen["weight"], frozen["bias"])
        return self.add_to(self.base_layer(x, *args, **kwargs), x)

    def _is_plain(self, x: Tensor) -> bool:
        """Whether base layer and adapter can be computed together, without calling the base layer.

        It must be a plain, frozen linear layer without hooks, and all types must be the same. A module's own lookup is
        slow, so parameters are read directly.
        """
        base: Any = self._modules["base_layer"]
        own = base._parameters
        weight = own.get("weight")
        return (
            type(base) is nn.Linear
            and type(weight) is nn.Parameter
            and "bias" in own
            and not (weight.requires_grad or (own["bias"] is not None and own["bias"].requires_grad))
            and x.dtype == weight.dtype == self.lora_A.dtype
            and not (self._lora_dropout and self.training)
            and not autocasts(x)
            and is_untouched(base)
        )

    def delta_as_weight(self) -> Tensor:
        """ΔW at the active rank in the layout of the base layer's weight."""
        return self.delta().T if stores_transposed(self.base_layer) else self.delta()

    def merge(self, rank: int | None = None) -> None:
        """Adds ΔW at a rank (default: the active one) to the base weight, until `unmerge`."""
        self._check_standalone()
        if self.active.merged:
            raise ValueError("the adapter is merged already: call unmerge() first")
        check_mergeable(self.base_layer, "base_layer")
        before = self.active.value
        try:
            if rank is not None:
                self.active.value = check_rank(rank, self.r)
            merged = self.merged_weight()
            check_finite(merged, "base_layer")
        except ValueError:
            self.active.value = before
            raise
        self.swap_in(merged)
        self.active.merged = True

    def unmerge(self) -> None:
        """Puts the original weight back, bit for bit."""
        self._check_standalone()
        if not self.active.merged:
            raise ValueError("the adapter is not merged: call merge() first")
        self.swap_out()
        self.active.merged = False


def sizes_of(module: nn.Module) -> tuple[int, int]:
    """(d_in, d_out) of a module that an adapter can be added to; `TypeError` for any other.

    >>> sizes_of(nn.Linear(6, 4))
    (6, 4)
    """
    if stores_transposed(module):
        return module.nx, module.nf  # type: ignore[return-value]
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    kind = f"{type(module).__name__} of {type(module).__module__}"
    raise TypeError(f"cannot adapt a {kind}: expected an nn.Linear, or transformers' Conv1D")


def stores_transposed(module: nn.Module) -> bool:
    """Whether a layer's weight is (d_in, d_out), as in transformers' `Conv1D`."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and hasattr(module, "nx")


def is_untouched(module: nn.Module) -> bool:
    """Whether calling a module runs its class's forward and nothing else."""
    return (
        not (module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)
        and not (module_hooks._global_forward_hooks or module_hooks._global_forward_pre_hooks)
        and "forward" not in module.__dict__
    )


def runs_bare(layer: nn.Module, active: ActiveRank) -> bool:
    """Whether the base layer alone is to be run: its weight has ΔW in it, or the adapters are switched off.

    Raises `RuntimeError` for training while merged.
    """
    if active.merged and layer.training and torch.is_grad_enabled():
        active.check_unmerged("training", RuntimeError)
    return active.merged or active.disabled > 0


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts `new` wherever `old` stands, also where one module is registered under several names."""
    places = [
        (parent, key)
        for parent in model.modules()
        if parent is not new
        for key, child in parent._modules.items()
        if child is old
    ]
    for parent, key in places:
        setattr(parent, key, new)
