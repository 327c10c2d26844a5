"""What dials show: the numbers are those of the library."""

import pandas as pd
import pytest

import dylora_kit as dk
from dylora_kit.evaluation.rank_per_layer import Cut
from dylora_kit.widgets import dial_views
from dylora_kit.widgets.number_dial import View


def texts(view: View) -> str:
    return " ".join(inside for inside, _ in view.cards)


def test_a_distribution_is_shown_by_what_it_draws_and_updates() -> None:
    view = dial_views.draws(dk.Geometric(0.5, 1, 3), dk.Uniform(1, 4), ("geometric", "uniform"))
    shown = texts(view)
    for share in dk.Geometric(0.5, 1, 3).probabilities.values():
        assert f">{100 * share:.0f} %<" in shown
    assert ">rank 4<" in shown and ">row 4<" in shown and ">geometric<" in shown
    assert view.finding == "Row 4 is updated in 0.0 % of the steps, uniform: 25.0 %."


@pytest.mark.parametrize(("tolerance", "rank"), [(0.0, 3), (0.01, 2), (0.2, 1)])
def test_a_choice_is_the_smallest_rank_within_the_tolerance(tolerance: float, rank: int) -> None:
    rows = [(b, value, seed) for seed in (1, 2) for b, value in ((1, 0.7), (2, 0.89), (3, 0.9))]
    frame = pd.DataFrame(rows, columns=["rank", "value", "seed"]).assign(metric="accuracy", method="DyLoRA")
    view = dial_views.choice(frame, tolerance, {1: 1000, 2: 2000, 3: 3000})
    assert f"rank {rank} ✓" in texts(view) and view.finding.startswith(f"Chosen: rank {rank} ")
    assert "of 2 seeds 2 choose" in view.finding and "3,000 parameters, 100 %" in texts(view)


@pytest.fixture
def cut() -> Cut:
    way = [(80, "", "", 0.5), (90, "a.q", "", 0.4)]
    path = pd.DataFrame(way, columns=["parameters", "raised", "lowered", "loss"])
    return Cut({"a.q": 3, "b.q": 2}, 90, 0.4, path)


def test_a_cut_is_shown_beside_one_rank_for_all(cut: Cut) -> None:
    view = dial_views.per_layer(cut, {"a.q": 2, "b.q": 2}, 80, (0.41, 0.52))
    assert view.finding == ("A rank for each layer: 90 parameters, loss 0.410. One for all: 80 parameters, loss 0.520.")
    assert all(f">{word}<" in texts(view) for word in ("a", "b", "3", "2"))
