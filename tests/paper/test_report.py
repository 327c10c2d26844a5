"""The page with the paper's tables: it says what the files say, and leaves out what was not measured."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dylora_kit import backbones
from dylora_kit.paper import tables
from dylora_kit.paper.compared_methods import ADALORA, DYLORA, FLOP, FROZEN, FULL, LORA, ONE, SVD
from dylora_kit.paper.published import published
from dylora_kit.tasks import world


def test_the_page_in_the_repository_is_what_the_files_say() -> None:
    assert (backbones.data_folder() / "results" / "README.md").read_text() == tables.page()


def means(kind: str, task: str, *columns: str) -> Any:
    return tables.measured(kind, task).groupby(list(columns))["value"].mean()


def test_what_is_said_beside_the_tables_was_measured() -> None:
    alone = means("search", "digits-turned", "method", "r")[ONE]
    assert round(100 * (alone[32] - alone[1])) == 6 and alone[8] - alone[1] > 0.9 * (alone[32] - alone[1])
    ranks = published("table1").pivot(index="rank", columns="task", values="value")
    assert (ranks.loc[32] - ranks.loc[1]).max() < 2.05
    words = means("search", "world-acceptability", "method", "r")
    assert max(words[ONE][r] for r in (2, 4, 8, 16, 32)) - min(words[ONE][r] for r in (2, 4, 8, 16, 32)) < 0.01
    spoken = {name: means("table2", f"world-{name}", "method", "rank") for name in world.NAMES if name != "describe"}
    assert round(100 * (spoken["sentiment"][LORA][8] - spoken["sentiment"][LORA][1])) == 4
    assert all(at[LORA][8] - at[SVD][b] < 0.02 for at in spoken.values() for b in range(2, 9))
    assert all(at[DYLORA].min() > at[LORA][8] - 0.06 for at in spoken.values())
    three = tables.measured("search", "digits-turned").query("r == 8").groupby("method")[["value", "stored"]].mean()
    assert abs(three["value"][FLOP] - three["value"][FULL]) < 0.005 < 0.02 < three["value"][FULL] - alone[8]
    assert (
        three["stored"][FLOP] < 2 / 3 * three["stored"][FULL] and three["stored"][ADALORA] < three["stored"][FLOP] / 20
    )
    final = tables.measured("search", "world-acceptability").query("r == 8 and rank == 8")
    final = final.groupby("method")[["value", "stored"]].mean()
    assert final["value"].idxmin() == FLOP and round(100 * (final["value"][FULL] - final["value"][FLOP])) == 10
    assert round(100 * (final["value"][FULL] - words[ONE][1])) == 3
    assert final["stored"][ONE] < final["stored"][FLOP] / 20
    five = means("table4", "digits-turned", "method", "rank")
    assert five["geometric 0.15", 1] > five["uniform", 1] and five["geometric 0.15", 8] < five["uniform", 8]
    words = means("table4", "world-acceptability", "method", "rank")
    assert words["geometric 0.15", 1] > words["uniform", 1] and words["geometric 0.15", 8] >= words["uniform", 8]
    for task, cost in (("digits-turned", 4), ("world-acceptability", 1)):
        at = means("updates", task, "method", "rank")
        assert round(100 * (at["rows 1 … b, as the authors", 8] - at["row b, as the authors", 8])) == cost
    costs = {name: at[DYLORA].mean() - at[FROZEN].mean() for name, at in spoken.items()}
    assert round(100 * max(costs.values())) == 7
    assert min(at["uniform", 8] - at["uniform, row b", 8] for at in (five, words)) > 0.05
    paper = published("table4").query("task == 'average' and rank == 8").set_index(["distribution", "updated"])["mean"]
    assert round(paper["uniform", "1..b"] - paper["uniform", "only b"]) == 1
    for task in ("digits-turned", "world-acceptability"):
        rows = {row["method"]: float(row[task].split()[0]) for row in tables.table5()}
        assert round(rows["LoRA, search"] - rows["DyLoRA"]) in (1, 2) and rows["DyLoRA, frozen"] < rows["DyLoRA"] - 10
        took = {row["method"]: float(row[f"{task}: time"]) for row in tables.table5()}
        assert took["LoRA, search"] == pytest.approx(6, abs=0.5) and took["DyLoRA"] == 1
    seconds = tables.measured("table7", "digits-turned").groupby("method")["cpu_seconds"].mean()
    assert round(seconds["summation"] / seconds["individual"]) == 7
    assert seconds["one rank for each example"] < 1.1 * seconds["individual"]


SEEDS = ((10, -0.01), (42, 0.01))  # and what each adds to a value


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose results are made up, of turned digits. Values differ by method, r, rank, metric and seed."""
    folder = tmp_path / "data" / "results"
    folder.mkdir(parents=True)
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    digits = [(LORA, 2, metric, value, 10, domain) for metric, value, domain in
              (("accuracy", 0.31, "turned"), ("accuracy", 0.77, "upright"), ("f1", 0.99, "turned"))]  # fmt: skip
    pd.DataFrame(digits, columns=["method", "rank", "metric", "value", "seed", "domain"]).to_csv(
        folder / "table2-digits-turned.csv", index=False
    )
    rows: list[tuple[str, int, int, float, float, int, int]] = []
    for seed, shift in SEEDS:
        for r in (1, 2, 4, 8, 16, 32):
            rows.append((ONE, r, r, 0.5 + r / 100 + shift, 10.0, 1000 * r, seed))
        for r in (3, 5):  # no powers of two: not in the search
            rows.append((ONE, r, r, 0.98, 100.0, 1000 * r, seed))
        best = {10: 4, 42: 8}[seed]
        for rank in range(1, 33):
            value = 0.9 if rank == 5 else 0.6 + best / 100 - abs(rank - best) / 1000
            rows.append((DYLORA, 32, rank, value, 20.0, 1000 * rank, seed))
            if rank <= 8:
                rows.append((DYLORA, 8, rank, 0.2 + rank / 100 + shift, 7.0, 100 * rank, seed))
            if seed == 10:
                rows.append((FROZEN, 32, rank, 0.5 - abs(rank - 2) / 100, 30.0, 1000 * rank, seed))
        rows.append((ADALORA, 8, 8, 0.4 + shift, 9.0, 3700 + seed, seed))
    frame = pd.DataFrame(rows, columns=["method", "r", "rank", "value", "cpu_seconds", "stored", "seed"])
    both = [frame.assign(metric="f1", value=0.01), frame.assign(metric="accuracy")]
    pd.concat(both).to_csv(folder / "search-digits-turned.csv", index=False)
    values = {"individual": 0.8, "summation": 0.9, "uniform": 0.7, "geometric 0.15, row b": 0.3}
    other = [(name, rank, metric, value + shift + (rank - 1) / 100 + (metric == "f1") / 20, seed,
              5.0 + seed if name == "individual" else 40.0)
             for name, value in values.items() for rank in (1, 8) for metric in ("f1", "accuracy")
             for seed, shift in SEEDS]  # fmt: skip
    frame = pd.DataFrame(other, columns=["method", "rank", "metric", "value", "seed", "cpu_seconds"])
    for kind in ("table7", "table4"):
        frame.to_csv(folder / f"{kind}-digits-turned.csv", index=False)
    return folder


def test_a_lora_of_each_rank_stands_beside_the_papers(results: Path) -> None:
    rows = {row["rank"]: row for row in tables.table1()}
    assert list(rows) == ["1", "2", "4", "8", "16", "32"]
    assert rows["4"]["digits-turned"] == "54.0 ± 1.4 (2)" and rows["4"]["world-sentiment"] == "–"
    assert rows["4"]["paper: MRPC"] == "88.24" and rows["16"]["paper: MRPC"] == "86.76"


def test_digits_are_those_of_the_turned_domain(results: Path) -> None:
    found = {(row["method"], row["rank"]): row["turned digits (accuracy)"] for row in tables.table2()}
    assert found.pop((LORA, "2")) == "31.0 (1)" and set(found.values()) == {"–"}


def test_quality_and_size_are_those_of_one_r_and_one_rank(results: Path) -> None:
    rows = {(row["method"], row["rank"]): row for row in tables.table3()}
    said = {key: (row["digits-turned"], row["digits-turned: stored"]) for key, row in rows.items()}
    assert said[(DYLORA, "1")] == ("21.0 ± 1.4 (2)", "100") and said[(DYLORA, "8")] == ("28.0 ± 1.4 (2)", "800")
    assert said[(ONE, "1")] == ("51.0 ± 1.4 (2)", "1,000") and said[(ADALORA, "")] == ("40.0 ± 1.4 (2)", "3,726")


def test_time_counts_every_training_of_a_search_and_the_best_is_taken_seed_by_seed(results: Path) -> None:
    rows = {row["method"]: row for row in tables.table5()}
    assert rows["LoRA, search"]["digits-turned: time"] == "3.0"  # six of 10 s beside one of 20 s
    assert rows["DyLoRA"]["digits-turned: time"] == "1.0"
    assert rows["DyLoRA, frozen"]["digits-turned: time"] == "1.5"
    assert rows["DyLoRA"]["digits-turned"] == "66.0 ± 2.8 (2) at 4 to 8"
    assert rows["DyLoRA, frozen"]["digits-turned"] == "50.0 (1) at 2"
    assert rows["LoRA, search"]["digits-turned"] == "82.0 ± 1.4 (2) at 32"
    assert rows["LoRA, search"]["paper: time"] == "6"


def test_a_choice_is_measured_at_its_rank_and_by_the_tasks_own_metric(results: Path) -> None:
    rows = [row for row in tables.table4() if row["digits-turned"] != "–"]
    assert [(row["rank"], row["distribution"], row["updated"], row["digits-turned"]) for row in rows] == [
        ("1", "uniform", "1..b", "70.0 ± 1.4 (2)"), ("1", "geometric(p=0.15)", "only b", "30.0 ± 1.4 (2)"),
        ("8", "uniform", "1..b", "77.0 ± 1.4 (2)"), ("8", "geometric(p=0.15)", "only b", "37.0 ± 1.4 (2)"),
    ]  # fmt: skip
    seven = {row["loss"]: row for row in tables.table7()}
    assert (seven["summation"]["digits-turned"], seven["summation"]["digits-turned: seconds"]) == (
        "93.5 ± 1.4 (2)",
        "40",
    )
    assert seven["individual"]["digits-turned: seconds"] == "31"
    assert seven["summation"]["paper: seconds"] == "1176"


def test_what_was_not_measured_is_left_out(results: Path) -> None:
    page = tables.page()
    assert "digits-turned" in page and "world-sentiment" not in page
    (results / "search-digits-turned.csv").unlink()
    assert "## Table 1" in tables.page() and "at 4 to 8" not in tables.page()


def test_a_file_without_the_tasks_metric_is_refused(results: Path) -> None:
    path = results / "search-digits-turned.csv"
    pd.read_csv(path).query("metric == 'f1'").to_csv(path, index=False)
    with pytest.raises(ValueError, match="no rows of the metric 'accuracy': measure it again"):
        tables.table1()


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
