"""The explorer through time and beyond adapters' accuracy: moments of training, ordering, autoencoders."""

import base64
import gc
import io
import math
import re
import weakref
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor
from toys import TARGETS, R, Toy, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk
from dylora_kit.baselines.autoencoder import Autoencoder, pca
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.evaluation.ordering import scores
from dylora_kit.tasks import digits
from dylora_kit.widgets import live_model
from dylora_kit.widgets.explorer_checks import SHOWN
from dylora_kit.widgets.live_model import STRIP
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.rank_explorer import RankExplorer
from dylora_kit.widgets.svg_cards.pictures import data_uri, side_by_side

SVG = "{http://www.w3.org/2000/svg}"
DATA, STEPS = examples(60, seed=9), 20
EVERY = STEPS // 5  # the explorer keeps a moment after so many steps


def training(adapters: dk.Adapters, **changed: Any) -> dict[str, Any]:
    return {
        "train_data": examples(40, seed=1),
        "sampler": dk.RankSampler(dk.Uniform(1, R), seed=0),
        "optimizer": dk.NestedAdamW(adapters, lr=0.05),
        "batch_size": 8,
        **changed,
    }


def explorer_of(adapters: dk.Adapters, **options: Any) -> RankExplorer:
    settings = {"views": ["accuracy"], "training": training(adapters)} | options
    return RankExplorer(adapters.model, adapters, DATA, **settings)


@pytest.fixture
def adapters() -> dk.Adapters:
    return adapted(toy(), lora_dropout=0.3)


@pytest.fixture
def explorer(adapters: dk.Adapters) -> RankExplorer:
    return explorer_of(adapters)


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """The ranks of every evaluation that an explorer makes."""
    asked: list[list[int]] = []

    def predict(*args: Any, ranks: Any, **kwargs: Any) -> Any:
        asked.append(list(ranks))
        return dk.predict(*args, ranks=ranks, **kwargs)

    monkeypatch.setattr(live_model, "predict", predict)
    yield asked


def svg(explorer: RankExplorer) -> ElementTree.Element:
    found = re.search(r'<div class="dk-cards".*</svg></div>', explorer.picture.value, re.DOTALL)
    assert found is not None
    return ElementTree.fromstring(found.group())


def words(explorer: RankExplorer, kind: str) -> list[str]:
    """What the texts of one kind on the cards say."""
    return [text.text or "" for text in svg(explorer).iter() if kind in text.get("class", "").split(" ")]


def measured(adapters: Any, data: Any = DATA, metric: str = "accuracy") -> dict[int, float]:
    frame = dk.sweep(adapters.model, adapters, data, metric=metric, progress=False)
    return dict(zip(frame["rank"], frame["value"], strict=True))


def twin_run(rounds: int = 1) -> tuple[dk.Adapters, list[dict[str, Tensor]]]:
    """The same training without an explorer, and the weights at every moment that the explorer keeps."""
    adapters = adapted(toy(), lora_dropout=0.3)
    states, settings = [state_of(adapters.model)], training(adapters)

    def keep(step: int) -> None:
        if step % EVERY == 0:
            states.append(state_of(adapters.model))

    for one in range(rounds):
        dk.train(
            adapters.model,
            adapters,
            steps=STEPS,
            schedule="constant",
            seed=one * STEPS,
            on_step=keep,
            progress=False,
            **settings,
        )
    return adapters, states


# Moments of training


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


def test_a_rank_chosen_in_the_past_holds_in_the_present(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    explorer.train_more(STEPS)
    explorer.go_to(1)
    explorer.slider.value = 3
    explorer.go_to(5)
    assert adapters.rank == 3
    assert svg(explorer).get("data-rank") == "3"


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


def test_the_other_cards_go_back_too() -> None:
    adapters = adapted(toy())
    explorer = explorer_of(adapters, views=["spectrum", "matrices", "ordering"])
    explorer.slider.value = 2
    early = explorer.picture.value
    explorer.train_more(STEPS)
    late = explorer.picture.value
    explorer.go_to(0)
    assert explorer._first.spectrum("up", 2) == pytest.approx(
        np.linalg.svd(adapters.delta("up", 2).numpy(), compute_uv=False)[:2], rel=1e-4
    )
    assert explorer.picture.value == early != late
    explorer.go_to(5)
    assert explorer.picture.value == late


def test_slider_and_player_stand_at_the_same_moment(explorer: RankExplorer) -> None:
    explorer.train_more(STEPS)
    explorer.play.value = 2
    assert explorer.play.value == 2
    assert explorer.moment.value == "the model is at step 8 of 20"
    explorer.go_to(4)
    assert explorer.play.value == 4


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
        found: list[Any] = list(explorer.children)
        for widget in found:
            found.extend(getattr(widget, "children", ()))
        return set(found)

    with_training, without = explorer_of(adapters), explorer_of(adapters, training=None)
    assert {with_training.button, with_training.time, with_training.play} <= shown(with_training)
    assert not {without.button, without.time, without.play} & shown(without)


def test_a_closed_explorer_with_moments_gives_its_memory_back(adapters: dk.Adapters) -> None:
    explorer = explorer_of(adapters, views=["accuracy", "ordering"], rivals={"LoRA": adapted(toy(seed=2))})
    explorer.train_more(STEPS)
    controls = [explorer.slider, explorer.number, explorer.button, explorer.time, explorer.play, explorer.moment]
    gone = weakref.ref(explorer), weakref.ref(explorer._moments)
    explorer.close()
    assert all(control.comm is None for control in [*controls, explorer.picture, explorer.method, explorer])
    del explorer, controls
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_a_closed_explorer_with_a_guess_gives_its_memory_back(adapters: dk.Adapters) -> None:
    guess = Guess("How many?", rank=1)
    explorer = explorer_of(adapters, guess=guess)
    gone = weakref.ref(explorer)
    explorer.close()
    del explorer
    gc.collect()
    assert gone() is None


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


# The ordering view


def cells(explorer: RankExplorer) -> list[str]:
    return words(explorer, "tiny")


def expected_cells(adapters: dk.Adapters) -> list[str]:
    return [f"{100 * score:.0f}" for found in scores(adapters).values() for score in found]


def test_the_ordering_card_shows_every_layer_at_every_rank() -> None:
    adapters = adapted(toy(), rank_pattern={"down": 2})
    explorer = explorer_of(adapters, views=["ordering"], training=None)
    assert cells(explorer) == expected_cells(adapters)
    assert len(cells(explorer)) == 4 + 2
    assert {*TARGETS, "1", "2", "3", "4"} <= set(words(explorer, "end") + words(explorer, "mid"))


def test_the_ordering_card_marks_the_rank_of_the_slider(adapters: dk.Adapters) -> None:
    explorer = explorer_of(adapters, views=["ordering"], training=None)
    frames = []
    for rank in (1, 2, 4):
        explorer.slider.value = rank
        assert words(explorer, "b") == [str(rank)]
        (frame,) = [box for box in svg(explorer).iter(f"{SVG}rect") if "stroke-width:2.5" in box.get("style", "")]
        frames.append(float(frame.get("x", "nan")))
    assert frames[1] - frames[0] == pytest.approx((frames[2] - frames[1]) / 2, abs=0.2)
    assert frames[1] > frames[0]


def test_the_ordering_card_shows_the_chosen_method_and_the_weights_of_now(adapters: dk.Adapters) -> None:
    _, cut = svd_cut(adapters)
    explorer = explorer_of(adapters, views=["ordering"], rivals={"SVD": cut}, training=None)
    before = cells(explorer)
    explorer.method.value = "SVD"
    assert cells(explorer) == ["100"] * 8 != before
    explorer.method.value = "DyLoRA"
    with torch.no_grad():
        layer = adapters.layers["up"]
        layer.lora_A.copy_(layer.lora_A.flip(0))
        layer.lora_B.copy_(layer.lora_B.flip(1))
    explorer.refresh()
    assert cells(explorer) == expected_cells(adapters) != before


def test_the_ordering_is_computed_once_for_each_state(monkeypatch: pytest.MonkeyPatch, adapters: dk.Adapters) -> None:
    asked: list[dk.Adapters] = []
    monkeypatch.setattr(live_model, "scores", lambda one: asked.append(one) or scores(one))
    explorer = explorer_of(adapters, views=["ordering"])
    explorer.train_more(STEPS)
    assert len(asked) == 6
    for index in range(6):
        explorer.go_to(index)
        explorer.slider.value = 1 + index % R
    assert asked == [adapters] * 6


def test_untrained_layers_are_drawn_as_zeros() -> None:
    model = toy()
    adapters = dk.attach(model, r=R, target_modules=TARGETS)
    explorer = explorer_of(adapters, views=["ordering"], training=None)
    assert cells(explorer) == ["0"] * 8


# Autoencoders


@pytest.fixture(scope="module")
def pixels() -> digits.Pixels:
    test = digits.load_pixels("upright").test
    return digits.Pixels(test.pixel_values[:50] + test.mean, test.mean)


@pytest.fixture
def model() -> Autoencoder:
    return Autoencoder(64, 4)


@pytest.fixture
def with_pca(model: Autoencoder, pixels: digits.Pixels) -> RankExplorer:
    return RankExplorer(
        model,
        model.code,
        pixels,
        views=["error", "reconstructions"],
        name="nested dropout",
        rivals={"PCA": pca(pixels, 4).code},
        training={
            "train_data": pixels,
            "sampler": dk.RankSampler(dk.Uniform(1, 4), seed=0),
            "optimizer": torch.optim.Adam(model.parameters(), lr=0.01),
        },
    )


def strips(explorer: RankExplorer) -> list[np.ndarray]:
    """The rows of pictures on the card, values 0 to 1, a row of seven is (8, 62)."""
    hrefs = [image.get("href", "") for image in svg(explorer).iter(f"{SVG}image")]
    return [plt.imread(io.BytesIO(base64.b64decode(href.split(",")[1])))[:, :, 0] for href in hrefs]


def as_strip(pixels: digits.Pixels, rows: Tensor) -> np.ndarray:
    """Rows (n, 64) side by side with a clear line between them, from −1…1 to 0…1."""
    pictures = (rows + pixels.mean).reshape(-1, 8, 8).clamp(-1, 1).numpy()
    return np.concatenate([np.pad((one + 1) / 2, ((0, 0), (0, 1))) for one in pictures], axis=1)[:, :-1]


def test_the_slider_sets_the_code_length_of_every_live_autoencoder(with_pca: RankExplorer, model: Autoencoder) -> None:
    rival = with_pca._live["PCA"].handle
    assert with_pca.slider.description == "Code length"
    assert with_pca.slider.max == 4
    for b in (3, 1):
        with_pca.slider.value = b
        assert model.code.rank == rival.rank == b
        assert svg(with_pca).get("data-rank") == str(b)
        assert f"{2 * b * 64:,} code parameters, {25 * b} % of code length 4" in with_pca.note.value


def test_the_errors_are_those_of_the_models(with_pca: RankExplorer, model: Autoencoder, pixels: digits.Pixels) -> None:
    ours, best = measured(model.code, pixels, "error"), measured(pca(pixels, 4).code, pixels, "error")
    assert with_pca.values["nested dropout"] == ours
    assert with_pca.values["PCA"] == pytest.approx(best)
    with_pca.slider.value = 2
    assert words(with_pca, "dk-value") == [f"{100 * ours[2]:.0f} %", f"{100 * best[2]:.0f} %"]
    assert with_pca.summary() == (
        f"Code length 2 of 4: nested dropout has an error of {100 * ours[2]:.0f} %; "
        f"PCA has an error of {100 * best[2]:.0f} %."
    )
    assert "Error by code length, in %" in words(with_pca, "head")


@pytest.mark.parametrize("b", [1, 4])
def test_the_reconstructions_are_drawn_from_the_first_b_units(
    with_pca: RankExplorer, model: Autoencoder, pixels: digits.Pixels, b: int
) -> None:
    with_pca.slider.value = b
    x = pixels.pixel_values[:STRIP]
    ours = x @ model.encoder[:b].detach().T @ model.decoder[:, :b].detach().T
    rival = with_pca._live["PCA"].handle.model
    best = x @ rival.encoder[:b].detach().T @ rival.decoder[:, :b].detach().T
    drawn = strips(with_pca)
    assert len(drawn) == 3
    for strip, rows in zip(drawn, (x, ours, best), strict=True):
        assert strip.shape == (8, 9 * STRIP - 1)
        np.testing.assert_allclose(strip, as_strip(pixels, rows), atol=2.5 / 255)
    assert words(with_pca, "end")[-3:] == ["real", "nested dropout", "PCA"]
    assert any(text.endswith({1: "from 1 number", 4: "from 4 numbers"}[b]) for text in words(with_pca, "soft"))


def test_an_autoencoder_trains_and_goes_back_as_adapters_do(
    with_pca: RankExplorer, model: Autoencoder, pixels: digits.Pixels
) -> None:
    rival = with_pca._live["PCA"].handle.model
    first, of_rival, early = state_of(model), state_of(rival), with_pca.picture.value
    values = with_pca.values
    with_pca.train_more(STEPS)
    newest = state_of(model)
    assert with_pca.values["nested dropout"] == measured(model.code, pixels, "error")
    assert with_pca.values["nested dropout"][4] < values["nested dropout"][4]
    with_pca.go_to(0)
    assert_same(state_of(model), first)
    assert with_pca.values == values
    curves = svg(with_pca).findall(".//{*}polyline")
    assert sum("opacity" in curve.get("style", "") for curve in curves if curve.get("points")) == 1
    assert [image.get("href") for image in svg(with_pca).iter(f"{SVG}image")] == re.findall(
        r'href="(data:[^"]+)"', early
    )
    with_pca.go_to(5)
    assert_same(state_of(model), newest)
    assert_same(state_of(rival), of_rival)


def test_an_error_above_one_is_said_and_drawn_at_the_top(pixels: digits.Pixels) -> None:
    model = Autoencoder(64, 3)
    with torch.no_grad():
        model.decoder.mul_(10)
    explorer = RankExplorer(model, model.code, pixels, views="error")
    error = measured(model.code, pixels, "error")[3]
    assert error > 1.5
    assert words(explorer, "dk-value") == [f"{100 * error:.0f} %"]
    heights = [float(circle.get("cy", "nan")) for circle in svg(explorer).iter(f"{SVG}circle")]
    assert min(heights) == pytest.approx(70, abs=0.1)


def test_fewer_examples_than_places_are_drawn_as_they_are(pixels: digits.Pixels) -> None:
    few = digits.Pixels(pixels.pixel_values[:3] + pixels.mean, pixels.mean)
    model = Autoencoder(64, 2, hidden=9)
    explorer = RankExplorer(model, model.code, few, views=["reconstructions"])
    assert [strip.shape for strip in strips(explorer)] == [(8, 26)] * 2


def test_a_strip_is_pictures_side_by_side_with_the_mean_added_back(pixels: digits.Pixels) -> None:
    rows = pixels.pixel_values[:4]
    for given in (rows, rows.numpy()):
        uri = side_by_side(pixels.pictures(given))
        picture = plt.imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))[:, :, 0]
        np.testing.assert_allclose(picture, as_strip(pixels, rows), atol=2.5 / 255)


def test_a_picture_runs_from_black_at_minus_one_to_white_at_one() -> None:
    uri = data_uri(torch.tensor([[-1.0, 0.0, 1.0], [-7.0, 0.5, 7.0]]))
    picture = plt.imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    np.testing.assert_allclose(picture[:, :, 0], [[0, 0.5, 1], [0, 0.75, 1]], atol=2.5 / 255)


# What does not fit


@pytest.mark.parametrize("views", [["accuracy"], ["error", "spectrum"], ["matrices"], ["ordering"], ["colour"], []])
def test_views_of_adapters_are_refused_for_an_autoencoder(
    views: list[str], model: Autoencoder, pixels: digits.Pixels
) -> None:
    with pytest.raises(ValueError, match="choose from 'error', 'reconstructions'"):
        RankExplorer(model, model.code, pixels, views=views)


@pytest.mark.parametrize("views", [["error"], ["reconstructions"], ["accuracy", "error"], "reconstructions"])
def test_views_of_autoencoders_are_refused_for_adapters(views: Any, adapters: dk.Adapters) -> None:
    with pytest.raises(ValueError, match="choose from 'accuracy', 'matrices', 'ordering', 'spectrum', 'predictions'"):
        explorer_of(adapters, views=views)


def test_an_autoencoder_is_shown_by_its_own_views_where_none_are_named(
    model: Autoencoder, pixels: digits.Pixels
) -> None:
    explorer = RankExplorer(model, model.code, pixels)
    assert 'data-method="autoencoder"' in explorer.picture.value
    assert len(strips(explorer)) == 2


def test_reconstructions_need_data_that_can_draw_themselves(model: Autoencoder, pixels: digits.Pixels) -> None:
    rows = [pixels[index] for index in range(5)]
    with pytest.raises(ValueError, match="data that can draw itself"):
        RankExplorer(model, model.code, rows, views=["error", "reconstructions"])
    assert RankExplorer(model, model.code, rows, views=["error"]).values["autoencoder"].keys() == {1, 2, 3, 4}


@pytest.mark.parametrize("rival", ["longer code", "adapters"])
def test_rivals_of_another_kind_or_length_are_refused(
    rival: str, model: Autoencoder, pixels: digits.Pixels, adapters: dk.Adapters
) -> None:
    other = adapters if rival == "adapters" else Autoencoder(64, 5).code
    with pytest.raises(ValueError, match="has other layers or another r"):
        RankExplorer(model, model.code, pixels, views=["error"], rivals={"other": other})
    if rival == "adapters":
        with pytest.raises(ValueError, match="has other layers or another r"):
            explorer_of(adapters, rivals={"other": model.code})


def test_the_code_of_another_autoencoder_is_refused(model: Autoencoder, pixels: digits.Pixels) -> None:
    with pytest.raises(ValueError, match="another model"):
        RankExplorer(model, Autoencoder(64, 4).code, pixels, views=["error"])
    assert model.code.rank == 4


def test_an_autoencoder_without_an_optimizer_to_train_it_is_refused(model: Autoencoder, pixels: digits.Pixels) -> None:
    settings = {"train_data": pixels, "sampler": dk.RankSampler(dk.Uniform(1, 4), seed=0)}
    with pytest.raises(ValueError, match="put an optimizer into training"):
        RankExplorer(model, model.code, pixels, views=["error"], training=settings)


# What a hostile reader tried


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


def test_only_the_outputs_that_are_shown_are_kept(with_pca: RankExplorer) -> None:
    first = with_pca._live["PCA"].first[1]
    assert len(first) == SHOWN
    assert first.base is None


def test_moving_the_second_slider_draws_once(explorer: RankExplorer) -> None:
    explorer.train_more(STEPS)
    drawn: list[str] = []
    explorer.picture.observe(lambda change: drawn.append(change["new"]), "value")
    explorer.time.value = 0.0
    assert explorer.play.value == 0
    assert len(drawn) == 1


def test_a_long_training_sends_few_messages(explorer: RankExplorer) -> None:
    """A client that reads only afterwards, as nbval does, keeps a thousand of them and loses the rest."""
    sent: list[str] = []
    for widget in (explorer.button, explorer.picture, explorer.time, explorer.play, explorer.moment, explorer.note):
        widget.observe(lambda change: sent.append(change["name"]))
    explorer.train_more(300)
    assert len(sent) < 150
