"""What you give the models yourself: every method answers it at every rank, as the live model does."""

import re
from typing import Any

import pytest
import torch
from toys import adapted, toy
from widgets.explorers import explorer_of, shipped

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.baselines.autoencoder import Autoencoder
from dylora_kit.tasks import Task, digits
from dylora_kit.widgets.own_input import EMPTY, MOST_WORDS, NOTHING
from dylora_kit.widgets.rank_explorer import RankExplorer

TOKENIZER = backbones.tokenizer("world-roberta")


@pytest.fixture
def adapters() -> dk.Adapters:
    return shipped("dylora")


@pytest.fixture
def explorer(adapters: dk.Adapters, data: digits.Digits) -> RankExplorer:
    return RankExplorer(
        adapters.model, adapters, data, views=["accuracy"], rivals={"LoRA, cut to b": shipped("lora")}, draw=True
    )


def drawn(explorer: RankExplorer, picture: torch.Tensor) -> None:
    assert explorer.drawing is not None
    explorer.drawing.pad.cells = ((picture + 1) / 2).flatten().tolist()


def by_hand(adapters: dk.Adapters, rank: int, **example: torch.Tensor) -> tuple[int, float]:
    """What a model answers at a rank and how sure it is, without the kit's evaluation."""
    with torch.no_grad(), adapters.at(rank):
        shares = adapters.model(**{name: value[None] for name, value in example.items()}).logits[0].softmax(-1)
    return int(shares.argmax()), float(shares.max())


def test_a_drawing_is_answered_by_every_method_at_every_rank(
    explorer: RankExplorer, adapters: dk.Adapters, data: digits.Digits
) -> None:
    assert explorer.drawing is not None
    picture = data[3]["pixel_values"]
    drawn(explorer, picture)
    handles = {"DyLoRA": adapters, "LoRA, cut to b": explorer._live["LoRA, cut to b"].handle}
    assert list(explorer.answers) == list(handles)
    for name, handle in handles.items():
        assert list(explorer.answers[name]) == list(range(1, 9))
        for rank, answer in explorer.answers[name].items():
            expected, sure = by_hand(handle, rank, pixel_values=picture)
            assert answer.name == str(expected) and answer.sure == pytest.approx(sure, abs=1e-5)
            assert f"<b>{expected}</b><small>{100 * sure:.0f} %</small>" in explorer.drawing.table.value


def test_the_slider_marks_the_rank_and_nothing_is_computed_anew(
    explorer: RankExplorer, data: digits.Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert explorer.drawing is not None
    drawn(explorer, data[0]["pixel_values"])
    known = explorer.answers
    monkeypatch.setattr("dylora_kit.widgets.live_model.run_at_ranks", None)
    explorer.slider.value = 3
    assert "▾ 3" in explorer.drawing.table.value and "At rank 3, DyLoRA answers" in explorer.drawing.said.value
    assert explorer.answers == known


def test_an_empty_grid_says_so_and_a_blotted_one_is_answered(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    drawing = explorer.drawing
    assert drawing is not None
    assert drawing.said.value == EMPTY and explorer.answers == {} and "%" not in drawing.table.value
    drawing.pad.cells = [1.0] * 64
    expected, _ = by_hand(adapters, 8, pixel_values=torch.ones(1, 8, 8))
    assert explorer.answers["DyLoRA"][8].name == str(expected)
    drawing.clear.click()
    assert drawing.said.value == EMPTY and explorer.answers == {}


def test_an_upright_drawing_is_turned_as_the_data_are(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    assert explorer.drawing is not None
    upright, turned = (digits.load(domain).test[5]["pixel_values"] for domain in ("upright", "turned"))
    drawn(explorer, upright)
    explorer.drawing.turn.click()
    expected, sure = by_hand(adapters, 8, pixel_values=turned)
    assert explorer.answers["DyLoRA"][8].name == str(expected)
    assert explorer.answers["DyLoRA"][8].sure == pytest.approx(sure, abs=1e-5)


def test_a_reset_empties_the_grid(explorer: RankExplorer, data: digits.Digits) -> None:
    drawn(explorer, data[0]["pixel_values"])
    assert explorer.answers
    explorer.reset()
    assert explorer.drawing is not None and explorer.drawing.pad.empty and not explorer.answers


def test_other_weights_give_other_answers(explorer: RankExplorer, adapters: dk.Adapters, data: digits.Digits) -> None:
    drawn(explorer, data[0]["pixel_values"])
    before = explorer.answers["DyLoRA"][2]
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.mul_(0.1)
    explorer.refresh()
    assert explorer.answers["DyLoRA"][2] != before
    assert explorer.answers["DyLoRA"][2].sure == pytest.approx(
        by_hand(adapters, 2, pixel_values=data[0]["pixel_values"])[1], abs=1e-5
    )


def test_answers_that_are_not_finite_are_said(
    explorer: RankExplorer, adapters: dk.Adapters, data: digits.Digits
) -> None:
    assert explorer.drawing is not None
    with torch.no_grad():
        next(iter(adapters.layers.values())).lora_B.fill_(torch.nan)
    drawn(explorer, data[0]["pixel_values"])
    assert "DyLoRA answers not finite" in explorer.drawing.said.value
    assert "not finite</small>" in explorer.drawing.table.value


def sentences(reviews: tuple[dk.Adapters, Task, list[str]], **options: Any) -> RankExplorer:
    adapters, task, _ = reviews
    settings = {"views": ["accuracy"], "classes": ["bad", "good"], "read": TOKENIZER} | options
    return RankExplorer(adapters.model, adapters, task.test, collate=task.collate, **settings)


def typed(explorer: RankExplorer, text: str) -> str:
    """What the page says of a sentence."""
    assert explorer.sentence is not None
    explorer.sentence.text.value = text
    return explorer.sentence.said.value


def test_a_sentence_is_answered_as_the_live_model_does(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    adapters, _, first = reviews
    ids = torch.tensor(TOKENIZER(first[2])["input_ids"])
    for read in (TOKENIZER, lambda text: TOKENIZER(text)):
        explorer = sentences(reviews, read=read)
        explorer.slider.value = 4
        said = typed(explorer, first[2])
        for rank in (1, 4):
            expected, sure = by_hand(adapters, rank, input_ids=ids)
            answer = explorer.answers["DyLoRA"][rank]
            assert answer.name == ("bad", "good")[expected] and answer.sure == pytest.approx(sure, abs=1e-4)
        assert said.startswith(f"At rank 4, DyLoRA answers {answer.told}")


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_sentence_says_so(text: str, reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    explorer = sentences(reviews)
    typed(explorer, "good")
    assert typed(explorer, text) == NOTHING and explorer.answers == {}


def test_ten_thousand_words_are_cut_and_it_is_said(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    explorer = sentences(reviews)
    said = typed(explorer, "good food " * 5000)
    assert f"Only the first {MOST_WORDS} words are read." in said
    answer = explorer.answers["DyLoRA"][4]
    typed(explorer, "good food " * (MOST_WORDS // 2))
    assert explorer.answers["DyLoRA"][4] == answer
    assert "Only its first 128 tokens are read." in typed(explorer, "abcdefghijkl" * 400)


def test_markup_is_shown_as_it_is_typed_and_not_run(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    def refuse(text: str) -> dict[str, Any]:
        raise ValueError(f"no such word: {text}")

    said = typed(sentences(reviews, read=refuse), "<img src=x onerror=alert(1)>")
    assert said == "This sentence cannot be read: ValueError, no such word: &lt;img src=x onerror=alert(1)&gt;."


def test_unknown_characters_are_answered_with_a_remark(reviews: tuple[dk.Adapters, Task, list[str]]) -> None:
    explorer = sentences(reviews)
    said = typed(explorer, "日本語")
    assert explorer.answers and "The model knows none of its words" in said
    assert "The model knows 2 of its 3 words." in typed(explorer, "good food 日")


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (lambda text: text, "gives a str: expected a dict"),
        (lambda text: {"input_ids": [5] * 200, "attention_mask": [1] * 200}, "The model cannot read this:"),
        (lambda text: {"input_ids": [99_999], "attention_mask": [1]}, "The model cannot read this:"),
    ],
)
def test_an_example_that_the_model_cannot_read_says_so_in_the_page(
    read: Any, sentence: str, reviews: tuple[dk.Adapters, Task, list[str]]
) -> None:
    explorer = sentences(reviews, read=read)
    assert sentence in typed(explorer, "good")
    explorer.slider.value = 1
    assert reviews[0].rank == 1


def test_all_controls_rest_while_the_model_is_trained(data: digits.Digits) -> None:
    model = backbones.load("digits-vit")
    fresh = dk.attach(model, r=2, target_modules=["q_proj"])
    seen: list[dict[str, bool]] = []

    def loss(model: Any, batch: dict[str, Any]) -> torch.Tensor:
        seen.append({type(control).__name__: control.disabled for control in explorer.resting()})
        return model(**batch).loss

    settings = {"train_data": data, "sampler": dk.RankSampler(dk.Uniform(1, 2), seed=0), "loss": loss}
    settings |= {"optimizer": dk.NestedAdamW(fresh, lr=0.01)}
    explorer = RankExplorer(model, fresh, data, views=["accuracy", "spectrum"], training=settings, draw=True)
    explorer.train_more(1)
    assert seen and all(all(disabled.values()) for disabled in seen)
    assert {"IntSlider", "ToggleButtons", "Dropdown", "DrawingPad"} <= seen[0].keys()
    assert not any(control.disabled for control in explorer.resting())


def test_what_cannot_be_given_to_the_model_is_refused(
    adapters: dk.Adapters, data: digits.Digits, autoencoder: Autoencoder, pixels: digits.Pixels
) -> None:
    plain = adapted(toy())
    with pytest.raises(ValueError, match=re.escape("draw=True needs pixel_values of shape (1, rows, columns)")):
        explorer_of(plain, draw=True)
    with pytest.raises(ValueError, match="an autoencoder gives no answers to a drawing or a sentence"):
        RankExplorer(autoencoder, autoencoder.code, pixels, draw=True)
    with pytest.raises(ValueError, match="read=… must be a tokenizer, or a function of a text to an example"):
        RankExplorer(adapters.model, adapters, data, read="world-roberta")  # type: ignore[arg-type]


def test_closing_takes_the_grid_and_the_field_along(explorer: RankExplorer) -> None:
    assert explorer.drawing is not None
    pad, table = explorer.drawing.pad, explorer.drawing.table
    explorer.close()
    assert pad.comm is None and table.comm is None
