"""Which modules of a model are meant by the names a user gives."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from dylora_kit.core.fused import ADAPTED, FUSED_NAMES, check_split_known, parts_of

ATTENTION = "attention"  # stands for query and value of every self-attention
# what architectures call the query and value of an attention
QUERY_AND_VALUE = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("q_lin", "v_lin"),
    ("query_proj", "value_proj"),
    ("q", "v"),
)
CROSS = ("crossattention", "encoder_attn", "EncDecAttention", "cross_attn")  # what they call cross-attention


@dataclass(frozen=True)
class Target:
    """One adapter to be: a whole module, or one part of a fused projection with the outputs that belong to it."""

    module: str
    part: str | None = None
    outputs: Sequence[int] = ()


def match_targets(model: nn.Module, target_modules: str | Sequence[str], split_fused: bool = True) -> dict[str, Target]:
    """The adapters to make, by name.

    Arguments:
        target_modules, split_fused: as in `attach`.

    Raises `ValueError` for a name that matches nothing, and `TypeError` for a projection of `nn.MultiheadAttention`.

    >>> list(match_targets(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), ["0", "2"]))
    ['0', '2']
    """
    known = _known(model, split_fused)
    names = list(known)
    if target_modules == ATTENTION:
        matched = _attention(model)
    elif isinstance(target_modules, str):
        if target_modules == "all-linear":
            raise ValueError("target_modules='all-linear' is PEFT's alone: list the layers, or give an expression")
        try:
            matched = [name for name in names if re.fullmatch(target_modules, name)]
        except re.error as error:
            raise ValueError(f"target_modules: {target_modules!r} is no regular expression: {error}") from None
        if not matched:
            raise _no_match(model, target_modules)
    else:
        if not target_modules:
            raise ValueError("target_modules is empty: name at least one layer to adapt")
        for end in target_modules:
            if not any(ends_with(name, end) for name in names):
                raise _no_match(model, end)
        matched = [name for name in names if any(ends_with(name, end) for end in target_modules)]
    chosen: dict[str, Target] = {}
    seen: set[tuple[nn.Module, str | None]] = set()
    for name in matched:
        for adapter, target in _expanded(model, known, name, split_fused).items():
            parent = model.get_submodule(target.module.rpartition(".")[0])
            module = model.get_submodule(target.module)
            if isinstance(parent, nn.MultiheadAttention) or isinstance(module, nn.MultiheadAttention):
                raise TypeError(f"cannot adapt {name!r}: nn.MultiheadAttention never calls its projections' forward")
            if (module, target.part) not in seen:
                seen.add((module, target.part))
                chosen[adapter] = target
    return chosen


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
    for name, _ in model.named_modules(remove_duplicate=False):
        if not name:
            continue
        known[name] = Target(name)
        for part, outputs in ((parts_of(model, name) or {}) if split_fused else {}).items():
            known[f"{name}.{part}"] = Target(name, part, outputs)
    return known


def _expanded(model: nn.Module, known: Mapping[str, Target], name: str, split_fused: bool) -> dict[str, Target]:
    """A matched name; for a fused projection the parts that are adapted by default."""
    if not split_fused or known[name].part is not None:
        return {name: known[name]}
    check_split_known(model, name)
    parts = {f"{name}.{part}": known[f"{name}.{part}"] for part in ADAPTED if f"{name}.{part}" in known}
    return parts or {name: known[name]}


def _attention(model: nn.Module) -> list[str]:
    """The names of query and value of every self-attention of the encoder and the decoder."""
    names: list[str] = []
    for name, module in model.named_modules():
        if any(part in CROSS for part in name.split(".")) or getattr(module, "is_cross_attention", False):
            continue
        children = dict(module.named_children())
        pairs = [pair for pair in QUERY_AND_VALUE if all(is_linear(children.get(child)) for child in pair)]
        fused = [child for child, layer in children.items() if child in FUSED_NAMES and is_linear(layer)]
        names += [f"{name}.{child}" if name else child for child in (*(pairs[0] if pairs else ()), *fused)]
    if not names:
        raise ValueError(
            "target_modules='attention' finds no query and value here: name the layers to adapt, "
            f"such as {_linear_ends(model)[:4]}"
        )
    return names


def is_linear(module: nn.Module | None) -> bool:
    """Whether a module is of a kind that an adapter can be added to: `nn.Linear`, or transformers' `Conv1D`."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _linear_ends(model: nn.Module) -> list[str]:
    """The last parts of the names of all linear layers, each once."""
    return sorted({name.rpartition(".")[2] for name, module in model.named_modules() if is_linear(module)})


def _no_match(model: nn.Module, target: str) -> ValueError:
    """The error for a target that matches nothing, with close names and the names of all linear layers."""
    ends = _linear_ends(model)
    close = difflib.get_close_matches(target.rpartition(".")[2], ends, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    if any(ends_with(name, target) for name, _ in model.named_modules()):
        hint = f"a string is an expression for whole names, did you mean [{target!r}]? "
    return ValueError(f"target_modules: {target!r} matches no module: {hint}linear layers here: {', '.join(ends)}")


def unfused_targets(model: nn.Module, target_modules: str | Sequence[str], method: str) -> dict[str, nn.Module]:
    """The linear layers that are meant, by name; `ValueError` that names the method for a fused projection."""
    targets = match_targets(model, target_modules if isinstance(target_modules, str) else list(target_modules))
    for target in targets.values():
        if target.part is not None:
            raise ValueError(
                f"{target.module!r} is several projections in one: {method} here takes plain linear layers only"
            )
    return {name: model.get_submodule(name) for name in targets}


def saved_by_peft(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules that PEFT saves under these names: all whose name ends so, also in the middle of a part.

    >>> list(saved_by_peft(nn.ModuleDict({"pre_classifier": nn.Linear(6, 5)}), ["classifier"]))
    ['pre_classifier']
    """
    return {name: module for name, module in model.named_modules() if name and any(name.endswith(end) for end in names)}


def holders_of_same_weights(model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules outside of `modules` that share a parameter with one of them."""
    parameters = {parameter for module in modules.values() for parameter in module.parameters()}
    inside = {module for outer in modules.values() for module in outer.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if module not in inside and any(parameter in parameters for parameter in module.parameters(recurse=False))
    }


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
        matches = {name: module for name, module in model.named_modules() if name and ends_with(name, end)}
        if not matches:
            outermost = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"modules_to_save: {end!r} matches no module: the outermost ones are {outermost}")
        saved.update(matches)
    for name in saved:
        inside = [target for target in targets if target == name or target.startswith(f"{name}.")]
        if inside:
            raise ValueError(f"{inside[0]!r} is both a target and in modules_to_save ({name!r}): choose one")
    return saved


def ends_with(name: str, end: str) -> bool:
    """Whether a dotted name is `end`, or ends with it at a dot.

    >>> ends_with("layer.0.query", "query"), ends_with("layer.0.subquery", "query")
    (True, False)
    """
    return name == end or name.endswith(f".{end}")


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
