"""A whole training step on a device without values: how many operations it calls, and that none waits or moves.

An operation that would wait for the device raises there, since there is no number to be had.
"""

from collections import Counter
from contextlib import nullcontext
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, BertForSequenceClassification

import dylora_kit as dk

TARGETS, ROWS = ["query", "value"], 3
PARTS = ("model", "update")


class Calls(TorchDispatchMode):
    """Counts operations that are more than a view, and notes those that take or make a tensor on another device."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.elsewhere: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        returns = function._schema.returns
        if not any(value.alias_info is not None and not value.alias_info.is_write for value in returns):
            self.count[function.name()] += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type != "meta" for tensor in tensors):
            self.elsewhere.append(function.name())
        return out


def base(layers: int = 2) -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=40,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config).requires_grad_(False).train()


def calls_of_a_step(model: nn.Module, make_optimizer: Any, parts: tuple[str, ...] = PARTS) -> Calls:
    """The second step of training on the device, or parts of it."""
    optimizer = make_optimizer([p for p in model.parameters() if p.requires_grad])
    torch.__future__.set_swap_module_params_on_conversion(True)  # the optimizer keeps its parameters
    try:
        model.to("meta")
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    ids = torch.zeros(ROWS, 7, dtype=torch.long, device="meta")
    seen = Calls()
    for step in range(2):
        optimizer.zero_grad()
        with seen if step and "model" in parts else nullcontext():
            model(input_ids=ids).logits.square().mean().backward()
        with seen if step and "update" in parts else nullcontext():
            optimizer.step()
    return seen


def nested(rank: Any, *, frozen: bool = False, layers: int = 2, parts: tuple[str, ...] = PARTS) -> Calls:
    model = base(layers)
    adapters = dk.attach(model, r=8, target_modules=TARGETS)
    adapters.frozen = frozen
    adapters.rank = {name: 1 + place for place, name in enumerate(adapters.layers)} if rank == "by layer" else rank
    return calls_of_a_step(model, lambda _: dk.NestedAdamW(adapters, weight_decay=0.1), parts)


def of_peft(parts: tuple[str, ...]) -> Calls:
    model = peft.get_peft_model(base(), peft.LoraConfig(r=8, target_modules=TARGETS))
    return calls_of_a_step(model, torch.optim.AdamW, parts)


def of_biases(parts: tuple[str, ...]) -> Calls:
    model = base()
    for name, p in model.named_parameters():
        p.requires_grad_(name.endswith(tuple(f"{target}.bias" for target in TARGETS)))
    return calls_of_a_step(model, torch.optim.AdamW, parts)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("rank", [1, 3, 8, "by layer", torch.tensor([1, 5, 8])], ids=str)
def test_a_step_waits_for_nothing_and_moves_nothing(rank: Any, frozen: bool) -> None:
    assert nested(rank, frozen=frozen).elsewhere == []


def test_torchs_own_adamw_is_seen_to_use_another_device() -> None:
    assert of_peft(("update",)).elsewhere  # it counts its steps on the CPU


@pytest.mark.parametrize("rank", [3, "by layer"])
@pytest.mark.parametrize("frozen", [False, True])
def test_an_adapter_adds_nine_operations_to_a_step_and_pefts_adds_more(rank: Any, frozen: bool) -> None:
    """z, its product, the gradients of z, x, A and B, a zero block for each matrix, and the scale of B's gradient."""
    ours, limit = (
        calls.count.total() for calls in (nested(rank, frozen=frozen, parts=("model",)), of_biases(("model",)))
    )
    assert ours - limit <= 9 * 2 * len(TARGETS)
    assert ours < of_peft(("model",)).count.total()


def test_an_update_calls_as_many_operations_for_any_number_of_layers() -> None:
    few, many = (nested(3, layers=layers, parts=("update",)).count for layers in (2, 6))
    assert few == many
    assert few.total() <= 45
