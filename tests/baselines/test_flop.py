"""FLOP: nothing is lost at the start, the controller reaches its target, and pruning changes no output."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dylora_kit as dk
from dylora_kit.baselines.flop import Gates, flop, flop_lora
from dylora_kit.baselines.gated_layer import HardConcrete


class Net(nn.Module):
    """40 → 64 → 48 → 3, called as transformers' models are."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.classifier = nn.Linear(40, 64), nn.Linear(64, 48), nn.Linear(48, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
        logits = self.classifier(torch.tanh(self.down(torch.tanh(self.up(x)))))
        return SimpleNamespace(logits=logits, loss=None if labels is None else F.cross_entropy(logits, labels))


def net() -> Net:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        return Net()


def data(n: int = 256) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(n, 40, generator=generator)
    labels = (x @ torch.randn(40, 3, generator=generator)).argmax(1)
    return [{"x": row, "labels": label} for row, label in zip(x, labels, strict=True)]


@pytest.fixture(params=["weights", "LoRA"])
def gated(request: pytest.FixtureRequest) -> tuple[Net, Gates]:
    model = net()
    if request.param == "weights":
        return model, flop(model, ["up", "down"])
    gates = flop_lora(model, ["up", "down"], r=24, modules_to_save=["classifier"])
    for layer in gates.layers.values():
        nn.init.normal_(layer.p, std=0.1)
    return model, gates


def trained(model: nn.Module, gates: Gates, target: float, steps: int = 400) -> Any:
    loss, on_step = gates.controller(target, steps=steps)
    optimizer = torch.optim.AdamW(gates.groups(lr=2e-3), weight_decay=0.0)
    sampler = dk.RankSampler(dk.Fixed(1), seed=0)
    return dk.train(model, gates, data(), sampler=sampler, optimizer=optimizer, loss=loss, on_step=on_step,
                    steps=steps, schedule="constant", progress=False)  # fmt: skip


def test_nothing_is_lost_when_weights_are_factorised() -> None:
    model, x = net().eval(), torch.randn(9, 40)
    before = model(x).logits
    gates = flop(model, ["up", "down"])
    assert [len(layer.q) for layer in gates.layers.values()] == [40, 48]
    assert torch.allclose(model(x).logits, before, atol=1e-5)
    assert gates.num_parameters() == 40 * (40 + 64) + 48 * (64 + 48)
    assert gates.share() == gates.num_parameters() / (40 * 64 + 64 * 48)  # of the dense weights


def test_gates_on_lora_start_as_the_frozen_model() -> None:
    model, x = net().eval(), torch.randn(9, 40)
    before = model(x).logits
    gates = flop_lora(model, ["up", "down"], r=5)
    assert torch.equal(model(x).logits, before)
    assert gates.num_parameters() == 5 * (40 + 64) + 5 * (64 + 48)
    learned = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learned == {f"{layer}.{part}" for layer in ("up", "down") for part in ("q", "p", "gates.log_alpha")}


def test_the_drawn_gates_are_zero_as_often_as_the_expected_size_says() -> None:
    gates = HardConcrete(5)
    with torch.no_grad():
        gates.log_alpha.copy_(torch.tensor([-4.0, -1.5, 0.0, 1.5, 4.0]))
    torch.manual_seed(0)
    drawn = torch.stack([gates() for _ in range(6000)])
    assert drawn.min().item() == 0 and drawn.max().item() == 1
    assert (drawn > 0).float().sum(1).mean() == pytest.approx(float(gates.expected_size()), abs=0.05)
    gates.eval()
    assert torch.equal(gates(), gates())
    assert int(gates.kept().sum()) == round(float(gates.expected_size()))
    assert gates.kept().tolist() == sorted(gates.kept().tolist())


@pytest.mark.parametrize("target", [0.3, 0.6])
def test_the_controller_reaches_its_target(gated: tuple[Net, Gates], target: float) -> None:
    model, gates = gated
    trained(model, gates, target)
    assert float(gates.expected_size()) == pytest.approx(target, abs=0.02)
    assert gates.share() == pytest.approx(target, abs=0.02)
    accuracy = dk.sweep(model, gates, data(), progress=False)["value"].item()
    assert accuracy > 0.8


def test_the_pruned_model_computes_what_the_gated_one_does(gated: tuple[Net, Gates]) -> None:
    model, gates = gated
    trained(model, gates, 0.4, steps=150)
    model.eval()
    x = torch.randn(9, 40)
    expected, used = model(x).logits, gates.num_parameters()
    frozen = sum(p.numel() for name, p in model.named_parameters() if "base_layer" in name)
    heads = sum(p.numel() for p in model.classifier.parameters())
    assert gates.prune() is model
    assert torch.allclose(model(x).logits, expected, atol=1e-5)
    biases = 0 if frozen else 64 + 48
    assert sum(p.numel() for p in model.parameters()) == used + frozen + heads + biases
    assert not any(isinstance(module, HardConcrete) for module in model.modules())


def test_a_shared_layer_is_refused() -> None:
    model = net()
    model.twin = model.up
    with pytest.raises(ValueError, match="'up' is the same layer as 'twin'"):
        flop(model, ["up"])


def test_gates_take_the_number_format_of_their_layer() -> None:
    model = net().bfloat16()
    gates = flop_lora(model, ["up", "down"], r=4)
    out = model(torch.randn(3, 40, dtype=torch.bfloat16)).logits
    assert out.dtype == torch.bfloat16 and gates.num_parameters() > 0


def test_its_training_is_not_resumed(gated: tuple[Net, Gates], tmp_path: Path) -> None:
    model, gates = gated
    with pytest.raises(ValueError, match="a training of gates cannot go on from a checkpoint"):
        dk.train(model, gates, data(), sampler=dk.RankSampler(dk.Fixed(1), seed=0), steps=2, checkpoint=tmp_path,
                 optimizer=torch.optim.AdamW(gates.groups(1e-3)), progress=False)  # fmt: skip


def test_it_is_not_dynamic(gated: tuple[Net, Gates]) -> None:
    _, gates = gated
    assert gates.r == 1
    with pytest.raises(ValueError, match="rank 2 is out of range"):
        gates.rank = 2


@pytest.mark.parametrize("target", [0.0, 1.8, -1.0, float("nan")])
def test_a_target_that_is_no_share_is_refused(gated: tuple[Net, Gates], target: float) -> None:
    with pytest.raises(ValueError, match=r"target must be a share between 0 and [01]"):
        gated[1].controller(target, steps=10)


def test_gates_on_lora_add_alpha_over_r_times_the_product() -> None:
    model, x = net().eval(), torch.randn(9, 40)
    expected = model.up(x)
    gates = flop_lora(model, ["up"], r=5, lora_alpha=20)
    layer = gates.layers["up"]
    nn.init.normal_(layer.p)
    assert torch.allclose(model.up(x), expected + 4 * x @ layer.q.T @ layer.p.T, atol=1e-4)
