"""A checkpoint of `train` holds all that was trained, and a run goes on from it as the same run or not at all."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from toys import R, adapted, assert_same, examples, state_of, toy

import dylora_kit as dk
from dylora_kit.storage.files import read_tensors
from dylora_kit.training.batches import stacked
from dylora_kit.training.checkpoint import FILE
from dylora_kit.training.code_fingerprint import code_fingerprint
from dylora_kit.training.data_fingerprint import SAMPLE, data_fingerprint


def run(model: nn.Module, folder: Path, adapters: dk.Adapters | None = None, **settings: Any) -> pd.DataFrame:
    settings = {"steps": 8, "batch_size": 4, "checkpoint": folder, "checkpoint_every": 2, "progress": False} | settings
    data, sampler = settings.pop("data", examples()), dk.RankSampler(dk.Uniform(1, R), seed=0)
    return dk.train(model, adapters or adapted(model), data, sampler=sampler, **settings)


class StopError(Exception):
    """Ends a training in its middle."""


def freezing(model: nn.Module, names: list[str], *, at: int, stop: int | None = None) -> Any:
    """Freezes modules or parameters after a step, and stops the run after another one."""

    def on_step(step: int) -> None:
        if step == at:
            for name, parameter in model.named_parameters():
                if name.startswith(tuple(names)):
                    parameter.requires_grad_(False)
        if step == stop:
            raise StopError

    return on_step


FROZEN_MIDWAY = {"the head": ["classifier"], "one weight": ["classifier.bias"], "an adapter": ["up.lora_A"]}


@pytest.mark.parametrize("names", FROZEN_MIDWAY.values(), ids=FROZEN_MIDWAY)
def test_what_is_frozen_midway_is_in_the_checkpoint_and_stays_frozen_in_a_run_that_resumes(tmp_path, names):
    whole = toy()
    history = run(whole, tmp_path / "whole", on_step=freezing(whole, names, at=3))
    broken = toy()
    with pytest.raises(StopError):
        run(broken, tmp_path / "broken", on_step=freezing(broken, names, at=3, stop=6))
    resumed = toy()
    again = run(resumed, tmp_path / "broken", resume=True)
    pd.testing.assert_frame_equal(again, history, check_exact=True)
    assert_same(state_of(resumed), state_of(whole))
    for (name, parameter), other in zip(resumed.named_parameters(), whole.parameters(), strict=True):
        assert parameter.requires_grad == other.requires_grad, name


def test_a_run_does_not_go_on_with_a_head_that_is_frozen_from_the_start(tmp_path):
    model = toy()
    with pytest.raises(StopError):
        run(model, tmp_path, on_step=freezing(model, [], at=0, stop=4))
    other = toy()
    adapters = adapted(other)
    optimizer = dk.NestedAdamW(adapters, lr=1e-3)
    other.classifier.requires_grad_(False)
    before = state_of(other)
    with pytest.raises(ValueError, match=r"run trained 'classifier\.weight', which is frozen here: unfreeze it"):
        run(other, tmp_path, adapters, optimizer=optimizer, resume=True)
    assert_same(state_of(other), before)


def test_no_checkpoint_is_written_that_would_lack_something_trained_in_the_run(tmp_path):
    model = toy(norm=True)

    def on_step(step: int) -> None:
        if step == 3:
            model.norm.weight.data += 1

    with pytest.raises(ValueError, match=r"'norm\.weight' has changed.*would not be saved.*save_also\(\['norm'\]\)"):
        run(model, tmp_path, on_step=on_step)
    assert len(read_tensors(tmp_path / FILE)[0]["history"]) == 2  # the last good state


def relabelled(rows: list[Any]) -> Any:
    return stacked([row | {"labels": 1 - row["labels"].clamp(max=1)} for row in rows])


class Scaled:
    """A loss that is an object."""

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return 2 * model(**batch).loss


class Doubled(Scaled):
    __name__ = "Scaled"  # what tells them apart is the code alone

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return 4 * model(**batch).loss


def times(model: nn.Module, batch: dict[str, Tensor], *, factor: float = 1.0) -> Tensor:
    return factor * model(**batch).loss


@dataclass
class Shifted:
    """Collates, as transformers' collators do, by settings of its own."""

    shift: float

    def __call__(self, rows: list[Any]) -> Any:
        return stacked([row | {"x": row["x"] + self.shift} for row in rows])


FUNCTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "collate": ({"collate": stacked}, {"collate": relabelled}, "collate = stacked"),
    "no collate": ({"collate": relabelled}, {}, "collate = relabelled"),
    "the code of collate": ({"collate": lambda rows: stacked(rows)}, {"collate": lambda rows: relabelled(rows)},
                            "code of collate"),
    "a constant of a lambda": ({"loss": lambda model, batch: 1 * model(**batch).loss},
                               {"loss": lambda model, batch: 3 * model(**batch).loss}, "code of loss"),
    "the class of an object": ({"loss": Scaled()}, {"loss": Doubled()}, "code of loss"),
    "an argument of a partial function": ({"loss": functools.partial(times, factor=2.0)},
                                          {"loss": functools.partial(times, factor=3.0)}, "code of loss"),
    "a number of a dataclass": ({"collate": Shifted(1.0)}, {"collate": Shifted(2.0)}, "code of collate"),
    "the code of an objective": ({"objective": lambda b, sampler, size: [(1.0, b)]},
                                 {"objective": lambda b, sampler, size: [(1.0, 1)]}, "code of objective"),
}  # fmt: skip


@pytest.mark.parametrize(("first", "then", "words"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_run_does_not_go_on_with_another_function(tmp_path, first, then, words):
    model = toy()
    with pytest.raises(StopError):
        run(model, tmp_path, on_step=freezing(model, [], at=0, stop=4), **first)
    other = toy()
    with pytest.raises(ValueError, match=f"the checkpoint was made with {words}"):
        run(other, tmp_path, resume=True, **then)
    assert len(run(toy(), tmp_path, resume=True, **first)) == 8


def test_a_fingerprint_of_code_is_that_of_what_is_done_and_not_of_its_text_for_readers():
    one, other = {}, {}
    exec("def f(x, y=1):\n    'One.'\n    return x in {'a', 'b'}", one)
    exec("\n\ndef f(x, y=1):\n    'Other.'\n    return x in {'a', 'b'}", other)
    assert code_fingerprint(one["f"]) == code_fingerprint(other["f"])
    exec("def f(x, y=2):\n    'One.'\n    return x in {'a', 'b'}", other)
    assert code_fingerprint(one["f"]) != code_fingerprint(other["f"])
    exec("def f(x, y=1):\n    'One.'\n    return x in {'a', 'c'}", other)
    assert code_fingerprint(one["f"]) != code_fingerprint(other["f"])
    assert code_fingerprint(torch.compile(one["f"])) != code_fingerprint(torch.compile(other["f"]))
    assert code_fingerprint(len) is None


class Counted(list[Any]):
    """Counts how often it is read."""

    reads = 0

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        return super().__getitem__(index)


def test_examples_from_all_over_large_data_are_compared_and_few_are_read():
    data = Counted(range(100_000))
    first = data_fingerprint(data)
    assert data.reads == 2 * SAMPLE
    assert data_fingerprint([*range(50_000), *(-value for value in range(50_000, 100_000))]) != first


OPTIMIZERS: dict[str, Any] = {
    "Adafactor": torch.optim.Adafactor,
    "NAdam": torch.optim.NAdam,
    "SGD": functools.partial(torch.optim.SGD, momentum=0.9),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_run_goes_on_with_optimizers_whose_states_have_shapes_of_their_own(tmp_path, optimizer):
    def trained(folder, **settings):
        model = toy()
        adapters = adapted(model)
        given = optimizer([p for p in model.parameters() if p.requires_grad], lr=0.02)
        run(model, tmp_path / folder, adapters, optimizer=given, **settings)
        return state_of(model)

    def stop(step):
        if step == 5:
            raise StopError

    whole = trained("whole")
    with pytest.raises(StopError):
        trained("broken", on_step=stop)
    assert_same(trained("broken", resume=True), whole)


def test_an_optimizer_that_trains_more_than_the_model_writes_no_checkpoint_that_lacks_it(tmp_path):
    model = toy()
    adapters = adapted(model)
    optimizer, temperature = dk.NestedAdamW(adapters), nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer.add_param_group({"params": [temperature]})
    with pytest.raises(
        ValueError, match=r"trains a parameter of shape \(2,\) that is not in the model, and a checkpoint"
    ):
        run(model, tmp_path / "run", adapters, optimizer=optimizer)
    assert not (tmp_path / "run").exists()
    run(model, None, adapters, optimizer=optimizer)
