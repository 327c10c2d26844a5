"""The handle on all adapters of a model: set the rank, merge, save, export, detach."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.layer import Wrapper, replace_module, stores_transposed
from dylora_kit.core.low_rank import LowRankAdapter, check_scaling
from dylora_kit.core.names import named_modules, plain_name
from dylora_kit.core.rank import ActiveRank, RankHandle, check_rank
from dylora_kit.core.targets import holders_of_same_weights, saved_by_peft
from dylora_kit.storage.adapter_files import difference, write_adapter
from dylora_kit.storage.peft_files import BaseModel, Block, write_peft_adapter


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
        self._active.check_layer(layer)
        return self.layers[layer].delta(rank)

    def num_parameters(self, rank: int | None = None) -> int:
        """How many adapter parameters are in use at a rank (default: the active one): Σ b·(d_in + d_out)."""
        if rank is None:
            ranks = {name: self._active.of(name) for name in self.layers}
        else:
            b = check_rank(rank, self.r)
            ranks = {name: min(b, layer.r) for name, layer in self.layers.items()}
        return sum(ranks[name] * (layer.in_features + layer.out_features) for name, layer in self.layers.items())

    def merge(self, rank: int | None = None) -> None:
        """Adds every ΔW at a rank (default: the active one) to the base weights, so that inference costs nothing extra.

        The original weights are kept until `unmerge`. Until then, setting a rank, training and saving raise.

        Raises `ValueError` while merged, for a rank out of range, and for a weight that is quantised or that other
        modules share.
        """
        self.check_usable()
        if self.merged:
            raise ValueError("the adapters are merged already: call unmerge() first")
        self._check_mergeable()
        if rank is not None:
            self.rank = check_rank(rank, self.r)
        self._active.check_not_mixed("say which rank to merge, as in merge(rank=3)")
        merged = {wrapper: wrapper.merged_weight() for wrapper in self.wrappers}  # an error leaves no weight changed
        for wrapper, weight in merged.items():
            wrapper.swap_in(weight)
        self._active.merged = True

    def _check_mergeable(self) -> None:
        """Raises `ValueError` if a base weight is quantised, or shared by two modules."""
        holders: dict[nn.Parameter, list[str]] = {}
        for name, module in named_modules(self.model):
            for parameter in module.parameters(recurse=False):
                holders.setdefault(parameter, []).append(name)
        for wrapper in self.wrappers:
            name = next(name for name, module in named_modules(self.model) if module is wrapper)
            if not wrapper.weight.is_floating_point():
                raise ValueError(f"cannot merge {name!r}: its weight is quantised ({wrapper.weight.dtype})")
            names = holders[wrapper.weight]  # type: ignore[index]
            if len(names) > 1:
                raise ValueError(f"cannot merge {name!r}: its weight is shared by {', '.join(names)}")

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
        } | ({"alpha_pattern": self.config["alpha_pattern"]} if self.config.get("alpha_pattern") else {})

    def tensors(self) -> dict[str, Tensor]:
        """The model's own tensors that go into a file, by name: lora_A, lora_B, and modules trained along."""
        tensors: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            tensors[f"{name}.lora_A.weight"] = layer.lora_A
            tensors[f"{name}.lora_B.weight"] = layer.lora_B
        for name, module in self.saved_modules.items():
            state = module.state_dict(keep_vars=True)
            tensors |= {plain_name(f"{name}.{key}"): tensor for key, tensor in state.items()}
        return tensors

    @torch.no_grad()
    def fill(self, tensors: Mapping[str, Tensor], file: PathLike[str]) -> None:
        """Copies tensors that were read from a file into the model's own.

        Raises `ValueError` that names the file if they do not fit in names, types or shapes; the adapters are detached
        then.
        """
        expected = self.tensors()
        problem = difference(expected, tensors)
        if problem:
            self.detach()
            raise ValueError(f"{file} does not fit this model: {problem}")
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])

    def save(self, path: str | PathLike[str]) -> None:
        """Writes adapters at their full rank, and the modules trained along, into a folder; see `dylora_kit.load`.

        The files are `adapter_config.json` and `adapter_model.safetensors`; both are written or neither is. Under
        `"alpha/b"` the folder is at the same time an ordinary PEFT LoRA adapter of rank r, unless a fused projection
        was split; `export_peft` writes one in any case. Raises `ValueError` while the adapters are merged, and for a
        weight that is not finite.
        """
        self.check_usable()
        self.check_unmerged("saving")
        alphas = {name: layer.lora_alpha for name, layer in self.layers.items()}
        write_adapter(path, self.config, self.tensors(), list(self.saved_modules), alphas)

    def export_peft(
        self, path: str | PathLike[str], rank: int | Mapping[str, int] | None = None, *, serving: bool = False
    ) -> None:
        """Writes adapters, cut to one rank, as an ordinary PEFT LoRA adapter, with the modules trained along.

        PEFT scales by α/r, so what is written depends on the scaling: at rank b, `"alpha/b"` keeps α, `"alpha/r"`
        writes α·b/r, and `"alpha/sqrt(b)"` sets `use_rslora`. The n adapters of a fused projection become one adapter
        of block structure, with n times the rank and n times the α (√n times under `use_rslora`).

        Arguments:
            path: a folder; `adapter_config.json` and `adapter_model.safetensors` go there, both or neither.
            rank: an int, or `{layer: rank}` for every layer; default is the active rank.
            serving: for engines that take one rank and one scale: the scale is multiplied into `lora_B`, ranks are
                padded with zeros to the largest, and nothing but adapters is written.

        Raises `ValueError` for a rank out of range, while merged, and for a weight that is not finite.
        """
        self.check_usable()
        self.check_unmerged("exporting")
        self._active.check_not_mixed("say which rank to export, as in export_peft(path, rank=3)", rank)
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
        """The model to which PEFT would add the adapter."""
        return self.model

    def _check_exportable(self) -> None:
        """Raises `ValueError` if a PEFT adapter could not hold all of these: PEFT adapts each module by one name."""
        names: dict[nn.Module, str] = {}
        for name, module in named_modules(self.model, remove_duplicate=False):
            if isinstance(module, Wrapper) and names.setdefault(module, name) != name:
                raise ValueError(
                    f"cannot export: {names[module]!r} and {name!r} are one module, of which PEFT would adapt one name "
                    "alone"
                )

    def _blocks(self) -> dict[str, Block]:
        """One block for each layer that PEFT would adapt, by name, at the active rank."""
        return {name: module.block() for name, module in named_modules(self.model) if isinstance(module, Wrapper)}

    def _saved_for_peft(self) -> dict[str, nn.Module]:
        """The modules whose weights a PEFT adapter must hold, by name, so that PEFT gives back what was trained.

        PEFT keeps a copy of each saved module: where it shares a weight with another, the other one needs a copy too.
        """
        saved = saved_by_peft(self.model, list(self.saved_modules))
        return saved | holders_of_same_weights(self.model, saved)

    def __repr__(self) -> str:
        size = f"{self.num_parameters(self.r):,} parameters"
        return f"Adapters({len(self.layers)} layers, r={self.r}, rank={self.rank}, {size})"
