"""How each method of the tables is trained: what learns, and what stays as it was."""

import copy
from typing import Any

import pytest
import torch
from architectures import build
from toys import TEXTS, Texts

from dylora_kit.paper.compared_methods import DYLORA, FROZEN, FULL, HEAD, LORA, trained
from dylora_kit.tasks import Task


def changed(method: str, steps: int = 2) -> tuple[set[str], Any]:
    """The names of the parameters that a training moves, adapters as "lora"."""
    start = build("roberta")
    before = {name: value.clone() for name, value in start.named_parameters()}
    model, adapters = trained(lambda: copy.deepcopy(start), TEXTS, method, 10, steps=steps, batch_size=8)
    moved = set()
    for name, value in model.named_parameters():
        plain = name.replace("base_layer.", "").replace("modules_to_save.default.", "")
        if "lora_" in name:
            if "lora_B" in name and bool(value.any()):
                moved.add("lora")
        elif not torch.equal(value, before[plain]):
            moved.add(plain)
    return moved, adapters


def test_head_only_moves_the_head_alone() -> None:
    moved, _ = changed(HEAD)
    assert moved and all(name.startswith("classifier.") for name in moved)


@pytest.mark.parametrize("method", [DYLORA, FROZEN, LORA])
def test_adapters_are_trained_with_the_head_and_the_base_stays(method: str) -> None:
    moved, adapters = changed(method)
    assert "lora" in moved
    assert all(name.startswith("classifier.") for name in moved - {"lora"})
    assert adapters.frozen == (method == FROZEN)


def test_full_fine_tuning_moves_the_base_and_leaves_the_adapters_zero() -> None:
    moved, _ = changed(FULL)
    assert "lora" not in moved
    assert any("attention.self.query.weight" in name for name in moved)
    assert any("word_embeddings" in name for name in moved)


def test_a_causal_model_without_a_head_stays_as_it_is_under_head_only() -> None:
    start = build("gpt2")
    causal = Task("toy", Texts(16, 1), Texts(4, 2), Texts(4, 3), metric="accuracy")
    model, adapters = trained(lambda: copy.deepcopy(start), causal, HEAD, 10, steps=1)
    weights = dict(model.named_parameters())
    for name, value in start.named_parameters():
        found = weights.get(
            name, weights.get(name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias"))
        )
        assert found is not None and torch.equal(found, value)
    assert not adapters.saved_modules
