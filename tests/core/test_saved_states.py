"""What a model with adapters writes and reads by itself, and the handle that it keeps, also in a copy."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, load_checkpoint_in_model
from architectures import build, inputs, logits, picture
from models import Net, batch, fill, make
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from toys import assert_same

import dylora_kit as dk
from dylora_kit.core.handle import handle_of


def adapted(name: str) -> tuple[Any, dk.Adapters]:
    model = build(name)
    adapters = dk.attach(model, r=4, target_modules="attention")
    fill(adapters)
    return model, adapters


@pytest.mark.parametrize("name", ["llama", "roberta", "gpt2"])
def test_a_model_with_adapters_is_not_written_in_a_form_that_reads_wrongly(name: str, tmp_path: Path) -> None:
    model, adapters = adapted(name)
    inner = getattr(model, model.base_model_prefix)
    for part in (model, inner):
        with pytest.raises(ValueError, match=r"adapters\.save\(path\).*export_peft.*merge_and_unload"):
            part.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    adapters.detach()
    model.save_pretrained(tmp_path / "model")
    assert_same(logits(type(model).from_pretrained(tmp_path / "model").eval(), inputs(name)),
                logits(build(name), inputs(name)))  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "roberta", "gpt2"])
def test_a_merged_model_is_written_as_a_plain_one(name: str, tmp_path: Path) -> None:
    model, adapters = adapted(name)
    adapters.merge(rank=2)
    model.save_pretrained(tmp_path)
    assert_same(logits(type(model).from_pretrained(tmp_path).eval(), inputs(name)), logits(model, inputs(name)))
    plain = build(name, seed=3)
    plain.load_state_dict(model.state_dict())
    assert_same(logits(plain, inputs(name)), logits(model, inputs(name)))
    adapters.unmerge()
    assert any("lora_A" in key for key in model.state_dict())


def test_the_state_of_a_merged_model_does_not_count_twice_in_one_with_adapters() -> None:
    model, adapters = make()
    adapters.merge(rank=2)
    other, _ = make(seed=1)
    before = picture(other)
    for strict in (True, False):
        for wrap in (lambda module: module, nn.Sequential):
            with pytest.raises(ValueError, match=r"first\.weight' of a model without adapters, or with merged ones"):
                wrap(other).load_state_dict(wrap(model).state_dict(), strict=strict)
    with pytest.raises(ValueError, match="or with merged ones"):
        other.load_state_dict(Net().state_dict(), strict=False)
    assert_same(picture(other), before)


def test_a_merged_model_reads_no_state_and_keeps_its_own() -> None:
    model, adapters = make()
    state = {name: tensor.clone() + 1 for name, tensor in model.state_dict().items()}
    adapters.merge(rank=2)
    before = picture(model)
    with pytest.raises(ValueError, match=r"call unmerge\(\) before loading a state"):
        model.load_state_dict(state)
    with pytest.raises(ValueError, match=r"call unmerge\(\) before loading a state"):
        model.second.load_state_dict({})
    assert_same(picture(model), before)


def test_the_state_of_an_adapted_model_is_refused_by_a_plain_one() -> None:
    model, _ = make()
    with pytest.raises(RuntimeError, match=r"first\.base_layer\.weight"):
        Net().load_state_dict(model.state_dict())


def test_states_with_adapters_go_from_model_to_model() -> None:
    model, _ = make(seed=1)
    other, _ = make(seed=2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(batch()), model(batch()))


def reopened(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": reopened,
    "averaged": AveragedModel,
    "twice": lambda model: copy.deepcopy(copy.deepcopy(model)),
}


READERS: dict[str, Callable[[Any, Path], Any]] = {
    "from_pretrained": lambda plain, path: type(plain).from_pretrained(path),
    "accelerate": lambda plain, path: load_checkpoint_in_model(plain, path, strict=False),
    "not strict": lambda plain, path: plain.load_state_dict(load_file(path / "model.safetensors"), strict=False),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("writer", ["save_pretrained", "save_model"])
def test_the_file_of_a_model_around_the_adapted_one_is_not_read_as_a_plain_one(
    writer: str, reader: str, tmp_path: Path
) -> None:
    outer, again = build("gpt2"), build("gpt2", seed=1)
    for model in (outer, again):
        fill(dk.attach(model.transformer, r=4, target_modules="attention"))
    if writer == "save_pretrained":
        outer.save_pretrained(tmp_path)
    else:
        outer.config.save_pretrained(tmp_path)
        Accelerator(cpu=True).save_model(outer, tmp_path)
    with pytest.raises(RuntimeError, match=r"ignore_mismatched_sizes|size mismatch"):
        READERS[reader](build("gpt2", seed=2), tmp_path)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    again.tie_weights()
    assert_same(logits(again, inputs("gpt2")), logits(outer, inputs("gpt2")))


def test_a_merged_model_is_not_written_beside_adapters(tmp_path: Path) -> None:
    model, adapters = adapted("roberta")
    adapters.save(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    adapters.merge(rank=2)
    for options in ({}, {"is_main_process": True}):
        with pytest.raises(ValueError, match=r"holds adapters, which from_pretrained would add .* again"):
            model.save_pretrained(tmp_path, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    model.save_pretrained(tmp_path / "merged")


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_made_where_adapters_are_off_has_them_on(kind: str) -> None:
    model, adapters = make()
    wanted = model.eval()(batch())
    with adapters.disabled():
        twin = COPIES[kind](model)
        assert torch.equal(twin(batch()), wanted)
        with handle_of(twin).disabled():
            assert torch.equal(twin(batch()), model(batch()))
    assert torch.equal(twin(batch()), wanted)


def test_a_copy_of_a_model_that_generates_takes_each_rank_for_one_example() -> None:
    twins: list[Any] = []
    model, adapters = adapted("gpt2")
    adapters.rank = torch.tensor([1, 4])

    def copy_once(*_: Any) -> None:
        if not twins:
            twins.append(None)
            twins[0] = copy.deepcopy(model)

    model.transformer.register_forward_pre_hook(copy_once)
    model.generate(inputs("gpt2", 2)["input_ids"], num_beams=2, max_new_tokens=2)
    assert_same(logits(twins[0], inputs("gpt2", 2)), logits(model, inputs("gpt2", 2)))
    with pytest.raises(ValueError, match="the rank tensor names 2 examples, but the batch holds 4"):
        logits(twins[0], inputs("gpt2", 4))


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_has_a_handle_and_a_rank_of_its_own(kind: str) -> None:
    model, adapters = make()
    model.eval()
    full = model(batch())
    twin = COPIES[kind](model)
    handle = handle_of(twin)
    handle.rank = 2
    assert adapters.rank == 8
    assert torch.equal(model(batch()), full)
    adapters.rank = 2
    assert torch.equal(model(batch()), twin(batch()))
    assert {layer.rank for layer in handle.layers.values()} == {2}
    handle.merge(1)
    assert not adapters.merged
    assert any("lora_A" in name for name in model.state_dict())
    handle.detach()
    assert not any("lora_A" in name for name in twin.state_dict())
    assert handle_of(model) is adapters


def test_a_pair_copied_together_stays_a_pair() -> None:
    model, adapters = make()
    twin, handle = copy.deepcopy((model, adapters))
    assert handle_of(twin) is handle
    assert handle.model is twin


def test_an_averaged_model_takes_the_average_and_runs_at_its_own_rank() -> None:
    model, adapters = make()
    average = AveragedModel(model)
    average.update_parameters(model)
    fill(adapters, seed=7)
    average.update_parameters(model)
    handle_of(average).rank = 1
    adapters.rank = 1
    expected = handle_of(average).layers["first"].lora_B
    assert not torch.equal(expected, adapters.layers["first"].lora_B)
    assert average(batch()).shape == model(batch()).shape


@pytest.mark.parametrize("name", ["gpt2", "roberta"])
def test_a_copied_transformer_saves_itself_and_not_the_original(name: str, tmp_path: Path) -> None:
    model, _ = adapted(name)
    twin = copy.deepcopy(model)
    handle_of(twin).merge_and_unload(1).save_pretrained(tmp_path)  # type: ignore[operator]
    assert_same(logits(type(model).from_pretrained(tmp_path).eval(), inputs(name)), logits(twin, inputs(name)))
    with pytest.raises(ValueError, match="this model has adapters"):
        model.save_pretrained(tmp_path / "again")


def test_a_model_without_adapters_has_no_handle() -> None:
    model, adapters = make()
    assert handle_of(nn.Sequential(model)) is adapters
    adapters.detach()
    for part in (model, model.first):
        with pytest.raises(ValueError, match="has no adapters"):
            handle_of(part)


def test_detaching_takes_every_guard_away() -> None:
    model, adapters = adapted("gpt2")
    adapters.rank = torch.tensor([1, 2])
    adapters.detach()
    fresh = build("gpt2")
    assert model.__dict__.keys() == fresh.__dict__.keys()
    assert not (model._forward_pre_hooks or model._load_state_dict_pre_hooks)
