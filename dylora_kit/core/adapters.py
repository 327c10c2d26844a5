"""Adapters on a whole model: attach, set the rank, merge, detach."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.fused import DyLoRAFused
from dylora_kit.core.layer import DyLoRALinear, Wrapper, stores_transposed
from dylora_kit.core.low_rank import LowRankAdapter, check_scaling
from dylora_kit.core.rank import ActiveRank, RankHandle, check_rank
from dylora_kit.core.targets import (
    Target,
    by_module,
    ends_with,
    holders_of_same_weights,
    match_saved,
    match_targets,
    saved_by_peft,
)
from dylora_kit.storage.adapter_files import WEIGHTS, difference, read_adapter, write_adapter
from dylora_kit.storage.peft_files import BaseModel, Block, write_peft_adapter


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
) -> "Adapters":
    """Freezes a model and wraps some of its linear layers in adapters, in place.

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
    model.requires_grad_(False)
    for module in saved.values():
        module.requires_grad_(True)
    config = {
        "r": int(r),
        "lora_alpha": lora_alpha,
        "scaling": scaling,
        "lora_dropout": float(lora_dropout),
        "target_modules": target_modules if isinstance(target_modules, str) else list(target_modules),
        "modules_to_save": list(modules_to_save),
        "rank_pattern": {name: int(limit) for name, limit in rank_pattern.items()},
        "split_fused": bool(split_fused),
    }
    return Adapters(model, layers, list(wrappers.values()), saved, config, requires_grad)


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
    """An adapted layer for each module to replace, by its name; the model is not changed but frozen there."""
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
            if type(error) in (TypeError, ValueError):
                raise type(error)(f"{name}: {error}") from None
            raise
    return wrappers


def load(model: nn.Module, path: str | PathLike[str]) -> "Adapters":
    """Attaches the adapters that `adapters.save` wrote into a folder. Returns the handle, with the rank set to r.

    Raises `FileNotFoundError` for a missing file and `ValueError` for one that is damaged, foreign or made for
    another model: every tensor must be there, have the right shape and be finite. The model is then as it was.
    """
    config, tensors = read_adapter(path)
    adapters = attach(model, **config)
    expected = adapters.tensors()
    problem = difference(expected, tensors)
    if problem:
        adapters.detach()
        raise ValueError(f"{Path(path) / WEIGHTS} does not fit this model: {problem}")
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])
    return adapters


class Adapters(RankHandle):
    """The handle on a model's adapters, made by `attach` or `load`.

    Attributes:
        model: the model they are in.
        layers: the adapters, `{dotted name: LowRankAdapter}`: a `DyLoRALinear`, or one part of a `DyLoRAFused`.
        wrappers: the modules that stand in the model instead of its own.
        saved_modules: the modules trained along with them, by name.
        r: the maximum rank.
        config: the arguments of `attach`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, LowRankAdapter],
        wrappers: list[Wrapper],
        saved_modules: dict[str, nn.Module],
        config: dict[str, Any],
        requires_grad: dict[nn.Parameter, bool],
    ) -> None:
        self.model, self.layers, self.saved_modules, self.config = model, layers, saved_modules, config
        self.wrappers = wrappers
        self._requires_grad = requires_grad
        self._attached = True
        self._active = ActiveRank({name: layer.r for name, layer in layers.items()})
        for name, layer in layers.items():
            layer.name, layer.active = name, self._active
        for wrapper in wrappers:
            wrapper.train(wrapper.base_layer.training)
            replace_module(model, wrapper.base_layer, wrapper)

    @property
    def frozen(self) -> bool:
        """Train mode of Eq. 10: only row and column b get gradients."""
        return self._active.frozen

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self.check_usable()
        self._active.frozen = bool(value)

    @property
    def scaling(self) -> str:
        """How the scale depends on the rank: `"alpha/b"`, `"alpha/r"` or `"alpha/sqrt(b)"`; assign to change it."""
        return self.config["scaling"]

    @scaling.setter
    def scaling(self, value: str) -> None:
        self.check_usable()
        self.check_unmerged("changing the scale")
        self.config["scaling"] = check_scaling(value)
        for layer in self.layers.values():
            layer._scaling = value

    def delta(self, layer: str, rank: int | None = None) -> Tensor:
        """ΔW of one layer at a rank (default: the active one), scale included, shape (d_out, d_in)."""
        if layer not in self.layers:
            raise ValueError(f"no adapted layer is called {layer!r}: the layers are {', '.join(self.layers)}")
        return self.layers[layer].delta(rank)

    def num_parameters(self, rank: int | None = None) -> int:
        """How many adapter parameters are in use at a rank (default: the active one): Σ b·(d_in + d_out)."""
        used = self._active.of if rank is None else lambda name: min(check_rank(rank, self.r), self.layers[name].r)
        return sum(used(name) * (la.in_features + la.out_features) for name, la in self.layers.items())

    def merge(self, rank: int | None = None) -> None:
        """Adds every ΔW at a rank (default: the active one) to the base weights, so that inference costs nothing extra.

        The original weights are kept until `unmerge`. Until then, setting a rank, training and saving raise.
        """
        self.check_usable()
        if self.merged:
            raise ValueError("the adapters are merged already: call unmerge() first")
        owners: dict[nn.Parameter, list[str]] = {}
        for name, module in self.model.named_modules():
            for parameter in module.parameters(recurse=False):
                owners.setdefault(parameter, []).append(name)
        for wrapper in self.wrappers:
            name = next(name for name, module in self.model.named_modules() if module is wrapper)
            if not wrapper.weight.is_floating_point():
                raise ValueError(f"cannot merge {name!r}: its weight is quantised ({wrapper.weight.dtype})")
            shared = owners[wrapper.weight]  # type: ignore[index]
            if len(shared) > 1:
                raise ValueError(f"cannot merge {name!r}: its weight is shared by {', '.join(shared)}")
        if rank is not None:
            self.rank = check_rank(rank, self.r)
        if self._active.per_example is not None:
            raise ValueError("each example has its own rank: say which rank to merge, as in merge(rank=3)")
        merged = {wrapper: wrapper.merged_weight() for wrapper in self.wrappers}  # all of them before the first change
        for wrapper, weight in merged.items():
            wrapper.swap_in(weight)
        self._active.merged = True

    def unmerge(self) -> None:
        """Puts the original base weights back, bit for bit."""
        if not self.merged:
            raise ValueError("the adapters are not merged: call merge() first")
        for wrapper in self.wrappers:
            wrapper.swap_out()
        self._active.merged = False

    def detach(self) -> nn.Module:
        """Takes the adapters out: the model gets its own modules and their `requires_grad` back. Returns the model."""
        self.check_usable()
        if self.merged:
            self.unmerge()
        for wrapper in self.wrappers:
            replace_module(self.model, wrapper, wrapper.base_layer)
        for parameter, flag in self._requires_grad.items():
            parameter.requires_grad_(flag)
        self._attached = False
        return self.model

    def check_usable(self, model: nn.Module | None = None) -> None:
        """Raises `ValueError` if these adapters were detached, or are not in `model` (which may be a wrapper)."""
        if not self._attached:
            raise ValueError("these adapters were detached from their model: attach or load them again")
        super().check_usable(model)

    def nested_parameters(self) -> list[nn.Parameter]:
        """Every `lora_A` and `lora_B` that is trained."""
        return [p for layer in self.layers.values() for p in (layer.lora_A, layer.lora_B) if p.requires_grad]

    def settings(self) -> dict[str, Any]:
        """What a training run depends on."""
        return {
            "layers": {name: layer.r for name, layer in self.layers.items()},
            "modules_to_save": list(self.saved_modules),
            **{key: self.config[key] for key in ("lora_alpha", "scaling", "lora_dropout")},
            "frozen": self.frozen,
        }

    def tensors(self) -> dict[str, Tensor]:
        """The model's own tensors that belong into a file, by name: lora_A, lora_B, and modules trained along."""
        tensors: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            tensors[f"{name}.lora_A.weight"] = layer.lora_A
            tensors[f"{name}.lora_B.weight"] = layer.lora_B
        for name, module in self.saved_modules.items():
            tensors |= {f"{name}.{key}": tensor for key, tensor in module.state_dict(keep_vars=True).items()}
        return tensors

    def save(self, path: str | PathLike[str]) -> None:
        """Writes adapters at their full rank, and the modules trained along, into a folder; see `dylora_kit.load`.

        The files are `adapter_config.json` and `adapter_model.safetensors`; both are written or neither is. Under
        `"alpha/b"` the folder is at the same time an ordinary PEFT LoRA adapter of rank r, unless a fused projection
        was split; `export_peft` writes one in any case. Raises `ValueError` while the adapters are merged, and for a
        weight that is not finite.
        """
        self.check_usable()
        self.check_unmerged("saving")
        write_adapter(path, self.config, self.tensors(), list(self.saved_modules))

    def export_peft(
        self, path: str | PathLike[str], rank: int | Mapping[str, int] | None = None, *, serving: bool = False
    ) -> None:
        """Writes adapters, cut to one rank, as an ordinary PEFT LoRA adapter, with the modules trained along.

        PEFT scales by α/r, so each scaling finds its α: at rank b, `"alpha/b"` keeps it, `"alpha/r"` writes α·b/r, and
        `"alpha/sqrt(b)"` sets `use_rslora`. The adapters of one fused projection become one adapter of block structure,
        whose rank and α are so many times larger.

        Arguments:
            path: a folder; `adapter_config.json` and `adapter_model.safetensors` go there, both or neither.
            rank: an int, or `{layer: rank}` for every layer; default is the active rank.
            serving: for engines that want one rank and one scale: the scale is folded into `lora_B`, ranks are padded
                with zeros to the largest, and nothing but adapters is written.

        Raises `ValueError` for a rank out of range, while merged, and for a weight that is not finite.
        """
        self.check_usable()
        self.check_unmerged("exporting")
        if isinstance(rank, Tensor) or (rank is None and isinstance(self.rank, Tensor)):
            raise ValueError("each example has its own rank: say which rank to export, as in export_peft(path, rank=3)")
        self._check_exportable()
        base = self._base_model()
        with self.at(self.rank if rank is None else rank):
            blocks = self._blocks()
        write_peft_adapter(
            path,
            blocks,
            BaseModel(
                class_name=type(base).__name__,
                library=type(base).__module__,
                name=getattr(self.model, "name_or_path", None) or None,
                transposed=any(stores_transposed(wrapper.base_layer) for wrapper in self.wrappers),
            ),
            rslora=self.scaling == "alpha/sqrt(b)" and not serving,
            lora_dropout=self.config["lora_dropout"],
            saved={} if serving else {name: module.state_dict() for name, module in self._saved_for_peft().items()},
            serving=serving,
        )

    def _base_model(self) -> nn.Module:
        """The model as PEFT would open it."""
        return self.model

    def _check_exportable(self) -> None:
        """Raises `ValueError` for what an adapter of PEFT would not bring back."""
        names: dict[nn.Module, str] = {}
        for name, module in self.model.named_modules(remove_duplicate=False):
            if isinstance(module, Wrapper) and names.setdefault(module, name) != name:
                raise ValueError(
                    f"cannot export: {names[module]!r} and {name!r} are one module, of which PEFT would adapt one name "
                    "alone"
                )

    def _blocks(self) -> dict[str, Block]:
        """One block for each layer that PEFT would adapt, by name, at the active rank."""
        return {name: module.block() for name, module in self.model.named_modules() if isinstance(module, Wrapper)}

    def _saved_for_peft(self) -> dict[str, nn.Module]:
        """The modules that PEFT would save of these, by name."""
        saved = saved_by_peft(self.model, list(self.saved_modules))
        # PEFT trains copies: each holder of a shared weight needs its own
        return saved | holders_of_same_weights(self.model, saved)

    def __repr__(self) -> str:
        size = f"{self.num_parameters(self.r):,} parameters"
        return f"Adapters({len(self.layers)} layers, r={self.r}, rank={self.rank}, {size})"


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts `new` wherever `old` stands, also where one module is registered under several names."""
    places = [
        (parent, key)
        for parent in model.modules()
        if parent is not new
        for key, child in parent._modules.items()
        if child is old
    ]
    for parent, key in places:
        setattr(parent, key, new)
