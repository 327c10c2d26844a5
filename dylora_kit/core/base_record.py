"""A model's own parameters and buffers as adapters found them: what has changed since, and what a file must hold."""

import zlib
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from dylora_kit.core.names import named_modules, plain_name
from dylora_kit.storage.adapter_files import PREFIX
from dylora_kit.storage.base_model import Fingerprint, fingerprint_of

SAMPLE = 65536  # values of a parameter that are looked at
LARGE = 65536  # values of a buffer of integers, such as a quantised weight, above which it is not copied


class BaseRecord:
    """What a model held when adapters were attached: a checksum of each parameter, and a copy of each buffer.

    Buffers are those that are saved with a model, such as the running statistics of a normalisation, which move in
    training although nothing gives them a gradient. Of a parameter up to `SAMPLE` values enter its checksum.

    Arguments:
        model: without adapters.
        outside: names of modules whose weights are no part of the base, since they are trained along.
    """

    def __init__(self, model: nn.Module, outside: Iterable[str] = ()) -> None:
        parameters = dict(model.named_parameters())
        self._kinds = {name_in_base(name): _kind(parameter) for name, parameter in parameters.items()}
        self._sums = {name_in_base(name): _checksum(parameter) for name, parameter in parameters.items()}
        self._buffers = {
            name: buffer.detach().clone()
            for name, buffer in saved_buffers(model).items()
            if buffer.is_floating_point() or buffer.numel() <= LARGE
        }
        self.fingerprint: Fingerprint = fingerprint_of(base_weights(model, outside))

    def changed(self, name: str, parameter: Tensor) -> str | None:
        """How a parameter differs from what it was; None if it does not, as far as its checksum tells.

        One that was not there has not changed, and neither has one that is of another type by now.
        """
        then, now = self._kinds.get(name_in_base(name)), _kind(parameter)
        if then is None or then[1] != now[1]:
            return None
        if then[0] != now[0]:
            return f"has shape {now[0]}, and had {then[0]} when adapters were attached"
        same = self._sums[name_in_base(name)] in (None, _checksum(parameter))
        return None if same else "has changed since adapters were attached"

    def moved_buffers(self, model: nn.Module) -> dict[str, Tensor]:
        """The buffers of a model that have other values than they had, by name."""
        moved = {}
        for name, buffer in saved_buffers(model).items():
            then = self._buffers.get(name)
            if then is not None and buffer.device.type != "meta" and not _equal(then, buffer):
                moved[name] = buffer
        return moved

    @torch.no_grad()
    def restore_buffers(self, model: nn.Module) -> None:
        """Gives the buffers of a model the values that they had."""
        for name, buffer in self.moved_buffers(model).items():
            if self._buffers[name].shape == buffer.shape:
                buffer.copy_(self._buffers[name])


def name_in_base(name: str) -> str:
    """The name of a module, parameter or buffer in the model without adapters, compiled or not.

    >>> name_in_base("base_model.model.layer.0.query.base_layer.weight")
    'layer.0.query.weight'
    """
    parts = plain_name(name.removeprefix(PREFIX)).split(".")
    return ".".join(part for part in parts if part not in ("base_layer", "original_module"))


def modules_in_base(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model by their names in it without adapters; an adapted layer is the one that stands outside."""
    modules: dict[str, nn.Module] = {}
    for name, module in named_modules(model, remove_duplicate=False):
        modules.setdefault(name_in_base(name), module)
    return modules


def saved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that are saved with a model, by their names in it without adapters."""
    kept: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        for key, buffer in module.named_buffers(recurse=False):
            if key not in module._non_persistent_buffers_set:
                kept[name_in_base(f"{name}.{key}" if name else key)] = buffer
    return kept


def base_weights(model: nn.Module, outside: Iterable[str] = ()) -> dict[str, Tensor]:
    """A model's own weights in floating point, by their names in it without adapters, and without some modules."""
    starts = tuple(f"{name}." for name in outside)
    return {
        name_in_base(name): parameter
        for name, parameter in model.named_parameters()
        if not name_in_base(name).startswith(starts)
        and not {"lora_A", "lora_B", "modules_to_save"} & set(name.split("."))
        and parameter.is_floating_point()
        and parameter.itemsize > 1
        and parameter.device.type != "meta"
    }


def check_all_saved(
    model: nn.Module, record: BaseRecord, saved: Mapping[str, Tensor], remedy: Callable[[str], str]
) -> None:
    """Raises `ValueError` unless what was trained is what is saved.

    Every tensor to be saved must be in the model; every parameter that requires a gradient, or has changed since
    adapters were attached, must be among them.

    Arguments:
        saved: what is to be saved, by name.
        remedy: gives the end of the sentence on a parameter that is not saved, by its name.
    """
    held = {id(tensor) for tensor in (*model.parameters(), *saved_buffers(model).values())}
    for name, tensor in saved.items():
        if id(tensor) not in held:
            raise ValueError(
                f"{name!r} is no longer in the model: the module that had it was taken out or replaced since adapters "
                "were attached, so put it back, or attach adapters again"
            )
    kept = {id(tensor) for tensor in saved.values()}
    for name, parameter in model.named_parameters():
        if id(parameter) in kept:
            continue
        problem = "is trained (it requires a gradient)" if parameter.requires_grad else record.changed(name, parameter)
        if problem:
            plain = name_in_base(name)
            raise ValueError(f"{plain!r} {problem}, and would not be saved: {remedy(plain)}")


def _kind(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and type of a tensor."""
    return tuple(tensor.shape), tensor.dtype


def _checksum(tensor: Tensor) -> int | None:
    """A checksum of a tensor's values, or of `SAMPLE` of them; None for one whose values cannot be read as bytes."""
    if tensor.device.type == "meta" or type(tensor.data) is not Tensor:
        return None
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, -(-len(flat) // SAMPLE))].contiguous()
    return zlib.crc32(sample.view(torch.uint8).cpu().numpy().tobytes()) if len(sample) else 0


def _equal(then: Tensor, now: Tensor) -> bool:
    """Whether two tensors have the same values; NaN equals NaN."""
    if then.shape != now.shape:
        return False
    then = then.to(now.device, now.dtype)
    return torch.equal(then, now) or torch.equal(then.nan_to_num(), now.nan_to_num())
