"""The runs behind the search for a rank: what each costs and uses is what was measured."""

from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest

from dylora_kit.paper import search

SMALL = {"steps": 40, "batch_size": 8, "lr": 1e-3}
D, LAYERS = 64, 4


def measured(method: str, r: int = search.R) -> pd.DataFrame:
    return search.run("digits-turned", method, r, 10, **SMALL).set_index("rank")


@pytest.fixture(scope="module")
def dylora() -> pd.DataFrame:
    return measured(search.DYLORA)


def test_a_dylora_is_measured_at_every_rank_and_a_lora_at_its_own(dylora: pd.DataFrame) -> None:
    assert dylora.index.tolist() == list(range(1, 9))
    lora = measured(search.ONE, 2)
    assert lora.index.tolist() == [2]
    assert dylora.loc[2, "stored"] == lora.loc[2, "stored"] == lora.loc[2, "trained"]
    assert lora.loc[2, "trained"] < dylora.loc[2, "trained"]


def test_a_mean_step_of_dylora_takes_fewer_operations_than_one_of_lora(dylora: pd.DataFrame) -> None:
    steps = {r: measured(search.ONE, r)["step_flops"].item() for r in (1, 8)}
    assert steps[1] < dylora["step_flops"].iloc[0] < steps[8]
    assert dylora["step_flops"].nunique() == 1


@pytest.mark.parametrize("method", [search.FULL, *search.KEPT])
def test_what_finds_one_size_is_measured_at_it(method: str, dylora: pd.DataFrame) -> None:
    frame = measured(method)
    assert frame.index.tolist() == [8] and frame["metric"].tolist() == ["accuracy"]
    head = dylora.loc[2, "stored"] - 2 * (dylora.loc[2, "stored"] - dylora.loc[1, "stored"])
    adapter = dylora.loc[8, "stored"] - head
    if method == search.FULL:
        assert frame["stored"].item() == frame["trained"].item() > 100_000
    elif method == search.ADALORA:
        assert adapter / 2 < frame["stored"].item() - head < 0.6 * adapter
    elif method == search.GATED:
        assert 0 < frame["stored"].item() - head <= adapter
    else:
        assert adapter < frame["stored"].item() < frame["trained"].item()


def test_the_command_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search.SETTINGS, "digits-turned", SMALL)
    monkeypatch.setattr(search, "SEEDS", (10,))
    monkeypatch.setattr(search, "JOBS", [(search.ONE, 1), (search.ONE, 2)])
    asked = Namespace(tasks=["digits-turned"], out=tmp_path)
    search._main(asked)
    written = pd.read_csv(tmp_path / "search-digits-turned.csv")
    assert written["r"].tolist() == written["rank"].tolist() == [1, 2]
    monkeypatch.setattr(search, "run", lambda *_: pytest.fail("was measured again"))
    search._main(asked)
