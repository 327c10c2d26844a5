"""MatryoshkaLoRA: the sum over its training ranks in training, one rank at evaluation, with P or without."""

import math

import pytest
import torch
from models import batch, make

import dylora_kit as dk
from dylora_kit.baselines.matryoshka import all_ranks_summed, diagonal, keep_diagonal, start_as_published

RANKS = [1, 2, 4, 8]
SCALES = pytest.mark.parametrize("scaling", ["alpha/b", "alpha/sqrt(b)"])


def alpha_free(scaling: str = "alpha/b", **options: object) -> tuple[torch.nn.Module, dk.Adapters]:
    return make(lora_alpha=1, scaling=scaling, dtype=torch.float64, **options)


def explicit(model: torch.nn.Module, adapters: dk.Adapters, x: torch.Tensor, s: object) -> torch.Tensor:
    """The network of `models`, each layer with the sum over training ranks written out."""
    for layer in adapters.layers.values():
        A, B = layer.lora_A, layer.lora_B
        x = torch.tanh(layer.base_layer(x) + sum(s(k) * x @ A[:k].T @ B[:, :k].T for k in RANKS))
    return model.classifier(x)


@SCALES
def test_training_runs_the_sum_over_the_training_ranks_and_its_gradients(scaling: str) -> None:
    s = {"alpha/b": lambda k: 1 / k, "alpha/sqrt(b)": lambda k: 1 / math.sqrt(k)}[scaling]
    (model, adapters), (twin, twin_adapters) = alpha_free(scaling), alpha_free(scaling)
    x = batch(dtype=torch.float64)
    with all_ranks_summed(adapters, RANKS):
        output = model(x)
        output.square().sum().backward()
    expected = explicit(twin, twin_adapters, x, s)
    expected.square().sum().backward()
    torch.testing.assert_close(output, expected)
    for name, layer in adapters.layers.items():
        for key in ("lora_A", "lora_B"):
            torch.testing.assert_close(getattr(layer, key).grad, getattr(twin_adapters.layers[name], key).grad)


@SCALES
def test_the_diagonal_weighs_a_row_by_the_training_ranks_that_reach_it(scaling: str) -> None:
    _, adapters = alpha_free(scaling)
    layer = adapters.layers["first"]
    s = layer.scale
    expected = [s(1) + s(2) + s(4) + s(8), s(2) + s(4) + s(8), s(4) + s(8), s(4) + s(8), *[s(8)] * 4]
    torch.testing.assert_close(diagonal(layer, RANKS), torch.tensor(expected))


def test_afterwards_one_rank_runs_and_p_is_dropped() -> None:
    model, adapters = alpha_free()
    x = batch(dtype=torch.float64)
    adapters.rank = 3
    before = model(x)
    with all_ranks_summed(adapters, RANKS):
        assert not torch.allclose(model(x), before)
    assert torch.equal(model(x), before)


@SCALES
def test_with_p_kept_rank_r_is_what_was_trained_and_lower_ranks_are_its_first_rows(scaling: str) -> None:
    model, adapters = alpha_free(scaling)
    x = batch(dtype=torch.float64)
    with all_ranks_summed(adapters, RANKS):
        trained = model(x)
    first = adapters.layers["first"]
    expected = (first.lora_B * diagonal(first, RANKS))[:, :3] @ first.lora_A[:3]
    keep_diagonal(adapters, RANKS)
    torch.testing.assert_close(model(x), trained)
    torch.testing.assert_close(first.delta(rank=3), expected)


def test_lora_a_starts_within_the_bound_of_the_published_code_and_fills_it() -> None:
    _, adapters = make(r=4, nonzero=False)
    before = adapters.layers["third"].lora_A.clone()
    start_as_published(adapters, seed=3)
    largest = max(layer.lora_A.abs().max().item() for layer in adapters.layers.values())
    assert 0.45 < largest <= 0.5  # 1/√4, whatever d_in
    assert not torch.equal(adapters.layers["third"].lora_A, before)
    values = [layer.lora_A.clone() for layer in adapters.layers.values()]
    start_as_published(adapters, seed=3)
    assert all(torch.equal(a, layer.lora_A) for a, layer in zip(values, adapters.layers.values(), strict=True))


@pytest.mark.parametrize(
    ("options", "ranks", "message"),
    [
        ({}, [1, 9], "rank 9 is out of range"),
        ({}, [], r"named once each, and at least one of them: got \[\]"),
        ({}, [2, 2], "named once each"),
        ({"lora_dropout": 0.1}, [1, 8], "'first' is no plain linear layer without dropout"),
    ],
)
def test_what_it_is_not_made_for_is_refused(options: dict[str, float], ranks: list[int], message: str) -> None:
    _, adapters = alpha_free(**options)
    with pytest.raises(ValueError, match=message), all_ranks_summed(adapters, ranks):
        pytest.fail("was run")
