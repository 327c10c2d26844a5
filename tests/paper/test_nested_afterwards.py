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
from dylora_kit.paper import nested_afterwards
from dylora_kit.paper.compared_methods import DYLORA, LORA, NEW_HEAD, ONE, SVD, trained
from dylora_kit.paper.nested_afterwards import (
    METHODS,
    NESTED,
    NESTED_HEAD,
    NESTED_MIXED,
    NESTED_ONE,
    SQUEEZED,
    WAYS,
    Case,
    run,
)
from dylora_kit.paper.real_text import RealText
from dylora_kit.paper.results_files import mean_with_interval
from dylora_kit.paper.runs import read_results
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


def test_every_way_is_measured_at_its_ranks(case: Case) -> None:
    frame = run(lambda: case, 10, own=(2,), **SMALL)
    ranks = frame.groupby("method")["rank"].apply(sorted).to_dict()
    every = list(range(1, 9))
    assert ranks == {**dict.fromkeys((SVD, NEW_HEAD, *WAYS), every), SQUEEZED: [1, 2, 4, 8], ONE: [2, 8]}


def test_every_way_starts_at_the_lora_as_it_was_trained(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NESTED_ONE, NESTED_MIXED):
        monkeypatch.delitem(WAYS, name)
    after_another = run(lambda: case, 10, own=(), **SMALL)
    monkeypatch.delitem(WAYS, NESTED)
    alone = run(lambda: case, 10, own=(), **SMALL)
    assert (after_another.set_index("method").loc[[NESTED, NESTED_HEAD], "chosen_lr"] > 0).all()
    values = [frame[frame["method"] == NESTED_HEAD]["value"].tolist() for frame in (after_another, alone)]
    assert values[0] == values[1] != alone[alone["method"] == SVD]["value"].tolist()


def test_at_the_full_rank_no_cut_has_changed_the_lora(case: Case) -> None:
    frame = run(lambda: case, 10, own=(), **SMALL)
    _, lora = trained(case.build, case.task, LORA, 10, max_grad_norm=1.0, **SMALL)
    whole = case.measure(lora.model, lora, [8])["value"].item()
    at_8 = frame[frame["rank"] == 8].set_index("method")["value"]
    assert at_8[[SVD, NEW_HEAD, SQUEEZED]].tolist() == pytest.approx([whole] * 3, rel=1e-5)


def test_the_rate_of_the_lowest_validation_loss_is_kept(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    _, lora = trained(case.build, case.task, LORA, 10, **SMALL)
    for losses, best in (([0.5, 0.2], 1e-2), ([0.2, 0.5], 1e-3)):
        given = iter(losses)
        monkeypatch.setattr(
            nested_afterwards, "sweep", lambda *_, given=given, **__: pd.DataFrame({"value": [next(given)]})
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


def test_on_real_text_every_way_is_measured_by_the_metrics_of_the_task(short: None) -> None:
    real = SimpleNamespace(
        name="base", settings_of=lambda task: SMALL, build=lambda task: build("roberta"), load=lambda task: TEXTS,
        recorded=lambda task: {"model": "base"}, takes=lambda task: (1.0, 0.0, 10),
    )  # fmt: skip
    study = nested_afterwards.real_study(cast(RealText, real), ["mrpc"])
    (job,) = study.jobs_of("mrpc", [10], Path())
    assert job.part == {"task": TEXTS.name} and job.settings["model"] == "base" and job.seconds > 4
    frame = job.run()
    assert set(frame["metric"]) == {TEXTS.metric, *TEXTS.also}
    assert set(frame["method"]) == {SVD, NEW_HEAD, *WAYS, SQUEEZED, ONE}


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
    assert table[NESTED]["mean of 1, 2, 4, 8"] == "80.0 (80.0 to 80.0)"
    assert [table[name]["CPU-seconds"] for name in table] == ["30", "40", "–"]
    assert table[SQUEEZED]["3"] == "–" and table[DYLORA]["3"].startswith("70.0")


def test_an_interval_covers_the_seeds_and_not_more() -> None:
    frame = pd.DataFrame({"rank": 1, "seed": range(5), "value": [0.1, 0.2, 0.3, 0.4, 0.5]})
    assert mean_with_interval(frame, [1]).startswith("30.0 (1")
    assert mean_with_interval(frame[:1], [1]) == "10.0" and mean_with_interval(frame, [1, 2]) == "–"


def test_every_method_of_the_files_is_in_the_table() -> None:
    for path in RESULTS.glob("nested-*.csv"):
        assert set(read_results(path)["method"]) <= set(METHODS)
    assert NESTED_HEAD in METHODS
