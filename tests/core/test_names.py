"""Names of layers, ranks and files are the same whether a model is compiled, wrapped or neither."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from architectures import build, inputs, logits
from models import Net, fill
from torch import nn
from toys import assert_same

import dylora_kit as dk
from dylora_kit.core.names import named_modules, submodule, unwrapped
from dylora_kit.storage.adapter_files import write_adapter


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def compiled_layers(model: Any) -> Any:
    """Each block compiled by itself, as for long models."""
    layers = model.model.layers
    for index, layer in enumerate(layers):
        layers[index] = compiled(layer)
    return model


def checkpointed_and_compiled(model: Any) -> Any:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model.model.layers[0] = checkpoint_wrapper(model.model.layers[0])
    return compiled(model)


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "compiled": compiled,
    "compiled layer by layer": compiled_layers,
    "compiled both ways": lambda model: compiled(compiled_layers(model)),
    "data parallel": nn.DataParallel,
    "data parallel of a compiled one": lambda model: nn.DataParallel(compiled(model)),
    "checkpointed": checkpointed_and_compiled,
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": "attention"},
        {"target_modules": "all-linear", "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "rank_pattern": {"q_proj": 2}},
        {"target_modules": r"model\.layers\.0\..*_proj", "exclude_modules": ["_orig_mod.self_attn.q_proj"]},
        {
            "target_modules": ["_orig_mod.model.layers.0.self_attn.q_proj", "module.model.layers.1.mlp.up_proj"],
            "rank_pattern": {"_orig_mod.model.layers.0.self_attn.q_proj": 3, "module.model.layers.1.mlp.up_proj": 2},
        },
    ],
    ids=["attention", "all-linear", "a block", "an expression", "names with a prefix"],
)
def test_adapters_and_files_are_those_of_the_plain_model(tmp_path, wrap, options):
    plain = dk.attach(build("llama"), r=4, **options)
    adapters = dk.attach(wrap(build("llama")), r=4, **options)
    for handle, folder in ((plain, "plain"), (adapters, "wrapped")):
        fill(handle)
        handle.save(tmp_path / folder)
        handle.export_peft(tmp_path / folder / "peft", 2)
    assert {name: layer.r for name, layer in adapters.layers.items()} == {
        name: layer.r for name, layer in plain.layers.items()
    }
    for file in (tmp_path / "plain").rglob("adapter_*"):
        assert (tmp_path / "wrapped" / file.relative_to(tmp_path / "plain")).read_bytes() == file.read_bytes()
    loaded = dk.load(wrap(build("llama")), tmp_path / "plain")
    assert_same(loaded.tensors(), plain.tensors())
    assert list(dk.import_peft(build("llama"), tmp_path / "wrapped" / "peft").layers) == list(plain.layers)


@pytest.mark.parametrize("wrap", ["compiled", "compiled layer by layer", "data parallel"])
def test_a_wrapped_model_runs_its_adapters_and_its_own_weights_again(wrap):
    torch._dynamo.reset()
    model, plain, words = WRAPPED[wrap](build("llama")), build("llama"), inputs("llama")
    before = logits(model, words)  # compiled before it has adapters
    adapters = [dk.attach(one, target_modules="attention", r=3) for one in (model, plain)]
    for handle in adapters:
        fill(handle)
        handle.rank = 2
    wanted = logits(plain, words)
    assert (wanted - before).abs().max() > 0.01
    torch.testing.assert_close(logits(model, words), wanted, rtol=1e-4, atol=1e-4)
    adapters[0].merge()
    torch.testing.assert_close(logits(model, words), wanted, rtol=1e-4, atol=1e-4)
    adapters[0].detach()
    torch.testing.assert_close(logits(model, words), before, rtol=1e-5, atol=1e-5)


def test_a_mapping_of_ranks_may_use_the_names_of_a_compiled_or_wrapped_model():
    model = Net()
    adapters = dk.attach(model, r=4, target_modules=["first", "second"])
    for prefix in ("", "_orig_mod.", "module.", "module._orig_mod."):
        adapters.rank = {f"{prefix}first": 1, f"{prefix}second": 3}
        assert adapters.rank == {"first": 1, "second": 3}
    with pytest.raises(ValueError, match=r"no adapted layer is called 'module\.third'"):
        adapters.rank = {"module.third": 1, "first": 2, "second": 2}


def test_a_module_that_is_really_called_module_keeps_its_name():
    model = nn.ModuleDict({"module": nn.ModuleDict({"up": nn.Linear(4, 3)}), "up": nn.Linear(4, 3)})
    assert [name for name, _ in named_modules(nn.DataParallel(model))] == ["", "module", "module.up", "up"]
    adapters = dk.attach(model, r=2, target_modules=["module.up"])
    assert list(adapters.layers) == ["module.up"]
    adapters.rank = {"module.up": 1}


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_files_with_names_of_a_compiled_or_wrapped_model_are_read(tmp_path, prefix):
    adapters = dk.attach(Net(), r=2, target_modules=["first"], modules_to_save=["classifier"])
    fill(adapters)
    write_adapter(
        tmp_path,
        adapters.config | {"target_modules": [f"{prefix}first"]},
        {f"{prefix}{name}": tensor for name, tensor in adapters.tensors().items()},
        ["classifier"],
    )
    assert_same(dk.load(Net(), tmp_path).tensors(), adapters.tensors())
    assert_same(dk.load(compiled(Net()), tmp_path).tensors(), adapters.tensors())


def test_a_layer_that_is_compiled_by_itself_is_refused_as_a_target():
    model = Net()
    model.second = compiled(model.second)
    with pytest.raises(TypeError, match="cannot adapt 'second': it is compiled or wrapped by itself: attach first"):
        dk.attach(model, r=2, target_modules=["first", "second"])
    assert list(dk.attach(model, r=2, target_modules=["first"]).layers) == ["first"]


def test_adapters_in_a_distributed_model_are_named_plainly_and_warned_of(process_group):
    model = nn.parallel.DistributedDataParallel(Net())
    with pytest.warns(UserWarning, match="averages no gradients of adapters that are added now: attach them first"):
        adapters = dk.attach(model, r=2, target_modules=["first"])
    assert list(adapters.layers) == ["first"]
    adapters.check_usable(model)
    assert unwrapped(model) is adapters.model
    assert submodule(model, "first") is adapters.layers["first"]


class Stop(Exception):
    pass


WAYS = {"plain": lambda model: model, "compiled": compiled, "parallel": nn.DataParallel}


@pytest.mark.parametrize(("first", "then"), [("compiled", "plain"), ("plain", "compiled"), ("parallel", "plain")])
def test_a_training_goes_on_in_a_model_that_is_wrapped_otherwise(tmp_path, first, then):
    ids = inputs("llama", 8)["input_ids"]
    data = [{"input_ids": row, "labels": row} for row in ids]

    def run(wrap: Callable[[Any], Any], stop: int | None, resume: bool, folder: Any) -> dict[str, torch.Tensor]:
        model = build("llama")
        adapters = dk.attach(model, r=3, target_modules="attention")

        def on_step(step: int) -> None:
            if step == stop:
                raise Stop

        sampler = dk.RankSampler(dk.Uniform(1, 3), seed=0)
        options = {"sampler": sampler, "batch_size": 4, "steps": 4, "progress": False, "on_step": on_step}
        with contextlib.suppress(Stop):
            dk.train(wrap(model), adapters, data, checkpoint=folder, checkpoint_every=2, resume=resume, **options)
        return {name: tensor.detach().clone() for name, tensor in adapters.tensors().items()}

    wanted = run(WAYS["plain"], None, False, tmp_path / "whole")
    run(WAYS[first], 3, False, tmp_path / "stopped")
    found = run(WAYS[then], None, True, tmp_path / "stopped")
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
        assert tensor.any()
