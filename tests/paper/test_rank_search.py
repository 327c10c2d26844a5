"""The runs behind the search for a rank: what each costs and uses is what was measured."""

from pathlib import Path

import pandas as pd
import pytest

from dylora_kit.paper import rank_search
from dylora_kit.paper.runs import collect, read_results
from dylora_kit.storage.files import data_folder

SMALL = {"steps": 40, "batch_size": 8, "lr": 1e-3}
D, LAYERS = 64, 4


def measured(method: str, r: int = rank_search.R) -> pd.DataFrame:
    return rank_search.run("digits-turned", method, r, 10, **SMALL).set_index("rank")


@pytest.fixture(scope="module")
def dylora() -> pd.DataFrame:
    return measured(rank_search.DYLORA)


def test_a_dylora_is_measured_at_every_rank_and_a_lora_at_its_own(dylora: pd.DataFrame) -> None:
    assert dylora.index.tolist() == list(range(1, 9))
    lora = measured(rank_search.ONE, 2)
    assert lora.index.tolist() == [2]
    assert dylora.loc[2, "stored"] == lora.loc[2, "stored"] == lora.loc[2, "trained"]
    assert lora.loc[2, "trained"] < dylora.loc[2, "trained"]


def test_a_mean_step_of_dylora_takes_fewer_operations_than_one_of_lora(dylora: pd.DataFrame) -> None:
    steps = {r: measured(rank_search.ONE, r)["step_flops"].item() for r in (1, 8)}
    assert steps[1] < dylora["step_flops"].iloc[0] < steps[8]
    assert dylora["step_flops"].nunique() == 1


@pytest.mark.parametrize("method", [rank_search.FULL, *rank_search.KEPT])
def test_what_finds_one_size_is_measured_at_it(method: str, dylora: pd.DataFrame) -> None:
    frame = measured(method)
    assert frame.index.tolist() == [8] and frame["metric"].tolist() == ["accuracy"]
    head = dylora.loc[2, "stored"] - 2 * (dylora.loc[2, "stored"] - dylora.loc[1, "stored"])
    adapter = dylora.loc[8, "stored"] - head
    if method == rank_search.FULL:
        assert frame["stored"].item() == frame["trained"].item() > 100_000
    elif method == rank_search.ADALORA:
        assert adapter / 2 < frame["stored"].item() - head < 0.6 * adapter
    elif method == rank_search.GATED:
        assert 0 < frame["stored"].item() - head <= adapter
    else:
        assert adapter < frame["stored"].item() < frame["trained"].item()


def test_a_study_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rank_search.SHORT, "digits-turned", SMALL)
    monkeypatch.setattr(rank_search, "TRAININGS", [(rank_search.ONE, 1), (rank_search.ONE, 2)])
    study = rank_search.STUDY
    path = study.path("digits-turned", tmp_path)
    collect(path, study.jobs_of("digits-turned", [10], tmp_path))
    written = pd.read_csv(path)
    assert written["r"].tolist() == written["rank"].tolist() == [1, 2]
    monkeypatch.setattr(rank_search, "run", lambda *_: pytest.fail("was measured again"))
    collect(path, study.jobs_of("digits-turned", [10], tmp_path))


def test_every_measurement_that_comes_with_the_kit_counts_as_done() -> None:
    study = rank_search.STUDY
    for task in ("digits-turned", "world-acceptability"):
        path = study.path(task, data_folder())
        assert len(collect(path, study.jobs_of(task, None, data_folder()))) == len(read_results(path))
