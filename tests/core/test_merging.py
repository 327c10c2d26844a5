"""Merged, unloaded, detached, switched off: what the model computes then, and what is refused."""

import copy
from typing import Any

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, build, inputs, logits, picture
from models import Net, batch, fill, make
from torch import nn
from torch.nn.utils import prune
from toys import assert_same

import dylora_kit as dk

HEADS = {"gpt2": "lm_head", "llama": "lm_head", "opt": "lm_head"}


def adapted(name: str, targets: Any = "attention", **options: Any) -> tuple[Any, dk.Adapters]:
    model = build(name)
    adapters = dk.attach(model, r=4, target_modules=targets, **options)
    fill(adapters)
    return model, adapters


def tied(name: str) -> Any:
    """A model whose output layer has the weight of its embedding."""
    config = copy.deepcopy(build(name).config)
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    return getattr(transformers, config.architectures[0] if config.architectures else type(build(name)).__name__)(
        config
    ).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_unloaded_model_is_a_plain_one_that_answers_as_before(name: str, tmp_path: Any) -> None:
    plain_names = list(build(name).state_dict())
    model, adapters = adapted(name)
    adapters.rank = 2
    wanted = logits(model, inputs(name))
    assert adapters.merge_and_unload() is model
    assert list(model.state_dict()) == plain_names
    torch.testing.assert_close(logits(model, inputs(name)), wanted, rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path)
    assert_same(logits(type(model).from_pretrained(tmp_path).eval(), inputs(name)), logits(model, inputs(name)))
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ValueError, match="detached"):
        adapters.rank = 1


@pytest.mark.parametrize("name", HEADS)
def test_an_output_layer_tied_to_the_embedding_is_separate_in_the_plain_model(name: str, tmp_path: Any) -> None:
    model = tied(name)
    adapters = dk.attach(model, r=4, target_modules=[HEADS[name]])
    fill(adapters)
    embedding = model.get_input_embeddings().weight.clone()
    with adapters.at(2):
        wanted = logits(model, inputs(name))
    adapters.merge_and_unload(rank=2)
    assert all(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(logits(model, inputs(name)), wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    assert not model.config.tie_word_embeddings
    model.save_pretrained(tmp_path)
    assert_same(logits(type(model).from_pretrained(tmp_path).eval(), inputs(name)), logits(model, inputs(name)))


def test_a_tied_masked_language_model_comes_back_with_its_bias(tmp_path: Any) -> None:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48
    )
    model = transformers.BertForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    adapters = dk.attach(model, r=4, target_modules=["decoder"])
    fill(adapters)
    adapters.merge_and_unload().save_pretrained(tmp_path)  # type: ignore[operator]
    back = transformers.BertForMaskedLM.from_pretrained(tmp_path).eval()
    assert_same(logits(back, inputs("bert")), logits(model, inputs("bert")))


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_a_weight_that_more_modules_share_is_refused_and_nothing_changes(name: str) -> None:
    model = tied(name)
    adapters = dk.attach(model, r=4, target_modules=["lm_head"])
    before, config = picture(model), model.config.to_dict()
    with pytest.raises(ValueError, match="cannot merge 'lm_head': its weight is shared by"):
        adapters.merge_and_unload(rank=2)
    assert_same(picture(model), before)
    assert model.config.to_dict() == config
    adapters.rank = 1


class Shared(nn.Module):
    """Two layers with one weight, and no config that could say that they are apart."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight


def test_two_layers_with_one_weight_cannot_be_unloaded() -> None:
    adapters = dk.attach(Shared(), r=2, target_modules=["a"])
    with pytest.raises(ValueError, match=r"shared by a\.base_layer, b"):
        adapters.merge_and_unload()


def test_merged_adapters_are_unloaded_at_the_rank_they_are_merged_at() -> None:
    model, adapters = make()
    adapters.merge(rank=2)
    wanted = model.eval()(batch())
    with pytest.raises(ValueError, match="merged at rank 2"):
        adapters.merge_and_unload(rank=3)
    adapters.merge_and_unload()
    assert torch.equal(model(batch()), wanted)
    assert type(model.first) is nn.Linear


def named(change: Any) -> nn.ModuleDict:
    return nn.ModuleDict({"plain": nn.Linear(6, 6), "odd": change(nn.Linear(6, 4))})


def retyped(dtype: torch.dtype) -> Any:
    def change(layer: nn.Linear) -> nn.Linear:
        layer.weight = nn.Parameter(layer.weight.data.to(dtype), requires_grad=False)
        return layer

    return change


class Packed(nn.Parameter):
    """A weight with a type of its own, as quantised ones have."""


def packed(layer: nn.Linear) -> nn.Linear:
    layer.weight = Packed(layer.weight.data, requires_grad=False)
    return layer


ODD = {
    "weight norm": (torch.nn.utils.parametrizations.weight_norm, r"computed from other parameters \(WeightNorm\)"),
    "spectral norm": (torch.nn.utils.parametrizations.spectral_norm, r"other parameters \(SpectralNorm\)"),
    "orthogonal": (torch.nn.utils.parametrizations.orthogonal, r"other parameters \(Orthogonal\)"),
    "weight norm by a hook": (torch.nn.utils.weight_norm, r"computed from other parameters \(WeightNorm\)"),
    "spectral norm by a hook": (torch.nn.utils.spectral_norm, r"computed from other parameters \(SpectralNorm\)"),
    "float8": (retyped(torch.float8_e4m3fn), "quantised .torch.float8_e4m3fn"),
    "int8": (retyped(torch.int8), "quantised .torch.int8"),
    "meta": (lambda layer: layer.to("meta"), "no values"),
    "its own type": (packed, "Packed"),
    "complex": (retyped(torch.complex64), "complex .torch.complex64"),
    "pruned": (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), r"parameters \(L1Unstr"),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("how", ["merge", "merge_and_unload"])
def test_only_a_plain_weight_is_merged_into_and_any_other_is_named(kind: str, how: str) -> None:
    change, words = ODD[kind]
    model = named(change)
    adapters = dk.attach(model, r=4, target_modules=["plain", "odd"])
    weight = model.plain.weight.clone()  # type: ignore[operator]
    with pytest.raises(ValueError, match=f"cannot merge 'odd': its weight .*{words}"):
        getattr(adapters, how)(rank=1)
    assert torch.equal(model.plain.weight, weight)  # type: ignore[arg-type]
    assert (adapters.rank, adapters.merged) == (4, False)
    alone = dk.DyLoRALinear(change(nn.Linear(6, 4)), r=4)
    with pytest.raises(ValueError, match=words):
        alone.merge(rank=1)
    assert alone.rank == 4


RANKS: list[Any] = [3, {"first": 1, "second": 2, "third": 3}, torch.tensor([1, 2, 3, 4, 5, 6])]


@pytest.mark.parametrize("rank", RANKS, ids=["one", "by layer", "by example"])
def test_without_adapters_the_model_is_the_base_and_afterwards_itself_again(rank: Any) -> None:
    torch.manual_seed(0)
    base = Net().eval()(batch())
    model, adapters = make()
    adapters.rank = rank
    trained = model.eval()(batch())
    with adapters.disabled() as handle:
        assert handle is adapters
        assert torch.equal(model(batch()), base)
        with adapters.disabled():
            pass
        assert torch.equal(model(batch()), base)
    assert torch.equal(model(batch()), trained)
    with pytest.raises(KeyError), adapters.disabled():
        raise KeyError
    assert torch.equal(model(batch()), trained)


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_transformers_give_the_base_s_answers_without_adapters(name: str) -> None:
    model, adapters = adapted(name)
    with adapters.disabled():
        assert_same(logits(model, inputs(name)), logits(build(name), inputs(name)))
    assert not torch.equal(logits(model, inputs(name)), logits(build(name), inputs(name)))


def test_without_adapters_a_model_whose_head_or_norm_was_trained_is_not_the_base() -> None:
    model, adapters = make(head=True)
    with adapters.disabled():
        pass
    optimizer = dk.NestedAdamW(adapters, lr=0.1)
    model(batch()).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match=r"'classifier.weight' has changed since"), adapters.disabled():
        pass
    _, adapters = adapted("roberta")
    adapters.model.roberta.embeddings.LayerNorm.requires_grad_(True)  # type: ignore[union-attr, operator]
    with pytest.raises(ValueError, match=r"LayerNorm.weight' is trained too"), adapters.disabled():
        pass


def test_adapters_are_merged_once_and_unmerging_gives_the_first_weights_back() -> None:
    _, adapters = make()
    weights = {name: layer.weight.clone() for name, layer in adapters.layers.items()}
    adapters.merge(rank=2)
    merged = {name: layer.weight.clone() for name, layer in adapters.layers.items()}
    for again in (adapters.merge, lambda: adapters.merge(rank=2)):
        with pytest.raises(ValueError, match=r"merged already: call unmerge\(\) first"):
            again()
    assert_same({name: layer.weight.detach() for name, layer in adapters.layers.items()}, merged)
    adapters.unmerge()
    assert_same({name: layer.weight.detach() for name, layer in adapters.layers.items()}, weights)
    with pytest.raises(ValueError, match=r"not merged: call merge\(\) first"):
        adapters.unmerge()


def test_merged_adapters_cannot_be_switched_off() -> None:
    _, adapters = make()
    adapters.merge()
    with pytest.raises(ValueError, match=r"call unmerge\(\) before disabling"), adapters.disabled():
        pass


def test_an_untied_output_layer_trains_what_it_trained_before() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    model = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=50, **sizes))
    model.cls.predictions.decoder.bias.requires_grad_(False)
    plain: Any = dk.attach(model, r=4, target_modules=["decoder"]).merge_and_unload()
    assert plain.cls.predictions.decoder.weight.requires_grad
    assert not plain.cls.predictions.decoder.bias.requires_grad
