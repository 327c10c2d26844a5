"""The LoRA in a model that was fully fine-tuned: what it adds to each layer of its base, cut to a rank."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.adapters import attach_quietly
from dylora_kit.core.base_record import saved_buffers
from dylora_kit.core.handle import Adapters
from dylora_kit.core.layer import Wrapper, stores_transposed
from dylora_kit.core.names import named_modules, plain_name, submodule, unwrapped
from dylora_kit.core.rank import check_rank
from dylora_kit.core.rotation import balanced
from dylora_kit.core.saving import check_readable

SPARE = 10  # how many directions beyond r an approximate decomposition looks for
LEFT = "the tuned model also differs from the base in"


def extract(
    base: nn.Module,
    tuned: nn.Module,
    r: int = 8,
    *,
    target_modules: str | Sequence[str],
    modules_to_save: Sequence[str] = (),
    others: str = "refuse",
    power_iterations: int | None = None,
    **options: Any,
) -> tuple[nn.Module, Adapters]:
    """The LoRA in a fully fine-tuned model: ΔW = tuned − base of each target, cut to rank r by its singular values.

    The adapters are attached to `base`, in place. Their rows are ordered by singular value, so every rank b ≤ r is the
    closest cut of ΔW, and their scaling is `"alpha/r"`. `tuned` is only read. Buffers that differ, such as running
    statistics, are copied into the base, as training would have moved them.

    Arguments:
        base: the model as it was before fine-tuning, without adapters.
        tuned: a model of the same parameters, fine-tuned. It may be of another type, or on another device.
        r: the maximum rank.
        target_modules: as in `attach`; `"all-linear"` leaves the least behind.
        modules_to_save: modules that are taken from `tuned` whole, such as `["classifier"]` or norms.
        others: what to do if other parameters differ too, such as embeddings, or biases of adapted layers, which cannot
            be in `modules_to_save`: `"refuse"`, or `"leave"` them as they are in the base, with a warning.
        power_iterations: None computes every decomposition exactly, in time d_in·d_out·min(d_in, d_out). A number, such
            as 4, takes `torch.svd_lowrank` with so many power iterations, for large layers: in time d_in·d_out·r, and
            with 4 what is left of ΔW is at most 1 % larger than it need be, also where singular values fall slowly.
        options: further arguments of `attach`, such as `lora_alpha`, `rank_pattern` or `exclude_modules`.

    Returns the base, frozen and with adapters, and the handle, with the rank set to r.

    Raises `ValueError`, and leaves the base as it was, if the two models do not have the same parameters, if a weight
    is not a finite one in floating point, if no target differs, or if other parameters do and are to be refused.

    >>> import copy
    >>> base = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    >>> tuned = copy.deepcopy(base)
    >>> with torch.no_grad():
    ...     _ = tuned[0].weight.add_(torch.outer(torch.arange(5), torch.ones(6)))
    >>> model, adapters = extract(base, tuned, r=2, target_modules="all-linear")
    >>> torch.allclose(adapters.delta("0", rank=1), tuned[0].weight - base[0].base_layer.weight, atol=1e-5)
    True
    """
    if others not in ("refuse", "leave"):
        raise ValueError(f"others must be 'refuse' or 'leave': got {others!r}")
    if power_iterations is not None:
        power_iterations = check_rank(power_iterations, None)
    weights, tuned_weights = _pairs(base, tuned)
    options = {"scaling": "alpha/r", "target_modules": target_modules, "modules_to_save": modules_to_save} | options
    adapters = attach_quietly(base, r=r, **options)
    try:
        for layer in adapters.layers.values():
            layer.check_product("extracting")
        if adapters.scaling != "alpha/r":
            raise ValueError("an extracted adapter has the scaling 'alpha/r': leave scaling out")
        left = _left_behind(adapters, weights, tuned_weights)
        if left and others == "refuse":
            raise ValueError(
                f"{LEFT} {_listed(left)}, which the adapters would not hold: name "
                "these modules in target_modules or modules_to_save, or pass others='leave' to keep the base's"
            )
        _fill(adapters, weights, tuned_weights, power_iterations)
    except BaseException:
        adapters.detach()
        raise
    with torch.no_grad():
        for name, module in adapters.saved_modules.items():
            module.load_state_dict(submodule(tuned, name).state_dict())
        moved = saved_buffers(unwrapped(tuned))
        for name, buffer in saved_buffers(adapters.model).items():
            buffer.copy_(moved[name])
    if left:
        warnings.warn(f"{LEFT} {_listed(left)}, which stay the base's", stacklevel=2)
    return base, adapters


def _pairs(base: nn.Module, tuned: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters of both by name; `ValueError` unless they have the same ones and buffers, all with values."""
    if base is tuned:
        raise ValueError("base and tuned are one model: load the base a second time")
    for model, what in ((base, "base"), (tuned, "tuned")):
        if any(isinstance(module, Wrapper) for module in model.modules()):
            raise ValueError(f"the {what} model has adapters: give one without (see merge_and_unload and detach)")
    models = unwrapped(base), unwrapped(tuned)
    found = [
        {plain_name(name): p for name, p in model.named_parameters(remove_duplicate=False)} | saved_buffers(model)
        for model in models
    ]
    for name in dict.fromkeys([*found[0], *found[1]]):
        shapes = [tuple(tensors[name].shape) if name in tensors else None for tensors in found]
        if shapes[0] != shapes[1]:
            said = ["does not have it" if shape is None else f"has it in shape {shape}" for shape in shapes]
            raise ValueError(f"{name!r}: the base {said[0]}, and the tuned model {said[1]}: give models of one kind")
    for tensors in found:
        check_readable(tensors, "compare")
    return found[0], found[1]


def _left_behind(adapters: Adapters, base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> list[str]:
    """The parameters that differ and are neither adapted, in all their outputs, nor saved whole, by name."""
    held = {id(p) for module in adapters.saved_modules.values() for p in module.parameters()}
    adapted: dict[str, Wrapper] = dict(_wrappers(adapters))
    left = []
    for name, weight in base.items():
        if not isinstance(weight, nn.Parameter) or id(weight) in held or _same(weight, tuned[name]):
            continue
        module, _, key = name.rpartition(".")
        if key != "weight" or module not in adapted:
            left.append(name)
            continue
        parts = getattr(adapted[module], "parts", None)
        if parts is not None:
            rest = _delta(adapted[module], weight, tuned[name])
            rest[[output for outputs in parts.values() for output in outputs]] = 0
            left += [f"{name} (outputs beside {', '.join(parts)})"] if rest.any() else []
        held.add(id(weight))  # under further names it is the same weight
    return left


def _fill(
    adapters: Adapters, base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], power_iterations: int | None
) -> None:
    """Puts the cut of each ΔW into its adapter."""
    nothing = True
    for module, wrapper in _wrappers(adapters):
        delta = _delta(wrapper, base[f"{module}.weight"], tuned[f"{module}.weight"])
        if not bool(delta.isfinite().all()):
            raise ValueError(f"the difference of {module!r} between the two models is not finite: it cannot be cut")
        nothing &= not delta.any()
        parts = getattr(wrapper, "parts", {})  # of a fused projection
        own = [(wrapper.part(part), delta[outputs]) for part, outputs in parts.items()]
        for layer, rows in own or [(wrapper, delta)]:
            u, s, vh = _decomposed(rows / layer.scale(layer.r), layer.r, power_iterations)
            lora_A, lora_B = balanced(u, s, vh, layer.r)
            with torch.no_grad():
                layer.lora_A.copy_(lora_A)
                layer.lora_B.copy_(lora_B)
    if nothing:
        raise ValueError("no target differs between the base and the tuned model: there is no adapter to extract")


def _wrappers(adapters: Adapters) -> Iterator[tuple[str, Any]]:
    """Each adapted layer and its name in the base."""
    return ((name, module) for name, module in named_modules(adapters.model) if isinstance(module, Wrapper))


def _delta(wrapper: Wrapper, base: Tensor, tuned: Tensor) -> Tensor:
    """tuned − base in float64, on the CPU, (d_out, d_in)."""
    if not (base.is_floating_point() and tuned.is_floating_point()):
        raise ValueError(f"a weight is of type {base.dtype} and {tuned.dtype}: expected weights in floating point")
    delta = tuned.detach().cpu().double() - base.detach().cpu().double()
    return delta.T if stores_transposed(wrapper.base_layer) else delta


def _decomposed(delta: Tensor, r: int, power_iterations: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of a matrix, or approximately its first parts, always the same ones."""
    size = min(delta.shape)
    if power_iterations is None or r + SPARE >= size:
        return torch.linalg.svd(delta, full_matrices=False)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(delta, q=r + SPARE, niter=power_iterations)
    return u, s, v.T


def _same(weight: Tensor, other: Tensor) -> bool:
    """Whether two weights have the same values, in the less exact of their types."""
    weight, other = weight.detach().cpu(), other.detach().cpu()
    return torch.equal(weight.to(other.dtype), other) or torch.equal(weight, other.to(weight.dtype))


def _listed(names: Sequence[str]) -> str:
    """
    >>> _listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more parameters'
    """
    more = f" and {len(names) - 3} more parameters" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
