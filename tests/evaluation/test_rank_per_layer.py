"""One rank for each layer of a nested model: within the budget, from one rank for all, and only by steps that help."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from toys import R, adapted, examples, state_of, toy

import dylora_kit as dk
from dylora_kit.evaluation import rank_per_layer
from dylora_kit.training.next_token import Shift


@pytest.mark.parametrize("b", range(1, R + 1))
def test_the_same_rank_in_every_layer_is_the_uniform_cut(b: int) -> None:
    model = toy(dropout=0.0).eval()
    adapters = adapted(model)
    x = torch.randn(9, 6)
    with adapters.at(b):
        expected = model(x).logits
    with adapters.at(dict.fromkeys(adapters.layers, b)):
        assert torch.equal(model(x).logits, expected)
        assert adapters.num_parameters() == adapters.num_parameters(b)


@pytest.mark.parametrize("b", range(1, R + 1))
def test_where_no_step_is_sure_to_help_a_uniform_budget_gives_the_uniform_cut(b: int) -> None:
    model = toy(dropout=0.0)
    adapters = adapted(model)
    data = examples(40, seed=5)
    cut = dk.ranks_per_layer(model, adapters, data, budget=adapters.num_parameters(b) + 5, standard_errors=1e6)
    assert cut.ranks == {"up": b, "down": b} and cut.parameters == adapters.num_parameters(b)
    assert cut.path.values.tolist() == [[cut.parameters, "", "", cut.loss]]


@pytest.mark.parametrize("standard_errors", [0.0, 1.0])
def test_each_step_of_the_way_fits_and_lowers_the_loss(standard_errors: float) -> None:
    model = toy(dropout=0.0)
    adapters = adapted(model)
    data = examples(40, seed=6)
    before = state_of(model)
    adapters.rank = 2
    cut = dk.ranks_per_layer(model, adapters, data, budget=100, standard_errors=standard_errors, batch_size=7)
    assert adapters.rank == 2
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    ranks = {"up": 3, "down": 3}
    assert cut.path.iloc[0].tolist()[:3] == [99, "", ""]
    losses = [loss_at(model, adapters, ranks, data)]
    for _, row in cut.path.iloc[1:].iterrows():
        for name, change in ((row["raised"], 1), (row["lowered"], -1)):
            if name:
                ranks[name] += change
        losses.append(loss_at(model, adapters, ranks, data))
        assert row["parameters"] == 16 * ranks["up"] + 17 * ranks["down"] <= 100
    assert cut.path["loss"].tolist() == pytest.approx(losses, abs=1e-5)
    assert losses == sorted(losses, reverse=True)
    assert (cut.ranks, cut.loss) == (ranks, pytest.approx(losses[-1], abs=1e-5))


def loss_at(model: Any, adapters: dk.Adapters, ranks: dict[str, int], data: Any) -> float:
    model.eval()
    with adapters.at(ranks), torch.no_grad():
        return model(**torch.utils.data.default_collate(data)).loss.item()


def test_a_budget_too_small_for_rank_one_is_refused() -> None:
    model = toy()
    adapters = adapted(model)
    with pytest.raises(ValueError, match="a budget of 32 parameters is too small: rank 1 in every layer takes 33"):
        dk.ranks_per_layer(model, adapters, examples(5), budget=32)
    with pytest.raises(ValueError, match="the data is empty: there is nothing to choose on"):
        dk.ranks_per_layer(model, adapters, [], budget=100)


class Priced(torch.nn.Module):
    """Two layers of one size, whose loss depends on their ranks alone, but for noise that depends on the example."""

    def __init__(self, *, first: float, second: float, noise: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 6), torch.nn.Linear(6, 4)
        self.worth, self.noise = (first, second), noise

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        ranks = self.first.rank, self.second.rank
        loss = 9.0 - sum(worth * rank for worth, rank in zip(self.worth, ranks, strict=True))
        signs = torch.where(x[:, 0] > 0, 1.0, -1.0)
        return SimpleNamespace(loss=loss + self.noise * ranks[0] * signs.mean())


def test_rank_moves_to_the_layer_that_gains_more() -> None:
    model = Priced(first=0.1, second=0.3)
    adapters = dk.attach(model, r=4, target_modules=["first", "second"])
    cut = dk.ranks_per_layer(model, adapters, examples(8), budget=adapters.num_parameters(3))
    assert cut.ranks == {"first": 2, "second": 4}
    assert cut.path[["raised", "lowered"]].values.tolist() == [["", ""], ["second", "first"]]
    cut = dk.ranks_per_layer(model, adapters, examples(8), budget=adapters.num_parameters(3) + 10)
    assert cut.ranks == {"first": 3, "second": 4}


def test_a_layer_that_does_harm_gives_its_rank_back() -> None:
    model = Priced(first=-0.1, second=0.3)
    adapters = dk.attach(model, r=4, target_modules=["first", "second"])
    cut = dk.ranks_per_layer(model, adapters, examples(8), budget=adapters.num_parameters(4))
    assert cut.ranks == {"first": 1, "second": 4} and cut.parameters == 50


@pytest.mark.parametrize(("standard_errors", "first"), [(0.0, 4), (2.0, 3)])
def test_a_gain_within_the_noise_is_taken_only_if_asked_for(standard_errors: float, first: int) -> None:
    model = Priced(first=0.0, second=0.0, noise=-1.0)
    adapters = dk.attach(model, r=4, target_modules=["first", "second"])
    # five parts of eight gain by a higher rank of the first layer, three lose as much
    data = [{"x": torch.full((4,), 1.0 if index % 8 < 5 else -1.0), "labels": 0} for index in range(16)]
    assert dk.ranks_per_layer(model, adapters, data, budget=70, standard_errors=standard_errors).ranks["first"] == first


def test_any_loss_is_better_than_none() -> None:
    model = toy(dropout=0.0)
    adapters = adapted(model)
    with torch.no_grad():
        adapters.layers["up"].lora_A[3] = float("nan")
    cut = dk.ranks_per_layer(model, adapters, examples(40, seed=6), budget=adapters.num_parameters(R))
    assert cut.ranks["up"] < R and np.isfinite(cut.loss)


def test_the_loss_of_each_part_is_its_mean_whatever_the_batches() -> None:
    model = toy(dropout=0.0)
    adapted(model)
    data = examples(30, seed=6)
    expected = []
    for first in range(rank_per_layer.PARTS):
        batch = torch.utils.data.default_collate([data[index] for index in range(first, 30, rank_per_layer.PARTS)])
        with torch.no_grad():
            expected.append(model.eval()(**batch).loss.item())
    for batch_size in (1, 3, 256):
        losses = rank_per_layer._losses_of_parts(model, data, batch_size, None, Shift(model))
        assert losses.of_parts == pytest.approx(expected, abs=1e-5)
        assert losses.counted.tolist() == [4] * 6 + [3] * 2
