"""What lesson 07 does beside its exercises: a step is timed before a long training begins."""

import time
from typing import Any

import pytest
import torch
from toys import examples, toy

from dylora_kit.lessons import lesson_07


def test_the_second_step_is_timed_since_the_first_one_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 10.0, 10.25])
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
