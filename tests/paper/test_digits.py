"""The runs behind the tables of digits: two parts for each seed, each of which is done once."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from dylora_kit import backbones
from dylora_kit.paper import compared_methods
from dylora_kit.paper import digits as runs

EVERY = list(range(1, 9))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results are written, a seed's LoRA and DyLoRA among them already."""
    monkeypatch.setattr(runs, "SEEDS", (10,))
    monkeypatch.setitem(runs.TRAINING, "steps", 3)
    for name in ("table2-digits-turned.csv", "ordering-digits-turned.csv"):
        frame = pd.read_csv(backbones.data_folder() / "results" / name)
        others = (runs.FROZEN, runs.FULL, runs.HEAD)
        kept = frame[(frame["seed"] == 10) & ~frame["method"].isin(others)]
        kept = kept.assign(steps=3) if "steps" in kept else kept
        (tmp_path / name).write_bytes(runs._as_csv(kept))
    return tmp_path / "table2-digits-turned.csv"


def test_what_is_missing_of_a_seed_is_measured_and_nothing_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, orders = pd.read_csv(path), path.with_name("ordering-digits-turned.csv").read_bytes()
    monkeypatch.setitem(runs.PARTS, runs.DYLORA, lambda *_: pytest.fail("was measured again"))
    runs._all(["turned"], path)
    after = pd.read_csv(path)
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    new = after.iloc[len(before) :]
    assert {key: part["rank"].tolist() for key, part in new.groupby("method")} == {
        runs.FROZEN: EVERY, runs.FULL: [8], runs.HEAD: [8],
    }  # fmt: skip
    assert set(new["domain"]) == {"turned"} and set(new["metric"]) == {"accuracy"}
    assert new[["steps", "batch_size", "lr"]].drop_duplicates().to_numpy().tolist() == [[3, 32, runs.LR]]
    assert path.with_name("ordering-digits-turned.csv").read_bytes() == orders
    monkeypatch.setitem(runs.PARTS, runs.FROZEN, lambda *_: pytest.fail("was measured again"))
    runs._all(["turned"], path)
    pd.testing.assert_frame_equal(pd.read_csv(path), after)


def test_the_first_part_of_a_seed_has_every_method_at_its_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runs.TRAINING, "steps", 40)
    monkeypatch.setattr(runs, "refit_head", partial(runs.refit_head, steps=2))
    found, orders = runs.run("turned", 10)
    assert {key: part["rank"].tolist() for key, part in found.groupby("method")} == dict.fromkeys(
        (runs.DYLORA, runs.DYLORA_HELD, runs.LORA, runs.SVD, runs.HELD, runs.NEW_HEAD), EVERY
    ) | {runs.NO_ADAPTER: [1], runs.ONE: [1, 2, 4, 8]}
    at = found.set_index(["method", "rank"])["value"]
    assert at[runs.LORA, 8] == at[runs.HELD, 8] == at[runs.ONE, 8] == pytest.approx(at[runs.SVD, 8], abs=0.005)
    assert at[runs.LORA].tolist() != at[runs.HELD].tolist() and at[runs.LORA, 8] > at[runs.LORA, 1]
    assert set(orders["method"]) == {runs.DYLORA, runs.DYLORA_HELD, runs.LORA}


def test_trainings_with_other_settings_are_refused_before_anything_is_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    monkeypatch.setitem(runs.TRAINING, "steps", 4)
    monkeypatch.setitem(runs.PARTS, runs.FROZEN, lambda *_: pytest.fail("was run"))
    with pytest.raises(ValueError, match="has trainings with steps = 3, now it is 4: name another file"):
        runs._all(["turned"], path)
    assert path.read_bytes() == before


NESTED = (runs.DYLORA, runs.DYLORA_HELD, runs.FROZEN)


@pytest.mark.parametrize("method", [*NESTED, runs.LORA, runs.ONE, runs.FULL, runs.HEAD])
def test_each_method_trains_what_its_name_says(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runs.TRAINING, "steps", 3)
    used: dict[str, Any] = {}
    real = compared_methods.train

    def listening(*args: Any, **settings: Any) -> Any:
        used.update(settings)
        return real(*args, **settings)

    monkeypatch.setattr(compared_methods, "train", listening)
    before, r = backbones.load("digits-vit").state_dict(), 2 if method == runs.ONE else 8
    model, adapters = runs.trained(method, "turned", 10, r)
    drawn = set(used["sampler"].draw_many(200).tolist())
    assert drawn == (set(EVERY) if method in NESTED else {r}) and adapters.r == r
    assert used["max_grad_norm"] is None and used["steps"] == 3
    state: dict[str, Any] = model.state_dict()
    moved = {name for name in before if name in state and not torch.equal(before[name], state[name])}
    assert any(name.startswith("vit.") for name in moved) == (method == runs.FULL)
    assert {name for name in moved if not name.startswith("vit.")} == {"classifier.weight", "classifier.bias"}
    zero = all(not layer.lora_B.any() for layer in adapters.layers.values())
    assert zero == (method in (runs.FULL, runs.HEAD))
    assert adapters.scaling == ("alpha/r" if method == runs.DYLORA_HELD else "alpha/b")
    assert adapters.frozen == (method == runs.FROZEN)
