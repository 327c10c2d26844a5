"""Several views of one model: each shows what the model is, whichever of them changed it."""

import gc
import weakref

import pytest
import torch
from toys import adapted, toy
from widgets.explorers import STEPS, explorer_of, measured, svg

import dylora_kit as dk
from dylora_kit.widgets import same_model


@pytest.fixture
def adapters() -> dk.Adapters:
    return adapted(toy())


def test_two_explorers_of_one_model_follow_each_other(adapters: dk.Adapters) -> None:
    first, second = explorer_of(adapters), explorer_of(adapters, training=None)
    first.slider.value = 1
    assert second.slider.value == second.number.value == adapters.rank == 1
    second.slider.value = 3
    assert first.slider.value == adapters.rank == 3
    assert svg(first).get("data-rank") == svg(second).get("data-rank") == "3"


def test_what_one_trains_the_other_shows(adapters: dk.Adapters, forwards: list[list[int]]) -> None:
    first, second = explorer_of(adapters), explorer_of(adapters, training=None)
    before = second.values
    forwards.clear()
    first.train_more(STEPS)
    assert second.values["DyLoRA"] == first.values["DyLoRA"] == measured(adapters) != before["DyLoRA"]
    assert len(forwards) == 6, "the other one looks once, when the training is over"
    first.go_to(0)
    assert second.values == before


def test_a_rival_that_another_explorer_turns_is_shown_at_its_rank(adapters: dk.Adapters) -> None:
    rival = adapted(toy(seed=1))
    both = explorer_of(adapters, rivals={"LoRA": rival})
    alone = explorer_of(rival)
    third = explorer_of(adapted(toy(seed=2)))
    alone.slider.value = 2
    assert both.slider.value == adapters.rank == 2
    assert third.slider.value == 4, "a model of its own has a rank of its own"


def test_views_that_are_connected_by_a_third_follow_too(adapters: dk.Adapters) -> None:
    middle, other = adapted(toy(seed=1)), adapted(toy(seed=2))
    first = explorer_of(adapters, rivals={"middle": middle})
    last = explorer_of(other, rivals={"middle": middle})
    alone = explorer_of(other)
    first.slider.value = 2
    assert last.slider.value == alone.slider.value == other.rank == 2


def test_a_closed_view_follows_no_more_and_is_forgotten(adapters: dk.Adapters) -> None:
    first, second = explorer_of(adapters), explorer_of(adapters)
    second.close()
    first.slider.value = 2
    assert second.slider.value == 4
    gone = weakref.ref(second)
    del second
    gc.collect()
    assert gone() is None


def test_after_an_error_the_next_move_is_told(adapters: dk.Adapters) -> None:
    first, second = explorer_of(adapters), explorer_of(adapters)
    with adapters.disabled(), pytest.raises(ValueError, match="switched off"):
        first.slider.value = 1
    with torch.no_grad():
        first.slider.value = 2
    assert second.slider.value == 2 and not same_model._turning
