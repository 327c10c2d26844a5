"""The models that are timed, each with its adapter: DyLoRA, PEFT's LoRA, and none."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import peft
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

import dylora_kit as dk
from dylora_kit import backbones


class Shape(NamedTuple):
    """A BERT classifier with random weights, and its batch."""

    layers: int
    width: int
    heads: int
    batch: int
    tokens: int


SHAPES = {"mini": Shape(4, 128, 4, 32, 32), "minilm": Shape(6, 384, 12, 32, 32), "base": Shape(12, 768, 12, 8, 64)}
TARGETS = ["query", "value"]
DYLORA, PEFT, LIMIT = "DyLoRA", "PEFT LoRA", "limit"


def bert(shape: Shape, dropout: float = 0.0) -> nn.Module:
    """A BERT in training mode, with dropout in the backbone or without."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=2000,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=max(512, shape.tokens),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        num_labels=2,
    )
    return BertForSequenceClassification(config).train()


def batch_of(shape: Shape) -> dict[str, Tensor]:
    """Random tokens and labels."""
    return {
        "input_ids": torch.randint(0, 2000, (shape.batch, shape.tokens)),
        "labels": torch.randint(0, 2, (shape.batch,)),
    }


def causal(name: str) -> tuple[nn.Module, list[str]]:
    """A causal model and where its adapters go: world-gpt2, or SmolLM2's shape with random weights."""
    torch.manual_seed(0)
    if name == "world-gpt2":
        return backbones.load(name), ["c_attn"]
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval(), ["q_proj", "v_proj"]


def stepper(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Mapping[str, Tensor]) -> Callable[[], None]:
    """A training step: clear, forward with labels, backward, update."""

    def step() -> None:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    return step


def nested(model: nn.Module, r: int, targets: list[str] = TARGETS) -> tuple[nn.Module, dk.Adapters]:
    """A copy with our adapters, whose lora_B is not zero."""
    model = copy.deepcopy(model)
    return model, filled(dk.attach(model, r=r, lora_alpha=16, target_modules=targets))


def filled(adapters: dk.Adapters) -> dk.Adapters:
    """Adapters with numbers in lora_B, as after training."""
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.normal_(std=0.02)
    return adapters


def with_peft(model: nn.Module, r: int, targets: list[str] = TARGETS) -> Any:
    """A copy with PEFT's LoRA."""
    config = peft.LoraConfig(r=r, lora_alpha=16, target_modules=targets)
    return peft.get_peft_model(copy.deepcopy(model), config)


def only_biases(model: nn.Module) -> tuple[nn.Module, list[nn.Parameter]]:
    """A copy of which the biases of the target layers alone are trained: no training can cost less."""
    model = copy.deepcopy(model).requires_grad_(False)
    ends = tuple(f"{target}.bias" for target in TARGETS)
    return model, [p.requires_grad_() for name, p in model.named_parameters() if name.endswith(ends)]
