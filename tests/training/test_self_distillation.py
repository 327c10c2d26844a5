"""`dk.nest`: any LoRA gets all its ranks, taught by its own answers at rank r, which do not move."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import build, inputs, logits
from models import fill
from peft import PeftModel
from torch import Tensor
from toys import R, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk
from dylora_kit.training.teacher import Teacher

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SHORT: dict[str, Any] = {"steps": 12, "batch_size": 8, "progress": False}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs_alone(n: int = 60) -> list[dict[str, Tensor]]:
    return [{"x": example["x"]} for example in examples(n)]


def answers(model: torch.nn.Module, adapters: dk.Adapters, rank: int) -> Tensor:
    model.eval()
    with adapters.at(rank), torch.no_grad():
        return model(torch.stack([example["x"] for example in examples(60, seed=7)])).logits


def distance(first: Tensor, second: Tensor) -> float:
    return float(F.kl_div(second.log_softmax(-1), first.log_softmax(-1), log_target=True, reduction="batchmean"))


def texts(n: int = 24, length: int = 9) -> list[dict[str, Tensor]]:
    ids = torch.randint(3, 50, (n, length), generator=torch.Generator().manual_seed(3))
    return [{"input_ids": row, "attention_mask": torch.ones(length, dtype=torch.long)} for row in ids]


# What it is for


def test_every_rank_comes_closer_to_the_answers_of_rank_r_than_the_closest_cut_and_rank_r_stays() -> None:
    model = toy()
    adapters, twin = adapted(model), adapted(toy())
    with torch.no_grad():
        for layer in (*adapters.layers.values(), *twin.layers.values()):
            layer.lora_B.mul_(4)
    wanted, head = answers(model, adapters, R), state_of(model.classifier)
    twin.order()
    nesting = dk.nest(
        model, adapters, inputs_alone(), steps=150, batch_size=16, lr=[3e-3, 1e-2], train_heads=False, progress=False
    )
    assert adapters.rank == R
    cut = [distance(wanted, answers(twin.model, twin, b)) for b in range(1, R)]
    taught = [distance(wanted, answers(model, adapters, b)) for b in range(1, R)]
    assert all(one < other for one, other in zip(taught, cut, strict=True))
    assert sum(taught) < 0.8 * sum(cut)
    assert distance(wanted, answers(model, adapters, R)) < 0.1 * cut[0]
    assert_same(state_of(model.classifier), head)
    assert nesting.lr in (3e-3, 1e-2)


def test_the_rate_that_is_kept_has_the_lowest_divergence_on_what_was_held_out() -> None:
    adapters = adapted(toy())
    nesting = dk.nest(adapters.model, adapters, inputs_alone(), lr=[20.0, 1e-2, 1e-5, 10.0], **SHORT)
    means = nesting.divergences.groupby("lr").divergence.mean()
    assert means.index.tolist() == [0, 1e-5, 1e-2, 10]
    assert nesting.lr == means.idxmin() == 1e-2
    assert nesting.divergences["rank"].unique().tolist() == [1, 2, 4]
    assert nesting.history is not None
    assert nesting.history["lr"].max() <= 1e-2
    assert len(nesting.history) == SHORT["steps"]


def test_where_no_rate_helps_the_ordered_adapter_is_kept() -> None:
    adapters, ordered = adapted(toy()), adapted(toy())
    ordered.order()
    nesting = dk.nest(adapters.model, adapters, inputs_alone(), lr=30.0, **SHORT)
    assert (nesting.lr, nesting.history) == (0.0, None)
    assert_same(state_of(adapters.model), state_of(ordered.model))


def test_the_adapter_before_comes_back_bit_for_bit() -> None:
    model = toy(norm=True)
    adapters = adapted(model, scaling="alpha/sqrt(b)")
    adapters.rank = 2
    before, config = state_of(model), dict(adapters.config)
    nesting = dk.nest(model, adapters, inputs_alone(), lr=1e-2, **SHORT)
    assert not torch.equal(model.classifier.weight, before["classifier.weight"])
    assert (adapters.scaling, adapters.rank) == ("alpha/r", 2)
    nesting.undo()
    now = state_of(model)
    moved = [name for name in before if not torch.equal(now[name], before[name])]
    assert moved == []
    assert adapters.config == config
    assert adapters.scaling == "alpha/sqrt(b)"


@pytest.mark.parametrize("objective", [dk.sandwich_loss, dk.individual_loss, dk.mixed_loss, dk.summation_in_one])
def test_any_objective_of_train_does(objective: Any) -> None:
    adapters = adapted(toy())
    nesting = dk.nest(adapters.model, adapters, inputs_alone(), objective=objective, lr=1e-2, **SHORT)
    means = nesting.divergences.groupby("lr").divergence.mean()
    assert means[1e-2] < means[0]


def test_heads_learn_unless_they_are_not_to_and_are_trainable_again_afterwards() -> None:
    for learn in (False, True):
        model = toy()
        adapters = adapted(model)
        head = model.classifier.weight.detach().clone()
        dk.nest(model, adapters, inputs_alone(), lr=1e-2, train_heads=learn, **SHORT)
        assert torch.equal(model.classifier.weight, head) != learn
        assert model.classifier.weight.requires_grad


def test_norms_that_were_trained_along_stay_as_they_are() -> None:
    model = toy(norm=True)
    adapters = adapted(model)
    model.norm.requires_grad_(True)
    before = state_of(model.norm)
    dk.nest(model, adapters, inputs_alone(), lr=1e-2, **SHORT)
    assert_same(state_of(model.norm), before)
    assert model.norm.weight.requires_grad


def test_the_same_seed_gives_the_same_adapter_and_the_global_random_state_stays() -> None:
    ends = []
    for seed in (0, 0, 1):
        adapters = adapted(toy())
        state = torch.get_rng_state()
        dk.nest(adapters.model, adapters, inputs_alone(), lr=1e-2, seed=seed, **SHORT)
        assert torch.equal(torch.get_rng_state(), state)
        ends.append(state_of(adapters.model))
    assert_same(ends[0], ends[1])
    assert not torch.equal(ends[0]["up.lora_A"], ends[2]["up.lora_A"])


def test_labels_change_nothing() -> None:
    ends = []
    for data in (inputs_alone(), examples(60), [example | {"labels": torch.tensor(0)} for example in inputs_alone()]):
        adapters = adapted(toy())
        dk.nest(adapters.model, adapters, data, lr=1e-2, **SHORT)
        ends.append(state_of(adapters.model))
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


# Resuming


class StopError(Exception):
    """Ends a training in its middle."""


def test_a_run_that_was_stopped_goes_on_as_the_same_run(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"lr": [1e-3, 1e-2], "checkpoint_every": 2, **SHORT}
    whole = adapted(toy())
    wanted = dk.nest(whole.model, whole, inputs_alone(), **settings)
    calls = 0

    def stopping(b: int, sampler: dk.RankSampler, batch_size: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == SHORT["steps"] + 7:
            raise StopError
        return dk.sandwich_loss(b, sampler, batch_size)

    broken = adapted(toy())
    before = state_of(broken.model)
    with pytest.raises(StopError):
        dk.nest(broken.model, broken, inputs_alone(), objective=stopping, checkpoint=tmp_path, **settings)
    assert_same(state_of(broken.model), before)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["lr-0.001", "lr-0.01"]
    calls = -1000
    again = dk.nest(
        broken.model, broken, inputs_alone(), objective=stopping, checkpoint=tmp_path, resume=True, **settings
    )
    assert_same(state_of(broken.model), state_of(whole.model))
    assert again.divergences.equals(wanted.divergences)


def test_a_run_that_resumes_with_another_adapter_is_refused(tmp_path: Path) -> None:
    adapters, other = adapted(toy()), adapted(toy(), seed=5)
    dk.nest(adapters.model, adapters, inputs_alone(), lr=1e-2, checkpoint=tmp_path, **SHORT)
    before = state_of(other.model)
    with pytest.raises(ValueError, match="made with loss = divergence from the answers of"):
        dk.nest(other.model, other, inputs_alone(), lr=1e-2, checkpoint=tmp_path, resume=True, **SHORT)
    assert_same(state_of(other.model), before)
    with pytest.raises(ValueError, match="holds the checkpoint of another run"):
        dk.nest(other.model, other, inputs_alone(), lr=1e-2, checkpoint=tmp_path, **SHORT)


# Models


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_causal_language_model_learns_and_is_exported_at_each_rank(name: str, tmp_path: Path) -> None:
    model = build(name)
    adapters = dk.attach(model, r=3, target_modules="attention")
    fill(adapters)
    nesting = dk.nest(model, adapters, texts(), lr=1e-2, **SHORT)
    means = nesting.divergences.groupby("lr").divergence.mean()
    assert means[1e-2] < means[0]
    model.eval()
    for b in (1, 3):
        adapters.rank = b
        adapters.export_peft(tmp_path / str(b), rank=b)
        again = PeftModel.from_pretrained(build(name), tmp_path / str(b)).eval()
        torch.testing.assert_close(logits(again, inputs(name)), logits(model, inputs(name)), rtol=1e-4, atol=1e-4)


def test_a_model_of_peft_learns_in_place() -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, use_rslora=True, target_modules=["query", "value"], init_lora_weights=False)
    model = get_peft_model(build("roberta"), config).eval()
    wanted, before = logits(model, inputs("roberta")), {name: id(p) for name, p in model.named_parameters()}
    state = state_of(model)
    nested = dk.nest_peft(model)
    data = [{"input_ids": row} for row in inputs("roberta", 30, seed=4)["input_ids"]]
    nesting = dk.nest(model, nested, data, lr=3e-3, **SHORT)
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert nesting.lr == 3e-3
    nesting.undo()
    assert_same(state_of(model), state)
    nested.detach()
    assert torch.equal(logits(model, inputs("roberta")), wanted)


# The teacher


def test_the_teacher_answers_as_the_model_did_while_the_model_moves() -> None:
    model = toy()
    adapters = adapted(model)
    wanted = answers(model, adapters, R)
    teacher = Teacher(adapters)
    with torch.no_grad():
        for tensor in adapters.tensors().values():
            tensor.add_(1)
    adapters.rank = 2
    model.train()
    batch = {"x": torch.stack([example["x"] for example in examples(60, seed=7)])}
    now = state_of(model)
    total, counted = teacher.divergence(model.eval(), batch)
    assert counted == 60
    assert (total / 60).item() == pytest.approx(distance(wanted, answers(model, adapters, 2)), rel=1e-5)
    assert_same(state_of(model), now)
    assert adapters.rank == 2


def test_the_tokens_that_count() -> None:
    model = build("gpt2")
    adapters = dk.attach(model, r=2, target_modules="attention")
    teacher = Teacher(adapters)
    ids, mask = torch.randint(3, 50, (2, 5)), torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])
    labels = torch.tensor([[5, 5, -100, -100, -100], [-100, -100, 5, 5, 5]])
    for batch, expected in (
        ({"input_ids": ids}, 8),
        ({"input_ids": ids, "attention_mask": mask}, 5),
        ({"input_ids": ids, "attention_mask": mask, "labels": labels}, 4),
        ({"input_ids": ids, "labels": torch.full((2, 5), -100)}, 0),
    ):
        assert teacher.divergence(model, batch)[1] == expected
    assert float(teacher(model, {"input_ids": ids, "labels": torch.full((2, 5), -100)})) == 0


def test_texts_of_which_no_token_counts_are_refused_and_the_adapter_stays() -> None:
    model = build("gpt2")
    adapters = dk.attach(model, r=2, target_modules="attention")
    fill(adapters)
    before = state_of(model)
    data = [row | {"labels": torch.full((9,), -100)} for row in texts()]
    with pytest.raises(ValueError, match="no token of the examples held out counts, whose labels are all −100"):
        dk.nest(model, adapters, data, **SHORT)
    assert_same(state_of(model), before)


def test_padding_changes_nothing() -> None:
    model = build("gpt2").eval()
    adapters = dk.attach(model, r=2, target_modules="attention")
    fill(adapters)
    teacher = Teacher(adapters)
    adapters.rank = 1
    ids = torch.randint(3, 50, (2, 5))
    padded = F.pad(ids, (0, 3)), F.pad(torch.ones(2, 5, dtype=torch.long), (0, 3))
    first = teacher(model, {"input_ids": ids})
    second = teacher(model, {"input_ids": padded[0], "attention_mask": padded[1]})
    torch.testing.assert_close(first, second, **CLOSE)


# What is refused


class OneOutput(torch.nn.Module):
    """6 → 10 → 1: a score for each example, or for each of its tokens, of which it has one."""

    def __init__(self, tokens: bool = False) -> None:
        super().__init__()
        self.tokens = tokens
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.up, self.score = torch.nn.Linear(6, 10), torch.nn.Linear(10, 1)

    def forward(self, x: Tensor) -> SimpleNamespace:
        scores = self.score(torch.tanh(self.up(x)))
        return SimpleNamespace(logits=scores[:, None] if self.tokens else scores)


def test_what_cannot_be_learned_is_refused_and_the_adapter_is_as_it_was() -> None:
    model = toy()
    adapters = adapted(model)
    before = state_of(model)
    bad = inputs_alone()
    bad[3] = {"x": torch.full((6,), torch.nan)}
    for data, options, sentence in (
        (bad, {}, "answers at rank 4, which all ranks are to learn, are not finite"),
        ([], {}, "the data is empty"),
        (inputs_alone(1), {}, "the data has one example"),
        (inputs_alone(), {"distribution": dk.Uniform(1, R + 1)}, "the sampler draws ranks up to 5, but r = 4"),
        (inputs_alone(), {"lr": -1.0}, "lr must be one learning rate, or several, above 0"),
        (inputs_alone(), {"lr": []}, "lr must be one"),
        (inputs_alone(), {"held_out": 1.0}, "held_out must be a share"),
        (inputs_alone(), {"steps": 0}, "steps must be at least 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            dk.nest(model, adapters, data, **SHORT | options)
        assert_same(state_of(model), before)
        assert (adapters.scaling, adapters.rank) == ("alpha/b", R)
        assert model.classifier.weight.requires_grad
    adapters.merge(2)
    with pytest.raises(ValueError, match="before nesting"):
        dk.nest(model, adapters, inputs_alone(), **SHORT)


def test_a_score_is_learned_by_its_squared_difference() -> None:
    adapters, ordered = (dk.attach(OneOutput(), r=3, target_modules=["up"], seed=0) for _ in range(2))
    fill(adapters)
    fill(ordered)
    wanted = answers(adapters.model, adapters, 3)
    ordered.order()
    before = (answers(ordered.model, ordered, 1) - wanted).square().mean()
    nesting = dk.nest(adapters.model, adapters, inputs_alone(), lr=1e-2, steps=60, batch_size=16, progress=False)
    assert (answers(adapters.model, adapters, 1) - wanted).square().mean() < 0.8 * before
    held = torch.stack([inputs_alone()[index]["x"] for index in torch.randperm(60, generator=seeded(0))[:6]])
    with torch.no_grad():
        with ordered.at(1):
            low = ordered.model(held).logits
        with ordered.at(3):
            full = ordered.model(held).logits
    measured = nesting.divergences.set_index(["lr", "rank"])["divergence"]
    assert measured[0, 1] == pytest.approx(float((low - full).square().mean()) / 2, rel=1e-4)


def test_outputs_of_a_single_class_for_each_token_are_refused() -> None:
    model = OneOutput(tokens=True)
    adapters = dk.attach(model, r=2, target_modules=["up"])
    with pytest.raises(ValueError, match=r"or a score \(n, 1\): got \(\d, 1, 1\)"):
        dk.nest(model, adapters, inputs_alone(), **SHORT)


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_text_without_a_next_token_is_refused_by_its_number(tokens: int) -> None:
    model = build("gpt2")
    adapters = dk.attach(model, r=2, target_modules="attention")
    data = texts()
    data[5]["attention_mask"][tokens:] = 0
    with pytest.raises(ValueError, match=f"the text of example 5 has {tokens} tokens"):
        dk.nest(model, adapters, data, **SHORT)
    with pytest.raises(ValueError, match="the text of example 1 has 1 tokens"):
        dk.nest(model, adapters, [{"input_ids": [3, 4]}, {"input_ids": [7]}], **SHORT)


def test_a_rank_lowest_drawn_and_highest_that_are_the_same_runs_once() -> None:
    sampler = dk.RankSampler(dk.Uniform(1, 8), seed=0)
    assert dk.sandwich_loss(1, sampler, 4) == [(2 / 3, 1), (1 / 3, 8)]
    assert dk.sandwich_loss(1, dk.RankSampler(dk.Fixed(1), seed=0), 4) == [(1.0, 1)]
