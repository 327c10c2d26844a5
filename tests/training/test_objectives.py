import math

import pytest
import torch
from models import batch, make, parameters

import dylora_kit as dk

DISTRIBUTIONS = [dk.Uniform(1, 8), dk.Geometric(0.15, 2, 6), dk.Categorical({1: 3, 8: 1}), dk.Fixed(5)]
EACH_DISTRIBUTION = pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda d: type(d).__name__)


def backward(model, adapters, terms, x):
    """As a training loop does it: each term at its own rank, with its weight."""
    for weight, rank in terms:
        adapters.rank = rank
        (weight * model(x).pow(2).mean()).backward()
    return [p.grad for p, _ in parameters(adapters)]


def test_the_individual_loss_is_one_term_at_the_drawn_rank():
    sampler = dk.RankSampler(dk.Uniform(1, 8), seed=0)
    assert [dk.individual_loss(b, sampler, 4) for b in (1, 8)] == [[(1.0, 1)], [(1.0, 8)]]


@EACH_DISTRIBUTION
def test_the_summation_loss_weighs_each_rank_by_its_probability(distribution):
    terms = dk.summation_loss(1, dk.RankSampler(distribution, seed=0), batch_size=6)
    assert {rank: weight for weight, rank in terms} == distribution.probabilities
    assert len(terms) == len(distribution.probabilities)


@EACH_DISTRIBUTION
@pytest.mark.parametrize(
    "objective",
    [dk.individual_loss, dk.summation_loss, dk.mixed_loss, dk.stratified_loss, dk.sandwich_loss],
    ids=lambda f: f.__name__,
)
def test_weights_sum_to_one(distribution, objective):
    terms = objective(distribution.hi, dk.RankSampler(distribution, seed=0), 6)
    assert math.fsum(weight for weight, _ in terms) == pytest.approx(1)


@EACH_DISTRIBUTION
@pytest.mark.parametrize("frozen", [False, True], ids=["nested", "frozen"])
def test_the_gradient_of_the_terms_is_that_of_the_explicit_sum(distribution, frozen):
    x = batch(dtype=torch.float64)
    model, adapters = make(dtype=torch.float64)
    adapters.frozen = frozen
    terms = dk.summation_loss(1, dk.RankSampler(distribution, seed=0), batch_size=len(x))
    actual = backward(model, adapters, terms, x)
    twin, twin_adapters = make(dtype=torch.float64)
    twin_adapters.frozen = frozen
    total = 0
    for b, p in distribution.probabilities.items():
        twin_adapters.rank = b
        total = total + p * twin(x).pow(2).mean()
    total.backward()
    for grad, (parameter, _) in zip(actual, parameters(twin_adapters), strict=True):
        torch.testing.assert_close(grad, parameter.grad)


@EACH_DISTRIBUTION
def test_summation_in_one_runs_every_example_once_at_every_rank(distribution):
    [(weight, ranks)] = dk.summation_in_one(1, dk.RankSampler(distribution, seed=0), batch_size=3)
    assert ranks.tolist() == [rank for rank in distribution.probabilities for _ in range(3)]
    wanted = [p / 3 for p in distribution.probabilities.values() for _ in range(3)]
    weights = weight.tolist() if isinstance(weight, torch.Tensor) else [weight / len(ranks)] * len(ranks)
    assert weights == pytest.approx(wanted)


@EACH_DISTRIBUTION
@pytest.mark.parametrize("frozen", [False, True], ids=["nested", "frozen"])
def test_summation_in_one_has_the_gradients_of_the_summation_loss(distribution, frozen):
    x, sampler = batch(dtype=torch.float64), dk.RankSampler(distribution, seed=0)
    model, adapters = make(dtype=torch.float64)
    adapters.frozen = frozen
    expected = backward(model, adapters, dk.summation_loss(1, sampler, len(x)), x)
    twin, twin_adapters = make(dtype=torch.float64)
    twin_adapters.frozen = frozen
    [(weight, ranks)] = dk.summation_in_one(1, sampler, len(x))
    twin_adapters.rank = ranks
    losses = twin(x.repeat(len(ranks) // len(x), 1)).pow(2).mean(1)
    (weight * losses).sum().backward() if isinstance(weight, torch.Tensor) else (weight * losses.mean()).backward()
    for (parameter, _), grad in zip(parameters(twin_adapters), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad)


@EACH_DISTRIBUTION
def test_a_training_takes_the_same_steps_by_summation_in_one_batch_and_term_by_term(distribution):
    data = [{"x": x} for x in batch(n=12, dtype=torch.float64)]
    results = []
    for objective in (dk.summation_loss, dk.summation_in_one):
        model, adapters = make(dtype=torch.float64)
        history = dk.train(
            model, adapters, data, sampler=dk.RankSampler(distribution, seed=0), objective=objective, steps=3,
            batch_size=4, optimizer=torch.optim.SGD([p for p, _ in parameters(adapters)], lr=0.1),
            loss=lambda model, batch: model(batch["x"]).pow(2).mean(1), progress=False,
        )  # fmt: skip
        results.append((torch.tensor(history["loss"].to_numpy()), [p.detach() for p, _ in parameters(adapters)]))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("batch_size", [1, 6, 33])
def test_the_mixed_loss_draws_one_rank_per_example(batch_size):
    [(weight, ranks)] = dk.mixed_loss(3, dk.RankSampler(dk.Uniform(2, 6), seed=0), batch_size)
    assert weight == 1.0
    assert (ranks.shape, ranks.dtype) == ((batch_size,), torch.long)
    assert 2 <= ranks.min() <= ranks.max() <= 6
    assert batch_size < 33 or set(ranks.tolist()) == {2, 3, 4, 5, 6}


def test_the_mixed_loss_goes_on_with_the_samplers_sequence():
    sampler, twin = (dk.RankSampler(dk.Uniform(1, 8), seed=4) for _ in range(2))
    first, second = (dk.mixed_loss(1, sampler, 6)[0][1] for _ in range(2))
    assert [*first.tolist(), *second.tolist()] == twin.draw_many(12).tolist()


@pytest.mark.parametrize("frozen", [False, True], ids=["nested", "frozen"])
def test_the_gradient_of_the_mixed_loss_is_that_of_the_examples_one_by_one(frozen):
    x = batch(dtype=torch.float64)
    model, adapters = make(dtype=torch.float64)
    adapters.frozen = frozen
    terms = dk.mixed_loss(1, dk.RankSampler(dk.Uniform(1, 8), seed=2), len(x))
    actual = backward(model, adapters, terms, x)
    twin, twin_adapters = make(dtype=torch.float64)
    twin_adapters.frozen = frozen
    for example, b in zip(x, terms[0][1].tolist(), strict=True):
        backward(twin, twin_adapters, [(1 / len(x), b)], example[None])
    for grad, (parameter, _) in zip(actual, parameters(twin_adapters), strict=True):
        torch.testing.assert_close(grad, parameter.grad)


@EACH_DISTRIBUTION
def test_the_stratified_loss_gives_each_rank_its_share_of_every_batch(distribution):
    sampler, n, counts = dk.RankSampler(distribution, seed=0), 11, torch.zeros(9)
    for _ in range(400):
        [(weight, ranks)] = dk.stratified_loss(1, sampler, n)
        assert weight == 1.0 and (ranks.shape, ranks.dtype) == ((n,), torch.long)
        here = torch.bincount(ranks, minlength=9)
        assert all(abs(here[rank] - n * p) < 1 for rank, p in distribution.probabilities.items())
        counts += here
    shares = {rank: (counts[rank] / counts.sum()).item() for rank in distribution.probabilities}
    assert shares == pytest.approx(distribution.probabilities, abs=0.01) and sum(shares.values()) == pytest.approx(1)


def test_the_stratified_loss_goes_on_with_the_samplers_sequence():
    sampler = dk.RankSampler(dk.Uniform(1, 8), seed=4)
    drawn = [dk.stratified_loss(1, sampler, 6)[0][1].tolist() for _ in range(8)]
    assert len(set(map(tuple, drawn))) > 1
    state, following = sampler.state_dict(), dk.stratified_loss(1, sampler, 6)[0][1]
    sampler.load_state_dict(state)
    assert torch.equal(dk.stratified_loss(1, sampler, 6)[0][1], following)


@pytest.mark.parametrize(
    "objective", [dk.individual_loss, dk.summation_loss, dk.summation_in_one], ids=lambda f: f.__name__
)
def test_objectives_that_do_not_sample_leave_the_sampler_where_it_stands(objective):
    sampler, twin = (dk.RankSampler(dk.Uniform(1, 8), seed=4) for _ in range(2))
    objective(3, sampler, 6)
    assert sampler.draw_many(9).tolist() == twin.draw_many(9).tolist()
