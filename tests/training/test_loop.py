"""The training loop: what it repeats exactly, what it refuses, and what it leaves behind."""

import itertools
import json
import math
import os
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from toys import R, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.storage.files import read_tensors, tensors_as_bytes
from dylora_kit.tasks import digits
from dylora_kit.training.checkpoint import FILE as CHECKPOINT
from dylora_kit.training.data_fingerprint import data_fingerprint

OBJECTIVES = [dk.individual_loss, dk.summation_loss, dk.mixed_loss]
STEPS = 12


class BreakError(Exception):
    """What stops a run in these tests."""


@dataclass
class Run:
    """A model with adapters, an optimizer and a sampler, ready to train."""

    frozen: bool = False
    update: str = "exact"
    distribution: dk.RankDistribution = field(default_factory=lambda: dk.Uniform(1, R))
    seed: int = 0
    sampler_seed: int = 10
    head_lr: float | None = 0.02
    weight_decay: float = 0.1
    options: dict[str, Any] = field(default_factory=dict)
    attached: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = toy(**self.options)
        self.adapters = adapted(self.model, seed=self.seed, **{"lora_dropout": 0.3} | self.attached)
        self.adapters.frozen = self.frozen
        self.optimizer = dk.NestedAdamW(
            self.adapters, lr=0.03, weight_decay=self.weight_decay, head_lr=self.head_lr, update=self.update
        )
        self.sampler = dk.RankSampler(self.distribution, seed=self.sampler_seed)

    def train(self, **settings: Any) -> pd.DataFrame:
        settings = {"steps": STEPS, "batch_size": 4, "progress": False, "optimizer": self.optimizer} | settings
        data = settings.pop("data", examples())
        return dk.train(self.model, self.adapters, data, sampler=self.sampler, **settings)

    def result(self) -> dict[str, Any]:
        return {
            "model": state_of(self.model),
            "optimizer": self.optimizer.state_dict(),
            "draws": self.sampler.draw_many(30),
        }


def stop_after(step: int, error: type[BaseException] = BreakError):
    def on_step(done: int) -> None:
        if done == step:
            raise error

    return on_step


# Resuming


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("frozen", [False, True], ids=["all rows", "frozen"])
@pytest.mark.parametrize("update", ["exact", "authors"])
def test_a_resumed_run_equals_one_without_a_break_bit_for_bit(tmp_path, objective, frozen, update):
    # 20 examples make 5 batches: two micro-batches per step, so the break after step 7 lies inside the third epoch
    settings = {"objective": objective, "gradient_accumulation": 2, "max_grad_norm": 0.5}
    kind = {"frozen": frozen, "update": update, "options": {"norm": True}}
    whole = Run(**kind)
    history = whole.train(**settings)

    broken = Run(**kind)
    with pytest.raises(BreakError):
        broken.train(**settings, checkpoint=tmp_path, checkpoint_every=7, on_step=stop_after(9))
    resumed = Run(**kind, seed=5)  # starts from other weights, which must not matter
    assert not torch.equal(resumed.adapters.layers["up"].lora_A, broken.adapters.layers["up"].lora_A)
    torch.rand(13)
    done: list[int] = []
    resumed_history = resumed.train(**settings, checkpoint=tmp_path, resume=True, on_step=done.append)

    assert done == list(range(8, STEPS + 1))
    pd.testing.assert_frame_equal(resumed_history, history, check_exact=True)
    assert_same(resumed.result(), whole.result())


@pytest.mark.parametrize("error", [KeyboardInterrupt, BreakError])
def test_a_run_broken_again_and_again_equals_one_without_a_break(tmp_path, error):
    whole = Run()
    history = whole.train()
    for breaks, resume in [(4, False), (8, True), (11, True)]:
        with pytest.raises(error):
            Run().train(checkpoint=tmp_path, checkpoint_every=3, resume=resume, on_step=stop_after(breaks, error))
    resumed = Run()
    pd.testing.assert_frame_equal(resumed.train(checkpoint=tmp_path, resume=True), history, check_exact=True)
    assert_same(resumed.result(), whole.result())


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_a_run_with_an_optimizer_of_torch_resumes_exactly_too(tmp_path, make):
    def start() -> Run:
        run = Run(attached={"modules_to_save": []}, head_lr=None)
        run.optimizer = make([p for p in run.model.parameters() if p.requires_grad], lr=0.05)
        return run

    whole = start()
    history = whole.train()
    with pytest.raises(BreakError):
        start().train(checkpoint=tmp_path, checkpoint_every=7, on_step=stop_after(7))
    resumed = start()
    pd.testing.assert_frame_equal(resumed.train(checkpoint=tmp_path, resume=True), history, check_exact=True)
    assert_same(resumed.result(), whole.result())


def test_resuming_a_finished_run_gives_its_result_and_trains_no_further(tmp_path):
    whole = Run()
    history = whole.train(checkpoint=tmp_path)
    again = Run(seed=3)
    repeated = again.train(checkpoint=tmp_path, resume=True, on_step=stop_after(1))
    pd.testing.assert_frame_equal(repeated, history, check_exact=True)
    assert_same(again.result(), whole.result())


def test_checkpoints_are_written_every_so_many_steps_and_at_the_end(tmp_path):
    written: list[tuple[int, bool]] = []
    Run().train(
        steps=5,
        checkpoint=tmp_path,
        checkpoint_every=3,
        on_step=lambda step: written.append((step, (tmp_path / CHECKPOINT).exists())),
    )
    assert written == [(1, False), (2, False), (3, True), (4, True), (5, True)]
    resumed = Run().train(steps=5, checkpoint=tmp_path, checkpoint_every=3, resume=True, on_step=stop_after(5))
    assert list(resumed["step"]) == [1, 2, 3, 4, 5]
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"train": {"steps": 13}}, "steps = 12, this run has steps = 13"),
        ({"train": {"batch_size": 5}}, "batch_size"),
        ({"train": {"gradient_accumulation": 3}}, "gradient_accumulation"),
        ({"train": {"objective": dk.summation_loss}}, "objective"),
        ({"train": {"schedule": "constant"}}, "schedule"),
        ({"train": {"warmup": 0.5}}, "warmup"),
        ({"train": {"warmup": 3}}, "warmup"),
        ({"train": {"label_smoothing": 0.1}}, "label_smoothing"),
        ({"train": {"seed": 1}}, "seed"),
        ({"train": {"max_grad_norm": 1.0}}, "max_grad_norm"),
        ({"train": {"data": examples(19)}}, "examples"),
        ({"run": {"frozen": True}}, "frozen"),
        ({"run": {"head_lr": 0.5}}, "lr"),
        ({"run": {"weight_decay": 0.0}}, "weight_decay"),
        ({"run": {"update": "authors"}}, "update"),
        ({"run": {"distribution": dk.Uniform(1, 3)}}, "probabilities"),
        ({"run": {"sampler_seed": 11}}, "sampler_seed"),
        ({"run": {"attached": {"lora_dropout": 0.0}}}, "lora_dropout"),
        ({"run": {"attached": {"lora_alpha": 4}}}, "lora_alpha"),
        ({"run": {"attached": {"scaling": "alpha/r"}}}, "scaling"),
        ({"run": {"attached": {"rank_pattern": {"up": 2}}}}, "layers"),
        ({"run": {"attached": {"target_modules": ["up"]}}}, "layers"),
        ({"run": {"attached": {"modules_to_save": []}, "head_lr": None}}, "modules_to_save"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(key for kind in value.values() for key in kind),
)
def test_resuming_with_other_settings_is_refused_by_name_and_changes_nothing(tmp_path, change, names):
    with pytest.raises(BreakError):
        Run().train(checkpoint=tmp_path, checkpoint_every=3, on_step=stop_after(3))
    other = Run(**change.get("run", {}))
    other.model.down.eval()
    before, modes = state_of(other.model), [module.training for module in other.model.modules()]
    with pytest.raises(ValueError, match=names):
        other.train(checkpoint=tmp_path, resume=True, **change.get("train", {}))
    assert [module.training for module in other.model.modules()] == modes
    assert_same(state_of(other.model), before)
    assert not other.optimizer.state
    assert torch.equal(other.sampler.draw_many(9), Run(**change.get("run", {})).sampler.draw_many(9))


def test_a_checkpoint_with_trained_modules_is_refused_by_a_run_without_them(tmp_path):
    settings = {"steps": 3, "batch_size": 4, "lr": 0.1, "checkpoint": tmp_path, "progress": False}
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
    for saved, resume in [(["classifier", "norm"], False), (["classifier"], True)]:
        model = toy(norm=True)
        adapters = adapted(model, modules_to_save=saved)
        if not resume:
            dk.train(model, adapters, examples(), sampler=sampler, **settings)
            continue
        sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
        with pytest.raises(ValueError, match="modules_to_save"):
            dk.train(model, adapters, examples(), sampler=sampler, resume=True, **settings)


def test_resuming_without_a_checkpoint_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no {CHECKPOINT} in"):
        Run().train(checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume=True needs the folder of the checkpoint"):
        Run().train(resume=True)


def test_a_truncated_checkpoint_is_called_damaged_and_changes_nothing(tmp_path):
    Run().train(checkpoint=tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-50])
    run = Run()
    before = state_of(run.model)
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        run.train(checkpoint=tmp_path, resume=True)
    assert_same(state_of(run.model), before)


def test_a_mask_of_minus_infinity_in_the_model_does_not_stop_a_resume(tmp_path):
    def start() -> Run:
        run = Run()
        run.model.register_buffer("mask", torch.full((3,), -math.inf), persistent=False)
        return run

    start().train(checkpoint=tmp_path)
    assert len(start().train(checkpoint=tmp_path, resume=True)) == STEPS


# One rank per step, and everything else as without


@pytest.fixture
def masks(monkeypatch) -> list[torch.Tensor]:
    """Where dropout set a zero, in order, of the model's dropout and of the adapters'."""
    seen: list[torch.Tensor] = []
    real = F.dropout

    def record(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        out = real(x, *args, **kwargs)
        seen.append(out == 0)
        return out

    monkeypatch.setattr(F, "dropout", record)
    return seen


def test_lora_and_dylora_see_the_same_batches_and_dropout_masks(masks):
    logs = []
    for distribution in (dk.Fixed(R), dk.Uniform(1, R), dk.Geometric(0.4, 1, R)):
        batches: list[dict[str, torch.Tensor]] = []
        masks.clear()

        def loss(model: nn.Module, batch: dict[str, torch.Tensor], batches=batches) -> torch.Tensor:
            batches.append(batch)
            return model(**batch).loss

        history = Run(distribution=distribution).train(loss=loss, gradient_accumulation=2)
        logs.append((batches, list(masks), set(history["rank"])))
    (batches, zeros, ranks), *others = logs
    assert ranks == {R}
    assert len(batches) == 2 * STEPS
    assert len(zeros) == 3 * len(batches)
    assert any(mask.any() for mask in zeros)
    assert not any(torch.equal(a["x"], b["x"]) for a, b in itertools.pairwise(batches))
    for other_batches, other_zeros, other_ranks in others:
        assert len(other_ranks) > 1
        assert_same(other_batches, batches)
        assert_same(other_zeros, zeros)


def test_all_micro_batches_of_a_step_run_at_the_one_rank_drawn_for_it():
    run, seen = Run(), []

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append((run.adapters.rank, *(layer.rank for layer in run.adapters.layers.values())))
        return model(**batch).loss

    history = run.train(loss=loss, gradient_accumulation=3, steps=20)
    drawn = [Run().sampler.draw_many(20).tolist()]
    assert len(set(drawn[0])) == R
    assert list(history["rank"]) == drawn[0]
    assert seen == [(b, b, b) for b in drawn[0] for _ in range(3)]


@pytest.mark.parametrize("objective", [dk.individual_loss, dk.summation_loss])
@pytest.mark.parametrize("frozen", [False, True], ids=["all rows", "frozen"])
def test_accumulated_micro_batches_equal_one_big_batch(objective, frozen):
    results = []
    for batch_size, accumulated in [(8, 1), (4, 2), (2, 4)]:
        run = Run(frozen=frozen, options={"dropout": 0.0}, attached={"lora_dropout": 0.0})
        for layer in run.adapters.layers.values():
            layer.double()
        run.model.double()
        run.optimizer = dk.NestedAdamW(run.adapters, lr=0.03, weight_decay=0.1)
        data = [example | {"x": example["x"].double()} for example in examples(24)]
        history = run.train(batch_size=batch_size, gradient_accumulation=accumulated, objective=objective, data=data)
        results.append((history, state_of(run.model)))
    (history, weights), *others = results
    for other_history, other_weights in others:
        pd.testing.assert_frame_equal(other_history, history, rtol=1e-9)
        for name, weight in weights.items():
            torch.testing.assert_close(other_weights[name], weight, rtol=1e-8, atol=1e-10)


def test_the_summation_loss_is_the_expected_loss_over_all_ranks():
    distribution = dk.Categorical({1: 0.5, 2: 0.3, 4: 0.2})
    run = Run(distribution=distribution, options={"dropout": 0.0}, attached={"lora_dropout": 0.0})
    with torch.no_grad():
        data = torch.utils.data.default_collate(examples(4))
        expected = 0.0
        for b, p in distribution.probabilities.items():
            run.adapters.rank = b
            expected += p * run.model(**data).loss.item()
    history = run.train(steps=1, data=examples(4), objective=dk.summation_loss)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)


def each(model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    return F.cross_entropy(model(batch["x"]).logits, batch["labels"], reduction="none")


@pytest.mark.parametrize("loss", [None, each], ids=["mean", "one per example"])
@pytest.mark.parametrize("frozen", [False, True], ids=["all rows", "frozen"])
@pytest.mark.parametrize("distribution", [dk.Uniform(1, R), dk.Geometric(0.4, 2, R)], ids=lambda d: type(d).__name__)
def test_the_summation_loss_in_one_batch_trains_as_over_many(distribution, frozen, loss):
    if loss is None and not isinstance(distribution, dk.Uniform):
        loss = each
    quiet = {"options": {"dropout": 0.0}, "attached": {"lora_dropout": 0.0}}
    results = []
    for objective in (dk.summation_loss, dk.summation_in_one):
        run = Run(distribution=distribution, frozen=frozen, **quiet)
        history = run.train(objective=objective, gradient_accumulation=2, loss=loss)
        results.append((history, state_of(run.model)))
    (history, weights), (other_history, other_weights) = results
    assert other_history["loss"].tolist() == pytest.approx(history["loss"].tolist(), rel=1e-4)
    assert history["rank"].isna().all()
    assert other_history["rank"].isna().all()
    for name, weight in weights.items():
        torch.testing.assert_close(other_weights[name], weight, rtol=1e-3, atol=1e-4)


def test_weights_for_each_example_need_a_loss_for_each():
    run = Run(distribution=dk.Geometric(0.4, 1, R))
    with pytest.raises(ValueError, match=r"weighs 16 examples one by one, but the loss has shape \(\)"):
        run.train(objective=dk.summation_in_one)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("frozen", [False, True], ids=["all rows", "frozen"])
def test_gradient_checkpointing_gives_the_same_result(objective, frozen):
    results = []
    for checkpointing in (False, True):
        run = Run(frozen=frozen, options={"checkpointing": checkpointing})
        history = run.train(objective=objective, gradient_accumulation=2)
        results.append((history, run.result()))
    (history, result), (other_history, other) = results
    pd.testing.assert_frame_equal(other_history, history, check_exact=True)
    assert_same(other, result)


# What it leaves behind


@pytest.mark.parametrize("fails", [False, True], ids=["to the end", "after an error"])
def test_the_global_random_state_is_not_touched(tmp_path, fails):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 (the global generator is what this is about)
    random.seed(123)
    expected = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    run = Run()
    if fails:
        with pytest.raises(BreakError):
            run.train(on_step=stop_after(3), checkpoint=tmp_path)
    else:
        run.train(checkpoint=tmp_path)
        Run().train(checkpoint=tmp_path, resume=True)
    assert torch.equal(torch.get_rng_state(), expected[0])
    assert (np.random.get_state()[1] == expected[1]).all()  # noqa: NPY002
    assert random.getstate() == expected[2]


def test_a_run_does_not_depend_on_the_global_random_state():
    torch.manual_seed(1)
    first = Run()
    history = first.train()
    torch.manual_seed(2)
    second = Run()
    pd.testing.assert_frame_equal(second.train(), history, check_exact=True)
    assert_same(second.result(), first.result())


@pytest.mark.parametrize("rank", [3, {"up": 1, "down": 4}, torch.tensor([1, 2, 4])], ids=["int", "layers", "examples"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("fails", [False, True], ids=["to the end", "after an error"])
def test_the_rank_is_afterwards_what_it_was_before(rank, objective, fails):
    run = Run()
    run.adapters.rank = rank
    if fails:
        with pytest.raises(BreakError):
            run.train(on_step=stop_after(5), objective=objective)
    else:
        run.train(objective=objective)
    assert_same(run.adapters.rank, rank)


@pytest.mark.parametrize("fails", [False, True], ids=["to the end", "after an error"])
def test_each_module_gets_its_own_mode_back_and_all_train_meanwhile(fails):
    run = Run(options={"norm": True})
    run.model.train()
    run.model.norm.eval()
    run.model.down.eval()
    before = {name: module.training for name, module in run.model.named_modules()}
    assert len(set(before.values())) == 2
    meanwhile: list[bool] = []

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        meanwhile.extend(module.training for module in model.modules())
        return model(**batch).loss

    if fails:
        with pytest.raises(BreakError):
            run.train(on_step=stop_after(5), loss=loss)
    else:
        run.train(loss=loss)
    assert all(meanwhile)
    assert {name: module.training for name, module in run.model.named_modules()} == before


def test_the_learning_rate_of_the_optimizer_is_afterwards_what_it_was():
    run = Run()
    before = [group["lr"] for group in run.optimizer.param_groups]
    with pytest.raises(BreakError):
        run.train(on_step=stop_after(4))
    assert [group["lr"] for group in run.optimizer.param_groups] == before
    assert all(p.grad is None for p in run.model.parameters())


def test_only_the_adapters_and_the_saved_modules_are_changed():
    run = Run()
    before = state_of(run.model)
    run.train()
    changed = {name for name, tensor in state_of(run.model).items() if not torch.equal(tensor, before[name])}
    adapter = {f"{layer}.{part}" for layer in ("up", "down") for part in ("lora_A", "lora_B")}
    assert changed == adapter | {"classifier.weight", "classifier.bias"}


# A loss that is not finite


def spoil(call: int, value: float):
    """A loss that is `value` in one call, counted from 1."""
    calls = []

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(batch)
        result = model(**batch).loss
        return result * value if len(calls) == call else result

    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("call", [13, 14], ids=["first micro-batch", "second micro-batch"])
def test_a_loss_that_is_not_finite_stops_before_its_step_and_the_run_can_go_on(tmp_path, value, call):
    whole = Run()
    history = whole.train(gradient_accumulation=2)

    run, weights = Run(), {}
    with pytest.raises(FloatingPointError, match=r"at step 7 \(rank \d\).*last good state is in"):
        run.train(
            gradient_accumulation=2,
            loss=spoil(call, value),
            checkpoint=tmp_path,
            checkpoint_every=2,
            on_step=lambda step: weights.update({step: state_of(run.model)}),
        )
    assert max(weights) == 6
    assert_same(state_of(run.model), weights[6])
    assert all(p.grad is None for p in run.model.parameters())
    resumed = Run()
    again = resumed.train(gradient_accumulation=2, loss=spoil(0, value), checkpoint=tmp_path, resume=True)
    pd.testing.assert_frame_equal(again, history, check_exact=True)
    assert_same(resumed.result(), whole.result())


def test_a_gradient_that_is_not_finite_stops_before_its_step_and_the_run_can_go_on(tmp_path):
    whole = Run()
    history = whole.train()

    class Explode(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
            return grads[0] * math.nan

    calls = []

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(batch)
        result = model(**batch).loss
        return Explode.apply(result) if len(calls) == 7 else result

    run, weights = Run(), {}
    with pytest.raises(FloatingPointError, match="step 7"):
        run.train(
            loss=loss,
            checkpoint=tmp_path,
            checkpoint_every=1,
            on_step=lambda step: weights.update({step: state_of(run.model)}),
        )
    assert_same(state_of(run.model), weights[6])
    resumed = Run()
    again = resumed.train(loss=loss, checkpoint=tmp_path, resume=True)
    pd.testing.assert_frame_equal(again, history, check_exact=True)
    assert_same(resumed.result(), whole.result())


# What it refuses


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.1}, "give lr and weight_decay to the optimizer"),
        ({"weight_decay": 0.1}, "give lr and weight_decay to the optimizer"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine': expected 'linear' or 'constant'"),
        ({"warmup": 1.0}, "warmup is a share of the steps"),
        ({"warmup": -0.1}, "warmup is a share of the steps"),
        ({"warmup": -1}, "warmup is a share of the steps.*or a whole number of steps: got -1"),
        ({"warmup": 5.0}, "warmup is a share of the steps"),
        ({"warmup": True}, "warmup is a share of the steps"),
        ({"steps": 0}, "steps must be at least 1: got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1: got 0"),
        ({"gradient_accumulation": 0}, "gradient_accumulation must be at least 1: got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1: got 0"),
        ({"data": []}, "the training data is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(tmp_path, settings, message):
    run = Run()
    run.model.eval()
    before = state_of(run.model)
    with pytest.raises(ValueError, match=message):
        run.train(checkpoint=tmp_path, **settings)
    assert_same(state_of(run.model), before)
    assert not any(module.training for module in run.model.modules())
    assert run.adapters.rank == R
    assert list(tmp_path.iterdir()) == []


def test_a_sampler_that_draws_beyond_r_is_refused():
    with pytest.raises(ValueError, match="the sampler draws ranks up to 5, but r = 4"):
        Run(distribution=dk.Uniform(1, 5)).train()


def test_merged_adapters_are_not_trained():
    run = Run()
    run.adapters.merge(rank=2)
    with pytest.raises(ValueError, match="merged into the base weights: call unmerge"):
        run.train()
    assert run.adapters.merged


# Schedule, history, clipping


def test_the_linear_schedule_rises_over_the_warm_up_and_falls_to_zero():
    history = Run().train(steps=10, warmup=0.3)
    expected = [0.03 * factor for factor in (1 / 4, 2 / 4, 3 / 4, 7 / 7, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7)]
    assert history["lr"].tolist() == pytest.approx(expected)


def test_a_warm_up_may_be_a_number_of_steps():
    assert Run().train(steps=10, warmup=3)["lr"].tolist() == Run().train(steps=10, warmup=0.3)["lr"].tolist()
    assert Run().train(steps=4, warmup=1)["lr"].tolist() == pytest.approx([0.03 * f for f in (1 / 2, 1, 2 / 3, 1 / 3)])
    assert Run().train(steps=3, warmup=9)["lr"].tolist() == pytest.approx([0.03 * f for f in (0.1, 0.2, 0.3)])


def test_the_constant_schedule_is_constant_and_both_groups_follow_the_schedule():
    assert Run().train(schedule="constant")["lr"].tolist() == [0.03] * STEPS
    run, seen = Run(), []
    run.train(steps=4, warmup=0.0, on_step=lambda _: seen.append([g["lr"] for g in run.optimizer.param_groups]))
    assert seen == [pytest.approx([0.03 * f, 0.02 * f]) for f in (1, 0.75, 0.5, 0.25)]


def test_a_second_training_with_the_same_optimizer_starts_at_the_full_learning_rate():
    run = Run()
    assert run.train()["lr"].tolist() == run.train()["lr"].tolist()


def test_without_an_optimizer_lr_and_weight_decay_make_the_exact_one():
    histories = []
    for settings in ({"optimizer": None, "lr": 0.03, "weight_decay": 0.1}, {}):
        run = Run(head_lr=None)
        histories.append((run.train(**settings), state_of(run.model)))
    pd.testing.assert_frame_equal(histories[0][0], histories[1][0], check_exact=True)
    assert_same(histories[0][1], histories[1][1])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_history_has_a_row_per_step_and_a_rank_only_if_the_step_had_one(objective):
    history = Run().train(objective=objective)
    assert list(history.columns) == ["step", "rank", "loss", "lr"]
    assert [str(kind) for kind in history.dtypes] == ["int64", "Int64", "float64", "float64"]
    assert history["step"].tolist() == list(range(1, STEPS + 1))
    assert history["rank"].isna().tolist() == [objective is not dk.individual_loss] * STEPS
    assert np.isfinite(history["loss"]).all()


def test_training_lowers_the_loss():
    history = Run().train(steps=60, batch_size=20)
    assert history["loss"][-15:].mean() < 0.8 * history["loss"][:15].mean()


def test_clipping_bounds_the_norm_of_the_gradient_over_all_trained_parameters():
    class Norms(torch.optim.SGD):
        seen: list[float]

        def step(self, closure: Any = None) -> None:
            grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            self.seen.append(float(torch.stack([g.norm() for g in grads]).norm()))
            super().step(closure)

    norms = {}
    for limit in (None, 0.05):
        run = Run()
        run.optimizer = Norms([p for p in run.model.parameters() if p.requires_grad], lr=0.01)
        run.optimizer.seen = []
        run.train(max_grad_norm=limit, gradient_accumulation=2)
        norms[limit] = run.optimizer.seen
    assert min(norms[None]) > 0.06
    assert norms[0.05] == [pytest.approx(0.05, rel=1e-3)] * STEPS


def test_data_come_in_whole_batches_and_every_example_is_seen_once_per_epoch():
    seen: list[int] = []
    data = [example | {"index": torch.tensor(index)} for index, example in enumerate(examples(22))]

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.extend(batch.pop("index").tolist())
        return model(**batch).loss

    Run().train(data=data, batch_size=4, steps=10, loss=loss)
    first, second = seen[:20], seen[20:]
    assert len(seen) == 40
    assert len(set(first)) == len(set(second)) == 20
    assert first != second


def test_a_batch_size_above_the_data_trains_on_all_of_them():
    sizes: list[int] = []

    def collate(chosen: list[Any]) -> dict[str, torch.Tensor]:
        sizes.append(len(chosen))
        return torch.utils.data.default_collate(chosen)

    Run().train(data=examples(3), batch_size=64, collate=collate, steps=4)
    assert set(sizes) == {3}


def test_a_loss_of_ones_own_trains_a_model_that_is_called_otherwise():
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    adapters = dk.attach(model, r=3, target_modules=["0", "2"])
    history = dk.train(
        model,
        adapters,
        examples(),
        sampler=dk.RankSampler(dk.Fixed(3), seed=0),
        steps=40,
        lr=0.05,
        batch_size=10,
        loss=lambda model, batch: F.cross_entropy(model(batch["x"]), batch["labels"]),
        progress=False,
    )
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_an_objective_of_ones_own_can_be_any_callable(tmp_path):
    class Ends:
        def __call__(self, b: int, sampler: dk.RankSampler, batch_size: int) -> list[tuple[float, int]]:
            return [(0.5, 1), (0.5, R)]

    first = Run().train(objective=Ends(), checkpoint=tmp_path)
    assert first["rank"].isna().all()
    assert len(Run().train(objective=Ends(), checkpoint=tmp_path, resume=True)) == STEPS


# Progress


PROGRESS = """
import time
from test_loop import Run
import dylora_kit as dk
settings = {"steps": 3, "on_step": lambda step: time.sleep(0.15), "schedule": "constant"}
history = Run().train(progress=True, **settings)
print("§", *(f"loss={row.loss:.3f}, rank={row.rank}" for row in history.itertuples()), sep="§", end="§§")
Run().train(progress=True, objective=dk.summation_loss, **settings)
print("§", end="")
Run().train(progress=False, **settings)
"""


def test_the_progress_bar_shows_loss_and_rank_and_nothing_appears_without_it():
    # a process of its own, because tqdm reads the environment once
    environment = {key: value for key, value in os.environ.items() if key != "TQDM_DISABLE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run([sys.executable, "-c", PROGRESS], env=environment, capture_output=True, text=True, check=True)
    individual, _, first, second, third, _, summation, nothing = done.stdout.split("§")
    assert "training" in individual
    assert any(text in individual for text in (first, second, third))
    assert "rank=several" in summation
    assert "nan" not in summation
    assert nothing == ""
    assert done.stderr == ""


def test_the_loss_may_come_from_any_object_with_a_loss():
    class Wrapped(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, **batch: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(loss=self.model(**batch).loss)

    run = Run()
    expected = run.train()
    other = Run()
    history = dk.train(
        Wrapped(other.model),
        other.adapters,
        examples(),
        sampler=other.sampler,
        optimizer=other.optimizer,
        steps=STEPS,
        batch_size=4,
        progress=False,
    )
    pd.testing.assert_frame_equal(history, expected, check_exact=True)


def test_a_hugging_face_dataset_trains_and_sweeps_as_it_is() -> None:
    """`datasets.Dataset` is what most users bring."""
    plain = digits.load("turned").train
    rows = {"pixel_values": plain.pixel_values[:64].tolist(), "labels": plain.labels[:64].tolist()}
    data = datasets.Dataset.from_dict(rows).with_format("torch")
    results = []
    for each in (data, digits.Digits(plain.pixel_values[:64], plain.labels[:64])):
        model = backbones.load("digits-vit")
        adapters = dk.attach(model, r=4, target_modules=["q_proj", "v_proj"])
        history = dk.train(model, adapters, each, sampler=dk.RankSampler(dk.Uniform(1, 4), seed=0), steps=3)
        results.append((history.loss.tolist(), dk.sweep(model, adapters, each).value.tolist()))
    assert results[0] == results[1]


def test_adapters_of_another_model_and_foreign_optimizers_are_refused():
    model, other = toy(), toy()
    adapters, others = adapted(model), adapted(other)
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
    with pytest.raises(ValueError, match="another model"):
        dk.train(other, adapters, examples(8), sampler=sampler, steps=1)
    with pytest.raises(ValueError, match="another model"):
        dk.sweep(other, adapters, examples(8))
    with pytest.raises(ValueError, match="does not train these adapters"):
        dk.train(model, adapters, examples(8), sampler=sampler, steps=1, optimizer=dk.NestedAdamW(others))


@pytest.mark.parametrize("lost", ["rng", "history", "sampler", "optimizer.0.exp_avg", "optimizer.0.step"])
def test_a_checkpoint_that_lacks_something_changes_nothing(tmp_path, lost):
    model = toy()
    adapters = adapted(model)
    arguments = {"steps": 4, "checkpoint": tmp_path, "batch_size": 4}
    dk.train(model, adapters, examples(8), sampler=dk.RankSampler(dk.Uniform(1, R), seed=0), **arguments)
    tensors, recorded = read_tensors(tmp_path / CHECKPOINT)
    kept = {name: tensor for name, tensor in tensors.items() if name != lost}
    (tmp_path / CHECKPOINT).write_bytes(tensors_as_bytes(kept, recorded))
    fresh, sampler = toy(), dk.RankSampler(dk.Uniform(1, R), seed=0)
    handle = adapted(fresh)
    before, draws = state_of(fresh), sampler.state_dict()["generator"]
    with pytest.raises(ValueError, match=f"damaged.*{lost}"):
        dk.train(fresh, handle, examples(8), sampler=sampler, resume=True, **arguments)
    assert_same(state_of(fresh), before)
    assert torch.equal(sampler.state_dict()["generator"], draws)


def go_on(folder: Path, *, seed: int = 0, data: Any = None, **settings: Any) -> pd.DataFrame:
    """A run of four steps on a base that follows from the seed."""
    model = toy(seed)
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
    data = examples() if data is None else data
    settings = {"steps": 4, "batch_size": 4, "checkpoint": folder, "progress": False} | settings
    return dk.train(model, adapted(model), data, sampler=sampler, **settings)


def squared(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**batch).logits.square().mean()


OTHER_RUNS = {
    "another base": ({"seed": 1}, "base weights = "),
    "another first example": ({"data": [*examples(1, seed=9), *examples()[1:]]}, "values of examples = "),
    "another last example": ({"data": [*examples()[:-1], *examples(1, seed=9)]}, "values of examples = "),
    "another example between": ({"data": [*examples()[:8], *examples(1, seed=9), *examples()[9:]]}, "values of exam"),
    "more data": ({"data": [*examples()[:-1], *examples(5, seed=9), examples()[-1]]}, "examples = 20"),
    "another loss": ({"loss": squared}, "loss = None, this run has loss = squared"),
}


@pytest.mark.parametrize(("change", "message"), OTHER_RUNS.values(), ids=OTHER_RUNS)
def test_a_run_of_another_kind_is_refused_by_name_and_nothing_has_changed(tmp_path, change, message):
    go_on(tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(ValueError, match=f"the checkpoint was made with {message}"):
        go_on(tmp_path, resume=True, **change)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert len(go_on(tmp_path, resume=True)) == 4


class Noisy(list[Any]):
    """Examples that are drawn anew each time they are read, from every global generator."""

    def __getitem__(self, index: Any) -> Any:
        noise = torch.randn(6) + random.random() + float(np.random.rand())  # noqa: NPY002
        return super().__getitem__(index) | {"x": super().__getitem__(index)["x"] + noise}


def test_examples_that_differ_each_time_are_not_compared_and_looking_draws_nothing(tmp_path):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert data_fingerprint(Noisy(examples())) is None
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]  # noqa: NPY002
    go_on(tmp_path, data=Noisy(examples()))
    go_on(tmp_path, data=Noisy(examples(seed=3)), resume=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": [1, "b"]}, {"a": [1, "c"]}),
        ({"a": np.zeros(3)}, {"a": np.zeros(3, dtype=np.float32)}),
        ({"a": torch.zeros(3)}, {"a": torch.zeros(3, 1)}),
        ({"a": torch.ones(2, dtype=torch.bfloat16)}, {"a": torch.zeros(2, dtype=torch.bfloat16)}),
        ({"a": None}, {"b": None}),
    ],
    ids=str,
)
def test_a_fingerprint_of_data_sees_what_is_in_an_example(one, other):
    assert data_fingerprint([one]) == data_fingerprint([dict(one)])
    assert data_fingerprint([one]) != data_fingerprint([other])
    assert data_fingerprint([one, one, one]) != data_fingerprint([one, other, one])


def test_a_checkpoint_of_before_the_fingerprints_goes_on(tmp_path):
    go_on(tmp_path)
    tensors, recorded = read_tensors(tmp_path / CHECKPOINT)
    for key in list(recorded):
        known = ("base weights", "values of examples", "loss", "collate", "frozen parameters")
        if key in known or key.startswith("code of"):
            del recorded[key]
    recorded["first and last example"] = "0123456789ab"  # of versions that looked at these two alone
    recorded["base"] = "0123456789ab"  # … and at eight weights of the base
    save_file(tensors, tmp_path / CHECKPOINT, {"metadata": json.dumps(recorded)})
    assert len(go_on(tmp_path, resume=True, loss=squared)) == 4


@pytest.mark.parametrize("place", [-1, -2000, 300])
def test_a_bit_that_flips_in_a_checkpoint_is_noticed(tmp_path, place):
    go_on(tmp_path)
    content = bytearray((tmp_path / CHECKPOINT).read_bytes())
    content[place] ^= 1
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(ValueError, match=r"training\.safetensors is damaged"):
        go_on(tmp_path, resume=True)


def test_a_new_run_does_not_overwrite_the_checkpoint_of_another(tmp_path):
    model = toy()
    adapters = adapted(model)
    arguments = {"sampler": dk.RankSampler(dk.Uniform(1, R), seed=0), "steps": 2, "checkpoint": tmp_path}
    dk.train(model, adapters, examples(8), **arguments)
    with pytest.raises(ValueError, match="another run"):
        dk.train(model, adapters, examples(8), **arguments)


def test_a_learning_rate_set_between_two_runs_counts():
    model = toy()
    adapters = adapted(model)
    optimizer = dk.NestedAdamW(adapters, lr=1e-2)
    arguments = {"sampler": dk.RankSampler(dk.Uniform(1, R), seed=0), "optimizer": optimizer, "schedule": "constant"}
    dk.train(model, adapters, examples(8), steps=1, **arguments)
    optimizer.param_groups[0]["lr"] = 1e-4
    assert dk.train(model, adapters, examples(8), steps=1, **arguments).lr.tolist() == [1e-4]
