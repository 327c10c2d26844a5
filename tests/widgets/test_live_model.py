"""A live model: evaluated once for each state of its weights, and again when they change."""

import numpy as np
import pytest
import torch
from architectures import WORDS, build
from models import fill
from toys import R, adapted, toy
from widgets.explorers import STEPS, accuracy, big_numbers, explorer_of, shipped

import dylora_kit as dk
from dylora_kit.evaluation.ordering import scores
from dylora_kit.tasks import digits
from dylora_kit.widgets import live_model
from dylora_kit.widgets.explorer_checks import SHOWN
from dylora_kit.widgets.rank_explorer import RankExplorer


@pytest.fixture
def adapters() -> dk.Adapters:
    return shipped("dylora")


@pytest.fixture
def explorer(adapters: dk.Adapters, data: digits.Digits) -> RankExplorer:
    return RankExplorer(adapters.model, adapters, data, rivals={"LoRA, cut to b": shipped("lora")})


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


@pytest.mark.parametrize("module", ["up", "classifier"])
def test_changing_a_frozen_weight_through_data_is_noticed_too(module: str) -> None:
    adapters = adapted(toy(), modules_to_save=[])
    weight = adapters.model.get_submodule(module).weight
    before = live_model.fingerprint(adapters)
    weight.data[1, 2] += 1.0  # neither its version counter nor its place in memory shows this
    assert live_model.fingerprint(adapters) != before


def test_a_changed_scale_is_evaluated_anew(explorer: RankExplorer, adapters: dk.Adapters, data: digits.Digits) -> None:
    explorer.slider.value = 1
    adapters.scaling = "alpha/r"
    explorer.refresh()
    assert big_numbers(explorer)[0] == f"{100 * accuracy(adapters, data, 1):.0f} %"


def test_the_spectrum_shows_b_singular_values(explorer: RankExplorer, adapters: dk.Adapters) -> None:
    name = next(iter(adapters.layers))
    for rank in (1, 5):
        values = explorer._live["DyLoRA"].spectrum(name, rank)
        expected = np.linalg.svd(adapters.delta(name, rank).numpy(), compute_uv=False)
        assert len(values) == rank
        np.testing.assert_allclose(values, expected[:rank], rtol=1e-4)
        np.testing.assert_allclose(expected[rank:], 0, atol=1e-4)


def test_the_ordering_is_computed_once_for_each_state(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = adapted(toy())
    asked: list[dk.Adapters] = []
    monkeypatch.setattr(live_model, "scores", lambda handle: asked.append(handle) or scores(handle))
    explorer = explorer_of(adapters, views=["ordering"])
    explorer.train_more(STEPS)
    assert len(asked) == 6
    for index in range(6):
        explorer.go_to(index)
        explorer.slider.value = 1 + index % R
    assert asked == [adapters] * 6


def test_a_causal_language_model_is_compared_with_the_next_token() -> None:
    model = build("llama")
    adapters = dk.attach(model, r=2, target_modules="attention")
    fill(adapters)
    ids = torch.randint(3, WORDS, (6, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), adapters.at(1):
        best = model(input_ids=ids).logits.argmax(-1)
    labels = torch.cat([ids[:, :1], best[:, :-1]], dim=1)  # what the model says next at rank 1
    data = [{"input_ids": row, "labels": words} for row, words in zip(ids, labels, strict=True)]
    live = live_model.LiveModel(adapters, data, "accuracy", shown=2)
    live.update()
    with torch.no_grad(), adapters.at(2):
        answers = model(input_ids=ids).logits.argmax(-1)
    share = (answers[:, :-1] == labels[:, 1:]).double().mean().item()
    assert live.values == {1: 1.0, 2: pytest.approx(share)}
    assert share < 1


def test_only_the_outputs_that_are_shown_are_kept(with_pca: RankExplorer) -> None:
    outputs = with_pca._live["PCA"].first_outputs[1]
    assert len(outputs) == SHOWN
    assert outputs.base is None or outputs.base.nbytes == outputs.nbytes


def test_the_first_examples_carry_what_the_model_predicts_at_a_rank(data: digits.Digits) -> None:
    adapters = shipped("dylora")
    live = live_model.LiveModel(adapters, data, "accuracy", shown=3)
    live.update()
    for rank in (1, 8):
        predicted = dk.predict(adapters.model, adapters, data, ranks=[rank])[0][rank].argmax(-1)
        shown = live.examples(rank, ["a", "b", "c"], classes=["none", "one", "two"])
        assert [example.shown for example in shown] == ["a", "b", "c"]
        names = [("none", "one", "two", *"3456789")[answer] for answer in predicted[:3]]
        assert [example.predicted for example in shown] == names
        assert [example.right for example in shown] == list(predicted[:3] == data.labels[:3].numpy())


def test_a_layer_says_its_sizes_scale_and_spectra(adapters: dk.Adapters, data: digits.Digits) -> None:
    live = live_model.LiveModel(adapters, data, "accuracy", shown=3)
    name = next(iter(adapters.layers))
    layer = live.layer(name, 3)
    assert (layer.name, layer.rank, layer.r, layer.d_in, layer.d_out) == (name, 3, 8, 64, 64)
    assert (layer.scaling, layer.scale) == ("α/b", adapters.layers[name].scale(3))
    assert (len(layer.now), len(layer.full)) == (3, 8)
    largest = {live.layer(name, b).most for b in (1, 3, 8)}
    assert largest == {max(live.spectrum(name, b)[0] for b in range(1, 9))}


def test_the_rival_of_a_spectrum_is_another_method_at_the_same_rank(explorer: RankExplorer) -> None:
    name = explorer.layer.value
    for method, other in (("DyLoRA", "LoRA, cut to b"), ("LoRA, cut to b", "DyLoRA")):
        explorer.method.value = method
        scales = set()
        for rank in (1, 5, 8):
            explorer.slider.value = rank
            scene = explorer._scene(rank)
            assert scene.layer is not None and scene.rival is not None
            assert scene.series[scene.rival].name == other
            handle = explorer._live[other].handle
            assert isinstance(handle, dk.Adapters)
            expected = np.linalg.svd(handle.delta(name, rank).numpy(), compute_uv=False)[:rank]
            np.testing.assert_allclose(scene.layer.rival, expected, rtol=1e-4)
            assert scene.layer.most >= max(*scene.layer.now, *scene.layer.rival)
            scales.add(scene.layer.most)
        assert len(scales) == 1


def test_without_a_rival_a_spectrum_has_no_outline_of_one(adapters: dk.Adapters, data: digits.Digits) -> None:
    scene = RankExplorer(adapters.model, adapters, data, views=["spectrum"])._scene(3)
    assert scene.rival is None and scene.layer is not None and len(scene.layer.rival) == 0
