"""Merging where it would give other answers than the adapters did: refused, and nothing changes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from architectures import build, inputs, logits, picture
from models import TARGETS, Net, batch, fill, make
from torch import Tensor, nn
from toys import assert_same
from transformers.models.falcon.modeling_falcon import FalconLinear

import dylora_kit as dk

HOW = ["merge", "merge_and_unload"]


def refused(adapters: dk.Adapters, how: str, words: str, rank: int | None = 1) -> None:
    before, at = picture(adapters.model), adapters.rank
    with pytest.raises(ValueError, match=words):
        getattr(adapters, how)(rank)
    assert_same(picture(adapters.model), before)
    assert (adapters.rank, adapters.merged) == (at, False)


class Rounded(nn.Linear):
    """Rounds its weight at each call, as layers for few bits do."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.round(decimals=1), self.bias)


def rounded(net: Net) -> None:
    net.second = Rounded(17, 9, bias=False)


def with_its_own_forward(net: Net) -> None:
    forward = net.second.forward
    net.second.forward = lambda x: 2 * forward(x)  # type: ignore[method-assign]


def capped(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output.clamp(-0.1, 0.1)


OTHERWISE: dict[str, tuple[Callable[[Net], Any], str]] = {
    "a class with its own forward": (rounded, r"forward of its own \(Rounded\)"),
    "a forward put on the layer": (with_its_own_forward, "forward of its own .*lambda"),
    "a hook on the input": (lambda net: net.second.register_forward_pre_hook(lambda *_: None), "hook .*lambda"),
    "a hook on the output": (lambda net: net.second.register_forward_hook(capped), "its hook 'capped' may change"),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", OTHERWISE)
def test_a_layer_that_may_not_be_linear_in_its_weight_is_not_merged(kind: str, how: str) -> None:
    change, words = OTHERWISE[kind]
    net = Net()
    change(net)
    adapters = dk.attach(net, r=4, target_modules=TARGETS)
    refused(adapters, how, f"cannot merge 'second': .*{words}")


def test_a_layer_is_merged_once_its_hook_is_gone() -> None:
    model, adapters = make()
    hook = model.second.base_layer.register_forward_hook(lambda *_: None)
    wanted = model.eval()(batch())
    refused(adapters, "merge", "take the hook off", None)
    hook.remove()
    adapters.merge()
    torch.testing.assert_close(model(batch()), wanted)


def test_transformers_layers_that_are_linear_in_their_own_way_are_merged() -> None:
    model = nn.Sequential(FalconLinear(6, 5), nn.Linear(5, 3))
    adapters = dk.attach(model, r=2, target_modules=["0"])
    fill(adapters)
    x = torch.randn(4, 6)
    wanted = model(x)
    torch.testing.assert_close(adapters.merge_and_unload()(x), wanted)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e7])
def test_weights_that_are_not_finite_when_merged_are_refused(value: float, how: str) -> None:
    _, adapters = make(dtype=torch.float16)
    with torch.no_grad():
        adapters.layers["third"].lora_B[0, 0] = value
    adapters.rank = 3
    refused(adapters, how, "cannot merge 'third': .*not finite in torch.float16", 2)
    alone = dk.DyLoRALinear(nn.Linear(6, 4), r=2)
    with torch.no_grad():
        alone.lora_B[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        alone.merge(rank=1)
    assert (alone.rank, alone.active.merged) == (2, False)


@pytest.mark.parametrize("how", [*HOW, "detach"])
def test_a_block_that_was_copied_with_its_adapter_is_named(how: str) -> None:
    model = nn.ModuleList([Net(), Net()])
    adapters = dk.attach(model, r=4, target_modules=["second"])
    model.append(copy.deepcopy(model[1]))
    with pytest.raises(ValueError, match=r"'2\.second' is a copy of an adapted layer"):
        getattr(adapters, how)()
    with pytest.raises(ValueError, match="is a copy of an adapted layer"):
        adapters.check_usable(model)
    del model[2]
    getattr(adapters, how)()


@pytest.mark.parametrize("how", HOW)
def test_layers_that_were_taken_out_are_named_before_merging(how: str) -> None:
    model, adapters = make()
    model.second = nn.Linear(17, 9)
    refused(adapters, how, "the adapter of 'second' is no longer at its place", None)


UNTIED = {
    "UMT5": ("UMT5Config", "UMT5ForConditionalGeneration", {}),
    "Switch": (
        "SwitchTransformersConfig",
        "SwitchTransformersForConditionalGeneration",
        {"num_experts": 2, "num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 0},
    ),
}


@pytest.mark.parametrize("name", UNTIED)
def test_a_model_that_computes_otherwise_once_its_output_layer_is_separate_keeps_its_adapters(name: str) -> None:
    config, kind, options = UNTIED[name]
    sizes = {"vocab_size": 40, "d_model": 16, "d_ff": 24, "d_kv": 4, "num_layers": 1, "num_heads": 4}
    model = getattr(transformers, kind)(
        getattr(transformers, config)(**sizes, **options, tie_word_embeddings=True, decoder_start_token_id=0)
    )
    model.resize_token_embeddings(43)  # one module for encoder and decoder, so that two share the weight
    adapters = dk.attach(model, r=2, target_modules=["lm_head"])
    refused(adapters, "merge_and_unload", "computes otherwise where they are separate")
    assert model.config.tie_word_embeddings


def test_adapters_attached_and_merged_in_inference_mode_can_be_trained_and_the_plain_model_too() -> None:
    model = Net()
    with torch.inference_mode():
        adapters = dk.attach(model, r=4, target_modules=TARGETS)
    optimizer = dk.NestedAdamW(adapters, lr=0.1)
    model(batch()).sum().backward()
    optimizer.step()
    with torch.inference_mode():
        plain = adapters.merge_and_unload(rank=2)
    plain(batch()).sum().backward()
    torch.optim.SGD(plain.parameters(), lr=0.1).step()
    tied = build("gpt2")
    tied.config.tie_word_embeddings = True
    tied.tie_weights()
    with torch.inference_mode():
        dk.attach(tied, r=2, target_modules=["lm_head"]).merge_and_unload()
    logits(tied, inputs("gpt2"))
    assert not any(parameter.is_inference() for parameter in tied.parameters())


@pytest.mark.parametrize("lazy", [nn.LazyLinear(4), nn.LazyBatchNorm1d(affine=False)])
def test_a_model_without_shapes_gets_no_adapters(lazy: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(6, 5), lazy)
    with pytest.raises(ValueError, match=r"'1\..*' has no shape yet: run the model once"):
        dk.attach(model, r=2, target_modules=["0"])


def test_a_layer_of_another_kind_that_is_called_linear_too_is_told_by_its_module() -> None:
    class Linear(nn.Module):
        pass

    with pytest.raises(TypeError, match=f"cannot adapt a Linear of {__name__}: expected an nn.Linear"):
        dk.attach(nn.ModuleDict({"up": Linear()}), r=2, target_modules=["up"])


@pytest.mark.parametrize("inside", ["merge", "merge_and_unload", "detach"])
def test_what_happens_to_the_layers_within_at_stays(inside: str) -> None:
    model, adapters = make()
    adapters.rank = 5
    with adapters.at(2):
        wanted = model.eval()(batch())
        getattr(adapters, inside)()
    if inside == "detach":
        assert torch.equal(model(batch()), make(nonzero=False)[0].eval()(batch()))
    else:
        torch.testing.assert_close(model(batch()), wanted)
    if inside == "merge":
        assert adapters.rank == 2
        adapters.unmerge()
        assert adapters.rank == 2
