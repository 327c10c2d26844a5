"""Adapters on a whole model: attached anew, or loaded. The handle that both return is in `core.handle`."""

import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from dylora_kit.core.base_record import BaseRecord, base_weights
from dylora_kit.core.bottleneck import Bottleneck, check_bottleneck
from dylora_kit.core.fused import DyLoRAFused
from dylora_kit.core.handle import Adapters
from dylora_kit.core.heads import NewWeightsWarning, warn_of_new_weights
from dylora_kit.core.layer import DyLoRALinear, Wrapper
from dylora_kit.core.names import plain_name, submodule, unwrapped
from dylora_kit.core.offload import check_offload
from dylora_kit.core.patterns import values_by_pattern
from dylora_kit.core.targets import Target, by_module, match_saved, match_targets
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
    exclude_modules: str | Sequence[str] | None = None,
    layers_to_transform: int | Sequence[int] | None = None,
    layers_pattern: str | Sequence[str] | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
    bottleneck: str | None = None,
) -> Adapters:
    """Freezes a model and wraps some of its linear layers in adapters, in place.

    Warns of weights that are new in the model, such as the head of a task, and would be frozen as they are. Frozen
    normalisations still move their running statistics in training, as in torch: `save` saves them, `load` puts them
    back, and `detach` gives back those that the model had.

    Arguments:
        model: any `nn.Module`, also a compiled one; names are those of the model under `torch.compile`.
        target_modules: names of the layers to adapt. A list is matched against the end of each module's dotted
            name (`["q_proj", "v_proj"]`), a string is a regular expression for the whole name. `"attention"` means
            the query and value of every self-attention, whatever this architecture calls them; `"all-linear"`, as in
            PEFT, every linear layer but the output head and what is in `modules_to_save`.
        r: the maximum rank (r_max).
        lora_alpha: α of Eq. 7.
        scaling: `"alpha/b"` (the paper), `"alpha/r"` or `"alpha/sqrt(b)"`.
        lora_dropout: dropout on the adapters' input, in training.
        modules_to_save: modules that are trained along with the adapters and saved with them, such as
            `["classifier"]`; matched like a list of targets.
        rank_pattern: another maximum rank for some layers, `{end of the name: r}`. As in PEFT a key may be a regular
            expression for the end of the name, and the first that fits counts; a whole name means that layer alone.
        split_fused: a projection that makes query, key and value in one (GPT-2's `c_attn`) gets adapters of their
            own for query and value, called `c_attn.q` and `c_attn.v` (under `"all-linear"` for all its parts); name
            parts to choose others, such as `["c_attn.k"]`. With False it is adapted as one layer, as PEFT does.
        seed: start of `lora_A`, drawn from a generator of its own.
        exclude_modules: targets to leave out, matched like `target_modules`.
        layers_to_transform: the blocks, counted from 0, in which a list of targets or `"attention"` is meant.
        layers_pattern: what the list of these blocks is called, such as `"layers"`; by default the first number in a
            name counts.
        alpha_pattern: another α for some layers, with keys as in `rank_pattern`.
        bottleneck: `"parallel"` or `"houlsby"` puts an activation between the two matrices, and lets them read what the
            layer reads, or gives (see `Bottleneck`); such adapters have no ΔW to merge, order or export.

    Returns the handle on the adapters, with the rank set to r.

    Raises `ValueError` or `TypeError`, and leaves the model as it was, if a name matches nothing, a value is out
    of range, a target cannot be adapted, or the model has adapters already. In a model that
    accelerate offloads, adapters stay where the layer computes, and modules trained along must not be offloaded. Warns
    of what may be meant and gets no adapter: blocks without a self-attention, the weights of experts, a key or an
    exclusion that fits no target.

    >>> model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    >>> adapters = attach(model, r=2, target_modules=["0", "2"])
    >>> adapters.rank = 1
    >>> list(adapters.layers)
    ['0', '2']
    """
    _check_bare(model)
    model = unwrapped(model)
    check_bottleneck(bottleneck)
    target_modules = _names(target_modules, "target_modules")
    modules_to_save = _names(modules_to_save, "modules_to_save")
    choice = {
        "exclude_modules": _names(exclude_modules, "exclude_modules"),
        "layers_to_transform": layers_to_transform if layers_to_transform is None else _numbers(layers_to_transform),
        "layers_pattern": layers_pattern if layers_pattern is None else _names(layers_pattern, "layers_pattern"),
    }
    targets = match_targets(model, target_modules, split_fused, modules_to_save=modules_to_save, **choice)
    saved = match_saved(model, modules_to_save, list(targets))
    check_offload(model, {target.module: submodule(model, target.module) for target in targets.values()}, saved)
    limits, alphas = _by_layer(targets, r, rank_pattern, lora_alpha, alpha_pattern)
    requires_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    record = BaseRecord(model, saved)
    options = (scaling, lora_dropout, torch.Generator().manual_seed(seed))
    try:
        wrappers = _wrapped(model, targets, limits, alphas, options, bottleneck)
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
        "modules_to_save": modules_to_save,
        "rank_pattern": {name: int(limit) for name, limit in (rank_pattern or {}).items()},
        "split_fused": bool(split_fused),
    }
    later = choice | {"alpha_pattern": dict(alpha_pattern or {}), "bottleneck": bottleneck}
    config |= {key: value for key, value in later.items() if value not in (None, [], "", {})}  # files stay as they were
    return Adapters(model, layers, list(wrappers.values()), saved, config, requires_grad, record)


def _names(names: Any, what: str) -> Any:
    """Names that a user gives: a string as it is, anything else as a list; `ValueError` for what is no name."""
    if isinstance(names, str):
        return names
    if not isinstance(names, Iterable | NoneType):
        raise ValueError(f"{what} must be names: got {names!r}")
    names = list(names or ()) if not isinstance(names, set | frozenset) else sorted(names, key=str)
    if any(not isinstance(name, str) for name in names):
        raise ValueError(f"{what} must be names: got {names!r}")
    return names


def _numbers(numbers: Any) -> Any:
    """Numbers of blocks as plain ints: one, or a list; `ValueError` for anything else."""
    several = isinstance(numbers, Sequence | set | range) and not isinstance(numbers, str)
    try:
        if any(isinstance(number, bool) for number in (numbers if several else [numbers])):
            raise TypeError
        return sorted(map(operator.index, numbers)) if several else operator.index(numbers)
    except TypeError:
        raise ValueError(
            f"layers_to_transform must hold the numbers of blocks, such as [0, 1]: got {numbers!r}"
        ) from None


def check_no_adapters(model: nn.Module) -> None:
    """Raises `ValueError` for a model that has adapters, of this kit or of PEFT."""
    if any(isinstance(module, Wrapper) for module in model.modules()):
        raise ValueError("the model has adapters already: call detach() on their handle first")
    if any(type(module).__module__.startswith("peft.tuners.") for module in model.modules()):
        raise ValueError("the model has adapters of PEFT: use nest_peft(model), or attach to the model without them")


def _check_bare(model: nn.Module) -> None:
    """Raises `ValueError` for a model that has adapters, or parameters without a shape.

    Warns of one that is in `DistributedDataParallel` already.
    """
    check_no_adapters(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"{name!r} has no shape yet: run the model once on a batch, then attach adapters")
    if any(isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules()):
        warnings.warn(
            "the model is in DistributedDataParallel already, which averages no gradients of adapters that are added "
            "now: attach them first",
            stacklevel=3,
        )


def _by_layer(
    targets: Mapping[str, Target],
    r: int,
    rank_pattern: Mapping[str, int] | None,
    lora_alpha: float,
    alpha_pattern: Mapping[str, float] | None,
) -> tuple[dict[str, int], dict[str, float]]:
    """The maximum rank and the α of each target; a part also goes by the name of its projection."""
    names = {name: [name, target.module] if target.part else [name] for name, target in targets.items()}
    limits, unknown = values_by_pattern(names, rank_pattern, r, "rank_pattern")
    if unknown:
        raise ValueError(f"rank_pattern names {unknown[0]!r}, which is no target: the targets are {', '.join(targets)}")
    alphas, unknown = values_by_pattern(names, alpha_pattern, lora_alpha, "alpha_pattern")
    if unknown:
        warnings.warn(f"alpha_pattern names {unknown[0]!r}, which is no target, and changes nothing", stacklevel=3)
    return limits, alphas


def _wrapped(
    model: nn.Module,
    targets: Mapping[str, Target],
    limits: Mapping[str, int],
    alphas: Mapping[str, float],
    options: tuple[str, float, torch.Generator],
    bottleneck: str | None,
) -> dict[str, Any]:
    """An adapted layer for each module to replace, by its name. The modules are frozen, and not replaced yet."""
    wrappers: dict[str, Any] = {}
    for name, parts in by_module(targets).items():
        base = submodule(model, name)
        try:
            if parts and bottleneck:
                raise ValueError("a bottleneck takes a projection as a whole: pass split_fused=False")
            if parts:
                ranks = {part: limits[f"{name}.{part}"] for part in parts}
                own = {part: alphas[f"{name}.{part}"] for part in parts}
                wrappers[name] = DyLoRAFused(base, parts, ranks, own, *options)
            elif bottleneck:
                wrappers[name] = Bottleneck(bottleneck, base, limits[name], alphas[name], *options)
            else:
                wrappers[name] = DyLoRALinear(base, limits[name], alphas[name], *options)
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
    known = adapters.tensors()
    adapters.fill({plain_name(name, known): tensor for name, tensor in tensors.items()}, Path(path) / WEIGHTS)
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
        weights = base_weights(adapters.model, adapters.saved_modules)
        along = tuple(f"{name}." for name in adapters.saved_modules)
        of_base = {name: text for name, text in origin.fingerprint.items() if not name.startswith(along)}
        problem = other_base(of_base, here.fingerprint, weights)
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
