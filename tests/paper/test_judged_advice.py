"""The advisor judged by the search: rules, truth and regret are those of the files, and so are kept numbers."""

from pathlib import Path

import pandas as pd
import pytest

from dylora_kit.evaluation import measured_before
from dylora_kit.paper import __main__ as command
from dylora_kit.paper import judged_advice
from dylora_kit.paper.compared_methods import DYLORA, ONE
from dylora_kit.paper.judged_advice import ADVISOR, LARGEST, SEARCH
from dylora_kit.storage.files import data_folder

RESULTS = data_folder() / "results"
LORAS = {10: [0.70, 0.80, 0.90, 0.91], 42: [0.70, 0.90, 0.90, 0.91]}
DYLORAS = {10: [0.50, 0.88, 0.89, 0.80], 42: [0.50, 0.60, 0.85, 0.89]}


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Searches on both tasks with two seeds and four ranks, whose right rank is 3."""
    rows = [
        (method, r or rank, rank, value, seed)
        for method, r, values in ((ONE, 0, LORAS), (DYLORA, 8, DYLORAS), (DYLORA, 32, DYLORAS))
        for seed, curve in values.items()
        for rank, value in enumerate(curve, 1)
    ]
    frame = pd.DataFrame(rows, columns=["method", "r", "rank", "value", "seed"])
    for task, metric in (("digits-turned", "accuracy"), ("world-acceptability", "matthews")):
        frame.assign(metric=metric).to_csv(tmp_path / f"search-{task}.csv", index=False)
    return tmp_path


def test_each_rule_chooses_for_each_seed_and_is_compared_with_the_mean_of_the_loras(search: Path) -> None:
    frame = judged_advice.judged(search).query("task == 'digits-turned' and r == 8 and tolerance == 0.01")
    chosen = {rule: rows.set_index("seed")["chosen"].to_dict() for rule, rows in frame.groupby("rule")}
    assert chosen == {ADVISOR: {10: 2, 42: 4}, SEARCH: {10: 3, 42: 2}, LARGEST: {10: 4, 42: 4}}
    assert set(frame["right"]) == {3} and frame.set_index(["rule", "seed"])["hit"].sum() == 1


def test_the_regret_is_in_points_below_the_best_loras(search: Path) -> None:
    frame = judged_advice.judged(search).query("r == 8 and tolerance == 0.01 and rule == @ADVISOR")
    rows = frame[frame["task"] == "world-acceptability"].set_index("seed")
    assert rows["lora_regret"].to_dict() == {10: 6.0, 42: 0.0}
    assert rows["dylora_regret"].to_dict() == {10: 3.0, 42: 2.0}


def test_by_how_much_a_lora_is_ahead_is_a_mean_over_seeds_in_points(search: Path) -> None:
    ahead = judged_advice.ahead(search)
    assert ahead["turned digits (accuracy)", 8] == {1: 20.0, 2: 11.0, 3: 3.0, 4: 6.5}


def test_what_the_advisor_tells_was_measured() -> None:
    assert judged_advice.ahead(RESULTS) == measured_before.AHEAD
    frame = judged_advice.judged(RESULTS)
    hits = frame[frame["tolerance"] == 0.01].groupby(["r", "rule"])["hit"].agg(["sum", "size"])
    assert set(hits["size"]) == {10} and frame["seed"].nunique() == 5
    assert {r: (hits["sum"][r, ADVISOR], hits["sum"][r, SEARCH]) for r in (8, 32)} == measured_before.HITS


def test_the_results_file_is_what_the_searchs_files_say() -> None:
    kept = pd.read_csv(RESULTS / judged_advice.FILE)
    pd.testing.assert_frame_equal(kept, judged_advice.judged(RESULTS))


def test_the_command_writes_the_file_and_prints_the_table(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search / "results"
    folder.mkdir()
    for path in search.glob("search-*.csv"):
        path.rename(folder / path.name)
    command.run(command.parser().parse_args(["advisor", "--out", str(search)]))
    assert len(pd.read_csv(folder / judged_advice.FILE)) == 2 * 2 * 2 * 2 * 3
    printed = capsys.readouterr().out
    assert f"| turned digits (accuracy) | 1 | {ADVISOR} | 3 | 2, 4 | 0 of 2 | 3.0 | 2.5 |" in printed


def test_without_a_search_nothing_is_judged_or_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no search on digits-turned with DyLoRAs of r = 8: measure table1 first"):
        judged_advice.write(tmp_path / "results")
    assert not (tmp_path / "results").exists()
