"""Which outputs of a fused projection are query, key and value, checked against the model's own attention."""

from typing import Any

import pytest
import torch
from architectures import SPLIT, D, build, inputs, logits, picture
from models import fill
from torch import Tensor, nn
from toys import assert_same

import dylora_kit as dk
from dylora_kit.core.fused import FUSED_NAMES, parts_of

R = 3


def projections(model: nn.Module) -> dict[str, nn.Module]:
    """The fused projections of a model, and queries that are made with a gate."""
    return {name: module for name, module in model.named_modules() if name and parts_of(model, name) is not None}


def change_each(position: int = 2) -> Any:
    """A hook that changes each output of a layer at one position, every one in an example of its own."""

    def change(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        outputs = range(output.shape[-1])
        output[outputs, position, outputs] += 3.0
        return output

    return change


def rows_changed(model: Any, name: str, measure: Any) -> list[tuple[int, ...]]:
    """For each output of a projection the positions at which a measure changes if that output does at position 2."""
    module = model.get_submodule(name)
    d_out = module.nf if hasattr(module, "nf") else module.out_features
    batch = {"input_ids": torch.arange(3, 10).expand(d_out, -1)}
    with torch.no_grad():
        before = measure(batch)
        handle = module.register_forward_hook(change_each())
        after = measure(batch)
        handle.remove()
    changed = (after - before).abs().flatten(2).amax(2) > 1e-6
    return [tuple(row.nonzero().flatten().tolist()) for row in changed]


@pytest.mark.parametrize("name", SPLIT)
def test_the_parts_are_what_the_attention_takes_for_query_key_and_value(name):
    """A change of the query at one position changes that row of the attention, of the key others, of the value none."""
    model = build(name)
    model.set_attn_implementation("eager")
    found = {key for key in projections(model) if "in_proj" not in key}
    assert found
    place = sorted(found)[0]

    def attentions(batch: dict[str, Tensor]) -> Tensor:
        return model(**batch, output_attentions=True).attentions[0].transpose(1, 2)  # positions in front

    rows = rows_changed(model, place, attentions)
    parts = parts_of(model, place)
    assert sorted(output for outputs in parts.values() for output in outputs) == list(range(len(rows)))
    assert [index for index, row in enumerate(rows) if row == (2,)] == sorted(parts["q"])
    assert [index for index, row in enumerate(rows) if len(row) > 1] == sorted(parts.get("k", []))
    assert [index for index, row in enumerate(rows) if not row] == sorted([*parts.get("v", []), *parts.get("gate", [])])


@pytest.mark.parametrize(("name", "place"), [("qwen3-next", "in_proj_qkvz"), ("qwen3.5", "in_proj_qkv")])
def test_the_parts_of_linear_attention_are_what_it_takes_for_query_key_and_value(name, place):
    """A query changes its own position alone, key and value later ones too; without values a key changes nothing."""
    model = build(name)
    place = next(key for key in projections(model) if key.endswith(place))
    layer = model.get_submodule(place.rpartition(".")[0])
    with torch.no_grad():
        layer.conv1d.weight[..., :-1] = 0  # no position is mixed with others before the attention
        layer.A_log.fill_(-5.0)  # what is in its memory lasts
    outputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: outputs.append(output))

    def context(batch: dict[str, Tensor]) -> Tensor:
        model(**batch)
        return outputs[-1]

    parts = parts_of(model, place)
    rows = rows_changed(model, place, context)
    alone = [*parts["q"], *parts.get("z", [])]
    assert [index for index, row in enumerate(rows) if row == (2,)] == sorted(alone)
    assert [index for index, row in enumerate(rows) if len(row) > 1] == sorted([*parts["k"], *parts["v"]])
    projection = model.get_submodule(place)
    with torch.no_grad():
        projection.weight[list(parts["v"])] = 0
    without = rows_changed(model, place, context)
    assert [index for index, row in enumerate(without) if len(row) > 1] == sorted(parts["v"])
    if "z" in parts:
        mixed = torch.arange(projection.out_features, dtype=torch.float32)[None, None]
        taken = layer.fix_query_key_value_ordering(mixed, torch.zeros(1, 1, 2 * layer.num_v_heads))
        for part, values in zip("qkvz", taken, strict=False):
            assert values.flatten().tolist() == list(parts[part])
    handle.remove()


@pytest.mark.parametrize("name", SPLIT)
def test_adapting_the_query_alone_is_a_change_of_its_rows_in_the_base_weight(name):
    model, plain, batch = build(name), build(name), inputs(name)
    places = projections(plain)
    parts = {place: parts_of(plain, place) for place in places}
    adapters = dk.attach(model, target_modules=[f"{place}.q" for place in places], r=R, lora_alpha=6)
    assert set(adapters.layers) == {f"{place}.q" for place in places}
    fill(adapters)
    adapters.rank = 2
    x = torch.randn(2, 5, D)
    for place, module in places.items():
        layer = adapters.layers[f"{place}.q"]
        others = [output for part, outputs in parts[place].items() if part != "q" for output in outputs]
        with torch.no_grad():
            before = module(x)
            delta = 6 / 2 * layer.lora_B[:, :2] @ layer.lora_A[:2]
            weight = module.weight.T if hasattr(module, "nf") else module.weight
            weight[list(parts[place]["q"])] += delta
            after = model.get_submodule(place)(x)
        torch.testing.assert_close(after, module(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(after[..., others], before[..., others], rtol=0, atol=1e-6)
        assert (after - before)[..., list(parts[place]["q"])].abs().amax((0, 1)).min() > 0
    torch.testing.assert_close(logits(model, batch), logits(plain, batch), rtol=1e-4, atol=1e-4)
    assert (logits(model, batch) - logits(build(name), batch)).abs().max() > 0.01
    adapters.merge()
    torch.testing.assert_close(logits(model, batch), logits(plain, batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SPLIT)
def test_attention_is_query_and_value_of_every_block(name, recwarn):
    model = build(name)
    adapters = dk.attach(model, target_modules="attention", r=R)
    assert not recwarn.list
    whole = [key for key in adapters.layers if key.endswith("v_proj")]
    split = [key for key in adapters.layers if key not in whole]
    assert {key.rpartition(".")[2] for key in split} == {"q", "v"}
    blocks = {key.split(".")[2] for key in adapters.layers}
    assert len(blocks) == model.config.num_hidden_layers
    assert len(adapters.layers) == 2 * len(blocks)


@pytest.mark.parametrize("name", ["falcon-grouped", "codegen", "qwen3-next"])
def test_a_saved_adapter_of_a_fused_projection_comes_back(tmp_path, name):
    model = build(name)
    adapters = dk.attach(model, target_modules="all-linear", r=R, alpha_pattern={r".*\.q": 5})
    fill(adapters)
    adapters.save(tmp_path)
    fresh = build(name)
    loaded = dk.load(fresh, tmp_path)
    assert loaded.config == adapters.config
    for b in range(1, R + 1):
        adapters.rank = loaded.rank = b
        assert torch.equal(logits(fresh, inputs(name)), logits(model, inputs(name)))


def test_a_query_that_is_made_with_its_gate_is_whole_by_its_name_and_alone_as_a_part():
    model = build("qwen3-next")
    whole = dk.attach(model, target_modules=["q_proj"], r=R)
    [(name, layer)] = whole.layers.items()
    assert name.endswith(".self_attn.q_proj")
    assert layer.out_features == 2 * D
    whole.detach()
    part = dk.attach(model, target_modules=["q_proj.q"], r=R)
    assert [layer.out_features for layer in part.layers.values()] == [D]
    part.detach()
    before = picture(model)
    with pytest.raises(ValueError, match=r"q_proj\.q' is a part of '.*q_proj', which is a target too"):
        dk.attach(model, target_modules=["q_proj.q", "q_proj"], r=R)
    assert_same(picture(model), before)


def test_bigcodes_cross_attention_is_of_unknown_split():
    model = build("bigcode-cross")
    assert {key.split(".")[-2] for key in dk.attach(model, target_modules="attention", r=R).layers} == {"c_attn"}
    fresh = build("bigcode-cross")
    with pytest.raises(ValueError, match=r"crossattention\.c_attn' looks like a fused projection"):
        dk.attach(fresh, target_modules=["c_attn"], r=R)


def test_every_name_of_a_fused_projection_that_is_split_is_refused_elsewhere():
    for name in FUSED_NAMES:
        with pytest.raises(ValueError, match="looks like a fused projection, and how ModuleDict splits it"):
            dk.attach(nn.ModuleDict({name: nn.Linear(4, 12)}), target_modules=[name], r=R)
