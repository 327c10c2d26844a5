"""The handle on all adapters of a model, and how to find it."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.growing import grow_layer
from dylora_kit.core.layer import Wrapper
from dylora_kit.core.low_rank import LowRankAdapter, check_scaling
from dylora_kit.core.patterns import values_by_pattern
from dylora_kit.core.rank import check_rank
from dylora_kit.core.rotation import ordered
from dylora_kit.core.saved_states import handle_in
from dylora_kit.core.saving import check_readable
from dylora_kit.core.writing import WritingHandle


class Adapters(WritingHandle):
    """The handle on a model's adapters, made by `attach` or `load`.

    Attributes:
        model: the model they are in.
        layers: the adapters, `{dotted name: LowRankAdapter}`: a `DyLoRALinear`, or one part of a `DyLoRAFused`.
        wrappers: the modules that stand in the model instead of its own.
        saved_modules: the modules trained along with them, by name.
        r: the maximum rank.
        config: the arguments of `attach`.
        orderings: how often `order` has rotated the rows.
    """

    orderings = 0

    @property
    def has_delta(self) -> bool:
        """Whether each adapter adds a product ΔW = B·A; bottlenecks do not."""
        return not self.config.get("bottleneck")

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

    def order(self) -> None:
        """Orders the rows of every adapter by singular value, in place, so that every rank is the closest cut.

        At rank r the model computes what it did. At a lower rank b each ΔW is its singular value decomposition cut to
        b, and by the Eckart-Young theorem no matrix of rank b is closer; what is closest need not be best for the task,
        which `dylora_kit.nest` and training are for. `dylora_kit.ordering` gives score 1 at every rank. The scaling
        becomes `"alpha/r"`, since a singular value must not grow when others are cut away. Parameters keep their names
        and stay the same objects; modules trained along keep their values.

        Computed in float64 and rounded to the type of the adapters: in float32, ΔW at rank r changes by about 1e-7 of
        its size, in bfloat16 by about 1e-2.

        Moments that an optimizer has gathered are those of the rows before: make the optimizer anew. `NestedAdamW`
        refuses to go on; others do not notice.

        Raises `ValueError`, and changes nothing, while merged or in a `disabled()` block, for an adapter that is not
        finite, and for one without values (device meta) or divided among processes.

        >>> from dylora_kit.core.adapters import attach
        >>> adapters = attach(nn.Sequential(nn.Linear(6, 5)), r=3, target_modules=["0"])
        >>> adapters.order()
        >>> adapters.scaling
        'alpha/r'
        """
        self._check_before_changing("ordering their rows", "order")
        matrices = {}
        for layer in self.layers.values():
            layer.check_product("ordering rows")
            layer.check_finite("its rows have no order")
            matrices[layer] = ordered(layer.lora_A, layer.lora_B)
        scales = {layer: layer.scale(layer.r) for layer in matrices}
        self._scale_by_r()
        with torch.no_grad():
            for layer, (lora_A, lora_B) in matrices.items():
                root = math.sqrt(scales[layer] / layer.scale(layer.r))
                layer.lora_A.copy_(lora_A * root)
                layer.lora_B.copy_(lora_B * root)
        self.orderings += 1

    def grow(self, r: int, *, seed: int = 0) -> None:
        """Raises the maximum rank to r, in place: rows and columns are added behind those that there are.

        At that moment every rank that there was computes what it did, from the same numbers: new columns of `lora_B`
        are zero, and new rows of `lora_A` drawn as `attach` draws them. Under `"alpha/r"` α grows with r, so that the
        scale α/r stays what it is. The active rank stays too. A layer to which `rank_pattern` gives a rank of its own
        keeps it.

        `NestedAdamW` goes on with its next step: rows keep their moments and step counts, new ones start from zero; its
        `row_lr`, if there is one, then needs r factors. Other optimizers that have made a step, and a model in
        `DistributedDataParallel`, raise for the shapes: make them anew. Gradients at hand are dropped.

        Arguments:
            r: the new maximum rank, above `config["r"]`.
            seed: start of the new rows, drawn from a generator of its own.

        Raises `ValueError`, and changes nothing, for a rank that is not larger, while merged or in a `disabled()`
        block, for layers without values (device meta) or divided among processes, and for those of PEFT.

        >>> from dylora_kit.core.adapters import attach
        >>> adapters = attach(nn.Sequential(nn.Linear(6, 5)), r=2, target_modules=["0"])
        >>> adapters.grow(4)
        >>> adapters.r, adapters.rank, adapters.layers["0"].lora_B.shape
        (4, 2, torch.Size([5, 4]))
        """
        self._check_before_changing("growing", "grow")
        r, old = check_rank(r, None), self.config["r"]
        names = {  # a part of a fused projection also goes by the name of the projection
            name: [name] if isinstance(layer, Wrapper) else [name, name.rpartition(".")[0]]
            for name, layer in self.layers.items()
        }
        limits, _ = values_by_pattern(names, self.config["rank_pattern"], r, "rank_pattern")
        growing = {name: layer for name, layer in self.layers.items() if limits[name] > layer.r}
        if r <= old or not growing:
            reason = f"expected more than {old}" if r <= old else "rank_pattern gives every layer a rank of its own"
            raise ValueError(f"adapters of maximum rank {old} cannot grow to {r}: {reason}")
        generator = torch.Generator().manual_seed(seed)
        for layer in growing.values():
            grow_layer(layer, r, generator)
        self.config["r"] = r
        self._active.grow(limits)
        if self.scaling == "alpha/r":
            self._grow_alphas(growing.values(), r / old)

    def _grow_alphas(self, layers: Iterable[LowRankAdapter], factor: float) -> None:
        """Multiplies the α of some layers, and says in the arguments of `attach` which α each layer has."""
        for layer in layers:
            layer._lora_alpha *= factor
        alpha = self.config["lora_alpha"] * factor
        others = {name: layer.lora_alpha for name, layer in self.layers.items() if layer.lora_alpha != alpha}
        self.config |= {"lora_alpha": alpha} | ({"alpha_pattern": others} if others else {})
        if not others:
            self.config.pop("alpha_pattern", None)

    def _check_before_changing(self, purpose: str, verb: str) -> None:
        """Raises `ValueError` unless the matrices are in use as they are, and all their values are here."""
        self.check_usable()
        self.check_unmerged(purpose)
        self._active.check_enabled(purpose)
        for name, layer in self.layers.items():
            check_readable({f"{name}.lora_A": layer.lora_A, f"{name}.lora_B": layer.lora_B}, verb)

    def _scale_by_r(self) -> None:
        """Makes the scale the same at every rank."""
        self.scaling = "alpha/r"

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
        } | {key: self.config[key] for key in ("alpha_pattern", "bottleneck") if self.config.get(key)}

    def __repr__(self) -> str:
        size = f"{self.num_parameters(self.r):,} parameters"
        return f"Adapters({len(self.layers)} layers, r={self.r}, rank={self.rank}, {size})"


def handle_of(model: nn.Module) -> Adapters:
    """The handle on a model's adapters, also where the model is a copy, or inside of another (DDP, `AveragedModel`).

    A copy has adapters and a rank of its own: setting its rank leaves that of the original.

    Raises `ValueError` if the model has no adapters, or is a part of one.

    >>> import copy
    >>> from dylora_kit.core.adapters import attach
    >>> model = nn.Sequential(nn.Linear(6, 5))
    >>> adapters = attach(model, r=2, target_modules=["0"])
    >>> handle_of(copy.deepcopy(model)).rank = 1
    >>> adapters.rank
    2
    """
    handle = handle_in(model)
    if handle is None:
        raise ValueError(
            "this model has no adapters, or is a part of one that has: pass the model that attach was given, or a copy"
        )
    return handle
