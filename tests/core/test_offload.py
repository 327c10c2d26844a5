"""Adapters in a model that accelerate keeps on the CPU or on disk: they are where the layer computes, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from accelerate.hooks import remove_hook_from_submodules
from architectures import build, inputs, logits
from models import Net, fill, make
from toys import Texts, assert_same

import dylora_kit as dk

OFFLOADS: dict[str, Callable[[Any, Path], Any]] = {
    "on the CPU": lambda model, path: cpu_offload(model, execution_device="cpu"),
    "on disk": lambda model, path: disk_offload(model, path, execution_device="cpu"),
}
NAMES = ["gpt2", "roberta"]


def attached(model: Any, **options: Any) -> dk.Adapters:
    return dk.attach(model, r=4, target_modules="attention", **options)


@pytest.mark.filterwarnings("ignore:.*new weights")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", OFFLOADS)
def test_adapters_in_an_offloaded_model_are_those_of_the_whole_one(how: str, name: str, tmp_path: Path) -> None:
    whole = build(name)
    fill(attached(whole))
    model = build(name)
    OFFLOADS[how](model, tmp_path / "weights")
    plain = logits(model, inputs(name))
    adapters = attached(model)
    assert_same(logits(model, inputs(name)), plain)
    fill(adapters)
    assert_same(logits(model, inputs(name)), logits(whole, inputs(name)))
    adapters.save(tmp_path / "adapters")
    again = build(name)
    dk.load(again, tmp_path / "adapters")
    assert_same(logits(again, inputs(name)), logits(whole, inputs(name)))
    adapters.detach()
    back = dk.load(model, tmp_path / "adapters")
    assert_same(logits(model, inputs(name)), logits(whole, inputs(name)))
    optimizer = dk.NestedAdamW(back, lr=0.1)
    model(**inputs(name)).logits.sum().backward()
    optimizer.step()
    assert not torch.equal(logits(model, inputs(name)), logits(whole, inputs(name)))
    with pytest.raises(ValueError, match="accelerate offloads its weight: load the model without offload"):
        back.merge(1)


@pytest.mark.filterwarnings("ignore:.*new weights")
def test_adapters_are_merged_once_the_model_is_whole_again_or_was_only_dispatched(tmp_path: Path) -> None:
    for dispatch in (lambda model: cpu_offload(model, execution_device="cpu"), lambda model: dispatched(model)):
        model = build("roberta")
        dispatch(model)
        adapters = attached(model)
        fill(adapters)
        wanted = logits(model, inputs("roberta"))
        if model.roberta.embeddings.word_embeddings.weight.is_meta:
            remove_hook_from_submodules(model)
        adapters.merge_and_unload()
        torch.testing.assert_close(logits(model, inputs("roberta")), wanted, rtol=1e-4, atol=1e-5)


def dispatched(model: Any) -> Any:
    return dispatch_model(model, {"": "cpu"}, force_hooks=True)


@pytest.mark.filterwarnings("ignore:.*new weights")
def test_what_cannot_be_trained_or_adapted_while_offloaded_is_refused() -> None:
    model = cpu_offload(build("roberta"), execution_device="cpu")
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with pytest.raises(ValueError, match="'classifier' cannot be trained along: accelerate offloads its weights"):
        attached(model, modules_to_save=["classifier"])
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags
    model = cpu_offload(build("roberta"), execution_device="cpu", preload_module_classes=["RobertaLayer"])
    with pytest.raises(ValueError, match="offloads its weight together with those around it"):
        attached(model)
    model = build("roberta")
    adapters = attached(model)
    cpu_offload(model, execution_device="cpu")
    with pytest.raises(ValueError, match=r"cannot train .*lora_A': it has no values"):
        dk.NestedAdamW(adapters, lr=0.1)


PLACES: dict[str, Callable[[Any, Path], Any]] = OFFLOADS | {
    "its buffers too": lambda model, path: cpu_offload(model, execution_device="cpu", offload_buffers=True),
    "the first layer on disk": lambda model, path: partly(model, path, "roberta.embeddings"),
    "the blocks on disk": lambda model, path: partly(model, path, "roberta.encoder"),
}


def partly(model: Any, path: Path, part: str) -> Any:
    places = dict.fromkeys(["roberta.embeddings", "roberta.encoder", "classifier"], "cpu") | {part: "disk"}
    return dispatch_model(model, places, main_device="cpu", offload_dir=str(path), force_hooks=True)


@pytest.mark.filterwarnings("ignore:.*new weights")
@pytest.mark.parametrize("how", PLACES)
def test_an_offloaded_model_is_trained_and_swept_like_the_whole_one(how: str, tmp_path: Path) -> None:
    def results(model: Any, folder: Path) -> Any:
        adapters, data = attached(model), Texts(12, seed=1)
        sampler = dk.RankSampler(dk.Uniform(1, 4), seed=0)
        history = dk.train(
            model, adapters, data, sampler=sampler, steps=3, batch_size=4, lr=0.01, checkpoint=folder, progress=False
        )
        frame = dk.sweep(model, adapters, data, metric=["loss", "accuracy"], progress=False)
        return history, frame, adapters.tensors()

    whole = results(build("roberta"), tmp_path / "whole")
    model = build("roberta")
    PLACES[how](model, tmp_path / "weights")
    placed = results(model, tmp_path / "placed")
    pd.testing.assert_frame_equal(placed[0], whole[0])
    pd.testing.assert_frame_equal(placed[1], whole[1])
    torch.testing.assert_close(placed[2], whole[2], rtol=1e-3, atol=1e-5)


def test_adapters_are_not_loaded_into_a_model_without_values(tmp_path: Path) -> None:
    make()[1].save(tmp_path)
    model = Net().to("meta")
    with pytest.raises(ValueError, match=r"no values \(device meta\): move it to a device first"):
        dk.load(model, tmp_path)
    assert type(model.first) is torch.nn.Linear


def test_a_model_without_values_is_neither_trained_nor_swept() -> None:
    model = Net().to("meta")
    adapters = dk.attach(model, r=2, target_modules=["first"])
    with pytest.raises(
        ValueError, match=r"the model has no values \(device meta\): load its weights, or have accelera"
    ):
        dk.sweep(model, adapters, [{"x": torch.zeros(6), "labels": 0}], progress=False)
    with pytest.raises(ValueError, match=r"has no values \(device meta\): move it to a device"):
        dk.train(model, adapters, [{"labels": 0}], sampler=dk.RankSampler(dk.Fixed(2), seed=0), steps=1, progress=False)


def test_weights_that_are_offloaded_are_not_taken_for_new(recwarn: Any) -> None:
    model = build("llama")
    for parameter in model.parameters():
        parameter._is_hf_initialized = True
    cpu_offload(model, execution_device="cpu")
    attached(model)
    assert not [warning for warning in recwarn if "new weights" in str(warning.message)]
