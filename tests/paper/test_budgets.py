"""What each training was given."""

from pathlib import Path

import pandas as pd
import pytest

from dylora_kit.lessons.lesson_08 import unequal
from dylora_kit.paper.budgets import budgets
from dylora_kit.paper.later_methods import areas
from dylora_kit.storage.files import data_folder

GIVEN = budgets(data_folder() / "results").set_index("method")


def test_steps_that_were_multiplied_and_passes_are_counted() -> None:
    assert GIVEN.loc["uniform", ["steps", "batch_size", "passes"]].tolist() == [1000, 32, 1]
    assert GIVEN.loc["row b, exact, four times the steps", "steps"] == 4000
    assert GIVEN.loc["summation", "passes"] == 8 and GIVEN.loc["1, a drawn one, and 8", "passes"] == 3


def test_a_larger_budget_took_longer() -> None:
    seconds = GIVEN["cpu_seconds"]
    names = unequal(GIVEN.reset_index().to_dict("records"))
    assert len(names) == 6 and seconds[names].min() > 1.5 * seconds.drop(names).max()


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    assert budgets(tmp_path).empty


def test_an_area_is_the_average_under_the_curve(tmp_path: Path) -> None:
    rows = [("a", 1, 0.0), ("a", 2, 0.5), ("a", 4, 1.0), ("b", 1, 0.6), ("b", 4, 0.6)]
    frame = pd.DataFrame(rows, columns=["method", "rank", "value"]).assign(seed=10, metric="accuracy", cpu_seconds=7.0)
    frame = pd.concat([frame, frame.assign(metric="loss", value=9.0)])
    frame.to_csv(tmp_path / "arena-x.csv", index=False)
    found = areas(tmp_path / "arena-x.csv").set_index("method")
    assert found["value"].to_dict() == pytest.approx({"a": (0.25 + 1.5) / 3, "b": 0.6}) and set(found["cost"]) == {7.0}
    assert areas(tmp_path / "arena-y.csv").empty
