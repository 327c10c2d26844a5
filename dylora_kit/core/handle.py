"""The handle on all adapters of a model, and how to find it."""

from typing import Any

from torch import Tensor, nn

from dylora_kit.core.low_rank import check_scaling
from dylora_kit.core.rank import check_rank
from dylora_kit.core.saved_states import handle_in
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
    """

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
