"""The runs behind the cut by layer: same budget of parameters, chosen on validation, measured on test."""

from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest

import dylora_kit as dk
from dylora_kit.paper import design, layers

SMALL = {"steps": 12, "batch_size": 8, "lr": 1e-2}


def test_half_of_the_steps_draw_a_rank_for_each_layer_and_the_others_every_rank() -> None:
    sampler, names = dk.RankSampler(dk.Uniform(1, 8), seed=3), [f"layer {index}" for index in range(5)]
    objective = layers.layerwise(names)
    drawn = [objective(b, sampler, 32)[0][1] for _ in range(200) for b in (sampler.draw(),)]
    alone = [rank for rank in drawn if isinstance(rank, int)]
    assert 0.4 < len(alone) / len(drawn) < 0.6 and set(alone) == set(range(1, 9))
    each = [rank for rank in drawn if isinstance(rank, dict)]
    assert all(list(rank) == names for rank in each)
    assert {b for rank in each for b in rank.values()} == set(range(1, 9))
    assert sum(len(set(rank.values())) > 1 for rank in each) > 0.9 * len(each)


def test_every_cut_fits_the_budget_of_its_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(design.SETTINGS, "digits-turned", SMALL)
    monkeypatch.setattr(layers, "SEEDS", (10,))
    monkeypatch.setattr(layers, "BUDGETS", (3,))
    monkeypatch.setattr(layers, "SURE", (0.0,))
    asked = Namespace(tasks=["digits-turned"], out=tmp_path)
    layers._main(asked)
    written = pd.read_csv(tmp_path / "layers-digits-turned.csv")
    assert written.groupby(["method", "rank", "metric"]).size().to_dict() == {
        (method, 3, metric): 2 for method in (layers.ONE, layers.EACH) for metric in ("accuracy", "loss")
    }
    one_for_all = written[written["cut"] == "one rank for all"].groupby("rank")["parameters"].max()
    assert (written["parameters"] <= written["rank"].map(one_for_all)).all()
    values = written.pivot_table(index=["rank", "metric", "cut"], columns="method", values="value")
    assert (values[layers.ONE] != values[layers.EACH]).any()
    monkeypatch.setattr(layers, "run", lambda *_: pytest.fail("was measured again"))
    layers._main(asked)
