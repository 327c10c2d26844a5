"""The rank sweep: one trained model at every rank, and nothing else changed."""

import math
import statistics
import time
from argparse import Namespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from toys import R, Toy, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk
from dylora_kit.core.modes import evaluating
from dylora_kit.evaluation.metrics import accuracy


@pytest.fixture
def model() -> Toy:
    return toy(dropout=0.5, norm=True).train()


@pytest.fixture
def adapters(model) -> dk.Adapters:
    return adapted(model, lora_dropout=0.3)


def by_hand(model: nn.Module, adapters: dk.Adapters, data: list, b: int) -> np.ndarray:
    """Logits at rank b from plain matrix products, without the kit's layer."""
    x = torch.stack([example["x"] for example in data])
    layers = {}
    for name, layer in adapters.layers.items():
        delta = (layer.lora_alpha / b) * layer.lora_B[:, :b] @ layer.lora_A[:b]
        layers[name] = (layer.base_layer.weight + delta, layer.base_layer.bias)
    with torch.no_grad():
        h = torch.tanh(nn.functional.linear(x, *layers["up"]))
        h = (h - model.norm.running_mean) / (model.norm.running_var + model.norm.eps).sqrt()
        h = torch.tanh(nn.functional.linear(h * model.norm.weight + model.norm.bias, *layers["down"]))
        return nn.functional.linear(h, model.classifier.weight, model.classifier.bias).numpy()


def test_each_row_is_the_metric_of_its_own_rank_as_computed_by_hand(model, adapters):
    data = examples(50, seed=3)
    labels = np.array([int(example["labels"]) for example in data])
    frame = dk.sweep(model, adapters, data, batch_size=7, method="ours", seed=11, progress=False)
    assert list(frame.columns) == ["method", "rank", "metric", "value", "seed"]
    assert frame["rank"].tolist() == [1, 2, 3, 4]
    assert set(frame["method"]) == {"ours"}
    assert set(frame["metric"]) == {"accuracy"}
    assert set(frame["seed"]) == {11}
    expected = [float((by_hand(model, adapters, data, b).argmax(1) == labels).mean()) for b in range(1, R + 1)]
    assert len(set(expected)) > 1
    assert frame["value"].tolist() == pytest.approx(expected)


def test_predictions_are_those_of_their_rank_in_the_order_of_the_data(model, adapters):
    data = examples(23, seed=4)
    outputs, labels = dk.predict(model, adapters, data, ranks=[4, 1, 4, 2], batch_size=5)
    assert list(outputs) == [4, 1, 2]
    assert labels.tolist() == [int(example["labels"]) for example in data]
    for b, logits in outputs.items():
        np.testing.assert_allclose(logits, by_hand(model, adapters, data, b), rtol=1e-4, atol=1e-5)
    assert not np.allclose(outputs[1], outputs[2], atol=1e-2)


class Reader(nn.Module):
    """A model of token ids that tells which shapes it is run on."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.down = nn.Embedding(20, 6, padding_idx=0), nn.Linear(6, 3)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> Namespace:
        self.shapes.append(tuple(input_ids.shape))
        return Namespace(logits=self.down(self.words(input_ids).sum(1)))


def test_texts_of_one_length_are_run_together_and_come_back_in_their_order():
    torch.manual_seed(0)
    model = Reader()
    adapters = dk.attach(model, r=2, target_modules=["down"])
    nn.init.normal_(adapters.layers["down"].lora_B)
    lengths = [5, 1, 9, 2, 9, 1, 3]
    data = [{"input_ids": [index % 19 + 1] * n, "labels": index} for index, n in enumerate(lengths)]

    def collate(examples: list) -> dict:
        ids = [torch.tensor(example["input_ids"]) for example in examples]
        labels = torch.tensor([example["labels"] for example in examples])
        return {"input_ids": nn.utils.rnn.pad_sequence(ids, batch_first=True), "labels": labels}

    for given in (data, Dataset.from_list(data)):
        model.shapes.clear()
        outputs, labels = dk.predict(model, adapters, given, ranks=[1, 2], batch_size=3, collate=collate)
        assert model.shapes[::2] == [(3, 2), (3, 9), (1, 9)]
        assert labels.tolist() == list(range(7))
        for rank, logits in outputs.items():
            with adapters.at(rank):
                alone = [model(**collate([example])).logits.detach().numpy()[0] for example in data]
            np.testing.assert_allclose(logits, np.stack(alone), rtol=1e-4, atol=1e-5)


def test_a_sweep_of_chosen_ranks_equals_those_rows_of_the_whole_sweep(model, adapters):
    data = examples(40)
    whole = dk.sweep(model, adapters, data, progress=False).set_index("rank")["value"]
    part = dk.sweep(model, adapters, data, ranks=(b for b in (4, 2)), progress=False)
    assert part["rank"].tolist() == [4, 2]
    assert part["value"].tolist() == [whole[4], whole[2]]


@pytest.mark.parametrize("rank", [3, {"up": 1, "down": 4}, torch.tensor([1, 2, 4])], ids=["int", "layers", "examples"])
@pytest.mark.parametrize("fails", [False, True], ids=["to the end", "after an error"])
def test_a_sweep_changes_nothing_about_the_model(model, adapters, rank, fails):
    adapters.rank = rank
    model.norm.eval()
    model.down.eval()
    modes, before = [module.training for module in model.modules()], state_of(model)
    needs = {name: p.requires_grad for name, p in model.named_parameters()}
    torch.manual_seed(5)
    random_state = torch.get_rng_state()
    data = examples(30)
    if fails:
        data[20] = {"x": torch.full((6,), 1.0), "labels": "no label"}
        with pytest.raises((TypeError, AttributeError)):
            dk.sweep(model, adapters, data, batch_size=8, progress=False)
    else:
        dk.sweep(model, adapters, data, batch_size=8, progress=False)
    assert_same(adapters.rank, rank)
    assert [module.training for module in model.modules()] == modes
    assert_same(state_of(model), before)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == needs
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()


def test_no_module_trains_and_no_gradient_is_recorded_while_evaluating(model, adapters):
    seen: list[tuple[bool, bool, object]] = []
    model.up.register_forward_hook(
        lambda module, inputs, output: seen.append(
            (any(m.training for m in model.modules()), output.requires_grad, adapters.rank)
        )
    )
    dk.sweep(model, adapters, examples(10), batch_size=5, ranks=[2, 3], progress=False)
    assert seen == [(False, False, 2), (False, False, 3)] * 2


def test_two_sweeps_give_the_same_frame(model, adapters):
    frames = [dk.sweep(model, adapters, examples(30), metric=mean_logit, progress=False) for _ in range(2)]
    assert frames[0].equals(frames[1])
    assert frames[0]["value"].nunique() == R


def test_values_do_not_depend_on_the_batch_size(model, adapters):
    frames = [
        dk.sweep(model, adapters, examples(30), metric=mean_logit, batch_size=size, progress=False)
        for size in (1, 7, 30)
    ]
    for frame in frames[1:]:
        assert frame["value"].tolist() == pytest.approx(frames[0]["value"].tolist(), rel=1e-4)


def mean_logit(outputs: np.ndarray, labels: np.ndarray) -> float:
    assert outputs.shape == (len(labels), 3)
    return float(np.abs(outputs).mean())


class Margin:
    def __call__(self, outputs: np.ndarray, labels: np.ndarray) -> float:
        return float(outputs[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize(("metric", "name"), [(mean_logit, "mean_logit"), (Margin(), "Margin")])
def test_a_metric_can_be_any_callable_and_gives_its_name(model, adapters, metric, name):
    frame = dk.sweep(model, adapters, examples(12), metric=metric, ranks=[2], progress=False)
    outputs, labels = dk.predict(model, adapters, examples(12), ranks=[2])
    assert frame["metric"].tolist() == [name]
    assert frame["value"].tolist() == [metric(outputs[2], labels)]


def test_an_unknown_metric_lists_the_known_ones(model, adapters):
    with pytest.raises(
        ValueError, match=r"unknown metric 'bleu': expected one of 'accuracy', 'f1', 'matthews', .* or a function"
    ):
        dk.sweep(model, adapters, examples(), metric="bleu")


@pytest.mark.parametrize("rank", [0, R + 1, -1, 1.5, True])
def test_a_rank_out_of_range_is_refused(model, adapters, rank):
    with pytest.raises(ValueError, match="1 to 4"):
        dk.sweep(model, adapters, examples(), ranks=[3, rank])
    with pytest.raises(ValueError, match="1 to 4"):
        dk.predict(model, adapters, examples(), ranks=[3, rank])
    assert adapters.rank == R
    assert model.training


def test_empty_data_are_refused(model, adapters):
    with pytest.raises(ValueError, match="the data is empty"):
        dk.sweep(model, adapters, [])


def test_merged_adapters_are_not_swept(model, adapters):
    adapters.merge(rank=2)
    with pytest.raises(ValueError, match="merged into the base weights"):
        dk.sweep(model, adapters, examples(), progress=False)
    assert model.training


def test_the_modes_come_back_after_an_error_inside_the_block(model):
    model.norm.eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyboardInterrupt), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyboardInterrupt
    assert [module.training for module in model.modules()] == modes


def test_accuracy_is_the_share_of_labels_with_the_largest_output():
    outputs = np.array([[0.1, 0.9, 0.2], [0.8, 0.1, 0.3], [0.2, 0.1, 0.3], [-3.0, -1.0, -2.0]])
    assert accuracy(outputs, np.array([1, 0, 0, 1])) == 0.75


def test_a_sweep_of_8_ranks_costs_no_more_than_8_evaluations():
    model = toy(dropout=0.0)
    model.up, model.down, model.classifier = nn.Linear(6, 200), nn.Linear(200, 100), nn.Linear(100, 3)
    adapters = dk.attach(model, r=8, target_modules=["down"])
    data, ratios = examples(256), []
    for _ in range(5):
        start = time.process_time()
        dk.sweep(model, adapters, data, progress=False)
        middle = time.process_time()
        for b in range(1, 9):
            dk.sweep(model, adapters, data, ranks=[b], progress=False)
        ratios.append((middle - start) / (time.process_time() - middle))
    assert statistics.median(ratios) < 1.3


def test_several_metrics_come_from_one_evaluation(model, adapters):
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    frame = dk.sweep(model, adapters, examples(12), metric=("matthews", "accuracy"), ranks=[1, 3], progress=False)
    assert len(calls) == 2
    assert list(zip(frame["metric"], frame["rank"], strict=True)) == [
        ("matthews", 1), ("matthews", 3), ("accuracy", 1), ("accuracy", 3)
    ]  # fmt: skip
    for metric in ("matthews", "accuracy"):
        alone = dk.sweep(model, adapters, examples(12), metric=metric, ranks=[1, 3], progress=False)
        assert frame[frame["metric"] == metric]["value"].tolist() == alone["value"].tolist()


def test_an_answer_that_is_not_finite_has_no_score(model, adapters):
    with torch.no_grad():
        adapters.layers["down"].lora_B[:, 2] = math.nan
    frame = dk.sweep(model, adapters, examples(), metric=("accuracy", "matthews"), progress=False)
    assert frame["value"].isna().tolist() == [rank >= 3 for rank in frame["rank"]]


def test_no_metric_is_refused(model, adapters):
    with pytest.raises(ValueError, match="no metric is given"):
        dk.sweep(model, adapters, examples(), metric=())


def test_a_model_of_one_output_has_no_classes():
    with pytest.raises(ValueError, match="names no class: its metric is 'pearson'"):
        accuracy(np.ones((4, 1)), np.ones(4))
