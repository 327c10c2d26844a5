"""The explorer without a browser: it turns the live model, and shows what the model does at that moment."""

import gc
import re
import statistics
import time
import weakref
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.tasks import Task, digits, world
from dylora_kit.widgets import live_model
from dylora_kit.widgets import svg_cards as cards
from dylora_kit.widgets.explorer_checks import SHOWN
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.rank_explorer import RankExplorer


def shipped(name: str) -> dk.Adapters:
    return dk.load(backbones.load("digits-vit"), backbones.data_folder() / "adapters" / f"digits-turned-{name}")


@pytest.fixture(scope="module")
def data() -> digits.Digits:
    test = digits.load("turned").test
    return digits.Digits(test.pixel_values[:100], test.labels[:100])


@pytest.fixture
def adapters() -> dk.Adapters:
    return shipped("dylora")


@pytest.fixture
def explorer(adapters: dk.Adapters, data: digits.Digits) -> RankExplorer:
    return RankExplorer(adapters.model, adapters, data, rivals={"LoRA, cut to b": shipped("lora")})


def accuracy(adapters: dk.Adapters, data: digits.Digits, rank: int) -> float:
    with torch.no_grad(), adapters.at(rank):
        logits = adapters.model(pixel_values=data.pixel_values).logits
    return float((logits.argmax(-1) == data.labels).double().mean())


def svg(explorer: RankExplorer) -> ElementTree.Element:
    found = re.search(r'<div class="dk-cards".*</svg></div>', explorer.picture.value, re.DOTALL)
    assert found is not None
    return ElementTree.fromstring(found.group())


def big_numbers(explorer: RankExplorer) -> list[str]:
    return [text.text or "" for text in svg(explorer).iter() if "dk-value" in text.get("class", "")]


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """The ranks of every evaluation that the explorer makes."""
    asked: list[list[int]] = []

    def predict(*args: object, ranks: list[int], **kwargs: object) -> object:
        asked.append(list(ranks))
        return dk.predict(*args, ranks=ranks, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(live_model, "predict", predict)
    yield asked


def test_moving_the_slider_sets_the_rank_of_the_live_model(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    for rank in (3, 1, 8):
        explorer.slider.value = rank
        assert adapters.rank == rank
        assert svg(explorer).get("data-rank") == str(rank)


def test_the_numbers_are_those_of_the_model(explorer: RankExplorer, adapters: dk.Adapters, data: digits.Digits) -> None:
    for rank in (1, 4):
        explorer.slider.value = rank
        assert big_numbers(explorer)[0] == f"{100 * accuracy(adapters, data, rank):.0f} %"


def test_slider_and_number_box_hold_the_same_rank(explorer: RankExplorer) -> None:
    explorer.number.value = 5
    assert explorer.slider.value == 5
    explorer.slider.value = 2
    assert explorer.number.value == 2


def test_a_known_rank_is_not_evaluated_again(
    forwards: list[list[int]], adapters: dk.Adapters, data: digits.Digits
) -> None:
    explorer = RankExplorer(adapters.model, adapters, data)
    assert forwards == [[1, 2, 3, 4, 5, 6, 7, 8]]
    explorer.slider.value = 3
    explorer.slider.value = 1
    assert len(forwards) == 1


@pytest.mark.parametrize("part", ["lora_A", "lora_B", "classifier", "frozen base", "merged"])
def test_changed_weights_are_evaluated_anew(part: str, adapters: dk.Adapters, data: digits.Digits) -> None:
    explorer = RankExplorer(adapters.model, adapters, data)
    layer = adapters.layers["vit.layers.0.attention.q_proj"]
    weights = {
        "lora_A": layer.lora_A,
        "lora_B": layer.lora_B,
        "classifier": adapters.model.classifier.weight,
        "frozen base": layer.weight,
        "merged": adapters.model.classifier.weight,
    }
    before = live_model.fingerprint(adapters)
    if part == "merged":
        adapters.merge(rank=3)
    else:
        with torch.no_grad():
            weights[part].neg_()
    assert live_model.fingerprint(adapters) != before
    if part == "classifier":
        explorer.refresh()
        assert big_numbers(explorer)[0] == f"{100 * accuracy(adapters, data, 8):.0f} %"


def test_changing_weights_through_data_is_noticed_for_trained_ones(
    explorer: RankExplorer, adapters: dk.Adapters, data: digits.Digits
) -> None:
    explorer.slider.value = 1
    before = big_numbers(explorer)
    for layer in adapters.layers.values():
        layer.lora_B.data[:, 0] = 0  # the version counter of lora_B does not see this
    explorer.refresh()
    assert big_numbers(explorer) != before
    assert big_numbers(explorer)[0] == f"{100 * accuracy(adapters, data, 1):.0f} %"


def test_the_switch_chooses_whose_predictions_are_shown(explorer: RankExplorer) -> None:
    explorer.slider.value = 1
    ours = explorer.picture.value
    explorer.method.value = "LoRA, cut to b"
    assert svg(explorer).get("data-method") == "LoRA, cut to b"
    assert explorer.picture.value.count("✗") > ours.count("✗")


def test_the_spectrum_shows_b_singular_values(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    name = next(iter(adapters.layers))
    for rank in (1, 5):
        values = explorer._live["DyLoRA"].spectrum(name, rank)
        expected = np.linalg.svd(adapters.delta(name, rank).numpy(), compute_uv=False)
        assert len(values) == rank
        np.testing.assert_allclose(values, expected[:rank], rtol=1e-4)
        np.testing.assert_allclose(expected[rank:], 0, atol=1e-4)


def test_the_picture_says_its_finding_and_every_prediction_has_a_shape(explorer: RankExplorer) -> None:
    explorer.slider.value = 2
    drawing = svg(explorer)
    assert drawing.get("role") == "img"
    assert (drawing.get("aria-label") or "").startswith("Rank 2 of 8: DyLoRA has an accuracy of")
    marks = [text.text for text in drawing.iter() if (text.text or " ")[0] in "✓✗"]
    assert len(marks) == SHOWN


def test_colours_come_from_the_theme(explorer: RankExplorer) -> None:
    assert "var(--jp-ui-font-color1" in cards.STYLE
    assert not re.search(r"(fill|stroke):\s*#", explorer.picture.value.replace("var(--jp-layout-color1, #fff)", ""))


def test_a_guess_is_drawn_where_it_was_made(adapters: dk.Adapters, data: digits.Digits) -> None:
    guess = Guess("How many?", rank=1)
    explorer = RankExplorer(adapters.model, adapters, data, guess=guess)
    assert "your guess" not in explorer.picture.value, "the number it starts with is nobody's guess"
    guess.number.value = 30
    low = explorer.picture.value
    guess.number.value = 90
    assert "your guess" in explorer.picture.value
    assert explorer.picture.value != low


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


def test_a_cached_move_is_quick(explorer: RankExplorer, report: Callable[[str], None]) -> None:
    times = []
    for move in range(200):
        start = time.perf_counter()
        explorer.slider.value = 1 + move % 8
        times.append(1000 * (time.perf_counter() - start))
    report(f"slider callback, cached rank: median {statistics.median(times):.1f} ms, p95 {sorted(times)[190]:.1f} ms")
    assert statistics.median(times) < 15


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"views": ["accuracy", "colour"]}, "unknown view"),
        ({"views": []}, "unknown view"),
        ({"rivals": {"LoRA": None}}, "other layers"),
    ],
)
def test_bad_arguments_get_one_sentence(
    arguments: dict[str, object], words: str, adapters: dk.Adapters, data: digits.Digits
) -> None:
    if "rivals" in arguments:
        arguments = {"rivals": {"LoRA": dk.attach(backbones.load("digits-vit"), r=4, target_modules=["q_proj"])}}
    with pytest.raises(ValueError, match=words):
        RankExplorer(adapters.model, adapters, data, **arguments)  # type: ignore[arg-type]


def test_adapters_of_another_model_are_refused(adapters: dk.Adapters, data: digits.Digits) -> None:
    with pytest.raises(ValueError, match="another model"):
        RankExplorer(backbones.load("digits-vit"), adapters, data)


def test_training_without_the_means_says_what_is_missing(explorer: RankExplorer) -> None:
    with pytest.raises(ValueError, match="training="):
        explorer.train_more()


def test_a_changed_scale_is_evaluated_anew(explorer: RankExplorer, adapters: dk.Adapters, data: digits.Digits) -> None:
    explorer.slider.value = 1
    adapters.scaling = "alpha/r"
    explorer.refresh()
    assert big_numbers(explorer)[0] == f"{100 * accuracy(adapters, data, 1):.0f} %"


def test_a_layer_with_a_smaller_maximum_is_drawn_at_its_own_rank(data: digits.Digits) -> None:
    model = backbones.load("digits-vit")
    adapters = dk.attach(model, r=8, target_modules=["q_proj", "v_proj"], rank_pattern={"layers.0.attention.q_proj": 2})
    explorer = RankExplorer(model, adapters, data, views=["matrices", "spectrum"])
    explorer.slider.value = 6
    words = [text.text for text in svg(explorer).iter() if text.text]
    assert "64 × 2" in words and "2 × 64" in words and "64 × 6" not in words


def test_a_closed_explorer_gives_its_memory_back(adapters: dk.Adapters, data: digits.Digits) -> None:
    explorer = RankExplorer(adapters.model, adapters, data, views=["accuracy"])
    gone = weakref.ref(explorer)
    explorer.close()
    del explorer
    gc.collect()
    assert gone() is None


def test_an_explorer_starts_at_the_rank_the_model_has(adapters: dk.Adapters, data: digits.Digits) -> None:
    adapters.rank = 3
    assert RankExplorer(adapters.model, adapters, data, views=["accuracy"]).slider.value == 3
    assert adapters.rank == 3


def test_names_and_guesses_that_do_not_fit_are_refused(adapters: dk.Adapters, data: digits.Digits) -> None:
    with pytest.raises(ValueError, match="name of its own"):
        RankExplorer(adapters.model, adapters, data, rivals={"DyLoRA": adapters})
    with pytest.raises(ValueError, match="r = 8"):
        RankExplorer(adapters.model, adapters, data, guess=Guess("?", rank=20))


@pytest.fixture(scope="module")
def reviews() -> tuple[dk.Adapters, Task, list[str]]:
    """A language model with adapters that say something, on a few reviews."""
    task = world.load("sentiment", backbones.tokenizer("world-roberta"), limit=8)
    first = [row["first"] for row in world.texts("sentiment")["test"]][:12]
    adapters = dk.attach(backbones.load("world-roberta", num_labels=2), r=4, target_modules="attention")
    for seed, layer in enumerate(adapters.layers.values()):
        torch.nn.init.normal_(layer.lora_B, generator=torch.Generator().manual_seed(seed))
    return adapters, replace(task, test=task.test.select(range(12))), first


def test_texts_are_shown_with_what_the_live_model_says_of_them(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    adapters, task, first = reviews
    explorer = RankExplorer(adapters.model, adapters, task.test, collate=task.collate, texts=first,
                            classes=("bad", "good"))  # fmt: skip
    for rank in (1, 4):
        explorer.slider.value = rank
        shown = " ".join(svg(explorer).itertext())
        outputs, labels = dk.predict(adapters.model, adapters, task.test, ranks=[rank], collate=task.collate)
        said = outputs[rank].argmax(-1)
        count = shown.count("✓") + shown.count("✗")
        assert 3 <= count < len(first)
        assert f"{(said == labels)[:count].sum()} of {count} right" in shown
        for text, one, label in zip(first[:count], said, labels, strict=False):
            assert text[:40] in shown
            assert ("bad", "good")[one] + (" ✓" if one == label else " ✗") in shown
    assert f"{100 * (said == labels).mean():.0f} %" in big_numbers(explorer)


def test_texts_have_to_be_given_to_be_shown(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    adapters, task, _ = reviews
    with pytest.raises(ValueError, match=r"needs the first examples in words: pass texts"):
        RankExplorer(adapters.model, adapters, task.test, collate=task.collate, views=["texts"])
    plain = RankExplorer(adapters.model, adapters, task.test, collate=task.collate)
    assert "✓" not in " ".join(svg(plain).itertext())


@pytest.mark.parametrize(
    ("change", "said"),
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
    change: dict[str, Any], said: str, reviews: tuple[dk.Adapters, Task, list[str]]
) -> None:
    adapters, task, first = reviews
    adapters.rank, guess = dict.fromkeys(adapters.layers, 2), Guess("At rank 1:", rank=1)
    options = {"data": task.test, "collate": task.collate, "texts": first, "classes": ("bad", "good")} | change
    with pytest.raises(ValueError, match=said):
        RankExplorer(adapters.model, adapters, options.pop("data"), guess=guess, **options)
    guess.number.value = 40
    assert adapters.rank == dict.fromkeys(adapters.layers, 2)


def test_an_explorer_over_texts_trains_the_live_model(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    adapters, task, _ = reviews
    lesson = {"train_data": task.train, "sampler": dk.RankSampler(dk.Uniform(1, 4), seed=0), "batch_size": 4,
              "optimizer": dk.NestedAdamW(adapters, lr=0.1)}  # fmt: skip
    explorer = RankExplorer(adapters.model, adapters, task.test, collate=task.collate, training=lesson)
    before = adapters.nested_parameters()[0].detach().clone()
    explorer.train_more(steps=2)
    assert not torch.equal(before, adapters.nested_parameters()[0])
    assert explorer.history["step"].max() == 2


def test_long_texts_stay_inside_their_card() -> None:
    examples = [cards.Example("word " * 80, "good", "bad", False), *[cards.Example("short", "good", "good", True)] * 9]
    inside = cards.texts.texts_card(
        cards.Scene(1, 8, [cards.Series("DyLoRA", {1: 0.5})], 0, "accuracy", texts=examples)
    )
    places = [(float(x), float(y)) for x, y in re.findall(r'<text x="([\d.]+)" y="([\d.]+)"', inside)]
    assert max(y for _, y in places) < cards.texts.HEIGHT - 8
    assert "…" in inside and "is bad" in inside and ">short<" in inside
