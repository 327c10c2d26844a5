"""A forward pass of the user's own in place of the kit's, in a live model."""

from collections.abc import Callable
from html import escape
from types import MethodType
from typing import Any

from torch import Tensor

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.layer import DyLoRALinear, runs_bare, stores_transposed
from dylora_kit.core.rank_handle import RankHandle

# (x, W, A, B, b, alpha): rows x (n, d_in), W (d_out, d_in), all of A (r, d_in) and B (d_out, r) → (n, d_out)
OwnForward = Callable[[Tensor, Tensor, Tensor, Tensor, int, float], Tensor]


def check_own_forward(adapters: RankHandle, forward: OwnForward | None) -> None:
    """Raises `ValueError` for a forward that is no function, and for adapters that do more than it is told of."""
    if forward is None:
        return
    if not callable(forward):
        raise ValueError(f"forward=… must be a function (x, W, A, B, b, alpha): got {forward!r}")
    layers = list(adapters.layers.values()) if isinstance(adapters, Adapters) else []
    plain = [layer for layer in layers if type(layer) is DyLoRALinear and not stores_transposed(layer.base_layer)]
    if not layers or len(plain) < len(layers):
        raise ValueError("forward=… runs in adapters of linear layers that are not fused: leave it out here")
    if any(layer.scaling != "alpha/b" or layer._lora_dropout for layer in plain):
        raise ValueError("forward=… is told α and b alone, so it needs scaling='alpha/b' and no dropout")


def run_through(adapters: Adapters, forward: OwnForward) -> None:
    """Lets every adapted layer compute with `forward`, and adds its bias. Gradients are those of what it computes."""

    def through(layer: Any, x: Tensor) -> Tensor:
        if runs_bare(layer, layer.active):
            return layer.base_layer(x)
        b = layer.rank
        if not isinstance(b, int):
            raise ValueError("forward=… runs at one rank for a whole batch: leave it out for a rank for each example")
        rows = x.reshape(-1, layer.in_features)  # (…, d_in) → (n, d_in)
        out = forward(rows, layer.weight, layer.lora_A, layer.lora_B, b, layer.lora_alpha)
        if not isinstance(out, Tensor) or out.shape != (len(rows), layer.out_features):
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(f"your forward returns {shape}: expected the shape {(len(rows), layer.out_features)}")
        out = out if layer.bias is None else out + layer.bias
        return out.reshape(*x.shape[:-1], layer.out_features)

    for layer in adapters.layers.values():
        layer.forward = MethodType(through, layer)  # bound, so that a copy of the model computes with its own weights


def run_as_before(adapters: RankHandle) -> None:
    """Lets every adapted layer compute as the kit does again."""
    for layer in getattr(adapters, "layers", {}).values():
        layer.__dict__.pop("forward", None)


def whose(**functions: Callable[..., Any] | None) -> str:
    """Says of the forward and the step that run whether a notebook wrote them, as HTML; nothing where none is given."""
    told = [
        f"{what}: <b>yours</b>, <code>{escape(getattr(function, '__name__', 'a function'))}</code>"
        if getattr(function, "__module__", None) == "__main__"
        else f"{what}: the kit's, until yours is right"
        for what, function in functions.items()
        if function is not None
    ]
    return f"What runs here: {' &nbsp;·&nbsp; '.join(told)}" if told else ""
