"""Base weights: which of them ΔW can be added to, which can be trained row by row, and tied ones."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

PLAIN_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_mergeable(layer: Any, name: str) -> None:
    """Raises `ValueError` that says what kind of weight it is, unless it is a plain parameter in floating point.

    Arguments:
        layer: the layer under an adapter.
        name: its name in the model.

    >>> check_mergeable(nn.Linear(6, 4), "up")
    >>> check_mergeable(nn.Linear(6, 4, device="meta"), "up")
    Traceback (most recent call last):
    ...
    ValueError: cannot merge 'up': its weight has no values (device meta): merge into a plain float weight
    """
    kind = _kind(layer)
    if kind is not None:
        raise ValueError(f"cannot merge {name!r}: its weight {kind}: merge into a plain float weight")


def check_unsharded(parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Raises `ValueError` that names the first parameter of which this process holds only a part (FSDP, DTensor).

    >>> check_unsharded(nn.Linear(6, 4).named_parameters())
    """
    for name, parameter in parameters:
        kind = _sharded(parameter)
        if kind is not None:
            raise ValueError(
                f"cannot train {name!r} row by row: it {kind}, so that a process holds no whole rows: "
                "use DistributedDataParallel, which keeps every parameter whole"
            )


def untie(model: Any, layer: Any, name: str, holders: list[str]) -> None:
    """Gives an output layer a copy of the weight that it shares with the input embedding, and says so in the config.

    Arguments:
        holders: the names of all modules that have the weight.

    Raises `ValueError`, before anything changes, where a file of the model would tie the two again.
    """
    check_untied(model, layer, name, holders)
    bias = layer.bias
    layer.weight = nn.Parameter(layer.weight.detach().clone(), layer.weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    for config in _tying_configs(model):
        config.tie_word_embeddings = False


def check_untied(model: Any, layer: Any, name: str, holders: list[str]) -> None:
    """Raises `ValueError` unless the holders are the input embedding and the output layer of a transformers model."""
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    if len(holders) != 2 or embedding is None or embedding.weight is not layer.weight or not _tying_configs(model):
        raise ValueError(
            f"cannot merge {name!r}: its weight is shared by {', '.join(holders)}, and merged it would change them too"
        )


def _tying_configs(model: Any) -> list[Any]:
    """The configs of a transformers model that tie its embeddings."""
    config = getattr(model, "config", None)
    text = getattr(config, "get_text_config", lambda: None)()
    return [each for each in (config, text) if getattr(each, "tie_word_embeddings", False)]


def _kind(layer: Any) -> str | None:
    """What a layer's weight is, if it is not a plain parameter in floating point."""
    if is_parametrized(layer, "weight"):
        kinds = ", ".join(type(each).__name__.lstrip("_") for each in layer.parametrizations.weight)
        return f"is computed from other parameters ({kinds})"
    weight = layer._parameters.get("weight")
    if weight is None:
        hooks = [hook for hook in layer._forward_pre_hooks.values() if getattr(hook, "name", None) == "weight"]
        if hooks:
            return f"is computed from other parameters ({type(hooks[0]).__name__})"
        return "is no parameter of the layer's own, as under FSDP"
    if weight.is_meta:
        return "has no values (device meta)"
    if weight.dtype not in PLAIN_TYPES:
        return f"is quantised ({weight.dtype})"
    sharded = _sharded(weight)
    if sharded is not None:
        return sharded
    if type(weight) is not nn.Parameter or weight.layout != torch.strided:
        return f"is quantised or stored in a way of its own ({type(weight).__name__}, {weight.layout})"
    if hasattr(layer, "weight_fake_quant"):
        return "is rounded at each call (weight_fake_quant)"
    sizes = (getattr(layer, "in_features", None) or layer.nx) * (getattr(layer, "out_features", None) or layer.nf)
    return None if weight.dim() == 2 and weight.numel() == sizes else f"has shape {tuple(weight.shape)}, a part of it"


def _sharded(parameter: Any) -> str | None:
    """How a parameter is divided among processes, if it is."""
    names = {kind.__name__ for kind in type(parameter).__mro__}
    if "DTensor" in names:
        return "is divided among processes (DTensor)"
    if "FlatParameter" in names or getattr(parameter, "_is_flat_param", False):
        return "is one of FSDP's flat parameters"
    if getattr(parameter, "_fsdp_flattened", False):
        return "is a part of one of FSDP's flat parameters"
    return None


def unreadable(tensor: Tensor) -> str | None:
    """Why the values of a parameter or buffer cannot be read here as bytes; None if they can.

    >>> unreadable(torch.zeros(2, device="meta"))
    'has no values here (device meta)'
    """
    if tensor.is_meta:
        return "has no values here (device meta)"
    sharded = _sharded(tensor)
    if sharded is not None:
        return sharded
    if type(tensor.data) is not Tensor or tensor.layout != torch.strided or tensor.is_quantized:
        return f"is stored in a way of its own ({type(tensor).__name__}, {tensor.layout})"
    return None
