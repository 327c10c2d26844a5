import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import dylora_kit as dk

# p(1−p)^(b−1) for p = 0.15 and b = 1 … 8, worked out by hand, and their sum 1 − 0.85⁸
BY_HAND = [0.15, 0.1275, 0.108375, 0.09211875, 0.0783009375, 0.066555796875, 0.05657242734375, 0.0480865632421875]
SUM_BY_HAND = 0.7275094749609375

DISTRIBUTIONS = {
    "uniform 1-8": (dk.Uniform(1, 8), dict.fromkeys(range(1, 9), 1 / 8)),
    "uniform 3-5": (dk.Uniform(3, 5), dict.fromkeys((3, 4, 5), 1 / 3)),
    "uniform 4-4": (dk.Uniform(4, 4), {4: 1.0}),
    "geometric 1-8": (dk.Geometric(0.15, 1, 8), dict(enumerate((p / SUM_BY_HAND for p in BY_HAND), start=1))),
    "geometric 3-5": (dk.Geometric(0.15, 3, 5), {b: BY_HAND[b - 1] / sum(BY_HAND[2:5]) for b in (3, 4, 5)}),
    "geometric steep": (dk.Geometric(0.5, 1, 3), {1: 4 / 7, 2: 2 / 7, 3: 1 / 7}),
    "categorical": (dk.Categorical({8: 1, 1: 2, 4: 1}), {1: 0.5, 4: 0.25, 8: 0.25}),
    "fixed": (dk.Fixed(6), {6: 1.0}),
}
CASES = pytest.mark.parametrize(("distribution", "expected"), DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)


@CASES
def test_probabilities_are_the_defined_ones_and_sum_to_one(distribution, expected):
    assert distribution.probabilities == pytest.approx(expected, rel=1e-12)
    assert list(distribution.probabilities) == sorted(expected)
    assert math.fsum(distribution.probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert (distribution.lo, distribution.hi) == (min(expected), max(expected))


def test_geometric_matches_numbers_worked_out_by_hand():
    probabilities = dk.Geometric(0.15, 1, 8).probabilities
    assert probabilities[1] == pytest.approx(0.2061828817, abs=1e-9)
    assert probabilities[8] == pytest.approx(0.0660975079, abs=1e-9)
    assert probabilities[5] / probabilities[4] == pytest.approx(0.85)


@CASES
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_have_the_frequencies_of_the_distribution(distribution, expected, seed):
    n = 4000
    draws = dk.RankSampler(distribution, seed=seed).draw_many(n)
    assert set(draws.tolist()) == set(expected)
    if len(expected) > 1:
        observed = [int((draws == b).sum()) for b in expected]
        assert chisquare(observed, [n * p for p in expected.values()]).pvalue > 1e-3


def test_single_draws_have_the_frequencies_of_the_distribution_too():
    sampler = dk.RankSampler(dk.Geometric(0.3, 2, 4), seed=4)
    draws = [sampler.draw() for _ in range(3000)]
    weights = [1, 0.7, 0.49]
    observed = [draws.count(b) for b in (2, 3, 4)]
    assert sum(observed) == 3000
    assert chisquare(observed, [3000 * w / sum(weights) for w in weights]).pvalue > 1e-3


def test_draws_are_python_ints_and_many_draws_an_integer_tensor():
    sampler = dk.RankSampler(dk.Uniform(1, 8), seed=0)
    assert type(sampler.draw()) is int
    many = sampler.draw_many(5)
    assert (many.shape, many.dtype) == ((5,), torch.long)


def test_a_rank_of_weight_zero_is_never_drawn():
    distribution = dk.Categorical({1: 0.0, 2: 1.0, 3: 0.0})
    assert distribution.probabilities == {2: 1.0}
    assert set(dk.RankSampler(distribution, seed=0).draw_many(500).tolist()) == {2}


def test_consecutive_draws_are_independent():
    draws = dk.RankSampler(dk.Uniform(1, 4), seed=5).draw_many(8001)
    pairs = torch.bincount((draws[:-1] - 1) * 4 + draws[1:] - 1, minlength=16)
    assert chisquare(pairs.tolist()).pvalue > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda: dk.Uniform(0, 8),
        lambda: dk.Uniform(5, 4),
        lambda: dk.Uniform(-3, -1),
        lambda: dk.Uniform(1.5, 8),
        lambda: dk.Uniform(True, 8),
        lambda: dk.Uniform("1", 8),
        lambda: dk.Geometric(0.15, 0, 8),
        lambda: dk.Geometric(0.15, 9, 8),
        lambda: dk.Geometric(0, 1, 8),
        lambda: dk.Geometric(1, 1, 8),
        lambda: dk.Geometric(-0.5, 1, 8),
        lambda: dk.Geometric(math.nan, 1, 8),
        lambda: dk.Categorical({}),
        lambda: dk.Categorical({0: 1.0}),
        lambda: dk.Categorical({1: -1.0, 2: 2.0}),
        lambda: dk.Categorical({1: 0.0}),
        lambda: dk.Categorical({1: math.nan}),
        lambda: dk.Categorical({1: math.inf, 2: 1.0}),
        lambda: dk.Categorical({1.5: 1.0}),
        lambda: dk.Categorical({1: 0.5, "8": 0.5}),
        lambda: dk.Fixed(0),
        lambda: dk.Fixed(2.0),
    ],
)
def test_bad_ranges_and_weights_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_numpy_integers_make_a_range():
    assert dk.Uniform(np.int64(2), np.int32(3)).probabilities == {2: 0.5, 3: 0.5}


def test_sampling_leaves_the_global_generators_untouched():
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002 - the global generator is what is tested
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    sampler = dk.RankSampler(dk.Uniform(1, 8), seed=7)
    sampler.draw()
    sampler.draw_many(10)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert (np.random.get_state()[1] == numpy_before[1]).all()  # noqa: NPY002
    assert np.random.get_state()[2] == numpy_before[2]  # noqa: NPY002


def test_draws_do_not_depend_on_the_global_generator():
    torch.manual_seed(0)
    first = dk.RankSampler(dk.Uniform(1, 8), seed=3).draw_many(20)
    torch.manual_seed(1)
    torch.rand(5)
    assert dk.RankSampler(dk.Uniform(1, 8), seed=3).draw_many(20).tolist() == first.tolist()


def test_the_same_seed_draws_the_same_ranks_one_by_one_or_together():
    first, same, another = (dk.RankSampler(dk.Uniform(1, 8), seed=seed) for seed in (10, 10, 11))
    singly = [first.draw() for _ in range(50)]
    assert singly == same.draw_many(50).tolist()
    assert singly != another.draw_many(50).tolist()


def test_a_saved_sampler_goes_on_with_the_same_sequence():
    sampler = dk.RankSampler(dk.Geometric(0.15, 1, 8), seed=10)
    sampler.draw_many(17)
    state = sampler.state_dict()
    expected = sampler.draw_many(30).tolist()
    for fresh_seed in (10, 99):
        fresh = dk.RankSampler(dk.Geometric(0.15, 1, 8), seed=fresh_seed)
        fresh.load_state_dict(state)
        assert fresh.draw_many(30).tolist() == expected


def test_the_state_survives_json():
    sampler = dk.RankSampler(dk.Geometric(0.15, 1, 8), seed=10)
    sampler.draw()
    state = sampler.state_dict()
    expected = sampler.draw_many(20).tolist()
    text = json.dumps({"probabilities": state["probabilities"], "generator": state["generator"].tolist()})
    loaded = json.loads(text)
    fresh = dk.RankSampler(dk.Geometric(0.15, 1, 8), seed=0)
    fresh.load_state_dict({**loaded, "generator": torch.tensor(loaded["generator"], dtype=torch.uint8)})
    assert fresh.draw_many(20).tolist() == expected


@pytest.mark.parametrize("other", [dk.Uniform(1, 7), dk.Geometric(0.2, 1, 8), dk.Fixed(8)], ids=repr)
def test_a_state_of_another_distribution_is_refused_and_nothing_changes(other):
    sampler, twin = (dk.RankSampler(dk.Uniform(1, 8), seed=1) for _ in range(2))
    with pytest.raises(ValueError, match="the saved sampler drew from"):
        sampler.load_state_dict(dk.RankSampler(other, seed=5).state_dict())
    assert sampler.draw_many(10).tolist() == twin.draw_many(10).tolist()


def test_update_frequencies_are_how_often_a_row_is_drawn_or_passed():
    given = dk.Categorical({2: 0.5, 3: 0.3, 5: 0.2})
    assert given.update_frequencies() == pytest.approx([1, 1, 0.5, 0.2, 0.2])
    assert given.update_frequencies(7)[5:] == [0, 0] and len(given.update_frequencies(2)) == 2
    assert given.update_frequencies(frozen=True) == pytest.approx([0, 0.5, 0.3, 0, 0.2])
