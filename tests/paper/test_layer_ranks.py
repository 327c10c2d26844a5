"""The runs behind the cut by layer: same budget of parameters, chosen on validation, measured on test."""

from pathlib import Path

import pandas as pd
import pytest

import dylora_kit as dk
from dylora_kit.paper import layer_ranks
from dylora_kit.paper.runs import collect, read_results
from dylora_kit.storage.files import data_folder

SMALL = {"steps": 12, "batch_size": 8, "lr": 1e-2}


def test_half_of_the_steps_draw_a_rank_for_each_layer_and_the_others_every_rank() -> None:
    sampler, names = dk.RankSampler(dk.Uniform(1, 8), seed=3), [f"layer {index}" for index in range(5)]
    objective = layer_ranks.layerwise(names)
    drawn = [objective(b, sampler, 32)[0][1] for _ in range(200) for b in (sampler.draw(),)]
    alone = [rank for rank in drawn if isinstance(rank, int)]
    assert 0.4 < len(alone) / len(drawn) < 0.6 and set(alone) == set(range(1, 9))
    each = [rank for rank in drawn if isinstance(rank, dict)]
    assert all(list(rank) == names for rank in each)
    assert {b for rank in each for b in rank.values()} == set(range(1, 9))
    assert sum(len(set(rank.values())) > 1 for rank in each) > 0.9 * len(each)


def test_every_cut_fits_the_budget_of_its_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layer_ranks.SHORT, "digits-turned", SMALL)
    monkeypatch.setattr(layer_ranks, "BUDGETS", (3,))
    monkeypatch.setattr(layer_ranks, "STANDARD_ERRORS", (0.0,))
    study, methods = layer_ranks.STUDY, (layer_ranks.FOR_ALL, layer_ranks.FOR_EACH)
    path = study.path("digits-turned", tmp_path)
    collect(path, study.jobs_of("digits-turned", [10], tmp_path))
    written = pd.read_csv(path)
    assert written.groupby(["method", "rank", "metric"]).size().to_dict() == {
        (method, 3, metric): 2 for method in methods for metric in ("accuracy", "loss")
    }
    one_for_all = written[written["cut"] == "one rank for all"].groupby("rank")["parameters"].max()
    assert (written["parameters"] <= written["rank"].map(one_for_all)).all()
    values = written.pivot_table(index=["rank", "metric", "cut"], columns="method", values="value")
    assert (values[methods[0]] != values[methods[1]]).any()
    monkeypatch.setattr(layer_ranks, "run", lambda *_: pytest.fail("was measured again"))
    collect(path, study.jobs_of("digits-turned", [10], tmp_path))


def test_every_measurement_that_comes_with_the_kit_counts_as_done() -> None:
    study = layer_ranks.STUDY
    for task in ("digits-turned", "world-acceptability"):
        path = study.path(task, data_folder())
        assert len(collect(path, study.jobs_of(task, None, data_folder()))) == len(read_results(path))
