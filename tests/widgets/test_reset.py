"""Reset: an explorer goes back to where it began."""

import pytest
import torch
from toys import R, adapted, assert_same, state_of, toy
from widgets.explorers import DATA, STEPS, explorer_of, training

import dylora_kit as dk
from dylora_kit.widgets.rank_explorer import RankExplorer


def test_the_button_brings_back_weights_rank_and_switches() -> None:
    adapters, rival = adapted(toy()), adapted(toy(), seed=3)
    adapters.rank = 3
    explorer = explorer_of(adapters, rivals={"rival": rival}, views=["accuracy", "matrices"], training=None)
    start, shown = state_of(adapters.model), explorer.picture.value
    explorer.slider.value, explorer.method.value = 1, "rival"
    with torch.no_grad():
        adapters.layers["up"].lora_B.zero_()
        rival.layers["down"].lora_A.zero_()
    explorer.refresh()
    assert explorer.picture.value != shown
    explorer.start.click()
    assert explorer.picture.value == shown
    assert adapters.rank == rival.rank == explorer.slider.value == 3
    assert_same(state_of(adapters.model), start)
    assert_same(state_of(rival.model), state_of(adapted(toy(), seed=3).model))


def test_a_training_starts_anew_and_takes_the_same_steps_again() -> None:
    adapters = adapted(toy(), lora_dropout=0.3)
    explorer = explorer_of(adapters, training=training(adapters))
    explorer.train_more(STEPS)
    explorer.train_more(STEPS)
    first = explorer.history
    trained = state_of(adapters.model)
    explorer.reset()
    assert explorer.moment.value == "the model is at step 0 of 0"
    assert explorer.play.max == 0
    assert_same(state_of(adapters.model), state_of(adapted(toy(), lora_dropout=0.3).model))
    assert explorer._scene(1).series[0].before == {}
    explorer.train_more(STEPS)
    explorer.train_more(STEPS)
    assert_same(state_of(adapters.model), trained)
    assert first.equals(explorer.history)


def test_an_action_that_orders_the_rows_is_taken_back_with_its_scale() -> None:
    adapters = adapted(toy())
    explorer = RankExplorer(adapters.model, adapters, DATA, views=["accuracy"], actions={"Order": adapters.order})
    before = dict(explorer.values["DyLoRA"])
    explorer.press("Order")
    assert adapters.scaling == "alpha/r"
    explorer.reset()
    assert adapters.scaling == "alpha/b"
    assert explorer.values["DyLoRA"] == before


def test_a_merged_model_is_refused_and_left_as_it_is() -> None:
    adapters, rival = adapted(toy()), adapted(toy(), seed=3)
    explorer = explorer_of(adapters, rivals={"rival": rival}, training=None)
    with torch.no_grad():
        adapters.layers["up"].lora_B.zero_()
    rival.merge(rank=R)
    changed = state_of(adapters.model)
    with pytest.raises(ValueError, match="merged"):
        explorer.reset()
    assert_same(state_of(adapters.model), changed)


def test_an_autoencoder_s_explorer_goes_back_too() -> None:
    from dylora_kit.baselines.autoencoder import Autoencoder
    from dylora_kit.tasks import digits

    data = digits.load_pixels("upright").test
    model = Autoencoder(d=64, k=4, seed=0)
    explorer = RankExplorer(model, model.code, data, views=["error"])
    start = state_of(model)
    with torch.no_grad():
        model.encoder.zero_()
    explorer.reset()
    assert_same(state_of(model), start)


def test_the_button_rests_while_the_model_trains() -> None:
    adapters = adapted(toy())
    explorer = explorer_of(adapters)
    seen: list[bool] = []
    explorer.picture.observe(lambda _: seen.append(explorer.start.disabled), "value")
    explorer.train_more(STEPS)
    assert seen and all(seen[:-1]) and not explorer.start.disabled
    assert isinstance(adapters, dk.Adapters)
