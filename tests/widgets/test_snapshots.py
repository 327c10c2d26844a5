"""Moments of a training: each puts the model back bit for bit, and nothing is lost on the way."""

import pytest
import torch
from toys import R, adapted, assert_same, state_of, toy
from widgets.explorers import STEPS, explorer_of, measured, twin_run, words

import dylora_kit as dk
from dylora_kit.widgets.rank_explorer import RankExplorer


@pytest.fixture
def adapters() -> dk.Adapters:
    return adapted(toy(), lora_dropout=0.3)


@pytest.fixture
def explorer(adapters: dk.Adapters) -> RankExplorer:
    return explorer_of(adapters)


def test_every_moment_puts_back_the_exact_weights_and_what_was_shown(
    explorer: RankExplorer, adapters: dk.Adapters
) -> None:
    shown = {0: explorer.values}
    explorer.train_more(STEPS)
    assert explorer.play.max == explorer.play.value == 5
    shown[5] = explorer.values
    _, states = twin_run()
    for index in (5, 0, 3, 1, 4, 2, 5, 0):
        explorer.go_to(index)
        assert_same(state_of(adapters.model), states[index])
        assert explorer.values["DyLoRA"] == measured(adapters)
        assert explorer.values == shown.setdefault(index, explorer.values)
        assert f"{100 * measured(adapters)[R]:.0f} %" in words(explorer, "dk-value")
    assert shown[0] != shown[5]


def test_training_after_going_back_starts_from_the_newest_weights(
    explorer: RankExplorer, adapters: dk.Adapters
) -> None:
    explorer.train_more(STEPS)
    explorer.go_to(1)
    explorer.train_more(STEPS)
    twin, states = twin_run(rounds=2)
    assert_same(state_of(adapters.model), state_of(twin.model))
    assert explorer.play.max == explorer.play.value == 10
    for index in (2, 7, 10):
        explorer.go_to(index)
        assert_same(state_of(adapters.model), states[index])


def test_weights_that_were_changed_outside_are_not_lost_when_going_back(
    explorer: RankExplorer, adapters: dk.Adapters, forwards: list[list[int]]
) -> None:
    explorer.train_more(STEPS)
    trained = state_of(adapters.model)
    with torch.no_grad():
        adapters.layers["down"].lora_A[1] = 3
        adapters.model.classifier.bias[0] = -2
    changed, values = state_of(adapters.model), measured(adapters)
    explorer.go_to(0)
    assert explorer.play.max == 6
    assert not torch.equal(adapters.model.classifier.bias, changed["classifier.bias"])
    explorer.go_to(5)
    assert_same(state_of(adapters.model), trained)
    explorer.go_to(6)
    assert_same(state_of(adapters.model), changed)
    assert explorer.values["DyLoRA"] == values
    for index in (0, 6, 3):
        explorer.go_to(index)
    assert explorer.play.max == 6, "they are kept once"


def test_training_goes_on_from_weights_that_were_changed_outside(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    explorer.train_more(STEPS)
    with torch.no_grad():
        adapters.model.classifier.bias.fill_(50)
    explorer.train_more(STEPS)
    assert (adapters.model.classifier.bias > 45).all()


def test_going_back_touches_neither_frozen_weights_nor_rivals(adapters: dk.Adapters) -> None:
    rival = adapted(toy(seed=2), seed=2)
    explorer = explorer_of(adapters, rivals={"LoRA": rival})
    of_rival, base = state_of(rival.model), adapters.layers["up"].weight
    version = base._version
    explorer.train_more(STEPS)
    values = explorer.values["LoRA"]
    explorer.method.value = "LoRA"
    explorer.go_to(0)
    assert_same(state_of(rival.model), of_rival)
    assert explorer.values["LoRA"] == values == measured(rival)
    assert explorer.values["DyLoRA"] == measured(adapters)
    assert adapters.layers["up"].weight is base
    assert base._version == version


def test_going_back_takes_the_buffers_along() -> None:
    adapters = adapted(toy(norm=True))
    explorer = explorer_of(adapters)
    first = state_of(adapters.model)
    explorer.train_more(STEPS)
    explorer.go_to(0)
    assert_same(state_of(adapters.model), first)
    assert explorer.values["DyLoRA"] == measured(adapters)


@pytest.mark.parametrize("change", ["scaling", "frozen", "base"])
def test_a_changed_setting_adds_no_moments_however_often_the_slider_moves(
    explorer: RankExplorer, adapters: dk.Adapters, change: str
) -> None:
    explorer.train_more(STEPS)
    if change == "base":
        with torch.no_grad():
            adapters.layers["up"].weight.mul_(1.1)
    else:
        setattr(adapters, change, {"scaling": "alpha/r", "frozen": True}[change])
    for index in (0, 1, 2, 3, 4, 5):
        explorer.go_to(index)
    assert explorer.play.max <= 6


def test_going_back_while_merged_is_refused_and_changes_nothing(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    explorer.train_more(STEPS)
    adapters.merge(rank=2)
    before = state_of(adapters.model)
    with pytest.raises(ValueError, match="call unmerge"):
        explorer.go_to(0)
    assert_same(state_of(adapters.model), before)
    adapters.unmerge()
    explorer.go_to(0)
    assert explorer.play.value == 0


def test_going_back_to_other_trained_parameters_is_refused(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    explorer.train_more(STEPS)
    kept = explorer.play.max
    adapters.model.classifier.bias.requires_grad_(False)
    before = state_of(adapters.model)
    with pytest.raises(ValueError, match=r"'classifier\.bias' was trained then and is not now"):
        explorer.go_to(0)
    assert_same(state_of(adapters.model), before)
    assert explorer.play.max == kept
