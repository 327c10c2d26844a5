"""What was not run: how long it would take, from what the paper prints and from what was measured."""

import pandas as pd
import pytest

from dylora_kit.paper.gpu_hours import EIGHT, TRAININGS, core_hours, gpu_hours, not_run
from dylora_kit.paper.published import printed_table


def test_the_printed_time_comes_out_again() -> None:
    printed = printed_table("appendix_a").set_index("what")["seconds"]
    assert 3600 * gpu_hours("Appendix A") == pytest.approx(9 * printed["MRPC, LoRA, rank 8 only"])


def test_twice_as_many_texts_take_twice_as_long() -> None:
    ratio = gpu_hours("Table 2", "QNLI") / gpu_hours("Table 2", "MRPC")
    assert ratio == pytest.approx(104743 / 3668)


def test_a_table_is_the_sum_of_its_tasks() -> None:
    assert gpu_hours("Table 2") == pytest.approx(sum(gpu_hours("Table 2", task) for task in EIGHT))


def test_tasks_are_those_that_the_paper_prints() -> None:
    for name in ("1", "2", "4", "5"):
        assert set(TRAININGS[f"Table {name}"]) == set(printed_table(f"table{name}")["task"]) - {"average"}
    assert set(TRAININGS["Table 9"]) == set(printed_table("table9")["dataset"])
    per_task = printed_table("table1").groupby("task").size().to_dict()
    assert TRAININGS["Table 1"] == per_task


@pytest.mark.parametrize(("table", "task"), [("Table 8", None), ("Table 6", "DART")])
def test_what_has_no_trainings_is_refused(table: str, task: str | None) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        not_run(table, task)


def test_a_longer_training_on_a_core_follows_from_those_that_were_measured() -> None:
    row = {"cpu_seconds": 400.0, "steps": 500, "batch_size": 16, "examples": 3200}
    measured = pd.DataFrame([row, row | {"cpu_seconds": 0.0}])  # a cut is no training
    assert core_hours(measured, epochs=30, trainings=3) == pytest.approx(0.05 * 3200 * 30 * 3 / 3600)
