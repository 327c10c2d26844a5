"""Label smoothing: the standard definition, over the labels that count, whatever the objective and the batches."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from architectures import build, inputs
from torch import Tensor, nn
from toys import R, adapted, assert_same, examples, toy

import dylora_kit as dk

SMOOTHING = 0.1


def explicit(logits: Tensor, labels: Tensor) -> float:
    """Each label as a distribution: 1 − ε on it, and ε spread evenly over all classes; the mean over labels."""
    total, counted = 0.0, 0
    for p, label in zip(logits.flatten(0, -2).log_softmax(-1), labels.flatten(), strict=True):
        if label != -100:
            target = torch.full_like(p, SMOOTHING / len(p))
            target[label] += 1 - SMOOTHING
            total, counted = total - float(target @ p), counted + 1
    return total / counted


def first_loss(model: Any, adapters: Any, data: Any, **settings: Any) -> float:
    sampler = dk.RankSampler(dk.Fixed(R), seed=0)
    history = dk.train(model, adapters, data, sampler=sampler, steps=1, label_smoothing=SMOOTHING, progress=False,
                       **settings)  # fmt: skip
    return float(history["loss"].iloc[0])


@pytest.mark.parametrize(("name", "shift"), [("gpt2", 1), ("llama", 1), ("t5", 0)])
def test_the_loss_is_that_of_smoothed_labels_that_count(name: str, shift: int) -> None:
    model = build(name)
    adapters = dk.attach(model, r=R, target_modules="attention")
    batch = inputs(name, 4)
    batch.pop("decoder_input_ids", None)
    with torch.no_grad():
        classes = model(**batch, **({"labels": batch["input_ids"]} if name == "t5" else {})).logits.shape[-1]
    labels = batch["input_ids"] % classes
    labels[0, :4] = labels[2] = -100
    with torch.no_grad():
        logits = model.eval()(**batch, labels=labels).logits
    expected = explicit(logits[:, :-1], labels[:, 1:]) if shift else explicit(logits, labels)
    rows = [{**{key: column[row] for key, column in batch.items()}, "labels": labels[row]} for row in range(4)]
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    assert first_loss(model, adapters, rows, batch_size=4) == pytest.approx(expected, rel=1e-5)


def test_a_classifier_s_labels_are_smoothed_too() -> None:
    model = toy(dropout=0.0)
    adapters = adapted(model)
    data = examples(6)
    with torch.no_grad():
        logits = model.eval()(torch.stack([row["x"] for row in data])).logits
    expected = explicit(logits, torch.stack([row["labels"] for row in data]))
    assert first_loss(model, adapters, data, batch_size=6) == pytest.approx(expected, rel=1e-5)


def test_one_batch_of_all_ranks_has_the_loss_of_their_sum() -> None:
    data, losses = examples(6), []
    for objective in (dk.summation_loss, dk.summation_in_one):
        model = toy(dropout=0.0)
        adapters = adapted(model)
        sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
        history = dk.train(model, adapters, data, sampler=sampler, steps=3, batch_size=6, objective=objective,
                           label_smoothing=SMOOTHING, progress=False)  # fmt: skip
        losses.append(history["loss"].tolist())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_no_smoothing_is_the_model_s_own_loss() -> None:
    states = []
    for settings in ({}, {"label_smoothing": 0.0}):
        model = toy()
        adapters = adapted(model)
        dk.train(model, adapters, examples(), sampler=dk.RankSampler(dk.Uniform(1, R), seed=0), steps=3, batch_size=4,
                 progress=False, **settings)  # fmt: skip
        states.append(model.state_dict())
    assert_same(*states)


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 10)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        return SimpleNamespace(logits=self.up(x).mean(-1, keepdim=True), loss=self.up(x).mean())


def test_labels_that_are_no_classes_are_refused() -> None:
    model = Scores()
    adapters = dk.attach(model, r=R, target_modules=["up"])
    data = [{"x": torch.randn(6), "labels": torch.tensor(0.5)}] * 4
    with pytest.raises(ValueError, match="label_smoothing is for data with 'labels' that are classes: leave it out"):
        first_loss(model, adapters, data, batch_size=4)
    data = [{"x": torch.randn(6), "labels": torch.tensor([1, 0])}] * 4
    with pytest.raises(ValueError, match=r"needs logits \(…, classes\) for labels of shape \(4, 2\): got \(4, 1\)"):
        first_loss(model, adapters, data, batch_size=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and less than 1: got 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing must be at least 0"),
        ({"label_smoothing": 0.1, "loss": lambda model, batch: model(**batch).loss}, "for the model's own loss"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: Any, message: str) -> None:
    model = toy()
    adapters, sampler = adapted(model), dk.RankSampler(dk.Uniform(1, R), seed=0)
    with pytest.raises(ValueError, match=message):
        dk.train(model, adapters, examples(), sampler=sampler, steps=2, progress=False, **settings)
