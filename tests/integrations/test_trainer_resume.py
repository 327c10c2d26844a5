"""A run of `transformers.Trainer` goes on from its checkpoint as the same run, or is refused and leaves no trace."""

import copy
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import build
from safetensors.torch import load_file, save_file
from torch import nn
from toys import Texts, assert_same, state_of
from transformers import Trainer, TrainerCallback, TrainingArguments

import dylora_kit as dk
from dylora_kit.integrations.trainer import DyLoRACallback


class Freezing(TrainerCallback):
    """Freezes a module after a step."""

    def __init__(self, module: nn.Module, step: int) -> None:
        self.module, self.step = module, step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.module.requires_grad_(False)


def setup(
    folder: Path,
    *,
    base: int = 0,
    data: Any = None,
    freeze_at: int = 0,
    freeze_first: bool = False,
    strategy: str = "steps",
    update: str = "exact",
    **attached: Any,
) -> tuple[Trainer, Any]:
    model: Any = build("roberta")
    with torch.no_grad():
        model.roberta.embeddings.word_embeddings.weight.add_(base)
    options = {"r": 3, "lora_alpha": 8, "target_modules": "attention", "modules_to_save": ["classifier"]} | attached
    adapters = dk.attach(model, **options)
    optimizer: Any = dk.NestedAdamW(adapters, lr=5e-3, update=update)
    if freeze_first:
        model.classifier.requires_grad_(False)
    callback = DyLoRACallback(adapters, dk.RankSampler(dk.Uniform(1, 2), seed=1))
    arguments = TrainingArguments(str(folder), max_steps=6, save_strategy=strategy, save_steps=3, report_to="none",
                                  use_cpu=True, disable_tqdm=True, per_device_train_batch_size=4)  # fmt: skip
    return Trainer(
        model,
        arguments,
        train_dataset=Texts(12, seed=1) if data is None else data,
        optimizers=(optimizer, None),
        callbacks=[Freezing(model.classifier, freeze_at), callback],
    ), model


def changed_in_the_middle() -> Texts:
    data = Texts(12, seed=1)
    data.ids[5] += 1
    return data


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another base": ({"base": 1}, r"the checkpoint was made with base weights = \w+, this run has base"),
    "other data": ({"data": changed_in_the_middle()}, "the checkpoint was made with values of examples ="),
    "less data": ({"data": Texts(11, seed=1)}, "the checkpoint was made with examples = 12, this run has exam"),
    "another α": ({"lora_alpha": 4}, "the checkpoint was made with lora_alpha = 8, this run has lora_alpha = 4"),
    "a module more": ({"modules_to_save": ["classifier", "LayerNorm"]}, r"the checkpoint lacks '.*LayerNorm\.weight'"),
    "a module less": ({"modules_to_save": []}, r"the checkpoint holds 'classifier\..*', which is not trained here"),
    "fewer layers": ({"target_modules": ["query"]}, r"the checkpoint holds '.*value\.lora_A'"),
    "another update": ({"update": "authors"}, "the saved state counts steps per row"),
    "a lower rank": ({"r": 2}, r"holds '.*lora_A' in shape \(3, \d+\), expected \(2, \d+\): attach adapters of"),
    "a higher rank": ({"r": 5}, r"holds '.*lora_A' in shape \(3, \d+\), expected \(5, \d+\)"),
    "a frozen head": ({"freeze_first": True}, r"run trained 'classifier\..*', which is frozen here: unfreeze it"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:classifier")
@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refused_resume_leaves_model_and_optimizer_as_they_were(tmp_path: Path, change: Any, words: str) -> None:
    setup(tmp_path)[0].train()
    other, model = setup(tmp_path, **change)
    before, state = state_of(model), copy.deepcopy(other.optimizer.state_dict())  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=words):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert_same(state_of(model), before)
    optimizer: Any = getattr(other.optimizer, "optimizer", other.optimizer)  # accelerate wraps it
    assert not optimizer.state
    assert [group["lr"] for group in optimizer.param_groups] == [group["lr"] for group in state["param_groups"]]


def test_after_a_refused_resume_a_training_from_the_start_is_like_any_other(tmp_path: Path) -> None:
    fresh, wanted = setup(tmp_path / "fresh", lora_alpha=4)
    fresh.train()
    setup(tmp_path)[0].train()
    other, model = setup(tmp_path / "other", lora_alpha=4)
    with pytest.raises(ValueError, match="lora_alpha"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    other.train()
    assert_same(state_of(model), state_of(wanted))


@pytest.mark.parametrize(("strategy", "step"), [("steps", 2), ("steps", 3), ("epoch", 1)])
def test_a_head_that_is_frozen_midway_is_in_the_checkpoint_and_stays_frozen(
    tmp_path: Path, strategy: str, step: int
) -> None:
    whole, wanted = setup(tmp_path, freeze_at=step, strategy=strategy)
    whole.train()
    again, model = setup(tmp_path / "again", strategy=strategy)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert_same(state_of(model), state_of(wanted))
    assert not any(parameter.requires_grad for parameter in model.classifier.parameters())


@pytest.mark.parametrize("strategy", ["steps", "no"])
def test_a_parameter_beside_the_model_is_trained_only_where_no_checkpoint_would_lack_it(
    tmp_path: Path, strategy: str
) -> None:
    trainer, _ = setup(tmp_path, strategy=strategy)
    optimizer: Any = trainer.optimizer
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    if strategy == "no":
        trainer.train()
    else:
        with pytest.raises(ValueError, match=r"trains a parameter of shape \(2,\) that is not in the model"):
            trainer.train()


def test_a_checkpoint_that_lacks_a_head_is_refused(tmp_path: Path) -> None:
    setup(tmp_path)[0].train()
    file = tmp_path / "checkpoint-3" / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if "classifier.dense" not in name}, file)
    other, model = setup(tmp_path)
    before = state_of(model)
    with pytest.raises(ValueError, match=r"the checkpoint lacks 'classifier\.dense\.weight', which this run trains"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert_same(state_of(model), before)


def test_a_model_with_a_callback_can_be_copied_and_loads_states_as_before(tmp_path: Path) -> None:
    trainer, model = setup(tmp_path)
    state = state_of(model)
    trainer.train()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin.load_state_dict(state)
        assert_same(state_of(twin), state)
    part = {name: tensor for name, tensor in state.items() if "classifier" in name}
    model.load_state_dict(part, strict=False)
    assert_same({name: state_of(model)[name] for name in part}, part)


@contextmanager
def logged_by_the_trainer() -> Iterator[list[str]]:
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    log, listener = logging.getLogger("transformers.trainer"), Listener()
    log.addHandler(listener)
    try:
        yield messages
    finally:
        log.removeHandler(listener)


def of_keys(messages: list[str]) -> list[str]:
    return [message for message in messages if "keys" in message]


def test_a_resumed_trainer_does_not_list_the_base_as_missing(tmp_path: Path) -> None:
    setup(tmp_path)[0].train()
    trainer, _ = setup(tmp_path / "again")
    with logged_by_the_trainer() as messages:
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert not of_keys(messages)
    assert not logging.getLogger("transformers.trainer").filters


def test_the_best_model_of_a_trainer_is_loaded_without_a_list_of_the_base(tmp_path: Path) -> None:
    trainer, model = setup(tmp_path)
    trainer.eval_dataset = Texts(8, seed=2)
    trainer.args.load_best_model_at_end, trainer.args.metric_for_best_model = True, "eval_loss"
    trainer.args.eval_strategy, trainer.args.eval_steps = "steps", 3
    with logged_by_the_trainer() as messages:
        trainer.train()
    assert trainer.state.best_model_checkpoint
    assert not of_keys(messages)
    assert not logging.getLogger("transformers.trainer").filters
    best = load_file(Path(trainer.state.best_model_checkpoint) / "model.safetensors")
    assert_same({name: state_of(model)[name] for name in best}, best)


def test_other_missing_keys_are_listed_as_ever(tmp_path: Path) -> None:
    trainer, model = setup(tmp_path)
    trainer.train()
    state = load_file(tmp_path / "checkpoint-3" / "model.safetensors")
    with logged_by_the_trainer() as messages:
        with pytest.raises(RuntimeError, match="Missing key"):
            model.load_state_dict(state)
        alone = model.load_state_dict(state, strict=False)
        assert "roberta.embeddings.word_embeddings.weight" in alone.missing_keys
        trainer._issue_warnings_after_load(alone)
        assert not of_keys(messages)
        trainer._issue_warnings_after_load(alone)  # a second list has another reason
        whole = {name: tensor for name, tensor in state_of(model).items() if "classifier.dense" not in name}
        trainer._issue_warnings_after_load(model.load_state_dict(whole, strict=False))
        trainer._issue_warnings_after_load(model.load_state_dict(state | {"more": torch.ones(1)}, strict=False))
    assert [message.split(":")[0].split(" were ")[1] for message in of_keys(messages)] == [
        "missing keys in the checkpoint model loaded",
        "missing keys in the checkpoint model loaded",
        "unexpected keys in the checkpoint model loaded",
    ]
    assert "classifier.dense" in of_keys(messages)[1]
