"""How the paper's LoRA was cut: what each suspect keeps, and how far it is from the paper's."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from dylora_kit.paper.cut_line_up import PAPER, distances, kept
from dylora_kit.storage.files import data_folder

LINE_UP = kept(data_folder() / "results")


def test_everything_is_a_share_of_the_same_training_at_the_full_rank() -> None:
    full = LINE_UP["rank"] == LINE_UP["task"].map({"describe": 4, "E2E": 4}).fillna(8)
    assert (LINE_UP[full]["value"] == 1).all() and set(LINE_UP[full]["task"]) == {"SST-2", "describe", "E2E", "CoLA"}
    results = pd.read_csv(data_folder() / "results" / "table2-glue-all-MiniLM-L6-v2.csv")
    one = results[(results.task == "glue-sst2") & (results.method == "LoRA, cut to b") & (results.seed == 42)]
    values = one.set_index("rank")["value"]
    row = LINE_UP.query("task == 'SST-2' and method == 'α/b' and seed == 42 and rank == 1")
    assert row["value"].item() == pytest.approx(values[1] / values[8])


@pytest.mark.parametrize("task", ["describe", "E2E"])
def test_four_rows_of_the_paper_stand_beside_four(task: str) -> None:
    paper = LINE_UP[(LINE_UP["method"] == PAPER) & (LINE_UP["task"] == task)].set_index("rank")["value"]
    assert paper.index.tolist() == [1, 2, 3, 4] and paper[1] == pytest.approx(3.38 / 69.88)
    ours = LINE_UP[(LINE_UP["method"] == "α/b") & (LINE_UP["task"] == task)]
    assert sorted(set(ours["rank"])) == [1, 2, 3, 4]


def test_a_distance_is_the_mean_over_the_ranks_that_the_paper_prints_below_the_full_one() -> None:
    rows = [(PAPER, 1, 0.5), (PAPER, 8, 1.0), ("α/b", 1, 0.7), ("α/b", 2, 0.1), ("α/b", 8, 1.0), ("SVD", 1, 0.4),
            ("SVD", 2, 0.9), ("SVD", 8, 1.0)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["method", "rank", "value"]).assign(task="t", seed=0)
    assert distances(frame).loc["t"].to_dict() == pytest.approx({"SVD": 10.0, "α/b": 20.0})


def test_each_suspect_is_closest_somewhere() -> None:
    gaps = distances(LINE_UP)
    assert gaps.idxmin(axis=1).to_dict() == {"SST-2": "α/r", "describe": "α/b", "E2E": "α/r", "CoLA": "SVD"}
    after_few_steps = gaps.drop(index="CoLA")
    assert (after_few_steps["SVD"] > after_few_steps.drop(columns="SVD").min(axis=1) + 4).all()


def test_after_thirty_epochs_a_cut_is_measured_on_the_whole_task_alone() -> None:
    results = pd.read_csv(data_folder() / "results" / "epochs-glue-all-MiniLM-L6-v2-cola.csv")
    ours = results.query("epochs == 30 and metric == 'matthews'").set_index(["method", "rank"])["value"]
    row = LINE_UP.query("task == 'CoLA' and method == 'SVD' and rank == 2")
    assert row["value"].item() == pytest.approx(ours["LoRA, cut by SVD", 2] / ours["LoRA, cut to b", 8])


def test_a_part_of_a_task_is_no_witness(tmp_path: Path) -> None:
    for path in (data_folder() / "results").glob("*.csv"):
        frame = pd.read_csv(path)
        if path.name.startswith("epochs-glue"):
            frame["task"] = frame["task"] + " (subset)"
        frame.to_csv(tmp_path / path.name, index=False)
    assert set(kept(tmp_path)["task"]) == {"SST-2", "describe", "E2E"}


def test_without_a_real_model_there_is_no_e2e(tmp_path: Path) -> None:
    for name in ("table2-glue-all-MiniLM-L6-v2.csv", "table6-world-describe.csv"):
        shutil.copy(data_folder() / "results" / name, tmp_path)
    assert set(kept(tmp_path)["task"]) == {"SST-2", "describe"}
