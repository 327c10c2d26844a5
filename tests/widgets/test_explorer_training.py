"""Training from the explorer, and what it shows of every moment."""

import gc
import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import R, Toy, adapted, assert_same, examples, state_of, toy
from widgets.explorers import STEPS, accuracy, big_numbers, explorer_of, measured, svg, training, twin_run

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.tasks import digits
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.rank_explorer import RankExplorer


@pytest.fixture
def adapters() -> dk.Adapters:
    return adapted(toy(), lora_dropout=0.3)


def ticks(explorer: RankExplorer) -> list[tuple[str | None, str | None]]:
    """The numbers on the left of the first card, and where they stand."""
    return [(mark.text, mark.get("y")) for mark in svg(explorer).findall(".//{*}text[@class='soft end']")]


@pytest.fixture
def explorer(adapters: dk.Adapters) -> RankExplorer:
    return explorer_of(adapters)


def test_the_button_trains_the_model_and_moves_the_curve(data: digits.Digits) -> None:
    model = backbones.load("digits-vit")
    adapters = dk.attach(model, r=8, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    training = {
        "train_data": digits.load("turned").train,
        "sampler": dk.RankSampler(dk.Uniform(1, 8), seed=0),
        "optimizer": dk.NestedAdamW(adapters, lr=4e-3),
    }
    explorer = RankExplorer(model, adapters, data, views=["accuracy"], training=training)
    pictures: list[str] = []
    explorer.picture.observe(lambda change: pictures.append(change["new"]), "value")
    before = accuracy(adapters, data, 8)
    explorer.button.click()
    assert len(pictures) >= 5
    assert accuracy(adapters, data, 8) > before + 0.1
    assert big_numbers(explorer)[0] == f"{100 * accuracy(adapters, data, 8):.0f} %"
    assert adapters.rank == 8 and not explorer.button.disabled
    assert len(svg(explorer).findall(".//{*}polyline")) == 2, "the curve before the training stays as a pale line"


def test_training_without_the_means_says_what_is_missing(adapters: dk.Adapters) -> None:
    with pytest.raises(ValueError, match="training="):
        explorer_of(adapters, training=None).train_more()


def test_the_line_beside_the_slider_says_the_step(explorer: RankExplorer) -> None:
    assert explorer.moment.value == "the model is at step 0 of 0"
    explorer.train_more(STEPS)
    assert explorer.moment.value == "the model is at step 20 of 20"
    explorer.go_to(2)
    assert explorer.moment.value == "the model is at step 8 of 20"
    explorer.train_more(STEPS)
    assert explorer.moment.value == "the model is at step 40 of 40"
    explorer.go_to(2)
    assert explorer.moment.value == "the model is at step 8 of 40"


def test_watching_the_training_does_not_change_it(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    explorer.slider.value = 2
    torch.manual_seed(3)
    state = torch.get_rng_state()
    explorer.train_more(STEPS)
    assert torch.equal(torch.get_rng_state(), state)
    twin, _ = twin_run()
    assert_same(state_of(adapters.model), state_of(twin.model))
    assert adapters.rank == explorer.slider.value == 2


def test_the_pale_curve_is_that_before_the_latest_training(explorer: RankExplorer) -> None:
    explorer.train_more(STEPS)
    newest = explorer.values["DyLoRA"]
    explorer.go_to(0)
    explorer.train_more(STEPS)
    assert explorer._scene(1).series[0].before == newest


def test_moving_in_time_evaluates_no_state_twice(forwards: list[list[int]], adapters: dk.Adapters) -> None:
    explorer = explorer_of(adapters)
    assert len(forwards) == 1
    explorer.train_more(STEPS)
    assert forwards == [[1, 2, 3, 4]] * 6, "each kept moment once"
    for index in (0, 5, 2, 1, 4, 3):
        explorer.go_to(index)
        explorer.slider.value = 1 + index % R
    assert len(forwards) == 6


def test_a_rank_chosen_in_the_past_holds_in_the_present(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    explorer.train_more(STEPS)
    explorer.go_to(1)
    explorer.slider.value = 3
    explorer.go_to(5)
    assert adapters.rank == 3
    assert svg(explorer).get("data-rank") == "3"


def test_the_other_cards_go_back_too() -> None:
    adapters = adapted(toy())
    explorer = explorer_of(adapters, views=["spectrum", "matrices", "ordering"])
    explorer.slider.value = 2
    explorer.train_more(STEPS)
    late = explorer.picture.value
    explorer.go_to(0)
    early = explorer.picture.value
    assert explorer._first.spectrum("up", 2) == pytest.approx(
        np.linalg.svd(adapters.delta("up", 2).numpy(), compute_uv=False)[:2], rel=1e-4
    )
    explorer.go_to(5)
    assert explorer.picture.value == late != early
    explorer.go_to(0)
    assert explorer.picture.value == early


def test_the_scale_of_the_singular_values_stays_while_a_training_is_played_and_begins_anew_at_a_reset() -> None:
    adapters = adapted(toy())
    explorer = explorer_of(adapters, views=["spectrum"])
    before = ticks(explorer)
    explorer.train_more(STEPS)
    with torch.no_grad():
        adapters.layers["up"].lora_B *= 20  # so that the ends of the training are far apart
    explorer.refresh()
    trained = ticks(explorer)
    assert trained != before
    explorer.go_to(0)
    assert ticks(explorer) == trained
    explorer.reset()
    assert ticks(explorer) == before


def test_slider_and_player_stand_at_the_same_moment(explorer: RankExplorer) -> None:
    explorer.train_more(STEPS)
    explorer.play.value = 2
    assert explorer.play.value == 2
    assert explorer.moment.value == "the model is at step 8 of 20"
    explorer.go_to(4)
    assert explorer.play.value == 4


def test_moving_the_second_slider_draws_once(explorer: RankExplorer) -> None:
    explorer.train_more(STEPS)
    drawn: list[str] = []
    explorer.picture.observe(lambda change: drawn.append(change["new"]), "value")
    explorer.time.value = 0.0
    assert explorer.play.value == 0
    assert len(drawn) == 1


def test_a_training_shorter_than_five_steps_keeps_every_step(explorer: RankExplorer) -> None:
    explorer.train_more(3)
    assert [explorer.play.max, explorer.moment.value] == [3, "the model is at step 3 of 3"]


def test_the_last_step_is_kept_where_it_does_not_divide(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    explorer.train_more(23)
    assert explorer.moment.value == "the model is at step 23 of 23"
    newest = state_of(adapters.model)
    explorer.go_to(0)
    explorer.go_to(-1)
    assert_same(state_of(adapters.model), newest)


def test_controls_rest_while_the_model_trains_and_come_back(explorer: RankExplorer) -> None:
    controls = [explorer.button, explorer.slider, explorer.number, explorer.time, explorer.play]
    seen: list[bool] = []
    explorer.picture.observe(lambda _: seen.append(all(control.disabled for control in controls)), "value")
    explorer.train_more(STEPS)
    assert len(seen) >= 4 and all(seen[:4])
    assert not any(control.disabled for control in controls)
    assert explorer.button.description == "Train 100 more steps"


def test_an_explorer_whose_training_fails_can_still_go_back(adapters: dk.Adapters) -> None:
    calls = iter(range(1000))

    def loss(model: Toy, batch: dict[str, Tensor]) -> Tensor:
        return model(**batch).loss * (math.nan if next(calls) == 10 else 1)

    explorer = explorer_of(adapters, training=training(adapters, loss=loss))
    first = state_of(adapters.model)
    with pytest.raises(FloatingPointError):
        explorer.train_more(STEPS)
    broken = state_of(adapters.model)
    assert explorer.values["DyLoRA"] == measured(adapters)
    assert not explorer.button.disabled and not explorer.time.disabled
    explorer.go_to(0)
    assert_same(state_of(adapters.model), first)
    explorer.go_to(-1)
    assert_same(state_of(adapters.model), broken)
    explorer.train_more(STEPS)
    assert explorer.values["DyLoRA"] == measured(adapters)


def test_only_an_explorer_with_training_has_the_second_slider(adapters: dk.Adapters) -> None:
    def shown(explorer: RankExplorer) -> set[Any]:
        widgets: list[Any] = list(explorer.children)
        for widget in widgets:
            widgets.extend(getattr(widget, "children", ()))
        return set(widgets)

    with_training, without = explorer_of(adapters), explorer_of(adapters, training=None)
    assert {with_training.button, with_training.time, with_training.play} <= shown(with_training)
    assert not {without.button, without.time, without.play} & shown(without)


def test_a_closed_explorer_with_moments_gives_its_memory_back(adapters: dk.Adapters) -> None:
    explorer = explorer_of(adapters, views=["accuracy", "ordering"], rivals={"LoRA": adapted(toy(seed=2))})
    explorer.train_more(STEPS)
    controls = [explorer.slider, explorer.number, explorer.button, explorer.time, explorer.play, explorer.moment]
    gone = weakref.ref(explorer), weakref.ref(explorer._training)
    explorer.close()
    assert all(control.comm is None for control in [*controls, explorer.picture, explorer.method, explorer])
    del explorer, controls
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_a_closed_explorer_with_a_guess_gives_its_memory_back(adapters: dk.Adapters) -> None:
    guess = Guess("How many?", rank=1)
    explorer = explorer_of(adapters, guess=guess)
    gone = weakref.ref(explorer)
    explorer.close()
    del explorer
    gc.collect()
    assert gone() is None


def test_each_press_of_the_button_sees_other_batches(adapters: dk.Adapters) -> None:
    asked: list[int] = []

    class Listening(list):  # type: ignore[type-arg]
        def __getitem__(self, index: Any) -> Any:
            asked.append(index)
            return super().__getitem__(index)

    explorer = explorer_of(adapters, training=training(adapters, train_data=Listening(examples(40, seed=1)), seed=10))
    explorer.train_more(4)
    first = asked[: 4 * 8]
    asked.clear()
    explorer.train_more(4)
    assert asked[: 4 * 8] != first


def test_history_keeps_what_was_measured_when_it_was(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    explorer.train_more(STEPS)
    before = explorer.history
    assert sorted(set(before["step"])) == [0, 4, 8, 12, 16, 20]
    adapters.scaling = "alpha/r"
    explorer.refresh()
    assert_same(explorer.history.to_dict(), before.to_dict())


def test_a_long_training_sends_few_messages(explorer: RankExplorer) -> None:
    """A client that reads only afterwards, as nbval does, keeps a thousand of them and loses the rest."""
    sent: list[str] = []
    for widget in (explorer.button, explorer.picture, explorer.time, explorer.play, explorer.moment, explorer.note):
        widget.observe(lambda change: sent.append(change["name"]))
    explorer.train_more(300)
    assert len(sent) < 150
