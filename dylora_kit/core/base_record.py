"""A model's own parameters and buffers as adapters found them, and what has changed since."""

import weakref
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.base_weights import unreadable
from dylora_kit.core.names import named_modules, plain_name
from dylora_kit.storage.adapter_files import PREFIX
from dylora_kit.storage.base_model import Fingerprint, fingerprint_of
from dylora_kit.storage.checksum import checksum

SAMPLE = 256  # values of a parameter that are kept, at least if it has so many, to be compared in another type
LARGE = 65536  # values of a buffer of integers, such as a quantised weight, above which it is not looked at
NOT_BASE = {"lora_A", "lora_B", "modules_to_save"}  # parts of names, also in PEFT's own models


@dataclass(frozen=True)
class _Mark:
    """What is kept of a parameter. `checksum` and `sample` are None where its values cannot be read."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    checksum: str | None
    sample: Tensor | None


class BaseRecord:
    """What a model held when adapters were attached, by which every change since is told.

    Of each parameter it keeps a checksum of all values, and which others were one with it (tied weights); of each
    buffer that is saved with a model, such as the running statistics of a normalisation, a copy.

    Not noticed: a change of single values of a large parameter whose type was changed too (`model.bfloat16()` after
    `attach`), since some 256 of its values are compared then; changes of parameters whose values cannot be read (on
    the meta device, offloaded, divided among processes, packed); and changes of a buffer of more than `LARGE` integers.

    Arguments:
        model: without adapters.
        outside: names of modules whose weights are no part of the base, since they are trained along.
    """

    def __init__(self, model: nn.Module, outside: Iterable[str] = ()) -> None:
        marks: dict[int, _Mark] = {}
        self._marks: dict[str, _Mark] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if id(parameter) not in marks:
                marks[id(parameter)] = _mark(parameter)
            self._marks[name_in_base(name)] = marks[id(parameter)]
        self._ties = ties_of(model)
        buffers = saved_buffers(model)
        self._buffer_names = set(buffers)
        self._buffers = {
            name: buffer.detach().clone()
            for name, buffer in buffers.items()
            if buffer.is_floating_point() or buffer.numel() <= LARGE
        }
        self._seen: dict[str, tuple[Any, int, int]] = {}  # as which a parameter was last found not to have changed
        self._names_seen: list[str] = []  # of parameters, among which the last time none was missing
        sums = {name: mark.checksum for name, mark in self._marks.items() if mark.checksum is not None}
        weights = base_weights(model, outside)
        others = {name: p for name, p in _base_parameters(model, outside).items() if name not in weights}
        self.fingerprint: Fingerprint = fingerprint_of(weights, sums, others)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_seen": {}, "_names_seen": []}  # a copy is of another model

    def changed(self, name: str, parameter: Tensor) -> str | None:
        """How a parameter differs from what it was; None if it does not, and if that cannot be known."""
        name = name_in_base(name)
        then = self._marks.get(name)
        if unreadable(parameter):
            return None
        if then is None:
            return None if NOT_BASE & set(name.split(".")) else "was added after adapters were attached"
        if then.sample is None or (then.dtype != parameter.dtype and not _floating(then.dtype, parameter.dtype)):
            return None
        if then.shape != tuple(parameter.shape):
            return f"has shape {tuple(parameter.shape)}, and had {then.shape} when adapters were attached"
        if then.dtype == parameter.dtype:
            return None if then.checksum == checksum(parameter) else "has changed since adapters were attached"
        if _equal(then.sample.to(parameter.dtype).double(), _sample(parameter).double()):
            return None
        return f"has changed since adapters were attached, by more than its type ({parameter.dtype})"

    def tied_otherwise(self, name: str, ties: Mapping[str, Collection[str]]) -> str | None:
        """A parameter that is one with this one now and was not, or the other way round; None if there is none.

        Arguments:
            ties: for each parameter, by its name in the base, the names of all that are one with it now.
        """
        name = name_in_base(name)
        others = set(ties[name]) ^ set(self._ties.get(name, ()))
        return next((other for other in sorted(others) if other in self._ties and other in ties), None)

    def missing(self, names: Collection[str], along: Iterable[str] = ()) -> str | None:
        """The first parameter that the model had, by name, and has no more; None if it has all of them.

        Arguments:
            names: those of all its parameters now, in the base.
            along: names of modules that are saved whole, whose parameters may be others now.
        """
        starts = tuple(f"{name_in_base(name)}." for name in along)
        gone = (name for name in self._marks if name not in names and not NOT_BASE & set(name.split(".")))
        return next((name for name in gone if not name.startswith(starts)), None)

    def difference(self, model: nn.Module, without: set[nn.Parameter]) -> tuple[str, str] | None:
        """The first parameter or buffer that differs from what it was, by name, and how; None if none does.

        A parameter that was found unchanged is not looked at again while it is the same object with its values at the
        same place, and autograd has counted no change of them. So a change through `.data` after the first call is
        not noticed here; `changed` does.

        Arguments:
            without: parameters that are left out.
        """
        parameters = dict(model.named_parameters(remove_duplicate=False))
        if list(parameters) != self._names_seen:
            gone = self.missing({name_in_base(name) for name in parameters})
            if gone:
                return gone, "is no longer in the model"
            self._names_seen = list(parameters)
        for name, parameter in parameters.items():
            if parameter in without:
                continue
            seen = self._seen.get(name)
            if seen is not None and seen[0]() is parameter and seen[1:] == _place_and_version(parameter):
                continue
            problem = self.changed(name, parameter)
            if problem:
                return name_in_base(name), problem
            if not unreadable(parameter) and not parameter.is_inference():
                self._seen[name] = (weakref.ref(parameter), *_place_and_version(parameter))
        moved = (name for name in self.moved_buffers(model) if not NOT_BASE & set(name.split(".")))
        return next(((name, "has moved since adapters were attached") for name in moved), None)

    def moved_buffers(self, model: nn.Module) -> dict[str, Tensor]:
        """The buffers of a model that have other values than they had, or were not there, by name."""
        moved = {}
        for name, buffer in saved_buffers(model).items():
            then = self._buffers.get(name)
            new = name not in self._buffer_names
            if not unreadable(buffer) and (new or (then is not None and not _equal(then, buffer))):
                moved[name] = buffer
        return moved

    @torch.no_grad()
    def restore_buffers(self, model: nn.Module) -> None:
        """Gives the buffers of a model the values that they had."""
        for name, buffer in self.moved_buffers(model).items():
            if name in self._buffers and self._buffers[name].shape == buffer.shape:
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
    """A model's own weights in floating point, by their names in it without adapters, and without some modules.

    A tied weight has each of its names, and none if one of them is in these modules.
    """
    return {
        name: parameter
        for name, parameter in _base_parameters(model, outside).items()
        if parameter.is_floating_point() and parameter.itemsize > 1 and not unreadable(parameter)
    }


def _base_parameters(model: nn.Module, outside: Iterable[str]) -> dict[str, Tensor]:
    """All of a model's own parameters, as `base_weights` gives those in floating point."""
    starts = tuple(f"{name}." for name in outside)
    parameters = {name_in_base(name): p for name, p in model.named_parameters(remove_duplicate=False)}
    without = {id(parameter) for name, parameter in parameters.items() if name.startswith(starts)}
    return {
        name: parameter
        for name, parameter in parameters.items()
        if id(parameter) not in without and not NOT_BASE & set(name.split("."))
    }


def ties_of(model: nn.Module) -> dict[str, list[str]]:
    """For each parameter, by its name in the model without adapters, the names of all that are one with it."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name_in_base(name))
    return {name: together for together in names.values() for name in together}


def _mark(parameter: Tensor) -> _Mark:
    """What is kept of a parameter."""
    kind = (tuple(parameter.shape), parameter.dtype)
    return _Mark(*kind, None, None) if unreadable(parameter) else _Mark(*kind, checksum(parameter), _sample(parameter))


def _sample(tensor: Tensor) -> Tensor:
    """Some values of a tensor, from all over it, on the CPU."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLE)].to("cpu", copy=True)


def _place_and_version(tensor: Tensor) -> tuple[int, int]:
    """Where a tensor's values are, and how many changes of them autograd has counted."""
    return tensor.data_ptr(), tensor._version


def _floating(*dtypes: torch.dtype) -> bool:
    return all(dtype.is_floating_point for dtype in dtypes)


def _equal(then: Tensor, now: Tensor) -> bool:
    """Whether two tensors have the same values; NaN equals NaN."""
    if then.shape != now.shape:
        return False
    then = then.to(now.device, now.dtype)
    return torch.equal(then, now) or torch.equal(then.nan_to_num(), now.nan_to_num())
