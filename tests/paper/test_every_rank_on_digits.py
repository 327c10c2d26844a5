"""Table 2 on digits: each method is trained as its name says, measured at its ranks, and done once."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.paper import compared_methods, every_rank, row_ordering
from dylora_kit.paper.compared_methods import (
    DYLORA,
    DYLORA_HELD,
    FROZEN,
    FULL,
    HEAD,
    HELD,
    LORA,
    NEW_HEAD,
    NO_ADAPTER,
    ONE,
    SVD,
)
from dylora_kit.paper.jobs import Study
from dylora_kit.paper.runs import collect, read_results, rows_of
from dylora_kit.storage.files import data_folder

TASK, EVERY = "digits-turned", list(range(1, 9))
SETTINGS = every_rank.TABLE2[TASK]
SHORT = SETTINGS | {"steps": 3}


def ranks_of(frame: pd.DataFrame) -> dict[str, list[int]]:
    return {method: part["rank"].tolist() for method, part in frame.groupby("method")}


def test_every_measurement_that_comes_with_the_kit_counts_as_done() -> None:
    for task in every_rank.STUDY.default:
        results = read_results(every_rank.STUDY.path(task, data_folder()))
        jobs = every_rank.STUDY.jobs_of(task, None, data_folder())
        assert jobs and all(len(rows_of(results, job)) for job in jobs), task
        assert len(results) == len(collect(every_rank.STUDY.path(task, data_folder()), jobs))


def test_what_is_missing_of_a_seed_is_measured_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(every_rank.TABLE2, TASK, SHORT)
    path, others = tmp_path / "results" / f"table2-{TASK}.csv", (FROZEN, FULL, HEAD)
    shipped = pd.read_csv(data_folder() / "results" / path.name).query("seed == 42").assign(steps=3)
    path.parent.mkdir()
    shipped[~shipped["method"].isin(others)].to_csv(path, index=False)
    before = pd.read_csv(path)
    after = collect(path, every_rank.STUDY.jobs_of(TASK, [42], tmp_path))
    pd.testing.assert_frame_equal(after.iloc[: len(before)][list(before)], before)
    new = after.iloc[len(before) :]
    assert ranks_of(new) == {FROZEN: EVERY, FULL: [8], HEAD: [8]}
    assert set(new["domain"]) == {"turned"} and set(new["metric"]) == {"accuracy"}
    assert new[["steps", "batch_size", "lr"]].drop_duplicates().to_numpy().tolist() == [[3, 32, SETTINGS["lr"]]]
    monkeypatch.setattr(every_rank, "run_digits", lambda *_, **__: pytest.fail("was measured again"))
    again = collect(path, every_rank.STUDY.jobs_of(TASK, [42], tmp_path))
    pd.testing.assert_frame_equal(again, pd.read_csv(path))


def test_one_training_of_a_lora_gives_every_cut_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every_rank, "REFITTING", 2)
    found = every_rank.run_digits(TASK, LORA, 10, **SETTINGS | {"steps": 40})
    assert ranks_of(found) == dict.fromkeys((LORA, SVD, HELD, NEW_HEAD), EVERY) | {ONE: [8]}
    at = found.set_index(["method", "rank"])["value"]
    assert at[LORA, 8] == at[HELD, 8] == at[ONE, 8] == pytest.approx(at[SVD, 8], abs=0.005)
    assert at[LORA].tolist() != at[HELD].tolist() and at[LORA, 8] > at[LORA, 1]


def test_a_model_without_adapter_has_a_new_head_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every_rank, "REFITTING", 2)
    assert ranks_of(every_rank.run_digits(TASK, NO_ADAPTER, 10, **SHORT)) == {NO_ADAPTER: [1]}
    assert ranks_of(every_rank.run_digits(TASK, ONE, 10, r=2, **SHORT)) == {ONE: [2]}


def test_the_kept_adapter_is_the_one_that_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "digits-turned-dylora"
    measured = every_rank.run_digits(TASK, DYLORA, 10, kept=folder, **SHORT)
    model = backbones.load("digits-vit")
    again = dk.sweep(model, dk.load(model, folder), every_rank.load(TASK)[1].test, progress=False)
    assert again["value"].tolist() == measured["value"].tolist()
    assert f"python -m dylora_kit.paper table2 --tasks {TASK}" in (folder / "README.md").read_text()


def test_trainings_with_other_settings_are_refused_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results" / f"table2-{TASK}.csv"
    path.parent.mkdir()
    path.write_bytes((data_folder() / "results" / path.name).read_bytes())
    before = path.read_bytes()
    monkeypatch.setitem(every_rank.TABLE2, TASK, SETTINGS | {"steps": 4})
    monkeypatch.setattr(every_rank, "run_digits", lambda *_, **__: pytest.fail("was run"))
    with pytest.raises(ValueError, match="has turned, DyLoRA with steps = 1500, now it is 4: pass --out"):
        collect(path, every_rank.STUDY.jobs_of(TASK, None, tmp_path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("study", [every_rank.STUDY, row_ordering.STUDY], ids=["table2", "ordering"])
@pytest.mark.parametrize("changed", ["steps", "backbone"])
def test_what_another_backbone_or_budget_gave_is_not_mixed_in(
    study: Study, changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study.path("digits-turned", tmp_path)
    path.parent.mkdir()
    path.write_bytes((data_folder() / "results" / path.name).read_bytes())
    results = read_results(path)
    assert all(len(rows_of(results, job)) for job in study.jobs_of("digits-turned", [42], tmp_path))
    if changed == "steps":
        monkeypatch.setitem(every_rank.TABLE2, "digits-turned", SETTINGS | {"steps": 4})
    else:
        for module in (every_rank, row_ordering):
            monkeypatch.setattr(module, "made_of", lambda task: {"backbone": "another"})
    with pytest.raises(ValueError, match=f"with {changed} = "):
        collect(path, study.jobs_of("digits-turned", None, tmp_path))


NESTED = (DYLORA, DYLORA_HELD, FROZEN)


@pytest.mark.parametrize("method", [*NESTED, LORA, ONE, FULL, HEAD])
def test_each_method_trains_what_its_name_says(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[str, Any] = {}
    real = compared_methods.train

    def listening(*args: Any, **settings: Any) -> Any:
        used.update(settings)
        return real(*args, **settings)

    monkeypatch.setattr(compared_methods, "train", listening)
    before, r = backbones.load("digits-vit").state_dict(), 2 if method == ONE else 8
    model, adapters = every_rank.on_digits(method, TASK, 10, r, **SHORT)
    drawn = set(used["sampler"].draw_many(200).tolist())
    assert drawn == (set(EVERY) if method in NESTED else {r}) and adapters.r == r
    assert used["max_grad_norm"] is None and used["steps"] == 3
    state = {name.replace("base_layer.", ""): tensor for name, tensor in model.named_parameters()}
    moved = {name for name in before if not torch.equal(before[name], state[name])}
    assert any(name.startswith("vit.") for name in moved) == (method == FULL)
    assert {name for name in moved if not name.startswith("vit.")} == {"classifier.weight", "classifier.bias"}
    zero = all(not layer.lora_B.any() for layer in adapters.layers.values())
    assert zero == (method in (FULL, HEAD))
    assert adapters.scaling == ("alpha/r" if method == DYLORA_HELD else "alpha/b")
    assert adapters.frozen == (method == FROZEN)
