"""DyLoRA under `transformers.Trainer`: one rank per optimizer step, a sweep at each evaluation, an exact resume."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import build
from torch import Tensor, nn
from toys import assert_same
from transformers import Trainer, TrainingArguments

import dylora_kit as dk
from dylora_kit.integrations.trainer import DyLoRACallback

R, STEPS, ACCUMULATION = 4, 6, 2


class Texts(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Random token sequences; the label says whether the first token is large."""

    def __init__(self, n: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(5, 50, (n, 7), generator=generator)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[index], "labels": (self.ids[index, 0] > 27).long()}


def accuracy(output: Any) -> dict[str, float]:
    return {"accuracy": float((output.predictions.argmax(-1) == output.label_ids).mean())}


class Watched(DyLoRACallback):
    """Remembers the rank of every forward pass in training, and of those in evaluation."""

    def listen(self, model: nn.Module) -> None:
        self.trained: list[Any] = []
        self.evaluated: list[Any] = []
        model.register_forward_pre_hook(
            lambda module, _: (self.trained if module.training else self.evaluated).append(self.adapters.rank)
        )


def setup(folder: Path, *, seed: int = 10, **options: Any) -> tuple[Trainer, dk.Adapters, Watched]:
    model = build("roberta")
    adapters = dk.attach(model, r=R, lora_alpha=8, target_modules="attention", modules_to_save=["classifier"])
    callback = Watched(adapters, dk.RankSampler(dk.Uniform(1, R), seed=seed))
    callback.listen(model)
    settings: dict[str, Any] = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": ACCUMULATION,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 0,
        **options,
    }
    trainer = Trainer(
        model,
        TrainingArguments(str(folder), **settings),
        train_dataset=Texts(64, seed=1),
        eval_dataset=Texts(40, seed=2),
        compute_metrics=accuracy,
        optimizers=(dk.NestedAdamW(adapters, lr=5e-3, weight_decay=0.1), None),  # type: ignore[arg-type]
        callbacks=[callback],
    )
    return trainer, adapters, callback


def weights(adapters: dk.Adapters) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in adapters.model.named_parameters() if p.requires_grad}


def drawn(seed: int, count: int) -> list[int]:
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=seed)
    return [sampler.draw() for _ in range(count)]


def test_one_rank_is_drawn_per_optimizer_step_for_all_its_micro_batches(tmp_path: Path) -> None:
    trainer, adapters, callback = setup(tmp_path)
    adapters.rank = 3
    trainer.train()
    assert callback.trained == [b for b in drawn(10, STEPS) for _ in range(ACCUMULATION)]
    assert adapters.rank == 3


def test_rows_beyond_the_ranks_drawn_stay_bit_identical(tmp_path: Path) -> None:
    trainer, adapters, callback = setup(tmp_path)
    callback.sampler = dk.RankSampler(dk.Categorical({1: 1, 2: 1}), seed=0)
    before = weights(adapters)
    trainer.train()
    for name, layer in adapters.layers.items():
        assert torch.equal(layer.lora_A[2:], before[f"{name}.lora_A"][2:])
        assert not layer.lora_B[:, 2:].any()
        assert layer.lora_B[:, :2].any()


def test_evaluation_in_training_runs_at_the_rank_that_was_set_and_never_at_a_drawn_one(tmp_path: Path) -> None:
    trainer, adapters, callback = setup(tmp_path, eval_strategy="steps", eval_steps=1)
    adapters.rank = 2
    trainer.train()
    assert set(callback.evaluated) == {2}


def test_every_evaluation_is_a_rank_sweep_with_each_metric_named_by_its_rank(tmp_path: Path) -> None:
    trainer, adapters, callback = setup(tmp_path, eval_strategy="steps", eval_steps=STEPS)
    callback.sweep(trainer)
    trainer.train()
    metrics = trainer.evaluate()
    frame = dk.sweep(trainer.model, adapters, Texts(40, seed=2), progress=False)
    for rank, value in zip(frame["rank"], frame["value"], strict=True):
        assert metrics[f"eval_accuracy_rank_{rank}"] == pytest.approx(value)
    assert metrics["eval_accuracy_mean"] == pytest.approx(frame["value"].mean())
    assert metrics["eval_accuracy"] == metrics[f"eval_accuracy_rank_{R}"]
    logged = [entry for entry in trainer.state.log_history if "eval_accuracy_rank_1" in entry]
    assert logged


def test_a_sweep_looks_at_the_data_that_was_evaluated(tmp_path: Path) -> None:
    trainer, adapters, callback = setup(tmp_path)
    callback.sweep(trainer, ranks=[2])
    trainer.train()
    other = Texts(24, seed=7)
    metrics = trainer.evaluate(other, metric_key_prefix="other")
    frame = dk.sweep(trainer.model, adapters, other, ranks=[2], progress=False)
    assert metrics["other_accuracy_rank_2"] == pytest.approx(frame["value"][0])


def test_the_best_model_is_chosen_by_a_rank_of_the_user_s(tmp_path: Path) -> None:
    trainer, _adapters, callback = setup(
        tmp_path,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss_rank_1",
        greater_is_better=False,
    )
    callback.sweep(trainer)
    trainer.train()
    losses = [entry["eval_loss_rank_1"] for entry in trainer.state.log_history if "eval_loss_rank_1" in entry]
    assert trainer.state.best_metric == pytest.approx(min(losses))
    assert trainer.evaluate()["eval_loss_rank_1"] == pytest.approx(min(losses), rel=1e-5)


def test_a_run_that_resumes_ends_with_the_same_bits(tmp_path: Path) -> None:
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3}
    trainer, adapters, callback = setup(tmp_path / "whole", **options)
    trainer.train()
    wanted, ranks = weights(adapters), callback.trained
    trainer, adapters, callback = setup(tmp_path / "again", **options)
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "again" / "checkpoint-3")
    trainer.train(resume_from_checkpoint=str(tmp_path / "again" / "checkpoint-3"))
    assert callback.trained == ranks[3 * ACCUMULATION :]
    assert_same(weights(adapters), wanted)


def test_a_checkpoint_holds_the_adapters_in_a_folder_of_their_own(tmp_path: Path) -> None:
    trainer, adapters, _ = setup(tmp_path, save_strategy="steps", save_steps=STEPS)
    trainer.train()
    loaded = dk.load(build("roberta"), tmp_path / f"checkpoint-{STEPS}" / "adapter")
    assert_same(weights(loaded), weights(adapters))


def test_a_second_training_draws_from_the_start_again(tmp_path: Path) -> None:
    trainer, _, callback = setup(tmp_path)
    trainer.train()
    first = list(callback.trained)
    trainer.train()
    assert callback.trained == first + first


def test_a_sampler_beyond_r_is_refused() -> None:
    adapters = dk.attach(build("roberta"), r=R, target_modules="attention")
    with pytest.raises(ValueError, match="draws ranks up to 5, but r = 4"):
        DyLoRACallback(adapters, dk.RankSampler(dk.Uniform(1, 5), seed=0))


def test_a_rank_beyond_r_is_no_rank_to_sweep(tmp_path: Path) -> None:
    trainer, _, callback = setup(tmp_path)
    with pytest.raises(ValueError, match="rank 5 is out of range"):
        callback.sweep(trainer, ranks=[1, 5])


def test_restarting_a_sampler_goes_back_to_the_seed_and_on() -> None:
    sampler = dk.RankSampler(dk.Geometric(0.3, 1, 8), seed=3)
    first = [sampler.draw() for _ in range(10)]
    sampler.restart(4)
    assert [sampler.draw() for _ in range(6)] == first[4:]
    assert np.isin(first, range(1, 9)).all()


def test_after_an_error_within_a_step_the_rank_comes_back_when_training_starts_again(tmp_path: Path) -> None:
    trainer, adapters, callback = setup(tmp_path)
    adapters.rank = 4
    failing = trainer.model.register_forward_pre_hook(stop_at(5))  # type: ignore[union-attr]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    failing.remove()
    callback.trained.clear()
    trainer.train()
    assert adapters.rank == 4
    assert set(callback.trained) != {4}


def stop_at(count: int) -> Any:
    passes: list[int] = []

    def hook(*_: Any) -> None:
        passes.append(1)
        if len(passes) == count:
            raise KeyboardInterrupt

    return hook


def test_a_trainer_of_another_model_or_optimizer_is_refused(tmp_path: Path) -> None:
    trainer, _, _ = setup(tmp_path)
    other, _, stranger = setup(tmp_path)
    with pytest.raises(ValueError, match=r"does not have the callback: make it with callbacks=\[callback\]"):
        stranger.sweep(trainer)
    trainer.add_callback(stranger)
    with pytest.raises(ValueError, match="this handle belongs to another model"):
        stranger.sweep(trainer)
    with pytest.raises(ValueError, match="this handle belongs to another model"):
        trainer.train()
    other.optimizer = trainer.optimizer
    with pytest.raises(ValueError, match="optimizer does not train these adapters"):
        other.train()


def test_an_optimizer_that_moves_other_rows_is_warned_of(tmp_path: Path) -> None:
    trainer, _, _ = setup(tmp_path)
    trainer.optimizer = None
    with pytest.warns(UserWarning, match="with AdamW rows move that were not drawn.*NestedAdamW"):
        trainer.train()


def test_without_metrics_a_sweep_collects_no_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _, callback = setup(tmp_path)
    trainer.compute_metrics = None
    callback.sweep(trainer)
    asked: list[Any] = []
    step = trainer.prediction_step
    monkeypatch.setattr(trainer, "prediction_step", lambda model, batch, only, **rest: asked.append(only) or step(
        model, batch, only, **rest))  # fmt: skip
    metrics = trainer.evaluate()
    assert set(asked) == {True}
    assert {f"eval_loss_rank_{rank}" for rank in range(1, R + 1)} < metrics.keys()
    assert not any("time" in key and "rank" in key for key in metrics)


def test_metrics_that_are_no_numbers_are_passed_over_and_names_keep_their_prefix(tmp_path: Path) -> None:
    trainer, _, callback = setup(tmp_path)
    trainer.compute_metrics = lambda output: {"each": [0.1, 0.2], "eval_aux_loss": 1.0, "accuracy": 0.5}
    callback.sweep(trainer, [2])
    metrics = trainer.evaluate()
    assert metrics["eval_accuracy_rank_2"] == 0.5
    assert metrics["eval_aux_loss_rank_2"] == 1.0
    assert "eval_each_rank_2" not in metrics
