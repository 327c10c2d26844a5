"""What lesson 07 does beside its exercises: it writes the file that it reads, and times a step before a training."""

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from toys import examples, toy

from dylora_kit.lessons import lesson_07


def test_the_file_has_sentences_and_classes_and_no_sentence_is_in_two_parts(tmp_path: Path) -> None:
    file, parts = lesson_07.sentences(tmp_path)
    parts = {"train": pd.read_csv(file)} | parts
    assert {name: len(part) for name, part in parts.items()} == {"train": 3000, "validation": 250, "test": 250}
    assert all(list(part.columns) == ["text", "label"] for part in parts.values())
    assert all(set(part["label"]) == {"grammatical", "ungrammatical"} for part in parts.values())
    assert sum(len(set(part["text"])) for part in parts.values()) == len(set(pd.concat(parts.values())["text"]))


def test_one_step_is_timed_and_moves_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    model, batch = toy(), torch.utils.data.default_collate(examples(8))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    assert lesson_07.step_seconds(model, batch, ["up", "down"], ["classifier"]) == 0.25
    after: dict[str, Any] = dict(model.named_parameters())
    assert all(torch.equal(after[name.replace("up.", "up.base_layer.").replace("down.", "down.base_layer.")], value)
               for name, value in before.items())  # fmt: skip
    assert {name for name, parameter in after.items() if parameter.grad is not None} == {
        *(f"{layer}.lora_{matrix}" for layer in ("up", "down") for matrix in "AB"),
        "classifier.weight",
        "classifier.bias",
    }
