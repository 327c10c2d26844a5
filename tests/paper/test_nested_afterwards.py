"""A LoRA that gets its ranks afterwards: every way starts at the same LoRA, and the table has all ranks and times."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest
import torch
from architectures import build
from toys import TEXTS

from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.paper import compared_methods, nested_afterwards
from dylora_kit.paper.compared_methods import DYLORA, LORA, NEW_HEAD, ONE, SVD, trained
from dylora_kit.paper.nested_afterwards import (
    BY_RANK,
    METHODS,
    NESTED,
    NESTED_HEAD,
    ON_REAL_TEXT,
    SQUEEZED,
    WAYS,
    Case,
    run,
)
from dylora_kit.paper.nested_afterwards import jobs as jobs_of
from dylora_kit.paper.real_text import RealText
from dylora_kit.paper.results_files import mean_with_interval
from dylora_kit.paper.runs import read_results, rows_of
from dylora_kit.paper.settings import TABLE2
from dylora_kit.storage.files import data_folder

SMALL = {"steps": 40, "batch_size": 8, "lr": 4e-3}
RESULTS = data_folder() / "results"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps after the LoRA's training, at one learning rate, and two that are compared."""
    monkeypatch.setattr(nested_afterwards, "AFTER", 1)
    monkeypatch.setattr(nested_afterwards, "CANDIDATES", (1e-3, 1e-2))
    for how in WAYS.values():
        monkeypatch.setitem(how, "steps", 8)
        monkeypatch.setitem(how, "lr", 3e-4)


@pytest.fixture
def case(short: None) -> Case:
    """Turned digits with few test pictures."""
    whole = nested_afterwards.embedded("digits-turned")
    few = torch.utils.data.Subset(whole.task.test, range(40))
    measure = partial(nested_afterwards.sweep, eval_data=few, metric="loss", progress=False)
    return Case(whole.build, whole.task, lambda model, adapters, ranks: measure(model, adapters, ranks=ranks))


@pytest.mark.parametrize("method", [method for method in METHODS if method != DYLORA])
def test_every_way_is_measured_at_its_ranks(case: Case, method: str) -> None:
    frame = run(lambda: case, 10, method, **SMALL)
    ranks = [1, 2, 4, 8] if method in (SQUEEZED, ONE) else list(range(1, 9))
    assert sorted(frame["rank"]) == ranks and set(frame["method"]) == {method}
    assert (frame["seconds"] >= 0).all()
    if method in (*WAYS, SQUEEZED, ONE):  # the others take less than the tenth of a second that is told
        assert (frame["seconds"][frame["rank"] < 8] > 0).all()


def test_every_way_starts_at_the_lora_as_it_was_trained(case: Case) -> None:
    def same() -> Case:
        return case

    run(same, 10, NESTED, **SMALL)
    after_another, alone = run(same, 10, NESTED_HEAD, **SMALL), run(lambda: case, 10, NESTED_HEAD, **SMALL)
    assert (after_another["chosen_lr"] > 0).all()
    assert after_another["value"].tolist() == alone["value"].tolist() != run(same, 10, SVD, **SMALL)["value"].tolist()


def test_a_lora_is_trained_once_for_ways_that_follow_one_another(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(nested_afterwards, "trained", lambda *a, **k: begun.append(a[3]) or trained(*a, **k))

    def same() -> Case:
        return case

    for method, seed in ((SVD, 10), (NESTED, 10), (SVD, 42), (NEW_HEAD, 42)):
        run(same, seed, method, **SMALL)
    assert begun == [10, 42]


@pytest.mark.parametrize("method", [SVD, NEW_HEAD, SQUEEZED, ONE])
def test_at_the_full_rank_no_cut_has_changed_the_lora(case: Case, method: str) -> None:
    frame = run(lambda: case, 10, method, **SMALL)
    _, lora = trained(case.build, case.task, LORA, 10, max_grad_norm=case.max_grad_norm, **SMALL)
    whole = case.measure(lora.model, lora, [8])["value"].item()
    assert frame[frame["rank"] == 8]["value"].tolist() == [pytest.approx(whole, rel=1e-5)]


def test_the_rate_of_the_lowest_validation_loss_is_kept(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    _, lora = trained(case.build, case.task, LORA, 10, **SMALL)
    for losses, best in (([0.5, 0.2], 1e-2), ([0.2, 0.5], 1e-3)):
        given = iter(losses)
        monkeypatch.setattr(
            compared_methods, "sweep", lambda *_, given=given, **__: pd.DataFrame({"value": [next(given)]})
        )
        assert nested_afterwards.trained_on(lora, case.task, 2, 10, batch_size=8)[1] == best


def test_what_is_trained_on_is_a_copy(case: Case) -> None:
    _, lora = trained(case.build, case.task, LORA, 10, **SMALL)
    _, closest = svd_cut(lora)
    before = {name: layer.lora_B.clone() for name, layer in closest.layers.items()}
    start = svd_cut(closest)[1].layers  # what was ordered already is ordered again, and moves by its rounding
    (_, cut), _ = nested_afterwards.trained_on(closest, case.task, 2, 10, batch_size=8)
    for name, layer in closest.layers.items():
        assert torch.equal(layer.lora_B, before[name])
        moved = (cut.layers[name].lora_B != start[name].lora_B).any(0)
        assert moved[:2].all() and not moved[2:].any()


def test_on_real_text_a_way_is_measured_by_all_metrics_of_the_task(short: None) -> None:
    real = SimpleNamespace(
        name="base", settings_of=lambda task: SMALL, build=lambda task: build("roberta"), load=lambda task: TEXTS,
        recorded=lambda task: {"model": "base"}, takes=lambda task: (1.0, 0.0, 10),
    )  # fmt: skip
    study = nested_afterwards.real_study(cast(RealText, real), ["mrpc"])
    jobs = study.jobs_of("mrpc", [10], Path())
    assert [job.part for job in jobs] == [{"task": TEXTS.name, "method": m} for m in ON_REAL_TEXT]
    assert {job.settings["model"] for job in jobs} == {"base"} and all(job.seconds > 0 for job in jobs)
    for job in jobs:
        frame = job.run()
        assert set(frame["metric"]) == {TEXTS.metric, *TEXTS.also} and set(frame["method"]) == {job.part["method"]}


def test_a_task_has_the_ways_that_it_can_take() -> None:
    ways = {task: {job.part["method"] for job in jobs_of(task, 10, Path())} for task in TABLE2}
    assert set(METHODS) - ways["world-entailment"] == {DYLORA}
    assert set(METHODS) - ways["digits-turned"] == {DYLORA, ONE}  # Table 2 has a LoRA for each rank
    assert set(METHODS) - ways["world-describe"] == {DYLORA, NEW_HEAD, NESTED_HEAD}  # there is no head


def test_what_is_done_already_is_not_measured_again() -> None:
    for task in TABLE2:
        results = read_results(RESULTS / f"nested-{task}.csv")
        missing = [job.part["method"] for job in jobs_of(task, 10, Path()) if not len(rows_of(results, job))]
        assert results.empty or not missing


def test_the_table_has_the_mean_over_powers_of_two_and_the_time(tmp_path: Path) -> None:
    rows = [
        {"method": method, "rank": b, "value": value, "seed": seed, "seconds": seconds}
        for seed in (10, 42)
        for method, value, seconds in ((NESTED, 0.8, 30.0), (SQUEEZED, 0.9, 10.0))
        for b in ((1, 2, 4, 8) if method == SQUEEZED else range(1, 9))
    ]
    columns = {"task": "digits-turned", "metric": "accuracy", "steps": 1}
    pd.DataFrame(rows).assign(**columns).to_csv(tmp_path / "nested-digits-turned.csv", index=False)
    old = pd.DataFrame([{"method": DYLORA, "rank": b, "value": 0.7, "seed": 10} for b in range(1, 9)])
    old.assign(metric="accuracy", domain="turned").to_csv(tmp_path / "table2-digits-turned.csv", index=False)
    table = {row["method"]: row for row in nested_afterwards.table(tmp_path)}
    assert list(table) == [NESTED, SQUEEZED, DYLORA]
    assert table[NESTED]["mean of 1, 2, 4, 8"] == "80.0"
    assert [table[name]["CPU-seconds"] for name in table] == ["30", "40", "–"]
    assert table[SQUEEZED]["3"] == "–" and table[DYLORA]["3"].startswith("70.0")


def test_the_table_of_real_text_has_the_dylora_of_the_same_budget(tmp_path: Path) -> None:
    budget = {"model": "m", "lr": 1e-3, "batch_size": 16, "max_length": 64, "examples": 50}

    def rows(method: str, value: float, **columns: object) -> pd.DataFrame:
        here = {"method": method, "rank": range(1, 9), "value": value, "seed": 10, "task": "glue-mrpc"} | budget
        return pd.concat([pd.DataFrame(here | {"metric": m} | columns) for m in ("f1", "accuracy")])

    rows(NESTED, 0.8, steps=500, seconds=30.0).to_csv(tmp_path / "nested-glue-m.csv", index=False)
    of_table2 = [
        rows(DYLORA, 0.7, steps=500), rows(DYLORA, 0.1, steps=300, seed=42), rows(DYLORA, 0.2, steps=500, seed=4242),
        rows(DYLORA, 0.3, steps=500, task="glue-sst2"), rows(LORA, 0.4, steps=500),
    ]  # fmt: skip
    for other, methods in (({}, [NESTED, DYLORA]), ({"lr": 4e-3}, [NESTED]), ({"model": "another"}, [NESTED])):
        pd.concat(of_table2).assign(**other).to_csv(tmp_path / "table2-glue-m.csv", index=False)
        table = [(row["task"], row["method"], row["8"]) for row in nested_afterwards.table(tmp_path)]
        value = {NESTED: "80.0", DYLORA: "70.0"}
        names = ("MRPC, m (F1, 1 seed)", "MRPC, m (accuracy, 1 seed)")
        assert table == [(name, method, value[method]) for name in names for method in methods]


def test_an_interval_covers_the_seeds_and_not_more() -> None:
    frame = pd.DataFrame({"rank": 1, "seed": range(5), "value": [0.1, 0.2, 0.3, 0.4, 0.5]})
    assert mean_with_interval(frame, [1]).startswith("30.0 (1")
    assert mean_with_interval(frame[:4], [1]) == "25.0", "four seeds are too few"
    assert mean_with_interval(frame[:1], [1]) == "10.0" and mean_with_interval(frame, [1, 2]) == "–"


def test_every_method_of_the_files_is_in_the_table() -> None:
    for path in RESULTS.glob("nested-*.csv"):
        assert set(read_results(path)["method"]) <= set(METHODS)
    assert NESTED_HEAD in METHODS


@pytest.mark.parametrize("task", ["digits-turned", "world-entailment", "world-describe"])
def test_what_a_way_is_expected_to_take_is_near_what_it_took(task: str) -> None:
    one_by_one = read_results(RESULTS / f"nested-{task}.csv").drop_duplicates(["method", "seed", "rank"])
    for job in jobs_of(task, 10, Path()):
        of = one_by_one[one_by_one["method"] == job.part["method"]].groupby("seed")["seconds"]
        took = (of.sum() if job.part["method"] in BY_RANK else of.max()).mean()
        if took:  # an SVD cut takes none after the LoRA's training
            assert 0.4 < job.seconds / took < 2.5, job.part
