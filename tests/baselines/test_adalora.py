"""AdaLoRA through PEFT: the budget is met, and only because it is allocated."""

from typing import Any

import pytest
import torch
from architectures import build
from torch import Tensor

import dylora_kit as dk
from dylora_kit.baselines.adalora import Allocation, adalora

STEPS = 60


def texts(n: int = 64) -> list[dict[str, Tensor]]:
    ids = torch.randint(5, 50, (n, 7), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": (row[0] > 27).long()} for row in ids]


def allocated(**options: Any) -> Allocation:
    return adalora(build("roberta"), "attention", steps=STEPS, r=4, modules_to_save=["classifier"], **options)


def trained(allocation: Allocation, optimizer: torch.optim.Optimizer) -> None:
    sampler = dk.RankSampler(dk.Fixed(1), seed=0)
    dk.train(allocation.model, allocation, texts(), sampler=sampler, optimizer=optimizer, steps=STEPS, progress=False)


def test_it_starts_as_the_model_it_is_put_on() -> None:
    ids = torch.tensor([[5, 6, 7]])
    expected = build("roberta").eval()(ids).logits
    assert torch.allclose(allocated().model.eval()(ids).logits, expected)


def test_the_budget_is_met_and_the_layers_share_it() -> None:
    allocation = allocated()
    trained(allocation, allocation.optimizer(1e-2))
    ranks = allocation.ranks()
    assert len(ranks) == 4 and sum(ranks.values()) == 4 * len(ranks)
    assert len(set(ranks.values())) > 1
    assert allocation.num_parameters() == 4 * len(ranks) * (32 + 32 + 1)
    assert len(dk.sweep(allocation.model, allocation, texts(), progress=False)) == 1


def test_its_loss_keeps_the_factors_orthogonal() -> None:
    allocation = allocated()
    batch = torch.utils.data.default_collate(texts(8))
    out = allocation.model(**batch)
    plain = torch.nn.functional.cross_entropy(out.logits, batch["labels"])
    assert out.loss > plain + 0.1
    before = crossed(allocation)
    trained(allocation, allocation.optimizer(1e-2))
    assert crossed(allocation) < 0.5 * before


def crossed(allocation: Allocation) -> float:
    """How far the rows of the A are from orthonormal."""
    matrices = [layer.lora_A["default"].detach() for layer in allocation.layers.values()]
    return sum(float((a @ a.T - torch.eye(len(a))).norm()) for a in matrices)


def test_what_a_fresh_one_uses_is_what_it_starts_with() -> None:
    allocation = allocated()
    assert set(allocation.ranks().values()) == {6}
    assert allocation.num_parameters() == 6 * 4 * (32 + 32 + 1)


def test_without_allocating_the_ranks_stay() -> None:
    allocation = allocated()
    learned = [p for p in allocation.model.parameters() if p.requires_grad]
    trained(allocation, torch.optim.AdamW(learned, lr=1e-2))
    assert set(allocation.ranks().values()) == {6}


def test_the_same_seed_gives_the_same_start() -> None:
    first, again, other = (allocated(seed=seed).nested_parameters() for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(ValueError, match="needs at least 40: got 39"):
        adalora(build("roberta"), "attention", steps=39)
    with pytest.raises(ValueError, match="clasifier"):
        adalora(build("roberta"), "attention", steps=60, modules_to_save=["clasifier"])
    with pytest.raises(ValueError, match="r must be a whole number from 1 and lora_alpha greater than 0: got 0 and 16"):
        adalora(build("roberta"), "attention", steps=60, r=0)
    with pytest.raises(ValueError, match="is several projections in one"):
        adalora(build("gpt2"), "attention", steps=60)
