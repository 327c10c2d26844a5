"""Adapters on a whole model: attached anew, or loaded. The handle that both return is in `core.handle`."""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dylora_kit.core.base_record import BaseRecord, base_weights
from dylora_kit.core.fused import DyLoRAFused
from dylora_kit.core.handle import Adapters
from dylora_kit.core.heads import NewWeightsWarning, warn_of_new_weights
from dylora_kit.core.layer import DyLoRALinear, Wrapper
from dylora_kit.core.targets import Target, by_module, ends_with, match_saved, match_targets
from dylora_kit.storage.adapter_files import WEIGHTS, read_adapter
from dylora_kit.storage.base_model import Origin, other_base, same_name


def attach(
    model: nn.Module,
    *,
    target_modules: str | Sequence[str],
    r: int = 8,
    lora_alpha: float = 16,
    scaling: str = "alpha/b",
    lora_dropout: float = 0.0,
    modules_to_save: Sequence[str] = (),
    rank_pattern: Mapping[str, int] | None = None,
    split_fused: bool = True,
    seed: int = 0,
) -> Adapters:
    """Freezes a model and wraps some of its linear layers in adapters, in place.

    Warns of weights that are new in the model, such as the head of a task, and would be frozen as they are. Frozen
    normalisations still move their running statistics in training, as in torch: `save` saves them, `load` puts them
    back, and `detach` gives back those that the model had.

    Arguments:
        model: any `nn.Module`.
        target_modules: names of the layers to adapt. A list is matched against the end of each module's dotted
            name (`["q_proj", "v_proj"]`), a string is a regular expression for the whole name. `"attention"` means
            the query and value of every self-attention, whatever this architecture calls them.
        r: the maximum rank (r_max).
        lora_alpha: α of Eq. 7.
        scaling: `"alpha/b"` (the paper), `"alpha/r"` or `"alpha/sqrt(b)"`.
        lora_dropout: dropout on the adapters' input, in training.
        modules_to_save: modules that are trained along with the adapters and saved with them, such as
            `["classifier"]`; matched like a list of targets.
        rank_pattern: another maximum rank for some layers, `{end of the name: r}`; a whole name means that
            layer alone. Where several fit, a whole name wins, and else the first, as in PEFT.
        split_fused: a projection that makes query, key and value in one (GPT-2's `c_attn`) gets adapters of their
            own for query and value, called `c_attn.q` and `c_attn.v`; name parts to choose others, such as
            `["c_attn.k"]`. With False it is adapted as one layer, as PEFT does.
        seed: start of `lora_A`, drawn from a generator of its own.

    Returns the handle on the adapters, with the rank set to r.

    Raises `ValueError` or `TypeError`, and leaves the model as it was, if a name matches nothing, a value is out
    of range, a target cannot be adapted, or the model has adapters already.

    >>> model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    >>> adapters = attach(model, r=2, target_modules=["0", "2"])
    >>> adapters.rank = 1
    >>> list(adapters.layers)
    ['0', '2']
    """
    if any(isinstance(module, Wrapper) for module in model.modules()):
        raise ValueError("the model has adapters already: call detach() on their handle first")
    if any(type(module).__module__.startswith("peft.tuners.") for module in model.modules()):
        raise ValueError("the model has adapters of PEFT: use nest_peft(model), or attach to the model without them")
    rank_pattern = dict(rank_pattern or {})
    target_modules = target_modules if isinstance(target_modules, str) else list(target_modules)
    modules_to_save = modules_to_save if isinstance(modules_to_save, str) else list(modules_to_save or ())
    targets = match_targets(model, target_modules, split_fused)
    saved = match_saved(model, modules_to_save, list(targets))
    limits = _maximum_ranks(list(targets), r, rank_pattern)
    requires_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    record = BaseRecord(model, saved)
    options = (lora_alpha, scaling, lora_dropout, torch.Generator().manual_seed(seed))
    try:
        wrappers = _wrapped(model, targets, limits, options)
    except BaseException:
        for parameter, flag in requires_grad.items():
            parameter.requires_grad_(flag)
        raise
    layers = {
        name: wrappers[target.module].part(target.part) if target.part else wrappers[target.module]
        for name, target in targets.items()
    }
    for parameter, flag in requires_grad.items():  # the layers that are wrapped are frozen already
        parameter.requires_grad_(flag)
    warn_of_new_weights(model, saved.values())
    model.requires_grad_(False)
    for module in saved.values():
        module.requires_grad_(True)
    config = {
        "r": int(r),
        "lora_alpha": lora_alpha,
        "scaling": scaling,
        "lora_dropout": float(lora_dropout),
        "target_modules": target_modules,
        "modules_to_save": list(modules_to_save),
        "rank_pattern": {name: int(limit) for name, limit in rank_pattern.items()},
        "split_fused": bool(split_fused),
    }
    return Adapters(model, layers, list(wrappers.values()), saved, config, requires_grad, record)


def _maximum_ranks(targets: list[str], r: int, rank_pattern: Mapping[str, int]) -> dict[str, int]:
    """The maximum rank of each target; where several patterns fit, a whole name wins, and else the first."""
    limits = dict.fromkeys(targets, r)
    whole = [pattern for pattern in rank_pattern if pattern in targets]
    ends = [pattern for pattern in rank_pattern if pattern not in targets]
    for pattern in (*reversed(ends), *whole):  # what is set later wins
        named = [pattern] if pattern in targets else [name for name in targets if ends_with(name, pattern)]
        if not named:
            raise ValueError(
                f"rank_pattern names {pattern!r}, which is no target: the targets are {', '.join(targets)}"
            )
        limits.update(dict.fromkeys(named, rank_pattern[pattern]))
    return limits


def _wrapped(
    model: nn.Module,
    targets: Mapping[str, Target],
    limits: Mapping[str, int],
    options: tuple[float, str, float, torch.Generator],
) -> dict[str, Any]:
    """An adapted layer for each module to replace, by its name. The modules are frozen, and not replaced yet."""
    wrappers: dict[str, Any] = {}
    for name, parts in by_module(targets).items():
        base = model.get_submodule(name)
        try:
            if parts:
                ranks = {part: limits[f"{name}.{part}"] for part in parts}
                wrappers[name] = DyLoRAFused(base, parts, ranks, *options)
            else:
                wrappers[name] = DyLoRALinear(base, limits[name], *options)
        except (TypeError, ValueError) as error:
            if type(error) in (TypeError, ValueError):  # a subclass may be made of other arguments
                raise type(error)(f"{name}: {error}") from None
            raise
    return wrappers


def load(model: nn.Module, path: str | PathLike[str]) -> Adapters:
    """Attaches the adapters that `adapters.save` wrote into a folder. Returns the handle, with the rank set to r.

    Warns if they were trained on another base: files name it, and hold some of its values.

    Raises `FileNotFoundError` for a missing file and `ValueError` for one that is damaged, foreign or made for
    another model: every tensor must be there, have the right shape and be finite. The model is then as it was.
    """
    config, tensors, origin = read_adapter(path)
    try:
        adapters = attach_quietly(model, **config)
    except TypeError as error:
        raise ValueError(f"{path} does not fit this model: {error}") from None
    adapters.fill(tensors, Path(path) / WEIGHTS)
    warn_of_other_base(adapters, origin, path)
    return adapters


def attach_quietly(model: nn.Module, **options: Any) -> Adapters:
    """`attach` without a warning of new weights, for adapters that come from a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NewWeightsWarning)
        return attach(model, **options)


def warn_of_other_base(adapters: Adapters, origin: Origin, path: str | PathLike[str]) -> None:
    """Warns if the files of adapters name another base than the model that they were attached to.

    Names are compared only where there is no fingerprint, since a base may be in another folder.
    """
    here = adapters.base
    if origin.fingerprint is not None:
        problem = other_base(origin.fingerprint, base_weights(adapters.model, adapters.saved_modules))
    elif origin.name and here.name and not same_name(origin.name, here.name):
        problem = "it has another name"
    else:
        problem = None
    if problem:
        warnings.warn(
            f"the adapters in {path} were trained on another base ({origin.name or 'unnamed'}) than this model "
            f"({here.name or 'unnamed'}): {problem}, so outputs will differ from those of the training",
            stacklevel=3,
        )
