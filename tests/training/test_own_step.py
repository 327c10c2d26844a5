"""A training step of the user's own, in the kit's loop."""

import math
from typing import Any

import pandas as pd
import pytest
from toys import R, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk


def one_step(adapters: Any, sampler: Any, optimizer: Any, loss: Any, batch: Any) -> None:
    adapters.rank = sampler.draw()
    loss(batch).backward()
    optimizer.step()
    optimizer.zero_grad()


def trained(**settings: Any) -> tuple[dk.Adapters, pd.DataFrame]:
    adapters = adapted(toy(), lora_dropout=0.3)
    given = {
        "sampler": dk.RankSampler(dk.Uniform(1, R), seed=3),
        "optimizer": dk.NestedAdamW(adapters, lr=0.05),
        "steps": 12,
        "batch_size": 8,
        "seed": 4,
        "progress": False,
    }
    history = dk.train(adapters.model, adapters, examples(40, seed=1), **given | settings)
    return adapters, history


def test_algorithm_1_written_by_hand_takes_the_steps_of_the_kit_bit_for_bit() -> None:
    (kit, expected), (own, found) = trained(), trained(step=one_step)
    assert_same(state_of(own.model), state_of(kit.model))
    pd.testing.assert_frame_equal(found, expected)


def test_what_the_step_does_is_what_happens() -> None:
    ranks: list[Any] = []

    def at_two(adapters: Any, sampler: Any, optimizer: Any, loss: Any, batch: Any) -> None:
        adapters.rank = 2
        ranks.append(sorted(batch))
        loss(batch).backward()
        optimizer.step()
        optimizer.zero_grad()

    adapters, history = trained(step=at_two)
    assert history["rank"].tolist() == [2] * 12
    assert ranks == [["labels", "x"]] * 12
    start = adapted(toy(), lora_dropout=0.3)
    for layer, before in zip(adapters.layers.values(), start.layers.values(), strict=True):
        assert_same(layer.lora_A.detach()[2:], before.lora_A.detach()[2:])
        assert not layer.lora_A.detach()[:2].equal(before.lora_A.detach()[:2])


def test_afterwards_the_rank_is_what_it_was_and_no_gradient_is_left() -> None:
    def never_clears(adapters: Any, sampler: Any, optimizer: Any, loss: Any, batch: Any) -> None:
        adapters.rank = 1
        loss(batch).backward()

    adapters, _ = trained(step=never_clears)
    assert adapters.rank == R
    assert all(parameter.grad is None for parameter in adapters.model.parameters())


@pytest.mark.parametrize(
    "setting",
    [{"objective": dk.mixed_loss}, {"gradient_accumulation": 2}, {"max_grad_norm": 1.0}, {"checkpoint": "somewhere"}],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_that_the_step_would_not_look_at_are_refused_by_name(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=… is for the kit's own step"):
        trained(step=one_step, **setting)


def test_a_step_that_is_no_function_or_computes_no_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a function"):
        trained(step="mine")
    with pytest.raises(ValueError, match="computed no loss"):
        trained(step=lambda *_: None)


def test_a_loss_that_is_not_finite_stops_before_the_step_moves_anything() -> None:
    start = state_of(adapted(toy(), lora_dropout=0.3).model)
    adapters = adapted(toy(), lora_dropout=0.3)
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 1 \(rank"):
        dk.train(
            adapters.model,
            adapters,
            examples(40, seed=1),
            sampler=dk.RankSampler(dk.Uniform(1, R), seed=3),
            steps=3,
            loss=lambda model, batch: model(**batch).loss * math.nan,
            step=one_step,
            progress=False,
        )
    assert_same(state_of(adapters.model), start)
