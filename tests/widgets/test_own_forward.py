"""A forward pass of the user's own in a live model."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import R, adapted, examples, toy
from widgets.explorers import DATA, explorer_of, measured, training

import dylora_kit as dk
from dylora_kit.widgets.own_forward import run_through, whose
from dylora_kit.widgets.rank_explorer import RankExplorer


def eq_7(x: Tensor, W: Tensor, A: Tensor, B: Tensor, b: int, alpha: float) -> Tensor:
    return x @ W.T + alpha / b * (x @ A[:b].T) @ B[:, :b].T


def twice(x: Tensor, W: Tensor, A: Tensor, B: Tensor, b: int, alpha: float) -> Tensor:
    return x @ W.T + 2 * alpha / b * (x @ A[:b].T) @ B[:, :b].T


@pytest.fixture
def adapters() -> dk.Adapters:
    return adapted(toy())


@pytest.mark.parametrize("rank", range(1, R + 1))
def test_eq_7_written_by_hand_gives_the_outputs_of_the_kit(adapters: dk.Adapters, rank: int) -> None:
    x = torch.randn(3, 5, 6)
    layer = adapters.layers["up"]
    adapters.rank = rank
    expected = layer(x)
    run_through(adapters, eq_7)
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_the_curve_is_that_of_the_function_and_not_of_the_kit(adapters: dk.Adapters) -> None:
    loud = adapted(toy(), lora_alpha=16)
    explorer = explorer_of(adapters, training=None, forward=twice)
    assert explorer.values["DyLoRA"] == measured(loud)
    assert explorer.values["DyLoRA"] != measured(adapted(toy()))


def test_training_learns_through_the_function(adapters: dk.Adapters) -> None:
    kit = adapted(toy())
    explorer_of(kit).train_more(20)
    explorer_of(adapters, forward=eq_7).train_more(20)
    for own, other in zip(adapters.layers.values(), kit.layers.values(), strict=True):
        assert torch.allclose(own.lora_A, other.lora_A, atol=1e-4)


def test_a_copy_of_the_model_computes_with_its_own_weights(adapters: dk.Adapters) -> None:
    run_through(adapters, eq_7)
    model, other = copy.deepcopy((adapters.model, adapters))
    with torch.no_grad():
        for layer in other.layers.values():
            layer.lora_B.zero_()
    x = torch.randn(4, 6)
    plain = other.layers["up"].base_layer(x)
    assert torch.allclose(model.up(x), plain, atol=1e-6)
    assert not torch.allclose(adapters.model.up(x), plain, atol=1e-3)


def test_merged_and_disabled_models_run_as_ever(adapters: dk.Adapters) -> None:
    x = torch.randn(4, 6)
    run_through(adapters, twice)
    with adapters.disabled():
        assert torch.equal(adapters.model.up(x), adapters.layers["up"].base_layer(x))
    adapters.model.eval()
    adapters.merge(rank=2)
    expected = x @ adapters.layers["up"].weight.T + adapters.layers["up"].bias
    assert torch.allclose(adapters.model.up(x), expected, atol=1e-6)


def test_a_closed_explorer_leaves_the_kit_s_forward(adapters: dk.Adapters) -> None:
    explorer_of(adapters, training=None, forward=twice).close()
    assert measured(adapters) == measured(adapted(toy()))


def test_a_function_that_stops_leaves_the_kit_s_forward(adapters: dk.Adapters) -> None:
    with pytest.raises(ValueError, match=r"your forward returns \(60, 9\): expected the shape \(60, 10\)"):
        explorer_of(adapters, forward=lambda x, W, A, B, b, alpha: (x @ W.T)[:, :9])
    assert measured(adapters) == measured(adapted(toy()))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scaling": "alpha/r"}, "α and b alone"), ({"lora_dropout": 0.1}, "α and b alone")],
)
def test_adapters_that_do_more_than_the_function_is_told_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explorer_of(adapted(toy(), **options), training=None, forward=eq_7)


def test_one_rank_for_each_example_is_refused(adapters: dk.Adapters) -> None:
    run_through(adapters, eq_7)
    with pytest.raises(ValueError, match="one rank for a whole batch"), adapters.at(torch.tensor([1, 2])):
        adapters.model.up(torch.randn(2, 6))


def test_the_explorer_says_whose_code_runs(adapters: dk.Adapters) -> None:
    def mine() -> None: ...

    mine.__module__ = "__main__"
    assert whose(forward=None, step=None) == ""
    assert "step: <b>yours</b>, <code>mine</code>" in whose(forward=eq_7, step=mine)
    assert "forward: the kit's, until yours is right" in whose(forward=eq_7, step=mine)
    mine.__name__ = "<b>"
    assert "<code>&lt;b&gt;</code>" in whose(step=mine)
    shown = RankExplorer(adapters.model, adapters, DATA, views=["accuracy"], forward=eq_7)
    assert "the kit's" in shown._own.value


def test_a_step_of_one_s_own_trains_in_the_explorer(adapters: dk.Adapters) -> None:
    taken: list[int] = []

    def step(adapters: Any, sampler: Any, optimizer: Any, loss: Any, batch: Any) -> None:
        adapters.rank = sampler.draw()
        loss(batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        taken.append(adapters.rank)

    kit = adapted(toy())
    explorer_of(kit).train_more(20)
    explorer_of(adapters, training=training(adapters, step=step, train_data=examples(40, seed=1))).train_more(20)
    assert len(taken) == 20
    assert measured(adapters) == measured(kit)
