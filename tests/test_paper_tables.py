"""The page with the paper's tables: it says what the files say, and leaves out what was not measured."""

from pathlib import Path

import pandas as pd
import pytest

from dylora_kit import backbones
from dylora_kit.paper import tables
from dylora_kit.paper.methods import DYLORA, FROZEN, ONE
from dylora_kit.paper.published import published


def test_the_page_in_the_repository_is_what_the_files_say() -> None:
    assert (backbones.data_folder() / "results" / "README.md").read_text() == tables.page()


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose results are made up: two seeds of one task."""
    folder = tmp_path / "data" / "results"
    folder.mkdir(parents=True)
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    pd.DataFrame({"method": [], "rank": [], "value": [], "domain": []}).to_csv(folder / "digits.csv", index=False)
    rows = []
    for seed, shift in ((10, -0.01), (42, 0.01)):
        for r in (1, 2, 4, 8, 16, 32):
            rows.append((ONE, r, r, 0.5 + r / 100 + shift, 10.0, 1000 * r, seed))
        for method, r in ((DYLORA, 8), (FROZEN, 32), (DYLORA, 32)):
            for rank in range(1, r + 1):
                rows.append((method, r, rank, 0.6 - abs(rank - 5 - (seed == 42)) / 100, 20.0, 1000 * rank, seed))
    names = ["method", "r", "rank", "value", "cpu_seconds", "stored", "seed"]
    pd.DataFrame(rows, columns=names).assign(metric="accuracy").to_csv(folder / "search-digits-turned.csv", index=False)
    values = {"individual": 0.8, "summation": 0.9, "uniform": 0.7, "geometric 0.15, row b": 0.3}
    other = [(name, rank, metric, value, seed, 5.0 if name == "individual" else 40.0) for name, value in values.items()
             for rank in (1, 8) for metric in ("f1", "accuracy") for seed in (10, 42)]  # fmt: skip
    frame = pd.DataFrame(other, columns=["method", "rank", "metric", "value", "seed", "cpu_seconds"])
    for kind in ("objectives", "distributions"):
        frame.to_csv(folder / f"design-{kind}-digits-turned.csv", index=False)
    return folder


def test_a_lora_of_each_rank_stands_beside_the_papers(results: Path) -> None:
    rows = {row["rank"]: row for row in tables.table1()}
    assert list(rows) == ["1", "2", "4", "8", "16", "32"]
    assert rows["4"]["digits-turned"] == "54.0 ± 1.4" and rows["4"]["world-sentiment"] == "–"
    paper = published("table1").query("task == 'MRPC' and rank == 4")["value"].item()
    assert rows["4"]["paper: MRPC"] == f"{paper:.2f}"


def test_time_counts_every_training_of_a_search_and_the_best_is_taken_seed_by_seed(results: Path) -> None:
    rows = {row["method"]: row for row in tables.table5()}
    assert rows["LoRA, search"]["digits-turned: time"] == "3.0"  # six of 10 s beside one of 20 s
    assert rows["DyLoRA"]["digits-turned: time"] == "1.0"
    assert rows["DyLoRA"]["digits-turned"] == "60.0 ± 0.0 at 5 to 6"
    assert rows["LoRA, search"]["digits-turned"] == "82.0 ± 1.4 at 32 to 32"
    assert rows["LoRA, search"]["paper: time"] == "6"


def test_a_choice_is_measured_at_its_rank_and_by_the_tasks_first_metric(results: Path) -> None:
    rows = [row for row in tables.table4() if row["digits-turned"] != "–"]
    assert [(row["rank"], row["distribution"], row["updated"], row["digits-turned"]) for row in rows] == [
        ("1", "uniform", "1..b", "70.0 ± 0.0"), ("1", "geometric(p=0.15)", "only b", "30.0 ± 0.0"),
        ("8", "uniform", "1..b", "70.0 ± 0.0"), ("8", "geometric(p=0.15)", "only b", "30.0 ± 0.0"),
    ]  # fmt: skip
    seven = {row["loss"]: row for row in tables.table7()}
    assert (seven["summation"]["digits-turned"], seven["summation"]["digits-turned: seconds"]) == ("90.0 ± 0.0", "40")
    assert seven["summation"]["paper: seconds"] == "1176"


def test_what_was_not_measured_is_left_out(results: Path) -> None:
    page = tables.page()
    assert "digits-turned" in page and "world-sentiment" not in page
    (results / "search-digits-turned.csv").unlink()
    assert "## Table 1" in tables.page()


def test_every_cell_of_the_paper_that_is_printed_here_stands_in_its_data() -> None:
    for name, (rows, _) in tables.MADE_BY.items():
        if name == "table5":
            continue  # its cells are a value and a rank
        known = {f"{value:.2f}" for value in published(name).select_dtypes("number").to_numpy().flatten()}
        known |= {f"{value:.0f}" for value in published(name).select_dtypes("number").to_numpy().flatten()}
        if name == "table2":
            known |= {f"{value:.2f}" for value in published("table2_best")["best"]}
        said = {row[key] for row in rows() for key in row if key.startswith("paper:") and "parameters" not in key}
        assert said - {"–"} <= known, name
