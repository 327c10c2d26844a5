"""Adapters in torch's own transformer layers run in evaluation too, past no fast path."""

import copy
from typing import Any

import pytest
import torch
from models import fill
from torch import Tensor, nn

import dylora_kit as dk
from dylora_kit.core.handle import handle_of


def encoder(batch_first: bool = True, norm_first: bool = False) -> Any:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=batch_first, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first and not norm_first)


def adapted(**options: bool) -> tuple[Any, dk.Adapters]:
    model = encoder(**options).eval()
    adapters = dk.attach(model, r=4, target_modules=["0.linear1", "1.linear2"])
    fill(adapters)
    return model, adapters


def plain(adapters: dk.Adapters, rank: int, **options: bool) -> Any:
    """A model without adapters that has ΔW in its weights, in training mode, in which torch has no fast path."""
    model = encoder(**options).train()
    with torch.no_grad():
        for name in adapters.layers:
            model.get_submodule(name).weight += adapters.delta(name, rank)
    return model


def padded() -> dict[str, Tensor]:
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[0, 3:] = mask[2, 1:] = True
    return {"src_key_padding_mask": mask}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{}, {"norm_first": True}, {"batch_first": False}], ids=str)
def test_each_rank_is_computed_in_evaluation(options: dict[str, bool], masked: bool, context: Any) -> None:
    model, adapters = adapted(**options)
    x = torch.randn(3, 5, 8)
    given = padded() if masked else {}
    x = x if options.get("batch_first", True) else x.transpose(0, 1)
    outputs = []
    for rank in (1, 2, 4):
        adapters.rank = rank
        with context():
            outputs.append(model(x, **given))
        wanted = plain(adapters, rank, **options)(x, **given)
        rows = ~given["src_key_padding_mask"] if masked else torch.ones(3, 5, dtype=torch.bool)
        rows = rows if options.get("batch_first", True) else rows.T
        torch.testing.assert_close(outputs[-1][rows], wanted[rows], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-2)


def fast_path(model: Any) -> list[Any]:
    return [model.use_nested_tensor, *(layer.activation_relu_or_gelu for layer in model.layers)]


@pytest.mark.parametrize("leave", ["detach", "merge_and_unload"])
def test_a_model_without_adapters_has_its_fast_path_back(leave: str) -> None:
    before = fast_path(encoder())
    model, adapters = adapted()
    twin = copy.deepcopy(model)
    assert fast_path(model) == fast_path(twin) == [False, 0, 0]
    getattr(adapters, leave)()
    assert fast_path(model) == before == [True, 1, 1]
    assert fast_path(twin) == [False, 0, 0]
    handle_of(twin).detach()
    assert fast_path(twin) == before


def test_layers_without_adapters_keep_their_fast_path() -> None:
    model = encoder()
    dk.attach(model, r=2, target_modules=["0.linear1"])
    assert fast_path(model) == [False, 0, 1]


def test_the_copy_of_a_model_computes_at_its_own_rank() -> None:
    model, adapters = adapted()
    adapters.rank = 4
    twin = copy.deepcopy(model)
    handle_of(twin).rank = 1
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        for made, rank in ((model, 4), (twin, 1)):
            torch.testing.assert_close(made(x), plain(adapters, rank)(x), rtol=1e-4, atol=1e-5)
