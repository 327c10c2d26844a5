"""AdaLoRA (Zhang et al. 2023) through PEFT: in training, the rank of each layer shrinks until a budget is met.

ΔW = B·diag(e)·A. The entries of e that matter least, over all layers, are set to zero step by step. Like FLOP it finds
one size per run.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dylora_kit.rank import ActiveRank, RankHandle
from dylora_kit.targets import by_module, match_targets

START = 1.5  # ranks at the start for each one of the budget, as in PEFT's defaults
BEFORE, AFTER, EVERY = 0.1, 0.5, 10  # shares of the steps before and after the shrinking, and how often it shrinks


class Allocation(RankHandle):
    """The handle on a model under AdaLoRA. It has one budget only: it cannot be turned.

    Attributes:
        model: PEFT's model.
    """

    word, kind = "budget", "AdaLoRA"
    model: Any

    def __init__(self, model: Any, layers: dict[str, Any]) -> None:
        self.model, self.layers = model, layers
        self._active = ActiveRank({"budget": 1})

    def ranks(self) -> dict[str, int]:
        """How many entries of e are left, by layer."""
        return {name: int((layer.lora_E["default"] != 0).sum()) for name, layer in self.layers.items()}

    def num_parameters(self, rank: int | None = None) -> int:
        """How many parameters of the adapters evaluation uses: in each layer, rank · (d_in + d_out + 1)."""
        sizes = {name: layer.in_features + layer.out_features + 1 for name, layer in self.layers.items()}
        return sum(left * sizes[name] for name, left in self.ranks().items())

    def nested_parameters(self) -> list[nn.Parameter]:
        """Every A, B and e."""
        return [p for name, p in self.model.named_parameters() if "lora_" in name and p.requires_grad]

    def settings(self) -> dict[str, Any]:
        """What a training run depends on."""
        return {"layers": list(self.layers), "budget": self.model.peft_config["default"].target_r}

    def optimizer(self, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
        """AdamW that allocates the budget anew after its steps. With any other optimizer the ranks stay as they are."""
        learned = [p for p in self.model.parameters() if p.requires_grad]
        return _AllocatingAdamW(self.model, learned, lr=lr, weight_decay=weight_decay)


class _AllocatingAdamW(torch.optim.AdamW):
    def __init__(self, model: Any, params: list[nn.Parameter], **options: Any) -> None:
        super().__init__(params, **options)
        self._model, self._steps = model, 0

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self._steps += 1
        self._model.base_model.update_and_allocate(self._steps)  # reads the gradients of this step
        return loss


def adalora(
    model: nn.Module,
    target_modules: str | Sequence[str],
    *,
    steps: int,
    r: int = 8,
    lora_alpha: float = 16,
    modules_to_save: Sequence[str] = (),
    seed: int = 0,
) -> Allocation:
    """Puts AdaLoRA on a model, for a training of so many steps.

    Arguments:
        target_modules, lora_alpha, modules_to_save: as in `attach`.
        steps: how many the training will have; the budget is met at half of them.
        r: the budget: the mean rank that is left.
        seed: of the start of A and B.

    Needs PEFT. Raises `ValueError` for a fused projection, and for fewer than 40 steps.
    """
    from peft import AdaLoraConfig, get_peft_model

    if steps < 40:
        raise ValueError(f"AdaLoRA shrinks every {EVERY} steps and needs at least 40: got {steps}")
    names = target_modules if isinstance(target_modules, str) else list(target_modules)
    found = by_module(match_targets(model, names))
    fused = [name for name, parts in found.items() if parts]
    if fused:
        raise ValueError(f"{fused[0]!r} is several projections in one: AdaLoRA here adapts plain linear layers only")
    config = AdaLoraConfig(
        init_r=round(START * r), target_r=r, lora_alpha=lora_alpha, target_modules=list(found),
        modules_to_save=list(modules_to_save) or None, total_step=steps, tinit=round(BEFORE * steps),
        tfinal=round(AFTER * steps), deltaT=EVERY, init_lora_weights=True,
    )  # fmt: skip
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        peft_model = get_peft_model(model, config)
    inside = peft_model.get_base_model()
    return Allocation(peft_model, {name: inside.get_submodule(name) for name in found})
