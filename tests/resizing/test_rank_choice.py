"""Which rank a layer gets by energy, and under a budget."""

import itertools

import pytest
import torch
from torch import Tensor

from dylora_kit.resizing.rank_choice import ranks_under_budget, smallest_rank_keeping


def spectra(seed: int = 0, layers: int = 3, r: int = 4) -> dict[str, Tensor]:
    drawn = torch.rand(layers, r, generator=torch.Generator().manual_seed(seed))
    return {str(layer): values for layer, values in enumerate(drawn.sort(descending=True).values)}


def energy(values: dict[str, Tensor], ranks: dict[str, int]) -> float:
    return sum(float(s[: ranks[name]].double().square().sum()) for name, s in values.items())


@pytest.mark.parametrize("share", [0.01, 0.5, 0.8, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_rank_keeps_the_share_and_one_less_does_not(share: float, seed: int) -> None:
    for s in spectra(seed).values():
        kept = s.double().square().cumsum(0) / s.double().square().sum()
        b = smallest_rank_keeping(share, s)
        assert kept[b - 1] >= share - 1e-12
        assert b == 1 or kept[b - 2] < share


def test_a_share_that_is_met_exactly_is_kept() -> None:
    assert smallest_rank_keeping(0.5, torch.tensor([1.0, 1.0])) == 1
    assert smallest_rank_keeping(1.0, torch.tensor([2.0, 1.0, 0.0])) == 2
    assert smallest_rank_keeping(0.9, torch.zeros(3)) == 1


@pytest.mark.parametrize("budget", range(30, 130, 10))
def test_where_every_rank_costs_the_same_no_other_ranks_have_more_energy(budget: int) -> None:
    values, costs = spectra(), dict.fromkeys("012", 10)
    ranks = ranks_under_budget(budget, values, costs)
    others = [dict(zip("012", choice, strict=True)) for choice in itertools.product(range(1, 5), repeat=3)]
    most = max(energy(values, other) for other in others if 10 * sum(other.values()) <= budget)
    assert 10 * sum(ranks.values()) == min(budget, 120)
    assert energy(values, ranks) == pytest.approx(most)


@pytest.mark.parametrize("budget", range(34, 150, 7))
def test_layers_of_other_sizes_share_a_budget_by_energy_per_parameter(budget: int) -> None:
    values, costs = spectra(1), {"0": 5, "1": 11, "2": 17}
    ranks = ranks_under_budget(budget, values, costs)
    spent = sum(costs[name] * rank for name, rank in ranks.items())
    assert spent <= budget and all(1 <= rank <= 4 for rank in ranks.values())
    assert all(rank == 4 or spent + costs[name] > budget for name, rank in ranks.items())  # nothing more fits


def test_many_cheap_ranks_go_before_a_dear_one_of_more_energy() -> None:
    values = {name: torch.tensor([1.0, 0.8]) for name in "abc"} | {"dear": torch.tensor([1.0, 0.9])}
    costs = dict.fromkeys("abc", 10) | {"dear": 30}
    assert ranks_under_budget(90, values, costs) == {"a": 2, "b": 2, "c": 2, "dear": 1}


def test_a_layer_with_a_larger_scale_gets_more() -> None:
    values = {"small": torch.tensor([1.0, 0.9, 0.8]), "large": 3 * torch.tensor([1.0, 0.9, 0.8])}
    assert ranks_under_budget(40, values, {"small": 10, "large": 10}) == {"small": 1, "large": 3}


def test_no_parameters_are_spent_on_zeros() -> None:
    values = {"up": torch.tensor([1.0, 0.5, 0.0]), "new": torch.zeros(3)}
    assert ranks_under_budget(1000, values, {"up": 10, "new": 10}) == {"up": 2, "new": 1}


def test_a_budget_below_rank_1_in_every_layer_is_refused_with_the_least_that_works() -> None:
    with pytest.raises(ValueError, match="a budget of 32 parameters is too small: rank 1 in every layer has 33"):
        ranks_under_budget(32, spectra(), {"0": 5, "1": 11, "2": 17})
