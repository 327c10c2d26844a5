"""How each method of the tables is trained: what learns, and what stays as it was."""

import copy
from typing import Any

import pytest
import torch
from architectures import build
from toys import TEXTS, Texts

from dylora_kit.baselines.svd_cut import refit_head
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper import compared_methods
from dylora_kit.paper.compared_methods import DYLORA, FROZEN, FULL, HEAD, LORA, trained, with_new_head
from dylora_kit.paper.settings import HEAD_RATES
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


def test_a_new_head_has_the_rate_of_the_lowest_validation_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: dict[float, float] = {}

    def refitted(adapters: Any, *data: Any, lr: float, **settings: Any) -> tuple[Any, Any]:
        if lr == max(HEAD_RATES):
            raise FloatingPointError("the loss is nan")
        pair = refit_head(adapters, *data, lr=lr, **settings)
        losses[lr] = sweep(*pair, TEXTS.validation, metric="loss", ranks=[2], progress=False)["value"].item()
        return pair

    _, adapters = trained(lambda: build("roberta"), TEXTS, LORA, 10, steps=2, batch_size=8)
    monkeypatch.setattr(compared_methods, "refit_head", refitted)
    (model, copied), lr = with_new_head(adapters, TEXTS, 2, 10, steps=5, batch_size=8)
    assert list(losses) == list(HEAD_RATES[:-1]) and lr == min(losses, key=losses.__getitem__)
    assert (
        sweep(model, copied, TEXTS.validation, metric="loss", ranks=[2], progress=False)["value"].item() == losses[lr]
    )
    monkeypatch.setattr(compared_methods, "HEAD_RATES", HEAD_RATES[-1:])
    with pytest.raises(FloatingPointError, match="no training was finite at any learning rate"):
        with_new_head(adapters, TEXTS, 2, 10, steps=1)


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
