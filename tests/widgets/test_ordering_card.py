"""The ordering card: every layer at every rank, of the method and the weights on show."""

import pytest
import torch
from toys import TARGETS, R, adapted, toy
from widgets.explorers import SVG, explorer_of, svg, words

import dylora_kit as dk
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.evaluation.ordering import scores
from dylora_kit.widgets.rank_explorer import RankExplorer


@pytest.fixture
def adapters() -> dk.Adapters:
    return adapted(toy(), lora_dropout=0.3)


def cells(explorer: RankExplorer) -> list[str]:
    return words(explorer, "tiny")


def expected_cells(adapters: dk.Adapters) -> list[str]:
    return [f"{100 * score:.0f}" for by_rank in scores(adapters).values() for score in by_rank]


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


def test_untrained_layers_are_drawn_as_zeros() -> None:
    model = toy()
    adapters = dk.attach(model, r=R, target_modules=TARGETS)
    explorer = explorer_of(adapters, views=["ordering"], training=None)
    assert cells(explorer) == ["0"] * 8
