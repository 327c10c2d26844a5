"""Base weights: where they are, which ΔW can be added to, which can be trained row by row, and tied ones."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

PLAIN_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
PLAIN_FORWARDS = {"Conv1D", "FalconLinear"}  # transformers' layers that have a forward of their own, and are linear
NO_VALUES = "has no values (device meta)"
TIED = "tie_word_embeddings"  # what transformers' configs call it that the output layer has the embedding's weight


def device_of(layer: Any) -> torch.device:
    """Where a layer computes: the device of its weight, or the one to which accelerate fetches it at each call.

    >>> device_of(nn.Linear(6, 4))
    device(type='cpu')
    """
    devices = [hook.execution_device for hook in device_hooks(layer) or () if hook.offload]
    if layer.weight.is_meta and devices and isinstance(devices[-1], int | str | torch.device):
        return torch.device(devices[-1])
    return layer.weight.device


def check_mergeable(layer: Any, name: str) -> None:
    """Raises `ValueError` that says what it is, unless it is a linear layer with a plain weight in floating point.

    What a hook does cannot be seen, so one that may change input or output is refused; hooks of accelerate that only
    move tensors to a device are none of these.

    Arguments:
        layer: the layer under an adapter.
        name: its name in the model.

    >>> check_mergeable(nn.Linear(6, 4), "up")
    >>> check_mergeable(nn.Linear(6, 4, device="meta"), "up")
    Traceback (most recent call last):
    ...
    ValueError: cannot merge 'up': its weight has no values (device meta): merge into a plain float weight
    """
    if _kind(layer) == NO_VALUES and device_hooks(layer):
        raise ValueError(
            f"cannot merge {name!r}: accelerate offloads its weight: load the model without offload, and merge there"
        )
    kind = _kind(layer)
    if kind is not None:
        raise ValueError(f"cannot merge {name!r}: its weight {kind}: merge into a plain float weight")
    hooks = [*layer._forward_pre_hooks.values(), *layer._forward_hooks.values()]
    if hooks:
        raise ValueError(
            f"cannot merge {name!r}: its hook {_name_of(hooks[0])!r} may change what goes in or out, and so what ΔW "
            "does: take the hook off, merge, and put it on again if it only looks"
        )
    own = _own_forward(layer)
    if own is not None:
        raise ValueError(
            f"cannot merge {name!r}: it has a forward of its own ({own}), which may use the weight otherwise than a "
            "linear layer does: keep the adapters beside it, as save and export_peft do"
        )


def check_finite(weight: Tensor, name: str) -> None:
    """Raises `ValueError` for a merged weight with a value that is not finite.

    >>> check_finite(torch.zeros(4, 6), "up")
    """
    if not bool(weight.isfinite().all()):
        raise ValueError(
            f"cannot merge {name!r}: its weight with ΔW has values that are not finite in {weight.dtype}: look at the "
            "adapters, or convert the model to a type of wider range first"
        )


def check_unsharded(parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Raises `ValueError` that names the first parameter of which this process holds only a part (FSDP, DTensor).

    Or nothing at all, as where accelerate offloaded a model that had adapters already.

    >>> check_unsharded(nn.Linear(6, 4).named_parameters())
    """
    for name, parameter in parameters:
        if parameter.is_meta:
            raise ValueError(
                f"cannot train {name!r}: it has no values (device meta): move it to a device, or let accelerate "
                "offload the model before adapters are attached"
            )
        kind = sharded(parameter)
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
    with torch.inference_mode(False):
        layer.weight = nn.Parameter(layer.weight.detach().clone(), layer.weight.requires_grad)
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    for config in _tying_configs(model):
        setattr(config, TIED, False)


def check_untied(model: Any, layer: Any, name: str, holders: list[str]) -> None:
    """Raises `ValueError` unless the holders are the input embedding and the output layer of a transformers model.

    Also for a model that computes otherwise once they are separate, as UMT5, which scales the logits of tied ones.
    """
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    if len(holders) != 2 or embedding is None or embedding.weight is not layer.weight or not _tying_configs(model):
        raise ValueError(
            f"cannot merge {name!r}: its weight is shared by {', '.join(holders)}, and merged it would change them too"
        )
    for module in model.modules():
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        if code is not None and TIED in code.co_names:
            raise ValueError(
                f"cannot merge {name!r}: its weight is the input embedding's, and {type(module).__name__} computes "
                f"otherwise where they are separate ({TIED}): keep the adapters beside it, as save and export_peft do"
            )


def _tying_configs(model: Any) -> list[Any]:
    """The configs of a transformers model that tie its embeddings."""
    config = getattr(model, "config", None)
    text = getattr(config, "get_text_config", lambda: None)()
    return [each for each in (config, text) if getattr(each, TIED, False)]


def _kind(layer: Any) -> str | None:
    """What a layer's weight is, if it is not a plain parameter in floating point."""
    if is_parametrized(layer, "weight"):
        kinds = ", ".join(type(each).__name__.lstrip("_") for each in layer.parametrizations.weight)
        return f"is computed from other parameters ({kinds})"
    weight = layer._parameters.get("weight")
    if weight is None:
        for hook in layer._forward_pre_hooks.values():
            if "weight" in (getattr(hook, "name", None), getattr(hook, "_tensor_name", None)):
                return f"is computed from other parameters ({type(hook).__name__})"
        if not layer._parameters and type(layer).forward is not nn.Linear.forward:
            return f"is no parameter ({type(layer).__module__}.{type(layer).__qualname__})"
        return "is no parameter of the layer's own, as under FSDP"
    if weight.is_meta:
        return NO_VALUES
    if weight.dtype not in PLAIN_TYPES:
        return f"is {'complex' if weight.dtype.is_complex else 'quantised'} ({weight.dtype})"
    divided = sharded(weight)
    if divided is not None:
        return divided
    if type(weight) is not nn.Parameter or weight.layout != torch.strided:
        return f"is quantised or stored in a way of its own ({type(weight).__name__}, {weight.layout})"
    if hasattr(layer, "weight_fake_quant"):
        return "is rounded at each call (weight_fake_quant)"
    sizes = (getattr(layer, "in_features", None) or layer.nx) * (getattr(layer, "out_features", None) or layer.nf)
    return None if weight.dim() == 2 and weight.numel() == sizes else f"has shape {tuple(weight.shape)}, a part of it"


def _own_forward(layer: Any) -> str | None:
    """What computes a layer's output, if it is not known to be a linear layer."""
    forward = layer._old_forward if device_hooks(layer) else layer.forward
    kind = type(layer)
    if getattr(forward, "__func__", None) is not kind.forward:  # it was put on the layer itself
        return _name_of(forward)
    listed = kind.__name__ in PLAIN_FORWARDS and kind.__module__.startswith("transformers.")
    return None if listed or kind.forward is nn.Linear.forward else kind.__qualname__


def device_hooks(layer: Any) -> list[Any]:
    """The hooks of accelerate that move a layer's tensors to a device; empty if it has others too."""
    hook = layer.__dict__.get("_hf_hook")
    hooks = [] if hook is None else list(getattr(hook, "hooks", [hook]))
    return hooks if all(type(each).__name__ == "AlignDevicesHook" for each in hooks) else []


def _name_of(function: Any) -> str:
    """What a function, or an object that is called as one, is named."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def sharded(parameter: Any) -> str | None:
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
    'has no values (device meta)'
    """
    if tensor.is_meta:
        return NO_VALUES
    divided = sharded(tensor)
    if divided is not None:
        return divided
    if type(tensor.data) is not Tensor or tensor.layout != torch.strided or tensor.is_quantized:
        return f"is stored in a way of its own ({type(tensor).__name__}, {tensor.layout})"
    return None
