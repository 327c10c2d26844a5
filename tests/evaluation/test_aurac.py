"""AURAC: the area under the accuracy-rank curve, and how sure it is."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid

import dylora_kit as dk
from dylora_kit.evaluation.aurac import area

COLUMNS = ["method", "rank", "metric", "value", "seed"]


def frame_of(*curves: dict[int, float], method: str = "DyLoRA", metric: str = "accuracy") -> pd.DataFrame:
    """One seed for each curve, `{rank: value}`."""
    rows = [(method, b, metric, value, seed) for seed, curve in enumerate(curves) for b, value in curve.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def noise(ranks: list[int], seed: int) -> dict[int, float]:
    return dict(zip(ranks, np.random.default_rng(seed).random(len(ranks)), strict=True))


@pytest.mark.parametrize("ranks", [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 4, 8], [3, 5, 64]])
def test_the_area_is_that_of_scipys_trapezoids_over_the_range(ranks: list[int]) -> None:
    curve = noise(ranks, 0)
    for log, places in ((False, np.array(ranks)), (True, np.log2(ranks))):
        expected = trapezoid(list(curve.values()), places) / (places[-1] - places[0])
        assert area(curve, log=log) == pytest.approx(expected)


def test_a_flat_curve_has_its_height_as_area_and_the_order_of_rows_does_not_matter() -> None:
    assert area(dict.fromkeys((1, 3, 8), 0.7)) == pytest.approx(0.7)
    curve = noise([1, 2, 4, 8], 1)
    assert area(dict(reversed(curve.items())), log=True) == area(curve, log=True)


def test_low_ranks_count_more_over_the_logarithm() -> None:
    rises_early, rises_late = {1: 0.9, 2: 0.9, 4: 0.9, 8: 0.5}, {1: 0.5, 2: 0.9, 4: 0.9, 8: 0.9}
    assert area(rises_early) < area(rises_late) and area(rises_early, log=True) == area(rises_late, log=True)


def test_each_method_and_metric_has_the_mean_over_seeds() -> None:
    curves = [noise([1, 2, 4], seed) for seed in range(3)]
    lora = frame_of(curves[2], curves[0], method="LoRA")
    found = dk.aurac(pd.concat([frame_of(*curves), frame_of(curves[1], metric="f1"), lora]), log=True)
    assert found[["method", "metric", "seeds"]].to_numpy().tolist() == [
        ["DyLoRA", "accuracy", 3], ["DyLoRA", "f1", 1], ["LoRA", "accuracy", 2]
    ]  # fmt: skip
    of_seed = [area(curve, log=True) for curve in curves]
    assert found["aurac"].tolist() == pytest.approx([np.mean(of_seed), of_seed[1], (of_seed[2] + of_seed[0]) / 2])


def test_the_interval_is_that_of_drawing_seeds_again() -> None:
    heights = [0.1, 0.2, 0.3, 0.4, 0.9]
    found = dk.aurac(frame_of(*({1: height, 8: height} for height in heights))).iloc[0]
    generator = np.random.default_rng(5)
    means = [generator.choice(heights, 5).mean() for _ in range(4000)]
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)
    assert found["low"] < found["aurac"] < found["high"]


def test_one_seed_says_nothing_of_how_sure_it_is() -> None:
    found = dk.aurac(frame_of({1: 0.5, 2: 0.7}).assign(seed=None)).iloc[0]
    assert (
        found["seeds"] == 1 and found["aurac"] == pytest.approx(0.6) and np.isnan(found[["low", "high"]].tolist()).all()
    )


def test_a_value_that_is_not_a_number_shows() -> None:
    assert np.isnan(dk.aurac(frame_of({1: 0.5, 2: float("nan")}))["aurac"].item())


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (frame_of({1: 0.5}), r"an area needs the values at two ranks or more, counted from 1: got \[1\]"),
        (frame_of({0: 0.5, 1: 0.5}), r"counted from 1: got \[0, 1\]"),
        (frame_of({1: 0.5, 2: 0.5}).drop(columns="seed"), "the frame has no column 'seed': pass what sweep returns"),
        (pd.concat([frame_of({1: 0.5, 2: 0.5})] * 2), r"'DyLoRA' \(accuracy\) has rank 1 twice for one seed"),
        (frame_of({1: 0.5, 2: 0.5}, {1: 0.5, 4: 0.5}), "has other ranks for one seed than for another"),
    ],
)
def test_what_is_no_curve_is_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dk.aurac(frame)
