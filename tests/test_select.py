"""Choice of a rank from a sweep, and of one rank per layer from a nested model: neither trains anything."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import R, adapted, examples, state_of, toy

import dylora_kit as dk
from dylora_kit import select
from dylora_kit.evaluate import accuracy

NAN = float("nan")


def frame_of(*seeds: list[float], metric: str = "accuracy") -> pd.DataFrame:
    """A sweep with one list of values, rank by rank, for each seed."""
    rows = [
        ("DyLoRA", rank, metric, value, seed)
        for seed, values in enumerate(seeds)
        for rank, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows, columns=["method", "rank", "metric", "value", "seed"])


@pytest.mark.parametrize(
    ("tolerance", "expected"), [(0.0, 4), (0.011, 3), (0.05, 2), (0.5, 1)], ids=["none", "one", "two", "all"]
)
def test_the_smallest_rank_within_the_tolerance_of_the_best_is_chosen(tolerance, expected):
    choice = dk.smallest_rank(frame_of([0.60, 0.86, 0.89, 0.90]), tolerance=tolerance)
    assert (choice.rank, choice.best) == (expected, 4)


def test_of_equally_good_ranks_the_smallest_is_best():
    choice = dk.smallest_rank(frame_of([0.7, 0.9, 0.9]), tolerance=0)
    assert (choice.rank, choice.best) == (2, 2)
    assert select.best_rank(frame_of([0.9, 0.7, 0.9]), costs={1: 1, 2: 2, 3: 3}, budget=3).rank == 1


def test_a_rank_without_a_value_for_some_seed_is_not_chosen():
    choice = dk.smallest_rank(frame_of([0.9, 0.8, 0.7], [NAN, 0.8, 0.7]), tolerance=0)
    assert choice.rank == 2
    assert 1 not in choice.values
    with pytest.raises(ValueError, match="no rank has a value for every seed"):
        dk.smallest_rank(frame_of([NAN, 0.5], [0.5, NAN]))


def test_the_mean_over_seeds_decides_and_the_seeds_are_shown():
    choice = dk.smallest_rank(frame_of([0.9, 0.8, 0.8], [0.5, 0.9, 0.7], [0.5, 0.6, 0.9]), tolerance=0.0)
    assert choice.rank == 3 and choice.values[3] == pytest.approx(0.8)
    assert choice.shares == {1: pytest.approx(1 / 3), 2: pytest.approx(1 / 3), 3: pytest.approx(1 / 3)}
    assert "of 3 seeds 1 choose rank 1, 1 choose rank 2, 1 choose rank 3" in str(choice)
    assert "how sure this is cannot be said" in str(dk.smallest_rank(frame_of([0.9, 0.8])))


@pytest.mark.parametrize("metric", select.LOWER_IS_BETTER)
def test_of_an_error_the_least_is_best(metric):
    choice = dk.smallest_rank(frame_of([0.9, 0.31, 0.30], metric=metric), tolerance=0.02)
    assert (choice.rank, choice.best) == (2, 3)
    assert choice.values[3] == pytest.approx(0.30)


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=5), st.floats(0, 1))
def test_no_smaller_rank_would_do_and_shares_add_up(seeds, tolerance):
    choice = dk.smallest_rank(frame_of(*seeds), tolerance=tolerance)
    best = max(choice.values.values())
    assert best - choice.values[choice.rank] <= tolerance + 1e-8
    assert all(best - choice.values[rank] > tolerance - 1e-8 for rank in range(1, choice.rank))
    assert sum(choice.shares.values()) == pytest.approx(1)


def test_a_choice_can_be_assigned_as_a_rank():
    adapters = adapted(toy())
    adapters.rank = dk.smallest_rank(frame_of([0.5, 0.9, 0.9, 0.9]))
    assert adapters.rank == 2


def test_frames_of_several_methods_or_metrics_are_refused():
    two = pd.concat([frame_of([0.5]), frame_of([0.5], metric="f1")])
    with pytest.raises(ValueError, match=r"more than one metric \(accuracy, f1\): pass the rows of one"):
        dk.smallest_rank(two)
    with pytest.raises(ValueError, match="more than one method"):
        dk.smallest_rank(pd.concat([frame_of([0.5]), frame_of([0.5]).assign(method="LoRA")]))
    with pytest.raises(ValueError, match="the frame is empty"):
        dk.smallest_rank(frame_of([0.5]).iloc[:0])
    for bad in (-0.1, NAN):
        with pytest.raises(ValueError, match="tolerance must be 0 or more"):
            dk.smallest_rank(frame_of([0.5]), tolerance=bad)


def test_a_sweep_with_no_seed_is_one_seed():
    model = toy()
    adapters = adapted(model)
    choice = dk.smallest_rank(dk.sweep(model, adapters, examples(30), progress=False))
    assert choice.seeds == 1 and set(choice.values) == set(range(1, R + 1))


def test_a_budget_takes_the_best_rank_that_it_allows():
    model = toy()
    adapters = adapted(model)
    costs = select.parameters(adapters)
    assert costs == {b: b * (6 + 10 + 10 + 7) for b in range(1, R + 1)}
    frame = frame_of([0.5, 0.7, 0.6, 0.9])
    assert select.best_rank(frame, costs=costs, budget=costs[4]).rank == 4
    assert select.best_rank(frame, costs=costs, budget=costs[4] - 1).rank == 2
    with pytest.raises(ValueError, match="no rank costs 32 or less: the cheapest costs 33"):
        select.best_rank(frame, costs=costs, budget=32)
    with pytest.raises(ValueError, match="do not say what rank 4 costs"):
        select.best_rank(frame, costs={1: 1, 2: 2, 3: 3}, budget=9)


def test_latency_is_measured_at_every_rank_and_leaves_the_rank():
    model = toy()
    adapters = adapted(model)
    adapters.rank = 3
    batch = {"x": torch.randn(5, 6)}
    found = select.latency(model, adapters, batch, repeats=3)
    assert list(found) == [1, 2, 3, 4] and all(seconds > 0 for seconds in found.values())
    assert adapters.rank == 3 and model.training


def test_a_bootstrap_resamples_the_same_examples_at_every_rank():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=400)
    good = np.eye(3)[np.where(rng.random(400) < 0.8, labels, (labels + 1) % 3)]
    frame = select.bootstrap({1: good, 2: good}, labels, resamples=100)
    wide = frame.pivot(index="seed", columns="rank", values="value")
    assert (wide[1] == wide[2]).all() and wide[1].nunique() > 5
    p = accuracy(good, labels)
    assert wide[1].mean() == pytest.approx(p, abs=0.01)
    assert wide[1].std() == pytest.approx(math.sqrt(p * (1 - p) / 400), rel=0.3)
    assert dk.smallest_rank(frame).seeds == 100


def test_a_budget_for_every_rank_cuts_nothing_unless_a_smaller_cut_is_better():
    model = toy(dropout=0.0)
    adapters = adapted(model)
    data = examples(40, seed=5)
    cut = dk.ranks_per_layer(model, adapters, data, budget=adapters.num_parameters(R))
    assert cut.path["parameters"].iloc[-1] == adapters.num_parameters(R)
    assert cut.path["loss"].min() == cut.loss
    uniform = {}
    for b in range(1, R + 1):
        with adapters.at(b):
            one = dk.sweep(model, adapters, data, ranks=[b], metric=negative_loss, progress=False)
        uniform[b] = -one["value"].item()
    assert cut.path["loss"].iloc[0] == pytest.approx(uniform[1], rel=1e-5)
    assert cut.path["loss"].iloc[-1] == pytest.approx(uniform[R], rel=1e-5)


def negative_loss(outputs: np.ndarray, labels: np.ndarray) -> float:
    return -float(torch.nn.functional.cross_entropy(torch.tensor(outputs), torch.tensor(labels)))


@pytest.mark.parametrize("b", range(1, R + 1))
def test_the_same_rank_in_every_layer_is_the_uniform_cut(b):
    model = toy(dropout=0.0).eval()
    adapters = adapted(model)
    x = torch.randn(9, 6)
    with adapters.at(b):
        expected = model(x).logits
    with adapters.at(dict.fromkeys(adapters.layers, b)):
        assert torch.equal(model(x).logits, expected)
        assert adapters.num_parameters() == adapters.num_parameters(b)


def test_each_step_of_the_greedy_way_is_the_best_for_its_parameters():
    model = toy(dropout=0.0)
    adapters = adapted(model)
    data = examples(40, seed=6)
    before = state_of(model)
    adapters.rank = 2
    cut = dk.ranks_per_layer(model, adapters, data, budget=100, batch_size=7)
    assert adapters.rank == 2
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with adapters.at(cut.ranks):
        assert adapters.num_parameters() == cut.parameters <= 100
    ranks, sizes = {"up": 1, "down": 1}, {"up": 16, "down": 17}

    def loss(some):
        model.eval()
        with adapters.at(some), torch.no_grad():
            batch = torch.utils.data.default_collate(data)
            return model(**batch).loss.item()

    last = loss(ranks)
    for _, row in cut.path.iloc[1:].iterrows():
        gains = {name: (last - loss(ranks | {name: ranks[name] + 1})) / sizes[name]
                 for name in ranks if ranks[name] < R}  # fmt: skip
        assert gains[row["layer"]] == pytest.approx(max(gains.values()), abs=1e-6)
        ranks[row["layer"]] += 1
        last = loss(ranks)
        assert row["loss"] == pytest.approx(last, abs=1e-5)


def test_a_budget_too_small_for_rank_one_is_refused():
    model = toy()
    adapters = adapted(model)
    with pytest.raises(ValueError, match="a budget of 32 parameters is too small: rank 1 in every layer takes 33"):
        dk.ranks_per_layer(model, adapters, examples(5), budget=32)


class Priced(torch.nn.Module):
    """A small layer and a large one; each rank of the large one lowers the loss by twice as much as of the small."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = torch.nn.Linear(4, 4), torch.nn.Linear(40, 60)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=torch.tensor(9.0 - 1.0 * self.small.rank - 2.0 * self.large.rank))


def test_a_rank_is_bought_where_a_parameter_lowers_the_loss_most():
    model = Priced()
    adapters = dk.attach(model, r=3, target_modules=["small", "large"])
    cut = dk.ranks_per_layer(model, adapters, examples(5), budget=adapters.num_parameters(3))
    assert cut.path["layer"].tolist() == ["", "small", "small", "large", "large"]
    assert dk.ranks_per_layer(model, adapters, examples(5), budget=8 + 100 + 90).ranks == {"small": 3, "large": 1}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"rank": [1], "metric": ["accuracy"], "value": [0.5]}), "the frame has no column 'seed'"),
        (pd.DataFrame(columns=["rank", "metric", "value", "seed"]), "the frame is empty"),
        (
            pd.DataFrame({"rank": [2, 2], "metric": "accuracy", "value": 0.5, "seed": 1}),
            "rank 2 twice for one seed",
        ),
    ],
)
def test_a_frame_that_is_no_sweep_is_refused_in_a_sentence(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dk.smallest_rank(frame)
    with pytest.raises(ValueError, match=message):
        select.best_rank(frame, costs={1: 1, 2: 2}, budget=2)


def test_a_rank_exactly_at_the_tolerance_is_near_enough() -> None:
    for k in range(100):
        frame = pd.DataFrame({"rank": [1, 2], "metric": "accuracy", "value": [k / 100, (k + 1) / 100], "seed": 0})
        assert dk.smallest_rank(frame, tolerance=0.01).rank == 1


def test_a_bootstrap_of_outputs_that_are_no_numbers_chooses_another_rank() -> None:
    outputs = {1: np.full((20, 3), np.nan), 2: np.eye(3)[np.zeros(20, dtype=int)]}
    frame = select.bootstrap(outputs, np.zeros(20, dtype=int), resamples=5)
    assert dk.smallest_rank(frame).rank == 2
    with pytest.raises(ValueError, match="unknown metric 'acc': expected one of 'accuracy'"):
        select.bootstrap(outputs, np.zeros(20, dtype=int), metric="acc")
