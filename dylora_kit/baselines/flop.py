"""FLOP, factorized low-rank pruning (Wang, Wohlwend and Lei 2019): gates on rank-1 parts, closed until a size is met.

A product P·diag(z)·Q is a sum of rank-1 parts, and each gate z switches one of them off. The gates are random in
training, where a controller brings their expected size to a target; in evaluation they are fixed, and `prune` takes out
what is off. One run finds one size. It is not dynamic: another size needs another run.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.baselines.gated_layer import GatedLinear
from dylora_kit.core.layer import replace_module, sizes_of, stores_transposed
from dylora_kit.core.low_rank import new_matrices
from dylora_kit.core.rank import ActiveRank
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.core.targets import match_saved, unfused_targets

DAMPING = 50.0  # where λ₂ starts; from 0 the size swings about its target for hundreds of steps


class Gates(RankHandle):
    """The handle on a gated model. It has one size only: no rank can be set.

    Attributes:
        layers: the gated layers by name.
        whole: the number of parameters that is a share of 1: of the dense weights; for a LoRA, of all its parts.
        multipliers: the λ₁ and λ₂ of `controller`. They are in no checkpoint, so a training cannot be resumed.
    """

    unit, kind, resumes = "size", "gates", False

    def __init__(self, model: nn.Module, layers: dict[str, GatedLinear], whole: int) -> None:
        self.model, self.layers, self.whole = model, layers, whole
        self._active = ActiveRank({"gates": 1})
        self.multipliers = [0.0, DAMPING]

    def expected_size(self) -> Tensor:
        """The expected parameters as a share of the whole. It can exceed 1: P and Q at full rank are larger than W."""
        parts = [layer.gates.expected_size() * layer.size_of_part for layer in self.layers.values()]
        return torch.stack(parts).sum() / self.whole

    def num_parameters(self, rank: int | None = None) -> int:
        """How many gated parameters evaluation uses."""
        return sum(int(layer.gates.kept().sum()) * layer.size_of_part for layer in self.layers.values())

    def share(self) -> float:
        """The parameters that evaluation uses, as a share of the whole."""
        return self.num_parameters() / self.whole

    def nested_parameters(self) -> list[nn.Parameter]:
        """The factors and the gates."""
        return [p for layer in self.layers.values() for p in (layer.q, layer.p, layer.gates.log_alpha)]

    def settings(self) -> dict[str, Any]:
        """What a training run depends on."""
        return {"layers": {name: len(layer.q) for name, layer in self.layers.items()}}

    def groups(self, lr: float, gate_lr: float = 0.05) -> list[dict[str, Any]]:
        """All that is trained, as parameter groups for an optimizer: the gates learn at a rate of their own."""
        gates = [layer.gates.log_alpha for layer in self.layers.values()]
        apart = set(gates)
        others = [p for p in self.model.parameters() if p.requires_grad and p not in apart]
        return [{"params": others, "lr": lr}, {"params": gates, "lr": gate_lr}]

    def controller(
        self, target: float, *, steps: int, ramp: float = 0.5, rate: float = 3.0
    ) -> tuple[Callable[[nn.Module, dict[str, Any]], Tensor], Callable[[int], None]]:
        """The loss and the `on_step` to give to `train`, which bring the expected share s to a target t.

        The loss is the model's plus λ₁·(s − t) + λ₂·(s − t)². After each optimizer step the λ ascend: λ₁ by
        rate · (s − t), λ₂ by rate · (s − t)². In the first part of the steps t falls from the share at the start to the
        target. It takes some 300 steps.

        Arguments:
            target: the share of the whole to keep.
            steps: how many the training has.
            ramp: the part of the steps in which t falls.
            rate: how fast the λ ascend.

        Raises `ValueError` for a target that is not between 0 and the share at the start.
        """
        start = self.expected_size().item()
        if not 0 < target < start:
            raise ValueError(f"target must be a share between 0 and {start:.3g}, which it has now: got {target!r}")
        falling_steps, current_target = max(round(ramp * steps), 1), start

        def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
            excess = self.expected_size() - current_target
            return model(**batch).loss + self.multipliers[0] * excess + self.multipliers[1] * excess**2

        def on_step(step: int) -> None:
            nonlocal current_target
            with torch.no_grad():
                excess = self.expected_size().item() - current_target
            self.multipliers[0] += rate * excess
            self.multipliers[1] += rate * excess**2
            current_target = start - (start - target) * min(step / falling_steps, 1)

        return loss, on_step

    def prune(self) -> nn.Module:
        """Takes out what evaluation does not use, in place; the model computes the same. Returns the model."""
        for layer in self.layers.values():
            replace_module(self.model, layer, layer.pruned())
        return self.model


def flop(model: nn.Module, target_modules: str | Sequence[str]) -> Gates:
    """Factorises linear layers of a model in place, W = P·diag(z)·Q by singular values, with gates that start open.

    At the start the model computes nearly the same: of a hundred parts, one may be off in evaluation. All parameters of
    the model are trained.

    Arguments:
        target_modules: as in `attach`.

    Returns the handle on the gates. Raises `ValueError` for a fused projection, and for a layer that is shared.

    >>> model = nn.Sequential(nn.Linear(6, 4))
    >>> x, before = torch.randn(3, 6), model(torch.ones(3, 6))
    >>> gates = flop(model, ["0"])
    >>> torch.allclose(model.eval()(torch.ones(3, 6)), before, atol=1e-5), gates.share()  # 4 · (6 + 4) of 24
    (True, 1.6666666666666667)
    """
    layers, whole = {}, 0
    for name, module in _targets(model, target_modules).items():
        whole += module.weight.numel()  # type: ignore[operator]
        weight = module.weight.detach().T if stores_transposed(module) else module.weight.detach()  # type: ignore[operator]
        u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)  # (d_out, n), (n,), (n, d_in)
        q, p = (s.sqrt()[:, None] * v).to(weight.dtype), (u * s.sqrt()).to(weight.dtype)
        layers[name] = GatedLinear(q, p, bias=getattr(module, "bias", None)).train(module.training)
        replace_module(model, module, layers[name])
    return Gates(model, layers, whole)


def flop_lora(
    model: nn.Module,
    target_modules: str | Sequence[str],
    *,
    r: int = 8,
    lora_alpha: float = 16,
    modules_to_save: Sequence[str] = (),
    seed: int = 0,
) -> Gates:
    """LoRA whose rank is found by the same gates: ΔW = (α/r) · lora_B · diag(z) · lora_A, the model frozen.

    Arguments: as in `attach`.

    Returns the handle on the gates. Raises `ValueError` for a fused projection, and for a layer that is shared.
    """
    generator = torch.Generator().manual_seed(seed)
    layers, targets = {}, _targets(model, target_modules)
    saved = match_saved(model, list(modules_to_save), list(targets)) if modules_to_save else {}
    model.requires_grad_(False)
    for module in saved.values():
        module.requires_grad_(True)
    for name, module in targets.items():
        d_in, d_out = sizes_of(module)
        q, p = new_matrices(d_in, d_out, r, generator, module.weight)  # type: ignore[arg-type]
        layers[name] = GatedLinear(q.data, p.data, scale=lora_alpha / r, base_layer=module).train(module.training)
        replace_module(model, module, layers[name])
    return Gates(model, layers, sum(r * layer.size_of_part for layer in layers.values()))


def _targets(model: nn.Module, target_modules: str | Sequence[str]) -> dict[str, nn.Module]:
    """The layers to gate, by name; `ValueError` for a fused projection, and for a layer that has two names."""
    targets = unfused_targets(model, target_modules, "FLOP")
    for name, module in targets.items():
        others = [other for other, m in model.named_modules(remove_duplicate=False) if m is module and other != name]
        if others:
            raise ValueError(f"{name!r} is the same layer as {others[0]!r}: FLOP does not gate a layer that is shared")
    return targets
