"""AdaLoRA (Zhang et al. 2023) through PEFT: in training, the rank of each layer shrinks until a budget is met.

ΔW = B·diag(e)·A. The entries of e that matter least, over all layers, are set to zero step by step. Like FLOP it finds
one size per run.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dylora_kit.core.rank import ActiveRank
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.core.targets import match_saved, unfused_targets

START = 1.5  # the rank at the start, as a multiple of the budget; as in PEFT's defaults
BEFORE, AFTER, EVERY = 0.1, 0.5, 10  # shares of the steps before and after the shrinking, and how often it shrinks


class Allocation(RankHandle):
    """The handle on a model under AdaLoRA. It has one budget only: no rank can be set, and no training resumed.

    Attributes:
        model: PEFT's model, whose loss keeps A and B orthogonal.
    """

    unit, kind, resumes = "budget", "AdaLoRA", False
    model: Any

    def __init__(self, peft_model: Any, layers: dict[str, Any]) -> None:
        self.model, self.layers = peft_model.base_model, layers  # PeftModel's own forward adds no penalty to the loss
        self._active = ActiveRank({"budget": 1})

    def ranks(self) -> dict[str, int]:
        """How many entries of e are left, by layer; before the training, when all are 0, how many there are."""
        entries = {name: layer.lora_E["default"].detach() for name, layer in self.layers.items()}
        untrained = not any(bool(e.any()) for e in entries.values())
        return {name: len(e) if untrained else int((e != 0).sum()) for name, e in entries.items()}

    def num_parameters(self, rank: int | None = None) -> int:
        """How many parameters of the adapters evaluation uses: in each layer, rank · (d_in + d_out + 1)."""
        sizes = {name: layer.in_features + layer.out_features + 1 for name, layer in self.layers.items()}
        return sum(rank * sizes[name] for name, rank in self.ranks().items())

    def nested_parameters(self) -> list[nn.Parameter]:
        """Every A, B and e."""
        return [p for name, p in self.model.named_parameters() if "lora_" in name and p.requires_grad]

    def settings(self) -> dict[str, Any]:
        """What a training run depends on."""
        return {"layers": list(self.layers), "budget": self.model.peft_config["default"].target_r}

    def optimizer(self, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
        """AdamW that allocates the budget anew after its steps. With any other optimizer the ranks stay as they are."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return _AllocatingAdamW(self.model, trained, lr=lr, weight_decay=weight_decay)


class _AllocatingAdamW(torch.optim.AdamW):
    """AdamW after whose steps PEFT allocates the ranks anew."""

    def __init__(self, model: Any, params: list[nn.Parameter], **options: Any) -> None:
        super().__init__(params, **options)
        self._model, self._steps = model, 0

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self._steps += 1
        self._model.update_and_allocate(self._steps)  # reads the gradients of this step
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
    """Adds AdaLoRA to a model, in place, for one training. Needs PEFT.

    Arguments:
        target_modules, lora_alpha, modules_to_save: as in `attach`.
        steps: how many the training will have; the budget is met at half of them.
        r: the budget: the mean rank that is left.
        seed: start of A and B.

    Returns the handle on it. Raises `ValueError` for a fused projection, for fewer than 40 steps, and for an `r` or
    `lora_alpha` out of range.
    """
    from peft import AdaLoraConfig, get_peft_model

    if steps < 40:
        raise ValueError(f"AdaLoRA shrinks every {EVERY} steps and needs at least 40: got {steps}")
    if not (isinstance(r, int) and r >= 1) or not lora_alpha > 0:
        raise ValueError(f"r must be a whole number from 1 and lora_alpha greater than 0: got {r!r} and {lora_alpha!r}")
    targets = unfused_targets(model, target_modules, "AdaLoRA")
    saved = list(match_saved(model, list(modules_to_save), list(targets))) if modules_to_save else []
    pattern = "|".join(re.escape(name) for name in targets)  # PEFT matches a list by the ends of names, this as a whole
    config = AdaLoraConfig(
        init_r=round(START * r), target_r=r, lora_alpha=lora_alpha, target_modules=pattern,
        modules_to_save=saved or None, total_step=steps, tinit=round(BEFORE * steps),
        tfinal=round(AFTER * steps), deltaT=EVERY, init_lora_weights=True,
    )  # fmt: skip
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        peft_model = get_peft_model(model, config)
    inside = peft_model.get_base_model()
    return Allocation(peft_model, {name: inside.get_submodule(name) for name in targets})
