"""In-place distillation: rank r learns by labels, and the others of the same step learn its answers."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from models import batch, make
from torch import nn

import dylora_kit as dk
from dylora_kit.baselines.in_place_distillation import InPlaceDistillation, sandwich_from_the_top


class Classifier(nn.Module):
    """The network of `models` with a loss of its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        logits = self.net(x)
        return SimpleNamespace(logits=logits, loss=F.cross_entropy(logits, labels))


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def test_rank_r_learns_from_labels_and_the_others_from_its_answers() -> None:
    net, adapters = make()
    model, loss = Classifier(net), InPlaceDistillation(adapters)
    given = {"x": batch(), "labels": LABELS}
    adapters.rank = 8
    answers = net(given["x"]).detach()
    torch.testing.assert_close(loss(model, given), F.cross_entropy(answers, LABELS))
    adapters.rank = 3
    outputs = net(given["x"])
    expected = (answers.softmax(-1) * (answers.log_softmax(-1) - outputs.log_softmax(-1))).sum(-1).mean()
    torch.testing.assert_close(loss(model, given), expected)


def test_no_gradient_reaches_the_rows_of_the_answers_alone() -> None:
    net, adapters = make()
    model, loss = Classifier(net), InPlaceDistillation(adapters)
    given = {"x": batch(), "labels": LABELS}
    adapters.rank = 8
    loss(model, given)
    adapters.rank = 3
    loss(model, given).backward()
    for layer in adapters.layers.values():
        grad = layer.lora_B.grad
        assert grad is not None and grad[:, :3].ne(0).any() and not grad[:, 3:].any()


def test_the_highest_rank_runs_first_and_the_terms_are_those_of_the_sandwich() -> None:
    sampler = dk.RankSampler(dk.Uniform(2, 8), seed=0)
    assert sandwich_from_the_top(5, sampler, 6) == dk.sandwich_loss(5, sampler, 6)[::-1]
    for b in (2, 5, 8):
        assert sandwich_from_the_top(b, sampler, 6)[0][1] == 8


def test_train_takes_it_together_with_its_objective() -> None:
    net, adapters = make(nonzero=False)
    data = [{"x": x, "labels": label} for x, label in zip(batch(), LABELS, strict=True)]
    before = {name: layer.lora_B.clone() for name, layer in adapters.layers.items()}
    wrapped = Classifier(net)
    sampler = dk.RankSampler(dk.Uniform(1, 8), seed=0)
    history = dk.train(wrapped, adapters, data, sampler=sampler, objective=sandwich_from_the_top, steps=4, batch_size=3,
                       loss=InPlaceDistillation(adapters), lr=1e-2, progress=False)  # fmt: skip
    assert len(history) == 4
    assert all(not torch.equal(layer.lora_B, before[name]) for name, layer in adapters.layers.items())


def test_another_order_of_ranks_is_refused() -> None:
    net, adapters = make()
    adapters.rank = 3
    with pytest.raises(ValueError, match="rank r has not answered this batch: take an objective whose first rank is r"):
        InPlaceDistillation(adapters)(Classifier(net), {"x": batch(), "labels": LABELS})


def test_a_model_without_classes_is_refused() -> None:
    net, adapters = make()
    with pytest.raises(ValueError, match=r"for models that give logits \(n, classes\) and a loss: got none"):
        InPlaceDistillation(adapters)(net, {"x": batch()})
