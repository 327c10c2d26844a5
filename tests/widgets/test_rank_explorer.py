"""The explorer without a browser: it turns the live model, and shows what the model does at that moment."""

import gc
import re
import time
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
import torch
from widgets.explorers import accuracy, big_numbers, shipped, svg

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.tasks import Task, digits
from dylora_kit.widgets import svg_cards
from dylora_kit.widgets.explorer_checks import SHOWN
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.rank_explorer import RankExplorer


@pytest.fixture
def adapters() -> dk.Adapters:
    return shipped("dylora")


@pytest.fixture
def explorer(adapters: dk.Adapters, data: digits.Digits) -> RankExplorer:
    return RankExplorer(adapters.model, adapters, data, rivals={"LoRA, cut to b": shipped("lora")})


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


def test_the_switch_chooses_whose_predictions_are_shown(explorer: RankExplorer) -> None:
    explorer.slider.value = 1
    ours = explorer.picture.value
    explorer.method.value = "LoRA, cut to b"
    assert svg(explorer).get("data-method") == "LoRA, cut to b"
    assert explorer.picture.value.count("✗") > ours.count("✗")


def test_the_picture_says_its_finding_and_every_prediction_has_a_shape(explorer: RankExplorer) -> None:
    explorer.slider.value = 2
    drawing = svg(explorer)
    assert drawing.get("role") == "img"
    assert (drawing.get("aria-label") or "").startswith("Rank 2 of 8: DyLoRA has an accuracy of")
    marks = [text.text for text in drawing.iter() if (text.text or " ")[0] in "✓✗"]
    assert len(marks) == SHOWN


def test_a_method_has_one_colour_in_every_explorer(adapters: dk.Adapters, data: digits.Digits) -> None:
    explorer = RankExplorer(adapters.model, adapters, data, name="LoRA, cut to b", views=["accuracy", "spectrum"],
                            rivals={"LoRA, cut by SVD": shipped("lora"), "nested": shipped("lora")})  # fmt: skip
    curves = [line.get("style") or "" for line in svg(explorer).findall(".//{*}polyline")]
    assert [re.findall(r"--dk-\d", look)[0] for look in curves if "opacity" not in look] == [
        "--dk-1",
        "--dk-2",
        "--dk-0",
    ]
    assert "fill:var(--dk-1);stroke:var(--dk-1)" in explorer.picture.value
    assert "fill:none;stroke:var(--dk-2);stroke-width:2.5" in explorer.picture.value


def test_the_slider_and_the_switch_stay_in_view(explorer: RankExplorer) -> None:
    (staying,) = [box for box in explorer.children if "dk-stays" in box._dom_classes]
    within = [control for row in staying.children for control in row.children]
    assert explorer.slider in within and explorer.method in within


def test_colours_come_from_the_theme(explorer: RankExplorer) -> None:
    assert "var(--jp-ui-font-color1" in svg_cards.STYLE
    assert not re.search(r"(fill|stroke):\s*#", explorer.picture.value.replace("var(--jp-layout-color1, #fff)", ""))


def test_a_guess_is_drawn_where_it_was_made(adapters: dk.Adapters, data: digits.Digits) -> None:
    guess = Guess("How many?", rank=1)
    explorer = RankExplorer(adapters.model, adapters, data, guess=guess)
    assert "your guess, 0" not in explorer.picture.value, "the number that the box shows first is no guess"
    guess.number.value = 30
    low = explorer.picture.value
    guess.number.value = 90
    assert "your guess, 90" in explorer.picture.value
    assert explorer.picture.value != low
    assert explorer.picture.value.count("<polygon") == 1, "a star, which is no method's marker"


def test_the_curves_wait_for_a_guess_or_for_the_first_move(adapters: dk.Adapters, data: digits.Digits) -> None:
    def lines(explorer: RankExplorer) -> int:
        return len(svg(explorer).findall(".//{*}polyline"))

    guess = Guess("How many?", rank=1)
    guessed, moved = (RankExplorer(adapters.model, adapters, data, guess=guess) for _ in range(2))
    assert lines(guessed) == lines(moved) == 0 and "wait for your guess" in guessed.picture.value
    assert "polyline" in guessed.in_saved_notebook()["image/svg+xml"], "a reader without a kernel sees them"
    moved.slider.value = 2
    assert lines(moved) > 0
    guess.button.click()
    assert lines(guessed) > 0 and "wait for your guess" not in guessed.picture.value
    assert lines(RankExplorer(adapters.model, adapters, data)) > 0, "without a guess, nothing waits"
    both = [Guess("How many at 1?", rank=1), Guess("How many at 2?", rank=2)]
    waiting = RankExplorer(adapters.model, adapters, data, guess=both)
    both[0].button.click()
    assert lines(waiting) == 0, "the second guess is still to be made"
    both[1].button.click()
    assert lines(waiting) > 0


def test_guesses_about_a_rival_are_drawn_in_its_colour_beside_the_truth(
    adapters: dk.Adapters, data: digits.Digits
) -> None:
    ours, theirs = Guess("Ours?", rank=1), Guess("Theirs?", rank=2, of="rival")
    explorer = RankExplorer(adapters.model, adapters, data, rivals={"rival": shipped("lora")}, guess=[ours, theirs])
    ours.number.value, theirs.number.value = 30, 60
    assert explorer._scene(1).guesses == [(1, 0.3, 0), (2, 0.6, 1)]
    labels = [text.text for text in svg(explorer).iter() if "your guess" in (text.text or "")]
    assert labels == ["your guess, 30", "your guess, 60"]
    card = explorer.picture.value
    assert card.count("stroke-dasharray:1 3") == 2, "a line from each guess to what it turned out to be"


def test_a_cached_move_is_quick(explorer: RankExplorer, report: Callable[[str], None]) -> None:
    times = []
    for move in range(200):
        start = time.process_time()
        explorer.slider.value = 1 + move % 8
        times.append(1000 * (time.process_time() - start))
    times.sort()
    report(f"slider callback, cached rank: median {times[100]:.1f} ms, p95 {times[190]:.1f} ms")
    assert times[20] < 15, "of the quicker moves: a busy machine only adds to a time"


def test_a_layer_with_a_smaller_maximum_is_drawn_at_its_own_rank(data: digits.Digits) -> None:
    model = backbones.load("digits-vit")
    adapters = dk.attach(model, r=8, target_modules=["q_proj", "v_proj"], rank_pattern={"layers.0.attention.q_proj": 2})
    explorer = RankExplorer(model, adapters, data, views=["matrices", "spectrum"])
    explorer.slider.value = 6
    words = [text.text for text in svg(explorer).iter() if text.text]
    assert "64 × 2" in words and "2 × 64" in words and "64 × 6" not in words


def test_a_saved_notebook_has_a_picture_of_the_explorer(explorer: RankExplorer) -> None:
    explorer.slider.value = 2
    picture = ET.fromstring(explorer._repr_mimebundle_()["image/svg+xml"])
    assert picture.attrib["aria-label"] == explorer.summary()
    words = [text.text for text in picture.iter() if text.text]
    assert "2 of 8" in words and "Singular values of ΔW" in words


def test_a_button_changes_the_model_and_the_cards_follow(adapters: dk.Adapters, data: digits.Digits) -> None:
    kept = {name: layer.lora_B.detach().clone() for name, layer in adapters.layers.items()}

    def erase() -> None:
        with torch.no_grad():
            for layer in adapters.layers.values():
                layer.lora_B[:, 0] = 0

    def repair() -> None:
        with torch.no_grad():
            for name, layer in adapters.layers.items():
                layer.lora_B.copy_(kept[name])

    signs: list[str] = []
    actions = {"Break": erase, "Repair": repair}
    explorer = RankExplorer(adapters.model, adapters, data, views=["accuracy"], actions=actions)
    explorer.slider.value = 1
    whole = explorer.values["DyLoRA"][1]
    explorer.buttons["Break"].observe(lambda change: signs.append(change["new"]), "icon")
    explorer.buttons["Break"].click()
    assert signs == ["hourglass-half", ""], "the button shows that it works"
    broken, broken_picture = explorer.values["DyLoRA"][1], explorer.still().data
    assert broken == accuracy(adapters, data, 1) < whole - 0.2
    explorer.press("Repair")
    assert explorer.values["DyLoRA"][1] == whole
    shown = f">{100 * broken:.0f} %<"
    assert shown in broken_picture and shown not in explorer.still().data
    with pytest.raises(ValueError, match="there is no button 'Mend': the buttons are Break, Repair"):
        explorer.press("Mend")


def test_the_curve_before_a_button_was_pressed_stays_until_a_reset(adapters: dk.Adapters, data: digits.Digits) -> None:
    @torch.no_grad()
    def erase() -> None:
        for layer in adapters.layers.values():
            layer.lora_B[:, 0] = 0

    def curves(pale: bool) -> list[str | None]:
        lines = [line for line in svg(explorer).findall(".//{*}polyline") if line.get("points")]
        return [line.get("points") for line in lines if ("opacity" in (line.get("style") or "")) is pale]

    explorer = RankExplorer(adapters.model, adapters, data, views=["accuracy"], actions={"Break": erase})
    before = curves(pale=False)
    assert not curves(pale=True)
    explorer.press("Break")
    assert curves(pale=True) == before != curves(pale=False) and ">before<" in explorer.picture.value
    explorer.reset()
    assert curves(pale=False) == before and not curves(pale=True) and ">before<" not in explorer.picture.value


def test_a_still_has_its_text_where_pictures_are_not_shown(explorer: RankExplorer) -> None:
    explorer.slider.value = 1
    content = explorer.still()._repr_mimebundle_()
    assert set(content) == {"image/svg+xml", "text/plain"} and content["text/plain"] == explorer.summary()
    assert repr(explorer.still()) == explorer.summary()


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


def test_texts_are_shown_with_what_the_live_model_says_of_them(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    adapters, task, first = reviews
    explorer = RankExplorer(adapters.model, adapters, task.test, collate=task.collate, texts=first,
                            classes=("bad", "good"))  # fmt: skip
    for rank in (1, 4):
        explorer.slider.value = rank
        shown = " ".join(svg(explorer).itertext())
        outputs, labels = dk.predict(adapters.model, adapters, task.test, ranks=[rank], collate=task.collate)
        predicted = outputs[rank].argmax(-1)
        count = shown.count("✓") + shown.count("✗")
        assert 3 <= count < len(first)
        assert f"{(predicted == labels)[:count].sum()} of {count} right" in shown
        for text, answer, label in zip(first[:count], predicted, labels, strict=False):
            assert text[:40] in shown
            assert ("bad", "good")[answer] + (" ✓" if answer == label else " ✗") in shown
    assert f"{100 * (predicted == labels).mean():.0f} %" in big_numbers(explorer)


def test_an_explorer_over_texts_trains_the_live_model(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    adapters, task, _ = reviews
    lesson = {"train_data": task.train, "sampler": dk.RankSampler(dk.Uniform(1, 4), seed=0), "batch_size": 4,
              "optimizer": dk.NestedAdamW(adapters, lr=0.1)}  # fmt: skip
    explorer = RankExplorer(adapters.model, adapters, task.test, collate=task.collate, training=lesson)
    before = adapters.nested_parameters()[0].detach().clone()
    explorer.train_more(steps=2)
    assert not torch.equal(before, adapters.nested_parameters()[0])
    assert explorer.history["step"].max() == 2
