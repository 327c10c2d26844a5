"""How the paper's LoRA was cut: what each suspect keeps, and how far it is from the paper's."""

import pandas as pd
import pytest

from dylora_kit.paper.cut_line_up import PAPER, distances, kept
from dylora_kit.storage.files import data_folder

LINE_UP = kept(data_folder() / "results")


def test_everything_is_a_share_of_the_same_training_at_the_full_rank() -> None:
    assert (LINE_UP[LINE_UP["rank"] == 8]["value"] == 1).all()
    results = pd.read_csv(data_folder() / "results" / "table2-glue-all-MiniLM-L6-v2.csv")
    one = results[(results.task == "glue-sst2") & (results.method == "LoRA, cut to b") & (results.seed == 42)]
    values = one.set_index("rank")["value"]
    row = LINE_UP.query("task == 'SST-2' and method == 'α/b' and seed == 42 and rank == 1")
    assert row["value"].item() == pytest.approx(values[1] / values[8])


def test_four_rows_of_the_paper_stand_at_every_second_of_eight() -> None:
    paper = LINE_UP[(LINE_UP["method"] == PAPER) & (LINE_UP["task"] == "generation")].set_index("rank")["value"]
    assert paper.index.tolist() == [2, 4, 6, 8] and paper[2] == pytest.approx(3.38 / 69.88)


def test_a_distance_is_the_mean_over_the_ranks_that_the_paper_prints_below_the_full_one() -> None:
    rows = [(PAPER, 1, 0.5), (PAPER, 8, 1.0), ("α/b", 1, 0.7), ("α/b", 2, 0.1), ("α/b", 8, 1.0), ("SVD", 1, 0.4),
            ("SVD", 2, 0.9), ("SVD", 8, 1.0)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["method", "rank", "value"]).assign(task="t", seed=0)
    assert distances(frame).loc["t"].to_dict() == pytest.approx({"SVD": 10.0, "α/b": 20.0})


def test_the_two_tasks_point_at_different_scales_and_never_at_the_svd() -> None:
    gaps = distances(LINE_UP)
    assert gaps.idxmin(axis=1).to_dict() == {"SST-2": "α/r", "generation": "α/b"}
    assert (gaps.idxmax(axis=1) == "SVD").all()
