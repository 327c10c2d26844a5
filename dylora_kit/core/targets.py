"""Which modules of a model are meant by the names a user gives, matched as PEFT matches them."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from dylora_kit.core.attention import attentions_of
from dylora_kit.core.blocks import ATTENTION, ChosenBlocks, without_adapter
from dylora_kit.core.experts import listed
from dylora_kit.core.fused import ADAPTED, FUSED_NAMES, check_split_known, parts_of
from dylora_kit.core.layer import Wrapper
from dylora_kit.core.matching import ALL_LINEAR, check_experts, ends_with, matched_names, matches
from dylora_kit.core.names import named_modules, plain_name, submodule
from dylora_kit.core.weight_reads import is_read


@dataclass(frozen=True)
class Target:
    """One adapter to be: a whole module, or one part of a fused projection with the outputs that belong to it."""

    module: str
    part: str | None = None
    outputs: Sequence[int] = ()


def match_targets(
    model: nn.Module,
    target_modules: str | Sequence[str],
    split_fused: bool = True,
    *,
    exclude_modules: str | Sequence[str] = (),
    layers_to_transform: int | Sequence[int] | None = None,
    layers_pattern: str | Sequence[str] | None = None,
    modules_to_save: Sequence[str] = (),
) -> dict[str, Target]:
    """The adapters to make, by name.

    Arguments:
        target_modules, split_fused, exclude_modules, layers_to_transform, layers_pattern: as in `attach`.
        modules_to_save: names that `"all-linear"` leaves out.

    Raises `ValueError` for a name that matches nothing, and `TypeError` for what cannot be adapted, such as a
    projection of `nn.MultiheadAttention`. Warns of what is meant and gets no adapter.

    >>> list(match_targets(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), ["0", "2"]))
    ['0', '2']
    """
    known = _known(model, split_fused)
    if not isinstance(target_modules, str):
        target_modules = [plain_name(name, known) for name in target_modules]
    elif target_modules.lower() == ALL_LINEAR:
        target_modules = ALL_LINEAR
    blocks = ChosenBlocks(target_modules, layers_to_transform, layers_pattern)
    matched = matched_names(model, known, target_modules, blocks, modules_to_save)
    check_experts(model, target_modules, matched)
    chosen: dict[str, Target] = {}
    for name in matched:
        chosen |= _expanded(model, known, name, target_modules) if split_fused else {name: known[name]}
    chosen = _without_excluded(chosen, exclude_modules, known)
    _check_adaptable(model, chosen)
    passed_by = [name for name, target in chosen.items() if is_read(model, target.module) is None]
    if passed_by:
        warnings.warn(
            f"the weights of {listed(passed_by)} are read in some cases, as by kernels for training on a GPU, instead "
            "of calling these layers, and then their adapters do not run: compare outputs at two ranks where you train",
            stacklevel=3,
        )
    if target_modules == ATTENTION and not (exclude_modules or blocks.indices):
        lacking = without_adapter(model, [target.module for target in chosen.values()], list(attentions_of(model)))
        if lacking:
            warnings.warn(
                f"target_modules='attention' finds no query and value of a self-attention in {listed(lacking, 8)}, "
                "which get no adapter",
                stacklevel=3,
            )
    return _each_once(model, chosen)


def by_module(targets: Mapping[str, Target]) -> dict[str, dict[str, Sequence[int]]]:
    """The modules to replace, each with the outputs of its parts; without parts, where it is adapted as a whole."""
    modules: dict[str, dict[str, Sequence[int]]] = {}
    for target in targets.values():
        parts = modules.setdefault(target.module, {})
        if target.part is not None:
            parts[target.part] = target.outputs
    return modules


def _known(model: nn.Module, split_fused: bool) -> dict[str, Target]:
    """Every name that can be matched: modules, and the parts of fused projections."""
    known: dict[str, Target] = {}
    for name, _ in named_modules(model, remove_duplicate=False):
        if not name:
            continue
        known[name] = Target(name)
        for part, outputs in ((parts_of(model, name) or {}) if split_fused else {}).items():
            known[f"{name}.{part}"] = Target(name, part, outputs)
    return known


def _expanded(model: nn.Module, known: Mapping[str, Target], name: str, target_modules: object) -> dict[str, Target]:
    """A matched name; for a fused projection its parts: all of them for "all-linear", else those of `ADAPTED`."""
    fused = name.rpartition(".")[2] in FUSED_NAMES
    if known[name].part is not None or not (fused or target_modules == ATTENTION):
        return {name: known[name]}
    check_split_known(model, name)
    parts = {part: f"{name}.{part}" for part in parts_of(model, name) or {}}
    adapted = {key: known[key] for part, key in parts.items() if target_modules == ALL_LINEAR or part in ADAPTED}
    return adapted or {name: known[name]}


def _without_excluded(
    chosen: Mapping[str, Target], exclude_modules: str | Sequence[str], known: Mapping[str, Target]
) -> dict[str, Target]:
    """The targets that are not excluded, by an expression for whole names or by the ends of names."""
    excluded: set[str] = set()
    for end in [exclude_modules] if isinstance(exclude_modules, str) else exclude_modules:
        names = {name: {name, target.module} for name, target in chosen.items()}
        if isinstance(exclude_modules, str):
            here = {key for key in names if any(matches(end, name, "exclude_modules") for name in names[key])}
        else:
            here = {key for key in names if any(ends_with(name, plain_name(end, known)) for name in names[key])}
        if end and not here:
            warnings.warn(f"exclude_modules: {end!r} excludes none of the targets", stacklevel=4)
        excluded |= here
    if excluded.issuperset(chosen):
        raise ValueError(f"exclude_modules={exclude_modules!r} excludes all targets: nothing is left to adapt")
    return {name: target for name, target in chosen.items() if name not in excluded}


def _check_adaptable(model: nn.Module, chosen: Mapping[str, Target]) -> None:
    """Raises `TypeError` for a target whose adapter would never run."""
    for name, target in chosen.items():
        outer, _, child = target.module.rpartition(".")
        parent = submodule(model, outer)
        module = parent._modules[child]
        if isinstance(parent, nn.MultiheadAttention) or isinstance(module, nn.MultiheadAttention):
            raise TypeError(f"cannot adapt {name!r}: nn.MultiheadAttention never calls its projections' forward")
        if is_read(model, target.module):
            raise TypeError(
                f"cannot adapt {name!r}: {type(parent).__name__} reads its weight and never calls its forward, so the "
                "adapter would not run: leave it out of the targets"
            )
        if module is not submodule(model, target.module):
            raise TypeError(f"cannot adapt {name!r}: it is compiled or wrapped by itself: attach first")


def _each_once(model: nn.Module, chosen: Mapping[str, Target]) -> dict[str, Target]:
    """The targets without those that are the same module under another name."""
    once: dict[tuple[nn.Module, str | None], str] = {}
    for name, target in chosen.items():
        once.setdefault((submodule(model, target.module), target.part), name)
    for module, part in once:
        if part is not None and (module, None) in once:
            raise ValueError(
                f"{once[module, part]!r} is a part of {once[module, None]!r}, which is a target too: choose one"
            )
    return {name: chosen[name] for name in once.values()}


def unfused_targets(model: nn.Module, target_modules: str | Sequence[str], method: str) -> dict[str, nn.Module]:
    """The linear layers that are meant, by name; `ValueError` that names the method for a fused projection."""
    targets = match_targets(model, target_modules if isinstance(target_modules, str) else list(target_modules))
    for target in targets.values():
        if target.part is not None:
            raise ValueError(
                f"{target.module!r} is several projections in one: {method} here takes plain linear layers only"
            )
    return {name: submodule(model, name) for name in targets}


def saved_by_peft(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules that PEFT saves under these names: all whose name ends so, also in the middle of a part.

    >>> list(saved_by_peft(nn.ModuleDict({"pre_classifier": nn.Linear(6, 5)}), ["classifier"]))
    ['pre_classifier']
    """
    return {name: module for name, module in named_modules(model) if name and any(name.endswith(end) for end in names)}


def outermost(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules that are not inside another one of them, by name.

    >>> list(outermost({"head": nn.Identity(), "head.out": nn.Identity(), "heads": nn.Identity()}))
    ['head', 'heads']
    """
    return {name: module for name, module in modules.items() if not any(name.startswith(f"{o}.") for o in modules)}


def holders_of_same_weights(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules outside of `modules` that share a parameter with one of them."""
    parameters = {parameter for module in modules.values() for parameter in module.parameters()}
    inside = {module for outer in modules.values() for module in outer.modules()}
    return {
        name: module
        for name, module in named_modules(model)
        if module not in inside and any(parameter in parameters for parameter in module.parameters(recurse=False))
    }


def check_kept_apart(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Raises `ValueError` if PEFT could not keep a copy of each of these modules, none of which is inside another."""
    for name, module in modules.items():
        adapted = next((inner for inner in named_modules(module) if isinstance(inner[1], Wrapper)), None)
        if not name or adapted:
            where = f"adapters inside, in {adapted[0]!r}" if adapted else "shared weights of its own"
            raise ValueError(
                f"cannot export: PEFT would have to keep a copy of {name or 'the model'!r}, which has {where}: give "
                "each holder of a shared weight a copy of its own before attaching"
            )
    for name in saved_by_peft(model, list(modules)):
        outer = next((outer for outer in modules if name.startswith(f"{outer}.")), None)
        if outer:
            raise ValueError(
                f"cannot export: PEFT takes {name!r} too where {outer!r} is meant, since its name ends so, and cannot "
                "keep a copy inside of a copy: rename one of them, or use save"
            )


def match_saved(model: nn.Module, modules_to_save: Sequence[str], targets: Sequence[str]) -> dict[str, nn.Module]:
    """The modules to train along, by name; matched like a list of targets.

    Arguments:
        targets: the names of the adapters, none of which may be inside such a module.

    Raises `ValueError` for a string, a name that matches nothing, and a target that is inside.
    """
    if isinstance(modules_to_save, str):
        raise ValueError(f"modules_to_save must be a list of names, such as [{modules_to_save!r}]")
    saved: dict[str, nn.Module] = {}
    for end in modules_to_save:
        fitting = {name: module for name, module in named_modules(model) if name and ends_with(name, end)}
        if not fitting:
            outermost = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"modules_to_save: {end!r} matches no module: the outermost ones are {outermost}")
        saved.update(fitting)
    for name in saved:
        inside = [target for target in targets if target == name or target.startswith(f"{name}.")]
        if inside:
            raise ValueError(f"{inside[0]!r} is both a target and in modules_to_save ({name!r}): choose one")
    return saved


def short_names(names: Sequence[str]) -> list[str]:
    """The parts of dotted names in which they differ.

    >>> short_names(["vit.layers.0.attention.q_proj", "vit.layers.1.attention.q_proj"])
    ['0', '1']
    >>> short_names(["up", "block.down"])
    ['up', 'block.down']
    """
    rows = [name.split(".") for name in names]
    if len({len(parts) for parts in rows}) != 1:
        return list(names)
    varied = [index for index in range(len(rows[0])) if len({parts[index] for parts in rows}) > 1] or [-1]
    return [" ".join(parts[index] for index in varied) for parts in rows]
