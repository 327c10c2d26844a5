"""Choice of a rank from a sweep, and of one rank per layer from a nested model: neither trains anything."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import R, adapted, examples, toy

import dylora_kit as dk
from dylora_kit.evaluation import select_rank
from dylora_kit.evaluation.metrics import LOWER_IS_BETTER, accuracy

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
    assert select_rank.best_rank(frame_of([0.9, 0.7, 0.9]), costs={1: 1, 2: 2, 3: 3}, budget=3).rank == 1


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


@pytest.mark.parametrize("metric", LOWER_IS_BETTER)
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
    costs = select_rank.parameters(adapters)
    assert costs == {b: b * (6 + 10 + 10 + 7) for b in range(1, R + 1)}
    frame = frame_of([0.5, 0.7, 0.6, 0.9])
    assert select_rank.best_rank(frame, costs=costs, budget=costs[4]).rank == 4
    assert select_rank.best_rank(frame, costs=costs, budget=costs[4] - 1).rank == 2
    with pytest.raises(ValueError, match="no rank costs 32 or less: the cheapest costs 33"):
        select_rank.best_rank(frame, costs=costs, budget=32)
    with pytest.raises(ValueError, match="do not say what rank 4 costs"):
        select_rank.best_rank(frame, costs={1: 1, 2: 2, 3: 3}, budget=9)


def test_latency_is_measured_at_every_rank_and_leaves_the_rank():
    model = toy()
    adapters = adapted(model)
    adapters.rank = 3
    batch = {"x": torch.randn(5, 6)}
    times = select_rank.latency(model, adapters, batch, repeats=3)
    assert list(times) == [1, 2, 3, 4] and all(seconds > 0 for seconds in times.values())
    assert adapters.rank == 3 and model.training


def test_a_bootstrap_resamples_the_same_examples_at_every_rank():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=400)
    good = np.eye(3)[np.where(rng.random(400) < 0.8, labels, (labels + 1) % 3)]
    frame = select_rank.bootstrap({1: good, 2: good}, labels, resamples=100)
    wide = frame.pivot(index="seed", columns="rank", values="value")
    assert (wide[1] == wide[2]).all() and wide[1].nunique() > 5
    p = accuracy(good, labels)
    assert wide[1].mean() == pytest.approx(p, abs=0.01)
    assert wide[1].std() == pytest.approx(math.sqrt(p * (1 - p) / 400), rel=0.3)
    assert dk.smallest_rank(frame).seeds == 100


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
        select_rank.best_rank(frame, costs={1: 1, 2: 2}, budget=2)


def test_a_rank_exactly_at_the_tolerance_is_near_enough() -> None:
    for k in range(100):
        frame = pd.DataFrame({"rank": [1, 2], "metric": "accuracy", "value": [k / 100, (k + 1) / 100], "seed": 0})
        assert dk.smallest_rank(frame, tolerance=0.01).rank == 1


def test_a_bootstrap_of_outputs_that_are_no_numbers_chooses_another_rank() -> None:
    outputs = {1: np.full((20, 3), np.nan), 2: np.eye(3)[np.zeros(20, dtype=int)]}
    frame = select_rank.bootstrap(outputs, np.zeros(20, dtype=int), resamples=5)
    assert dk.smallest_rank(frame).rank == 2
    with pytest.raises(ValueError, match="unknown metric 'acc': expected one of 'accuracy'"):
        select_rank.bootstrap(outputs, np.zeros(20, dtype=int), metric="acc")
