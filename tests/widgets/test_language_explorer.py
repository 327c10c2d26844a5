"""The language explorer without a browser: what it shows is what the live model writes, at each rank."""

import copy
import gc
import re
import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from toys import adapted, toy

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.evaluation.writing import write
from dylora_kit.tasks import world
from dylora_kit.tasks.describe import SLOTS, read_facts
from dylora_kit.widgets import live_writer
from dylora_kit.widgets.language_explorer import BASE, LanguageExplorer

INPUTS = [row["first"] for row in world.texts("describe")["test"][:4]]
TOKENIZER = backbones.tokenizer("world-gpt2")
RANKS = range(1, 9)


@pytest.fixture
def adapters() -> dk.Adapters:
    folder = backbones.data_folder() / "adapters" / "world-describe-dylora"
    return dk.load(backbones.load("world-gpt2"), folder)


def explorer_of(adapters: dk.Adapters, **options: Any) -> LanguageExplorer:
    settings: dict[str, Any] = {"ending": "\n", "reader": read_facts} | options
    return LanguageExplorer(adapters.model, adapters, TOKENIZER, INPUTS, **settings)


@pytest.fixture
def explorer(adapters: dk.Adapters) -> LanguageExplorer:
    return explorer_of(adapters)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The ranks of every batch that is written."""
    asked: list[Any] = []

    def counted(*args: Any, ranks: Any, **options: Any) -> list[str]:
        asked.append(ranks)
        return write(*args, ranks=ranks, **options)

    monkeypatch.setattr(live_writer, "write", counted)
    yield asked


def by_hand(adapters: dk.Adapters, text: str, rank: int) -> str:
    """What the model writes at a rank: one token after another, without cache, batch or explorer."""
    ids = TOKENIZER(text + "\n", add_special_tokens=False, return_tensors="pt")["input_ids"]
    length = ids.shape[1]
    with torch.no_grad(), adapters.at(rank):
        while ids[0, -1] != TOKENIZER.eos_token_id and ids.shape[1] < length + 80:
            ids = torch.cat([ids, adapters.model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    return TOKENIZER.decode(ids[0, length:], skip_special_tokens=True).strip()


def shown(explorer: LanguageExplorer) -> str:
    """The words on the page."""
    return re.sub(r"\s+", " ", re.sub(r"<sup>.*?</sup>|<[^>]*>", "", explorer.picture.value)).strip()


def test_every_rank_has_the_text_that_the_model_writes_there(explorer: LanguageExplorer, adapters: dk.Adapters) -> None:
    texts = explorer.texts.set_index("rank")["text"]
    assert list(texts.index) == list(RANKS)
    for rank in (1, 2, 8):
        assert texts[rank] == by_hand(adapters, INPUTS[0], rank)
        assert texts[rank] in shown(explorer)
    assert texts.nunique() > 1


def test_moving_the_slider_turns_the_live_model_and_marks_the_active_rank(
    explorer: LanguageExplorer, adapters: dk.Adapters
) -> None:
    for rank in (3, 1):
        explorer.slider.value = rank
        assert adapters.rank == rank
        assert explorer.number.value == rank
        assert f'data-rank="{rank}"' in explorer.picture.value
        assert explorer.texts["text"][rank - 1] in explorer.summary()
        assert explorer.picture.value.count('aria-current="true"') == 1


def test_all_ranks_are_written_in_one_batch_and_a_move_writes_nothing(
    batches: list[Any], adapters: dk.Adapters
) -> None:
    explorer = explorer_of(adapters)
    for rank in RANKS:
        explorer.slider.value = rank
    explorer.prompt.value = INPUTS[1]
    explorer.prompt.value = INPUTS[0]
    assert batches == [list(RANKS)] * 2


def test_texts_are_written_anew_when_weights_change(explorer: LanguageExplorer, adapters: dk.Adapters) -> None:
    before = list(explorer.texts["text"])
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.neg_()
    explorer.slider.value = 3
    assert list(explorer.texts["text"]) != before
    assert explorer.texts["text"][2] == by_hand(adapters, INPUTS[0], 3)


def test_texts_grow_token_by_token(explorer: LanguageExplorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_writer, "PAUSE", 0.0)
    pictures: list[str] = []
    explorer.picture.observe(lambda change: pictures.append(change["new"]), "value")
    explorer.prompt.value = INPUTS[1]
    states = [re.findall(r'data-state="(\w+)"', picture)[0] for picture in pictures]
    assert states[-1] == "written" and set(states[:-1]) == {"writing"} and len(states) > 10
    assert all('aria-busy="true"' in picture for picture in pictures[:-1])
    assert "missing" not in pictures[0], "what is not yet written is not yet missing"


def test_facts_are_marked_where_they_stand_and_named_in_words(explorer: LanguageExplorer) -> None:
    explorer.slider.value = 1  # "The Merry Lantern: dog-free diner open every day except Tuesday."
    page = explorer.picture.value
    assert re.search(r'<mark class="dk-said"[^>]*>dog-free</mark>', page)
    assert re.search(r'<mark class="dk-wrong"[^>]*>diner<sup>✗</sup></mark>', page)
    for words in ("✓</b> dogs: no", "✗</b> kind: wine bar, says diner", "2 of 4 facts said"):
        assert words in page
    assert "kind: wine bar is wrong, it says diner" in explorer.summary()
    assert explorer.summary() in page, "the label of the picture says the finding"


def test_the_switch_goes_through_the_methods_and_the_model_without_adapter(adapters: dk.Adapters) -> None:
    scaled = dk.handle_of(copy.deepcopy(adapters.model))
    scaled.scaling = "alpha/r"
    explorer = explorer_of(adapters, rivals={"α/r": scaled})
    explorer.slider.value = 2
    explorer.method.value = "α/r"
    assert scaled.rank == 2
    assert explorer.texts["text"][1] == by_hand(scaled, INPUTS[0], 2) != by_hand(adapters, INPUTS[0], 2)
    explorer.method.value = BASE
    with adapters.disabled():
        assert set(explorer.texts["text"]) == {by_hand(adapters, INPUTS[0], 2)}
    assert adapters.rank == 2
    assert "With no adapter, the model writes" in explorer.summary()
    assert "<table" not in explorer.picture.value, "all ranks are the same"


def test_an_input_may_be_typed_or_chosen_again_and_again(explorer: LanguageExplorer, adapters: dk.Adapters) -> None:
    typed = "name[the Purple Yak] | kind[pub]"
    explorer.prompt.value = typed
    assert explorer.texts["text"][7] == by_hand(adapters, typed, 8)
    for _ in range(2):
        explorer.choice.value = INPUTS[2]
        assert explorer.prompt.value == INPUTS[2]
        explorer.prompt.value = typed


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "The field is empty: type an input, or choose one from the list."),
        ("  ", "The field is empty: type an input, or choose one from the list."),
        ("pub " * 200, "tokens, and the model can see 128, its own text among them: shorten it."),
    ],
)
def test_what_cannot_be_written_says_so_in_the_page(explorer: LanguageExplorer, typed: str, sentence: str) -> None:
    explorer.prompt.value = typed
    assert sentence in shown(explorer)
    assert sentence in explorer.summary()
    assert len(explorer.texts) == 0
    explorer.prompt.value = INPUTS[0]
    assert len(explorer.texts) == 8


def test_facts_that_cannot_be_read_leave_the_text_unmarked(explorer: LanguageExplorer) -> None:
    explorer.prompt.value = "<b>kind</b>[pub"
    assert "Nothing is marked: '&lt;b&gt;kind&lt;/b&gt;[pub' is no fact" in explorer.picture.value.replace(
        "&#x27;", "'"
    )
    assert "<mark" not in explorer.picture.value and "<b>kind" not in explorer.picture.value
    assert explorer.texts["text"][0] in shown(explorer)


def test_what_facts_can_be_is_listed_below_the_field_and_other_facts_are_named(adapters: dk.Adapters) -> None:
    explorer = explorer_of(adapters, known=SLOTS)
    (listed,) = [box.value for row in explorer.children for box in getattr(row, "children", ())
                 if "<details" in getattr(box, "value", "")]  # fmt: skip
    assert "<b>payment</b>: cards, cash<" in listed and "<b>name</b>: the Blue Heron, " in listed
    assert f"and {len(SLOTS['name']) - 12} more<" in listed
    assert "looked up" not in explorer.picture.value
    explorer.prompt.value = "name[the Red Fox] | food[Martian] | robots[yes] | dogs[no]"
    assert "Not among the facts that can be looked up: food: Martian; robots." in shown(explorer)
    assert '<ul class="dk-chips">' in explorer.picture.value
    explorer.prompt.value = INPUTS[1]
    assert "looked up" not in explorer.picture.value


def test_a_method_has_one_colour_in_every_view(adapters: dk.Adapters) -> None:
    cut = dk.handle_of(copy.deepcopy(adapters.model))
    explorer = explorer_of(adapters, name="LoRA, cut by SVD", rivals={"DyLoRA": cut})
    assert "--dk-active:var(--dk-2)" in explorer.picture.value
    explorer.method.value = "DyLoRA"
    assert "--dk-active:var(--dk-0)" in explorer.picture.value


def test_what_the_model_writes_is_escaped(adapters: dk.Adapters, monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = explorer_of(adapters, reader=lambda text, _: [])
    monkeypatch.setattr(TOKENIZER, "batch_decode", lambda rows, **_: ["<script>x</script>"] * len(rows))
    explorer.prompt.value = INPUTS[3]
    assert "<script" not in explorer.picture.value
    assert explorer.picture.value.count("&lt;script&gt;") >= len(RANKS)


def test_merged_adapters_say_so_in_the_page(explorer: LanguageExplorer, adapters: dk.Adapters) -> None:
    adapters.merge(rank=3)
    explorer.slider.value = 2
    assert "The adapters are merged into the base weights: call unmerge()" in shown(explorer)


def test_adapters_that_are_switched_off_say_so_in_the_page(explorer: LanguageExplorer, adapters: dk.Adapters) -> None:
    with adapters.disabled():
        explorer.prompt.value = INPUTS[1]
        assert "The adapters are switched off in a disabled() block: leave it" in shown(explorer)
    explorer.refresh()
    assert len(explorer.texts) == 8


def test_a_text_that_does_not_end_is_shown_as_cut_off(adapters: dk.Adapters) -> None:
    explorer = explorer_of(adapters, max_new_tokens=3)
    assert '<span class="dk-soft" title="cut off here"> …</span>' in explorer.picture.value


def test_a_large_r_has_a_line_for_powers_of_two_and_for_the_active_rank() -> None:
    model = backbones.load("world-gpt2")
    adapters = dk.attach(model, r=20, target_modules="attention")
    explorer = explorer_of(adapters, max_new_tokens=2)
    assert list(explorer.texts["rank"]) == [1, 2, 4, 8, 16, 20]
    explorer.slider.value = 5
    assert list(explorer.texts["rank"]) == [1, 2, 4, 5, 8, 16, 20]


def test_a_saved_notebook_has_the_texts_of_all_ranks(explorer: LanguageExplorer) -> None:
    for text in explorer.texts["text"]:
        assert text in repr(explorer)
        assert text in re.sub(r"<sup>.*?</sup>|<[^>]*>", "", explorer.still().data)
    assert explorer._repr_mimebundle_()["text/html"] == explorer.still().data


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"inputs": []}, "inputs must be a list of one text or more"),
        ({"inputs": "kind[pub]"}, "inputs must be a list of one text or more"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"name": BASE}, "two methods have the same name"),
        ({"rivals": {"other": None}}, "needs the handle on adapters"),
        ({"rivals": {"toy": adapted(toy(), r=8)}}, "does not write"),
        ({"rivals": {"toy": adapted(toy())}}, "compare adapters of one r"),
    ],
)
def test_what_does_not_fit_together_is_refused(adapters: dk.Adapters, change: dict[str, Any], sentence: str) -> None:
    adapters.rank = 2
    arguments = {"inputs": INPUTS} | change
    with pytest.raises(ValueError, match=sentence):
        LanguageExplorer(adapters.model, adapters, TOKENIZER, **arguments)
    assert adapters.rank == 2


def with_curves(adapters: dk.Adapters, **options: Any) -> dk.RankExplorer:
    """A rank explorer over a few examples, with what the model writes below its curve."""
    task = world.load("describe", TOKENIZER, limit=8)
    data, writing = task.test.select(range(4)), explorer_of(adapters, max_new_tokens=12)
    training = {"train_data": task.train, "sampler": dk.RankSampler(dk.Uniform(1, 8), seed=0), "batch_size": 4,
                "optimizer": dk.NestedAdamW(adapters, lr=0.1)}  # fmt: skip
    settings = {"views": ["accuracy"], "collate": task.collate, "training": training, "writing": writing} | options
    return dk.RankExplorer(adapters.model, adapters, data, **settings)


def test_in_a_rank_explorer_it_follows_the_slider_and_the_training(adapters: dk.Adapters) -> None:
    curves = with_curves(adapters)
    writing = curves.children[-1]
    assert isinstance(writing, LanguageExplorer)
    for rank in (2, 5):
        curves.slider.value = rank
        assert (writing.slider.value, adapters.rank) == (rank, rank)
        assert f'data-rank="{rank}"' in writing.picture.value
    before = list(writing.texts["text"])
    curves.train_more(steps=2)
    assert list(writing.texts["text"]) != before
    curves.go_to(0)
    assert list(writing.texts["text"]) == before


def test_a_rank_explorer_refuses_what_another_model_writes(adapters: dk.Adapters) -> None:
    other = dk.attach(backbones.load("world-gpt2"), r=8, target_modules="attention")
    with pytest.raises(ValueError, match="about another model: make its LanguageExplorer with the same adapters"):
        with_curves(adapters, writing=explorer_of(other, max_new_tokens=2))


def test_a_closed_explorer_gives_its_memory_back(adapters: dk.Adapters) -> None:
    explorer = explorer_of(adapters, max_new_tokens=2)
    gone = weakref.ref(explorer)
    explorer.close()
    del explorer
    gc.collect()
    assert gone() is None


def test_first_words_and_whole_texts_come_quickly(explorer: LanguageExplorer, report: Callable[[str], None]) -> None:
    seen: list[float] = []
    explorer.picture.observe(lambda _: seen.append(time.process_time()), "value")
    first, whole = [], []
    for text in INPUTS[1:]:
        seen.clear()
        start = time.process_time()
        explorer.prompt.value = text
        first.append(seen[0] - start)
        whole.append(time.process_time() - start)
    report(
        f"texts at 8 ranks: first words after {1000 * statistics.median(first):.0f} ms, "
        f"all after {1000 * statistics.median(whole):.0f} ms of CPU"
    )
    assert statistics.median(first) < 0.5
    assert statistics.median(whole) < 1.5
