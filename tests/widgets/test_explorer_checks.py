"""What an explorer refuses: one sentence, and nothing is left behind."""

from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor
from toys import Toy, adapted, toy
from widgets.explorers import explorer_of, shipped, svg, training

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.baselines.autoencoder import Autoencoder
from dylora_kit.tasks import Task, digits
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.rank_explorer import RankExplorer


@pytest.fixture
def adapters() -> dk.Adapters:
    return shipped("dylora")


@pytest.fixture
def toy_adapters() -> dk.Adapters:
    return adapted(toy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"views": ["accuracy", "colour"]}, "unknown view"),
        ({"views": []}, "unknown view"),
        ({"rivals": {"LoRA": None}}, "other layers"),
    ],
)
def test_bad_arguments_get_one_sentence(
    arguments: dict[str, object], message: str, adapters: dk.Adapters, data: digits.Digits
) -> None:
    if "rivals" in arguments:
        arguments = {"rivals": {"LoRA": dk.attach(backbones.load("digits-vit"), r=4, target_modules=["q_proj"])}}
    with pytest.raises(ValueError, match=message):
        RankExplorer(adapters.model, adapters, data, **arguments)  # type: ignore[arg-type]


def test_adapters_of_another_model_are_refused(adapters: dk.Adapters, data: digits.Digits) -> None:
    with pytest.raises(ValueError, match="another model"):
        RankExplorer(backbones.load("digits-vit"), adapters, data)


def test_names_and_guesses_that_do_not_fit_are_refused(adapters: dk.Adapters, data: digits.Digits) -> None:
    with pytest.raises(ValueError, match="name of its own"):
        RankExplorer(adapters.model, adapters, data, rivals={"DyLoRA": adapters})
    with pytest.raises(ValueError, match="r = 8"):
        RankExplorer(adapters.model, adapters, data, guess=Guess("?", rank=20))
    with pytest.raises(ValueError, match="about 'LoRA', but the methods are 'DyLoRA'"):
        RankExplorer(adapters.model, adapters, data, guess=[Guess("?", rank=1, of="LoRA")])
    for other in (Guess("?"), Guess("?", rank=1, unit="s"), Guess("?", rank=1, choices=["a", "b"])):
        with pytest.raises(ValueError, match="guesses in percent about a rank"):
            RankExplorer(adapters.model, adapters, data, guess=other)


def test_texts_have_to_be_given_to_be_shown(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    adapters, task, _ = reviews
    with pytest.raises(ValueError, match=r"needs the first examples in words: pass texts"):
        RankExplorer(adapters.model, adapters, task.test, collate=task.collate, views=["texts"])
    plain = RankExplorer(adapters.model, adapters, task.test, collate=task.collate)
    assert "✓" not in " ".join(svg(plain).itertext())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"collate": None}, "different lengths, so batches of them need collate"),
        ({"texts": "one text"}, "texts must be a list of texts"),
        ({"texts": [1, 2]}, "texts must be a list of texts"),
        ({"classes": ("good",)}, "different names, one for each class from 0 to 1"),
        ({"classes": ("x", "x")}, "different names, one for each class from 0 to 1"),
        ({"views": ["predictions"]}, "needs data with 'pixel_values'"),
        ({"data": []}, "the data is empty"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing_behind(
    change: dict[str, Any], message: str, reviews: tuple[dk.Adapters, Task, list[str]]
) -> None:
    adapters, task, first = reviews
    adapters.rank, guess = dict.fromkeys(adapters.layers, 2), Guess("At rank 1:", rank=1)
    options = {"data": task.test, "collate": task.collate, "texts": first, "classes": ("bad", "good")} | change
    with pytest.raises(ValueError, match=message):
        RankExplorer(adapters.model, adapters, options.pop("data"), guess=guess, **options)
    guess.number.value = 40
    assert adapters.rank == dict.fromkeys(adapters.layers, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": "folder"}, "checkpoint=… cannot be in training="),
        ({"steps": 5}, "steps=… cannot be in training="),
        ({"learning_rate": 0.1}, "'learning_rate', which train does not take"),
    ],
)
def test_a_training_that_no_press_could_start_is_refused_at_once(
    change: dict[str, Any], message: str, toy_adapters: dk.Adapters
) -> None:
    with pytest.raises(ValueError, match=message):
        explorer_of(toy_adapters, training=training(toy_adapters, **change))


@pytest.mark.parametrize("name", ["train_data", "sampler"])
def test_a_training_without_what_it_needs_is_refused_at_once(name: str, toy_adapters: dk.Adapters) -> None:
    settings = training(toy_adapters)
    del settings[name]
    with pytest.raises(ValueError, match=f"lacks '{name}'"):
        explorer_of(toy_adapters, training=settings)


def test_a_model_that_names_no_class_is_refused_and_keeps_its_rank() -> None:
    class Score(Toy):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
            return SimpleNamespace(logits=super().forward(x).logits[:, :1])

    adapters = adapted(Score())
    adapters.rank = {"up": 1, "down": 2}
    with pytest.raises(ValueError, match=r"its metric is 'pearson' in sweep, and a RankExplorer.* is not for it"):
        explorer_of(adapters)
    assert adapters.rank == {"up": 1, "down": 2}


@pytest.mark.parametrize("views", [["accuracy"], ["error", "spectrum"], ["matrices"], ["ordering"], ["colour"], []])
def test_views_of_adapters_are_refused_for_an_autoencoder(
    views: list[str], autoencoder: Autoencoder, pixels: digits.Pixels
) -> None:
    with pytest.raises(ValueError, match="choose from 'error', 'reconstructions'"):
        RankExplorer(autoencoder, autoencoder.code, pixels, views=views)


@pytest.mark.parametrize("views", [["error"], ["reconstructions"], ["accuracy", "error"], "reconstructions"])
def test_views_of_autoencoders_are_refused_for_adapters(views: Any, toy_adapters: dk.Adapters) -> None:
    with pytest.raises(ValueError, match="choose from 'accuracy', 'matrices', 'ordering', 'spectrum', 'predictions'"):
        explorer_of(toy_adapters, views=views)


def test_reconstructions_need_data_that_can_draw_themselves(autoencoder: Autoencoder, pixels: digits.Pixels) -> None:
    rows = [pixels[index] for index in range(5)]
    with pytest.raises(ValueError, match="data that can draw itself"):
        RankExplorer(autoencoder, autoencoder.code, rows, views=["error", "reconstructions"])
    assert RankExplorer(autoencoder, autoencoder.code, rows, views=["error"]).values["autoencoder"].keys() == {
        1,
        2,
        3,
        4,
    }


@pytest.mark.parametrize("rival", ["longer code", "adapters"])
def test_rivals_of_another_kind_or_length_are_refused(
    rival: str, autoencoder: Autoencoder, pixels: digits.Pixels, toy_adapters: dk.Adapters
) -> None:
    other = toy_adapters if rival == "adapters" else Autoencoder(64, 5).code
    with pytest.raises(ValueError, match="has other layers or another r"):
        RankExplorer(autoencoder, autoencoder.code, pixels, views=["error"], rivals={"other": other})
    if rival == "adapters":
        with pytest.raises(ValueError, match="has other layers or another r"):
            explorer_of(toy_adapters, rivals={"other": autoencoder.code})


def test_the_code_of_another_autoencoder_is_refused(autoencoder: Autoencoder, pixels: digits.Pixels) -> None:
    with pytest.raises(ValueError, match="another model"):
        RankExplorer(autoencoder, Autoencoder(64, 4).code, pixels, views=["error"])
    assert autoencoder.code.rank == 4


def test_an_autoencoder_without_an_optimizer_to_train_it_is_refused(
    autoencoder: Autoencoder, pixels: digits.Pixels
) -> None:
    settings = {"train_data": pixels, "sampler": dk.RankSampler(dk.Uniform(1, 4), seed=0)}
    with pytest.raises(ValueError, match="put an optimizer into training"):
        RankExplorer(autoencoder, autoencoder.code, pixels, views=["error"], training=settings)


def test_bottlenecks_show_what_needs_no_product_of_two_matrices() -> None:
    model, rival = backbones.load("digits-vit"), backbones.load("digits-vit")
    data = digits.load("turned").test
    bottlenecks = dk.attach(model, r=4, target_modules="attention", bottleneck="parallel")
    lora = dk.attach(rival, r=4, target_modules="attention")
    alone = RankExplorer(model, bottlenecks, data)
    beside = RankExplorer(rival, lora, data, rivals={"bottleneck": bottlenecks})
    for explorer in (alone, beside):
        assert "Accuracy by rank" in explorer.picture.value and "Predictions" in explorer.picture.value
        assert "Singular values" not in explorer.picture.value
        explorer.slider.value = 2
        assert bottlenecks.rank == 2
    for view in ("matrices", "spectrum", "ordering"):
        with pytest.raises(ValueError, match=f"unknown view \\['{view}'\\]: choose from 'accuracy'"):
            RankExplorer(model, bottlenecks, data, views=[view])
        with pytest.raises(ValueError, match="unknown view"):
            RankExplorer(rival, lora, data, views=[view], rivals={"bottleneck": bottlenecks})
    with pytest.raises(ValueError, match="adapters of linear layers that are not fused"):
        RankExplorer(model, bottlenecks, data, forward=lambda x, W, A, B, b, alpha: x)
