"""Which modules of a model are meant by the names a user gives."""

import difflib
import re
from collections.abc import Sequence

from torch import nn


def match_targets(model: nn.Module, target_modules: str | Sequence[str]) -> list[str]:
    """Names of the modules to adapt: a list is matched against the end of each name, a string is an expression."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    if isinstance(target_modules, str):
        try:
            matched = [name for name in names if re.fullmatch(target_modules, name)]
        except re.error as error:
            raise ValueError(f"target_modules: {target_modules!r} is no regular expression: {error}") from None
        if not matched:
            raise _no_match(model, target_modules)
    else:
        if not target_modules:
            raise ValueError("target_modules is empty: name at least one layer to adapt")
        for target in target_modules:
            if not any(ends_with(name, target) for name in names):
                raise _no_match(model, target)
        matched = [name for name in names if any(ends_with(name, target) for target in target_modules)]
    for name in matched:
        parent = model.get_submodule(name.rpartition(".")[0])
        if isinstance(parent, nn.MultiheadAttention) or isinstance(model.get_submodule(name), nn.MultiheadAttention):
            raise TypeError(f"cannot adapt {name!r}: nn.MultiheadAttention never calls its projections' forward")
    unique: dict[nn.Module, str] = {}
    for name in matched:
        unique.setdefault(model.get_submodule(name), name)
    return list(unique.values())


def _no_match(model: nn.Module, target: str) -> ValueError:
    ends = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)})
    close = difflib.get_close_matches(target.rpartition(".")[2], ends, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return ValueError(f"target_modules: {target!r} matches no module: {hint}linear layers here: {', '.join(ends)}")


def match_saved(model: nn.Module, modules_to_save: Sequence[str], targets: list[str]) -> dict[str, nn.Module]:
    if isinstance(modules_to_save, str):
        raise ValueError(f"modules_to_save must be a list of names, such as [{modules_to_save!r}]")
    saved: dict[str, nn.Module] = {}
    for wanted in modules_to_save:
        found = {name: module for name, module in model.named_modules() if name and ends_with(name, wanted)}
        if not found:
            ends = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"modules_to_save: {wanted!r} matches no module: the outermost ones are {ends}")
        saved.update(found)
    for name in saved:
        inside = [target for target in targets if target == name or target.startswith(f"{name}.")]
        if inside:
            raise ValueError(f"{inside[0]!r} is both a target and in modules_to_save ({name!r}): choose one")
    return saved


def ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")
