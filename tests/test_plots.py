"""Static figures: what they say, and what they draw."""

import io
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from models import make

import dylora_kit as dk
from dylora_kit import plots
from dylora_kit.baselines.svd_cut import svd_cut

ORANGE, BLUE = (199, 124, 0), (0, 114, 178)


def drawn(image: Any) -> np.ndarray:
    """The pixels of a figure, (height, width, 3), 0 to 255."""
    return (255 * plt.imread(io.BytesIO(image.data))[:, :, :3]).round().astype(int)


def has(image: Any, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(drawn(image) - colour).max(-1) <= 3).any())


def orders(*, method: str, r: int = 4, seed: int = 0, **options: Any) -> pd.DataFrame:
    return dk.ordering(make(seed, r=r, **options)[1], method=method)


# Curves by rank


@pytest.mark.parametrize("seeds", [1, 3])
def test_curves_say_what_b_counts_and_how_they_end(seeds: int) -> None:
    frame = pd.DataFrame(
        [
            (method, b, "error", share / b + 0.01 * (seed - (seeds - 1) / 2), seed)
            for method, share in (("nested", 0.8), ("PCA", 0.5))
            for b in (1, 2, 5)
            for seed in range(seeds)
        ],
        columns=["method", "rank", "metric", "value", "seed"],
    )
    image = plots.rank_curves(frame, unit="code length")
    assert image.alt == (
        "Error by code length: nested from 80 % at code length 1 to 16 % at code length 5; "
        "PCA from 50 % at code length 1 to 10 % at code length 5."
    )
    assert "at rank 5" in plots.rank_curves(frame).alt
    only = plots.rank_curves(frame, methods=["PCA"], unit="code length")
    assert "nested" not in only.alt
    assert has(image, BLUE) and has(image, ORANGE)
    assert has(only, BLUE) and not has(only, ORANGE)


def test_a_trade_off_names_the_best_of_each_method_and_its_size() -> None:
    rows = [
        ("nested", b, 0.5 + 0.1 * b + shift, 1000 * b, seed)
        for b in (1, 2, 4)
        for seed, shift in ((1, 0.02), (2, -0.02))
    ]
    rows += [("whole", 8, 0.97, 150_000, seed) for seed in (1, 2)]
    frame = pd.DataFrame(rows, columns=["method", "rank", "value", "stored", "seed"]).assign(metric="accuracy")
    image = plots.trade_off(frame)
    assert image.alt == ("Accuracy by stored parameters: nested up to 90 % with 4,000; whole up to 97 % with 150,000.")
    assert has(image, BLUE) and has(image, ORANGE)
    assert plots.trade_off(frame.assign(other=10 * frame["stored"]), sizes="other").alt.endswith("with 1,500,000.")


def test_a_trade_off_draws_the_spread_over_seeds_and_sizes_on_a_log_scale() -> None:
    rows = [("a", b, 0.5, 10.0**b, 0) for b in (1, 2, 3)]
    frame = pd.DataFrame(rows, columns=["method", "rank", "value", "stored", "seed"]).assign(metric="accuracy")
    blue = (np.abs(drawn(plots.trade_off(frame)) - BLUE).max(-1) <= 3).sum(0)  # the markers are the tallest
    tall = np.flatnonzero(blue > 0.6 * blue.max())
    middles = [part.mean() for part in np.split(tall, np.flatnonzero(np.diff(tall) > 20) + 1)][-3:]
    near, far = sorted(np.diff(middles))
    assert far < 1.2 * near  # ten times as far, were the scale not logarithmic
    wide = pd.concat([frame.assign(value=value, seed=seed) for seed, value in enumerate((0.2, 0.8))])
    rows_with_ink = [(np.abs(drawn(plots.trade_off(rows)) - BLUE).max(-1) <= 3).any(1).sum() for rows in (frame, wide)]
    assert rows_with_ink[1] > 3 * rows_with_ink[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[:0], "one metric: got no rows"),
        (lambda f: f.drop(columns="stored"), "no column 'stored'"),
        (lambda f: pd.concat([f, f]), "'a' at rank 1 twice for seed 0"),
        (lambda f: f.assign(metric=["x", "y"]), r"one metric: got \['x', 'y'\]"),
        (lambda f: f.assign(stored=0), "greater than 0"),
        (lambda f: f.assign(value=float("nan")), "'a' has no value"),
    ],
)
def test_a_trade_off_refuses_what_it_cannot_draw(change: Any, message: str) -> None:
    frame = pd.DataFrame({"method": "a", "rank": [1, 2], "metric": "x", "value": 0.5, "seed": 0, "stored": [10, 20]})
    with pytest.raises(ValueError, match=message):
        plots.trade_off(change(frame))


def test_an_axis_that_does_not_start_at_zero_is_drawn_larger_and_says_so() -> None:
    frame = pd.DataFrame({"method": "a", "rank": [1, 2], "metric": "accuracy", "value": [0.8, 0.9], "seed": 0})
    whole, part = (plots.rank_curves(frame, bottom=bottom) for bottom in (0.0, 0.7))
    assert whole.alt == part.alt
    blue = [np.argwhere(np.abs(drawn(image) - BLUE).max(-1) <= 3)[:, 0] for image in (whole, part)]
    assert np.ptp(blue[1]) > 1.3 * np.ptp(blue[0])
    labels = [drawn(image)[:, :60].min(-1).min(-1) < 100 for image in (whole, part)]  # rows with ink of the axis' label
    assert labels[1].sum() > labels[0].sum()


# Rows of pictures


def test_rows_of_pictures_are_named_and_counted() -> None:
    rows = {"real": np.zeros((4, 8, 8)), "rebuilt": torch.zeros(2, 8, 8)}
    assert plots.picture_rows(rows).alt == "Rows of pictures. From the top: real (4); rebuilt (2)."
    assert plots.picture_rows(rows, "Digits").alt == "Rows of pictures. Digits: real (4); rebuilt (2)."


def test_pictures_run_from_black_at_minus_one_to_white_at_one() -> None:
    grey = plots.picture_rows({"row": np.stack([np.full((4, 4), value) for value in (-1.0, 0.0, 3.0)])})
    pixels = drawn(grey)
    assert has(grey, (128, 128, 128))
    assert (pixels[:, : pixels.shape[1] // 2] == 0).all(-1).sum() > 100 * 100
    assert not has(plots.picture_rows({"row": np.zeros((3, 4, 4))}), BLUE)


@pytest.mark.parametrize("size", [1e-4, 50.0])
def test_signed_pictures_show_below_zero_in_orange_and_above_in_blue_whatever_their_size(size: float) -> None:
    below, above = -size * np.ones((1, 3, 3)), size * np.ones((1, 3, 3))
    assert has(plots.picture_rows({"a": below}, signed=True), ORANGE)
    assert not has(plots.picture_rows({"a": below}, signed=True), BLUE)
    assert has(plots.picture_rows({"a": above}, signed=True), BLUE)
    assert not has(plots.picture_rows({"a": above}, signed=True), ORANGE)


def test_the_columns_of_signed_pictures_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda axes, label, **how: told.append(label))
    rows = {"a": np.ones((3, 2, 2)), "b": np.ones((3, 2, 2))}
    plots.picture_rows(rows, signed=True)
    assert told == ["1", "2", "3"]
    plots.picture_rows(rows)
    assert told == ["1", "2", "3"]


def test_a_signed_picture_of_zeros_is_white() -> None:
    image = plots.picture_rows({"a": np.zeros((2, 3, 3))}, signed=True)
    assert not has(image, ORANGE) and not has(image, BLUE)


# Singular values


def test_spectra_say_where_they_start_and_end() -> None:
    image = plots.spectra({"DyLoRA": [4.0, 2.0, 0.25], "LoRA": [1.5, 1.25]})
    assert image.alt == "Singular values: DyLoRA from 4 down to 0.25; LoRA from 1.5 down to 1.2."
    assert has(image, BLUE) and has(image, ORANGE)


# Ordering


def test_energy_curves_say_the_mean_over_layers_and_seeds() -> None:
    frame = pd.concat([orders(method="a"), orders(method="a", seed=5), orders(method="b", seed=7)])

    def mean(method: str, b: int) -> str:
        chosen = frame[(frame["method"] == method) & (frame["rank"] == b)]["captured"]
        return f"{method} at rank {b} holds {100 * chosen.mean():.0f} %"

    image = plots.energy_curves(frame, "Energy")
    shares = "; ".join(mean(method, b) for method in "ab" for b in (1, 2))
    assert image.alt == f"Energy that the first b rows hold: {shares}."
    assert has(image, BLUE) and has(image, ORANGE)


def test_the_ordering_map_says_the_ends_of_every_method() -> None:
    _, adapters = make(r=4, rank_pattern={"second": 2})
    _, cut = svd_cut(adapters)
    frame = pd.concat([dk.ordering(adapters, method="LoRA"), dk.ordering(cut, method="SVD")])
    first = frame[(frame["method"] == "LoRA") & (frame["rank"] == 1)]["score"].mean()
    image = plots.ordering_map(frame)
    assert image.alt == (
        f"Ordering score by layer and rank: LoRA from {100 * first:.0f} % at rank 1 to 100 % at rank 4; "
        "SVD from 100 % at rank 1 to 100 % at rank 4."
    )
    assert image.data.startswith(b"\x89PNG")


def test_the_ordering_map_grows_with_the_layers() -> None:
    three = orders(method="a")
    assert len(drawn(plots.ordering_map(three))) > len(drawn(plots.ordering_map(three[three["layer"] == "first"])))


@pytest.mark.parametrize("ranks", [(1, 1), (2, 6)], ids=str)
def test_energy_curves_of_any_ranks_are_drawn(ranks: tuple[int, int]) -> None:
    image = plots.energy_curves(pd.concat([orders(method=f"r = {r}", r=r, seed=r) for r in ranks]))
    assert "r = 1 at rank 1" in image.alt or "r = 2 at rank 1" in image.alt


def test_the_ordering_map_leaves_blank_what_a_method_does_not_have() -> None:
    whole, part = orders(method="a"), orders(method="b", seed=3)
    image = plots.ordering_map(pd.concat([whole, part[part["layer"] != "second"]]))  # ΔW of "second" is zero in b
    assert "b from" in image.alt


def paired() -> pd.DataFrame:
    """Two methods and three seeds, whose differences at ranks 1 and 2 are known."""
    ahead = {1: (0.01, 0.02, 0.03), 2: (-0.04, -0.04, -0.04)}
    rows = []
    for rank, gaps in ahead.items():
        for seed, gap in enumerate(gaps):
            base = 0.5 + 0.1 * seed  # seeds differ by far more than methods do
            rows += [("base", rank, "accuracy", base, seed), ("other", rank, "accuracy", base + gap, seed)]
    return pd.DataFrame(rows, columns=["method", "rank", "metric", "value", "seed"])


def test_differences_are_taken_within_each_seed_and_told_in_points(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.stats import ttest_1samp

    drawn: list[Any] = []
    monkeypatch.setattr("dylora_kit.plots.curves.image", lambda figure, alt: drawn.append((figure, alt)))
    plots.differences(paired(), "base")
    ((figure, alt),) = drawn
    assert alt == "Points of accuracy more than base: other +2.0 at rank 1 and -4.0 at 2."
    (bars,) = figure.axes[0].containers
    (low, high), (same, too) = (segment[:, 1] for segment in bars.lines[2][0].get_segments())
    interval = ttest_1samp([1.0, 2.0, 3.0], 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((interval.low, interval.high))
    assert (same, too) == pytest.approx((-4, -4))


def test_differences_need_two_seeds_in_common_and_methods_that_are_there() -> None:
    with pytest.raises(ValueError, match="1 seed in common: an interval needs two"):
        plots.differences(paired().query("seed == 0"), "base")
    with pytest.raises(ValueError, match="no method 'mine': it has base, other"):
        plots.differences(paired(), "mine")
    with pytest.raises(ValueError, match="no method 'mine'"):
        plots.differences(paired(), "base", methods=["mine"])


def test_a_figure_is_shown_with_its_text_for_those_who_do_not_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda what, raw=False: shown.append(what))
    image = plots.spectra({"<one>": [2.0, 1.0]})
    image._ipython_display_()
    picture, text = shown
    assert picture.data == image.data and picture.alt == image.alt
    assert text["text/plain"] == image.alt
    assert "&lt;one&gt; from 2 down to 1" in text["text/html"] and "clip-path" in text["text/html"]


# Cost and quality


def costs(seeds: int) -> pd.DataFrame:
    rows = [(name, seed, cost + seed, value) for name, cost, value in (("cheap", 10, 0.8), ("dear", 90, 0.9))
            for seed in range(seeds)]  # fmt: skip
    return pd.DataFrame(rows, columns=["method", "seed", "cost", "value"])


def test_a_plane_says_what_each_method_achieves_and_costs() -> None:
    image = plots.cost_plane(costs(1), "Two methods", of="AURAC")
    assert image.alt == "AURAC by CPU-seconds: cheap 80.0 % for 10; dear 90.0 % for 90."
    assert has(image, BLUE) and has(image, ORANGE)


def test_a_plane_draws_the_spread_over_seeds() -> None:
    def width(seeds: int) -> int:
        return int((np.abs(drawn(plots.cost_plane(costs(seeds))) - BLUE).max(-1) <= 3).any(0).sum())

    assert width(30) > width(1) + 20


def test_a_plane_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="the frame has no column 'cost': it has method, seed, value"):
        plots.cost_plane(costs(1).drop(columns="cost"))
    with pytest.raises(ValueError, match="up to 6 methods: got 7"):
        plots.cost_plane(pd.concat([costs(1).assign(method=str(n)) for n in range(7)]))


def test_a_method_of_one_size_lies_above_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_at: dict[str, float] = {}
    draw = Axes.errorbar

    def note(axes: Axes, *where: Any, **how: Any) -> Any:
        drawn_at[how["label"]] = how.get("zorder", 2)
        return draw(axes, *where, **how)

    monkeypatch.setattr(Axes, "errorbar", note)
    rows = [("line", 1, 100), ("line", 2, 200), ("point", 1, 150)]
    frame = pd.DataFrame([(name, rank, "accuracy", 0.5, 0, size) for name, rank, size in rows],
                         columns=["method", "rank", "metric", "value", "seed", "stored"])  # fmt: skip
    plots.trade_off(frame)
    assert drawn_at["point"] > drawn_at["line"]


def two_tasks() -> pd.DataFrame:
    other = costs(2).assign(value=lambda frame: 1 - frame["value"])
    return pd.concat([costs(2).assign(task="first"), other.assign(task="second")])


def test_standings_have_a_row_for_each_method_and_a_marker_for_each_task() -> None:
    image = plots.standings(two_tasks(), "Two tasks", of="AURAC")
    assert image.alt == ("AURAC on first: dear 90.0 %; cheap 80.0 %. On second: dear 10.0 %; cheap 20.0 %.")
    assert has(image, BLUE) and has(image, ORANGE)


def test_standings_tell_who_had_more(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.set", lambda axes, **how: names.extend(how.get("yticklabels", ())))
    third = two_tasks().query("method == 'cheap'").assign(method="as cheap")
    plots.standings(pd.concat([two_tasks(), third]))
    assert set(names) == {"cheap", "as cheap", "dear (9 × the time)"}


def test_standings_refuse_what_they_cannot_draw() -> None:
    with pytest.raises(ValueError, match="the frame has no column 'task': it has method, seed, cost, value"):
        plots.standings(costs(1))
    with pytest.raises(ValueError, match="expected a frame with one metric: got no rows"):
        plots.standings(two_tasks()[:0])


def test_the_vertical_axis_can_end_below_100_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr("matplotlib.axes.Axes.set", lambda axes, **how: told.append(how))
    frame = pd.DataFrame([("LoRA", b, "Matthews", 0.2, 0) for b in (1, 2)],
                         columns=["method", "rank", "metric", "value", "seed"])  # fmt: skip
    plots.rank_curves(frame, top=0.3)
    plots.rank_curves(frame.assign(value=0.9), top=0.3)
    plots.rank_curves(frame)
    labels, limits = ([how[name] for how in told if name in how] for name in ("ylabel", "ylim"))
    assert labels == ["Matthews, % (not up to 100)"] * 2 + ["Matthews, %"]
    assert [round(high, 1) for _, high in limits] == [30.6, 91.8, 102]


def test_the_horizontal_axis_can_have_a_name_of_its_own() -> None:
    frame = pd.DataFrame([("LoRA", b, "accuracy", 0.5, 0) for b in (1, 2)],
                         columns=["method", "rank", "metric", "value", "seed"])  # fmt: skip
    assert not np.array_equal(drawn(plots.rank_curves(frame)), drawn(plots.rank_curves(frame, across="steps")))
