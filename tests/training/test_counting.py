"""What the losses of batches weigh beside one another, in a step of several micro-batches and in a sweep."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import R, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk

TOKENS, WORDS = 6, 11
OBJECTIVES = [dk.individual_loss, dk.summation_loss]


class Reader(nn.Module):
    """Outputs for each token, and a loss that is the mean over labels, as they stand or those of the next token."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.words, self.up, self.classifier = nn.Embedding(WORDS, 8), nn.Linear(8, 8), nn.Linear(8, WORDS)

    def forward(self, input_ids: Tensor, **answers: Tensor) -> Any:
        logits = self.classifier(torch.tanh(self.up(self.words(input_ids))))
        if self.kind == "answers":
            places = logits.mean(-1)  # (n, tokens)
            found = [F.cross_entropy(places, answers[f"{end}_positions"].clamp(max=TOKENS), ignore_index=TOKENS)
                     for end in ("start", "end")]  # fmt: skip
            return SimpleNamespace(start_logits=places, end_logits=places, loss=(found[0] + found[1]) / 2)
        cut = 1 if self.kind == "next token" else 0
        pairs = logits[:, : TOKENS - cut].flatten(0, 1), answers["labels"][:, cut:].flatten()
        return SimpleNamespace(logits=logits, loss=F.cross_entropy(*pairs))


class WrappedForCTC(nn.Module):
    """A model inside another, whose loss is that of transformers' models for speech: over examples."""

    class TinyForCTC(nn.Module):
        def __init__(self, reduction: str) -> None:
            super().__init__()
            self.config = SimpleNamespace(ctc_loss_reduction=reduction)
            self.up, self.classifier = nn.Linear(4, 8), nn.Linear(8, WORDS)

        def forward(self, x: Tensor, labels: Tensor) -> Any:
            logits = self.classifier(torch.tanh(self.up(x)))
            sizes = torch.full((len(x),), x.shape[1])
            lengths = (labels >= 0).sum(-1)
            log_p = logits.log_softmax(-1).transpose(0, 1)
            targets = labels[labels >= 0]
            loss = F.ctc_loss(log_p, targets, sizes, lengths, reduction=self.config.ctc_loss_reduction)
            return SimpleNamespace(logits=logits, loss=loss)

    def __init__(self, reduction: str) -> None:
        super().__init__()
        self.speech = self.TinyForCTC(reduction)

    def forward(self, **batch: Tensor) -> Any:
        return self.speech(**batch)


def texts(kind: str) -> list[dict[str, Tensor]]:
    """Eight texts; the labels of the first count least, and of one none at all."""
    generator, rows = torch.Generator().manual_seed(3), []
    for index in range(8):
        ids = torch.randint(WORDS, (TOKENS,), generator=generator)
        if kind == "answers":
            place = torch.tensor(index % 4 if index not in (0, 2, 5) else TOKENS + index)
            rows.append({"input_ids": ids, "start_positions": place, "end_positions": place})
        else:
            rows.append({"input_ids": ids, "labels": torch.where(torch.arange(TOKENS) < index, ids, -100)})
    return rows


def sounds() -> list[dict[str, Tensor]]:
    generator, rows = torch.Generator().manual_seed(4), []
    for index in range(8):
        labels = torch.randint(1, WORDS, (3,), generator=generator)
        labels = torch.where(torch.arange(3) <= index % 3, labels, -100)
        rows.append({"x": torch.randn(9, 4, generator=generator), "labels": labels})
    return rows


def attached(model: nn.Module) -> dk.Adapters:
    """Adapters in float64, so that sums in another order are the same sums."""
    adapters = dk.attach(model.double(), r=R, target_modules=["up"], modules_to_save=["classifier"])
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.double().lora_B.copy_(torch.linspace(-1, 1, layer.lora_B.numel()).view_as(layer.lora_B))
    return adapters


def trained(
    make: Any, data: Any, batch_size: int, accumulated: int, **settings: Any
) -> tuple[float, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = make()
    adapters = attached(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
    history = dk.train(
        model, adapters, data, sampler=sampler, steps=1, batch_size=batch_size, gradient_accumulation=accumulated,
        optimizer=optimizer, schedule="constant", progress=False, **settings,
    )  # fmt: skip
    return float(history["loss"].iloc[0]), state_of(model)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("parts", [2, 4, 8])
@pytest.mark.parametrize("kind", ["labels as they stand", "next token", "answers"])
def test_micro_batches_with_different_numbers_of_labels_are_one_batch(kind: str, parts: int, objective: Any) -> None:
    whole = trained(lambda: Reader(kind), texts(kind), 8, 1, objective=objective)
    split = trained(lambda: Reader(kind), texts(kind), 8 // parts, parts, objective=objective)
    assert split[0] == pytest.approx(whole[0], rel=1e-6)
    for name, weight in whole[1].items():
        torch.testing.assert_close(split[1][name], weight, rtol=1e-6, atol=1e-9)


def test_micro_batches_of_sounds_with_different_numbers_of_labels_are_one_batch() -> None:
    data = [row | {"x": row["x"].double()} for row in sounds()]
    whole, split = (trained(lambda: WrappedForCTC("mean"), data, *sizes) for sizes in ((8, 1), (2, 4)))
    assert split[0] == pytest.approx(whole[0], rel=1e-6)


@pytest.mark.parametrize("objective", [*OBJECTIVES, dk.mixed_loss])
def test_micro_batches_that_count_equally_train_as_a_plain_mean_bit_for_bit(objective: Any) -> None:
    def result(**settings: Any) -> dict[str, Tensor]:
        model = toy()
        adapters = adapted(model)
        sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
        dk.train(model, adapters, examples(), sampler=sampler, steps=6, batch_size=3, gradient_accumulation=3,
                 objective=objective, progress=False, **settings)  # fmt: skip
        return state_of(model)

    assert_same(result(), result(loss=lambda model, batch: model(**batch).loss))


def test_a_loss_of_ones_own_counts_each_micro_batch_alike() -> None:
    data = texts("labels as they stand")[1:5]
    seen: list[float] = []

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        value = model(**batch).loss
        seen.append(value.item())
        return value

    total, _ = trained(lambda: Reader("labels as they stand"), data, 1, 4, loss=loss)
    assert total == pytest.approx(sum(seen) / 4)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_without_a_label_that_counts_says_so(parts: int) -> None:
    data = [row | {"labels": torch.full((TOKENS,), -100)} for row in texts("next token")]
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 1 .*, as no label of its batch counts"):
        trained(lambda: Reader("next token"), data, 2, parts)


def test_a_loss_that_is_not_finite_for_another_reason_does_not_blame_the_labels() -> None:
    data = texts("next token")
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 1 \(rank \d\): training stopped"):
        trained(lambda: Reader("next token"), data, 8, 1, loss=lambda model, batch: model(**batch).loss * torch.nan)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_sweeps_loss_of_sounds_is_the_mean_over_examples(reduction: str, batch_size: int) -> None:
    torch.manual_seed(0)
    model = WrappedForCTC(reduction)
    adapters = dk.attach(model, r=2, target_modules=["up"])
    found = dk.sweep(model, adapters, sounds(), metric="loss", ranks=[2], batch_size=batch_size, progress=False)
    batch = {name: torch.stack([row[name] for row in sounds()]) for name in ("x", "labels")}
    with torch.no_grad():
        whole = float(model(**batch).loss) / (8 if reduction == "sum" else 1)
    assert found["value"].item() == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_a_sweeps_loss_of_answers_is_the_mean_over_those_in_their_texts(batch_size: int) -> None:
    torch.manual_seed(0)
    model, data = Reader("answers"), texts("answers")
    adapters = dk.attach(model, r=2, target_modules=["up"])
    found = dk.sweep(model, adapters, data, metric="loss", ranks=[1], batch_size=batch_size, progress=False)
    with torch.no_grad(), adapters.at(1):
        whole = float(model(**{name: torch.stack([row[name] for row in data]) for name in data[0]}).loss)
    assert found["value"].item() == pytest.approx(whole, rel=1e-5)


def test_a_start_without_its_end_has_no_mean_over_answers() -> None:
    model, data = Reader("answers"), texts("answers")
    adapters = dk.attach(model, r=2, target_modules=["up"])
    data[1] = data[1] | {"end_positions": torch.tensor(TOKENS)}
    with pytest.raises(ValueError, match="its start within the text and its end beyond it"):
        dk.sweep(model, adapters, data, metric="loss", progress=False)


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("what", ["sweep", "train"])
def test_a_label_that_is_no_class_is_named_in_a_sentence(what: str, label: int) -> None:
    model = toy()
    adapters, data = adapted(model), examples()
    data[2]["labels"] = torch.tensor(label)
    with pytest.raises(ValueError, match=rf"no class for a label of the data \(Target {label} is out of bounds"):
        if what == "sweep":
            dk.sweep(model, adapters, data, progress=False)
        else:
            sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
            dk.train(model, adapters, data, sampler=sampler, steps=10, progress=False)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
def test_a_label_below_0_is_not_counted_as_a_wrong_answer(metric: str) -> None:
    model = toy()
    adapters, data = adapted(model), examples()
    data[2]["labels"] = torch.tensor(-1)
    with pytest.raises(ValueError, match="the label -1 is no class"):
        dk.sweep(model, adapters, data, metric=metric, forward=lambda model, batch: model(batch["x"]).logits,
                 progress=False)  # fmt: skip


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", ["tokens", "next token"])
def test_smoothed_labels_weigh_as_many_as_count_too(kind: str, objective: Any) -> None:
    settings = {"objective": objective, "label_smoothing": 0.1}
    together = trained(lambda: Reader(kind), texts(kind), 8, 1, **settings)
    parts = trained(lambda: Reader(kind), texts(kind), 2, 4, **settings)
    plain = trained(lambda: Reader(kind), texts(kind), 8, 1, objective=objective)
    assert parts[0] == pytest.approx(together[0]) and plain[0] != pytest.approx(together[0], rel=1e-3)
    for name, weight in together[1].items():
        torch.testing.assert_close(parts[1][name], weight, msg=name)
