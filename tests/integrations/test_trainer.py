"""DyLoRA under `transformers.Trainer`: one rank per optimizer step, a sweep at each evaluation, an exact resume."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import build, inputs, logits
from safetensors.torch import load_file
from torch import Tensor, nn
from toys import assert_same
from transformers import LlamaForCausalLM, Trainer, TrainerControl, TrainerState, TrainingArguments

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


@pytest.mark.parametrize("main", [True, False], ids=["main process", "another process"])
def test_the_main_process_alone_writes_the_adapters(tmp_path: Path, main: bool) -> None:
    trainer, _, callback = setup(tmp_path)
    state = TrainerState(global_step=2, is_local_process_zero=True, is_world_process_zero=main)
    callback.on_save(trainer.args, state, TrainerControl())
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    folder = "checkpoint-2/adapter"
    assert written == ({f"{folder}/adapter_config.json", f"{folder}/adapter_model.safetensors"} if main else set())


def test_a_checkpoint_holds_what_is_trained_and_not_the_base_model(tmp_path: Path) -> None:
    trainer, adapters, _ = setup(tmp_path, save_strategy="steps", save_steps=STEPS)
    trainer.train()
    tensors = load_file(tmp_path / f"checkpoint-{STEPS}" / "model.safetensors")
    assert_same({name: tensor for name, tensor in tensors.items() if "lora" in name or "classifier" in name},
                weights(adapters))  # fmt: skip
    assert not any("word_embeddings" in name for name in tensors)
    with pytest.raises((OSError, ValueError, KeyError)):  # it is no whole model, and is not taken for one
        type(adapters.model).from_pretrained(tmp_path / f"checkpoint-{STEPS}")  # type: ignore[attr-defined]


def test_a_saved_model_is_a_folder_that_load_opens(tmp_path: Path) -> None:
    trainer, adapters, _ = setup(tmp_path)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert_same(weights(dk.load(build("roberta"), tmp_path / "saved")), weights(adapters))


def test_a_merged_model_is_saved_as_a_plain_one(tmp_path: Path) -> None:
    trainer, adapters, _ = setup(tmp_path)
    trainer.train()
    adapters.merge(rank=2)
    trainer.save_model(str(tmp_path / "saved"))
    back = type(adapters.model).from_pretrained(tmp_path / "saved")  # type: ignore[attr-defined]
    assert_same(logits(back.eval(), inputs("roberta")), logits(adapters.model.eval(), inputs("roberta")))


def test_adapters_are_not_written_into_the_folder_of_a_whole_model(tmp_path: Path) -> None:
    trainer, _, _ = setup(tmp_path / "runs")
    build("roberta").save_pretrained(tmp_path / "base")
    files = {file.name: file.read_bytes() for file in (tmp_path / "base").iterdir()}
    with pytest.raises(ValueError, match=r"holds a whole model.*choose another folder"):
        trainer.save_model(str(tmp_path / "base"))
    assert {file.name: file.read_bytes() for file in (tmp_path / "base").iterdir()} == files


class Tokens(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Sequences whose labels are their own tokens."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = torch.randint(5, 50, (7,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


def language_run(folder: Path, *, unfrozen: bool = False, **options: Any) -> tuple[Trainer, dk.Adapters]:
    """A tied language model whose output layer is a target."""
    config = copy.deepcopy(build("llama").config)
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "scaling": "alpha/b"}
    settings |= {key: options.pop(key) for key in list(options) if key in ("r", "lora_alpha", "scaling", "seed")}
    sampler = options.pop("sampler", dk.RankSampler(dk.Uniform(1, 4), seed=3))
    update, frozen = options.pop("update", "exact"), options.pop("frozen", False)
    adapters = dk.attach(model, target_modules=["q_proj", "lm_head"], **settings)
    adapters.frozen = frozen
    if unfrozen:
        model.model.norm.requires_grad_(True)
        adapters.save_also(["model.norm"])
    arguments = TrainingArguments(
        str(folder), max_steps=4, save_steps=2, report_to="none", use_cpu=True, disable_tqdm=True, **options
    )
    optimizer: Any = dk.NestedAdamW(adapters, lr=1e-2, update=update)
    callback = DyLoRACallback(adapters, sampler)
    return Trainer(
        model, arguments, train_dataset=Tokens(), optimizers=(optimizer, None), callbacks=[callback]
    ), adapters


@pytest.mark.parametrize("unfrozen", [False, True], ids=["adapters", "a norm too"])
def test_a_tied_output_layer_trains_saves_resumes_and_exports(tmp_path: Path, unfrozen: bool) -> None:
    whole, adapters = language_run(tmp_path, unfrozen=unfrozen)
    whole.train()
    wanted = weights(adapters)
    again, resumed = language_run(tmp_path, unfrozen=unfrozen)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same(weights(resumed), wanted)
    assert any("norm" in name for name in wanted) == unfrozen
    adapters.export_peft(tmp_path / "peft", rank=2)
    model: Any = adapters.model
    with adapters.at(2):
        expected = logits(model.eval(), inputs("llama"))
    twin, handle = copy.deepcopy((model, adapters))
    dk.import_peft(handle.detach(), tmp_path / "peft")
    torch.testing.assert_close(logits(twin, inputs("llama")), expected, rtol=1e-4, atol=1e-5)


OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "alpha": ({"lora_alpha": 32}, "lora_alpha = 8, this run has lora_alpha = 32"),
    "scaling": ({"scaling": "alpha/r"}, "scaling = alpha/b, this run has scaling = alpha/r"),
    "sampler": ({"sampler": dk.RankSampler(dk.Fixed(4), seed=3)}, "probabilities = "),
    "sampler's seed": ({"sampler": dk.RankSampler(dk.Uniform(1, 4), seed=4)}, "sampler_seed = 3"),
    "frozen": ({"frozen": True}, "frozen = False"),
}


@pytest.mark.parametrize("what", OTHER)
def test_a_run_does_not_go_on_with_other_settings(tmp_path: Path, what: str) -> None:
    language_run(tmp_path)[0].train()
    options, words = OTHER[what]
    other, _ = language_run(tmp_path, **options)
    with pytest.raises(ValueError, match=f"the checkpoint was made with .*{words}"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_a_run_does_not_go_on_with_another_maximum_rank(tmp_path: Path) -> None:
    language_run(tmp_path)[0].train()
    other, _ = language_run(tmp_path, r=5)
    with pytest.raises(ValueError, match=r"lora_A' in shape \(4, \d+\), expected \(5, \d+\)"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_a_checkpoint_that_does_not_say_how_it_was_made_is_warned_of(tmp_path: Path) -> None:
    language_run(tmp_path)[0].train()
    file = tmp_path / "checkpoint-2" / "trainer_state.json"
    state = json.loads(file.read_text())
    del state["stateful_callbacks"]["dylora"]
    file.write_text(json.dumps(state))
    again, _ = language_run(tmp_path)
    with pytest.warns(UserWarning, match="does not say how its adapters were trained"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


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
