"""How well the rows of an adapter are ordered, and the best cut, both against plain numpy."""

import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from models import TARGETS, Net, batch, fill, loss_of, make
from torch import nn
from toys import adapted, assert_same, examples, state_of, toy

import dylora_kit as dk
from dylora_kit.baselines.svd_cut import refit_head, svd_cut
from dylora_kit.evaluation.ordering import ordering, scores

R, ALPHA = 5, 10
PATTERN = {"second": 3}  # one of the three layers has a smaller maximum
SCALINGS = pytest.mark.parametrize("scaling", ["alpha/b", "alpha/r", "alpha/sqrt(b)"])
SCALES = {
    "alpha/b": lambda b, r: ALPHA / b,
    "alpha/r": lambda b, r: ALPHA / r,
    "alpha/sqrt(b)": lambda b, r: ALPHA / b**0.5,
}


def filled(**options: object) -> tuple[Net, dk.Adapters]:
    """Three layers in float64 with r = 5, 3 and 5, of different d_in and d_out."""
    return make(r=R, lora_alpha=ALPHA, dtype=torch.float64, **{"rank_pattern": PATTERN, **options})


def parts(adapters: dk.Adapters) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        name: (layer.lora_A.detach().double().numpy(), layer.lora_B.detach().double().numpy())
        for name, layer in adapters.layers.items()
    }


def onto(columns: np.ndarray) -> np.ndarray:
    """The projection on the space of some columns, however dependent they are."""
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    u = u[:, s > 1e-10]
    return u @ u.T


def held(A: np.ndarray, B: np.ndarray, chosen: list[int] | range) -> float:
    """The share of the energy of B·A in the columns of B and rows of A that were chosen."""
    inside = onto(B[:, chosen]) @ (B @ A) @ onto(A[chosen].T)
    return (inside**2).sum() / ((B @ A) ** 2).sum()


def best(A: np.ndarray, B: np.ndarray, b: int) -> float:
    energies = np.linalg.svd(B @ A, compute_uv=False) ** 2
    return energies[:b].sum() / energies.sum()


# Ordering


def test_every_column_equals_projections_in_plain_numpy() -> None:
    _, adapters = filled()
    frame = ordering(adapters, method="ours")
    assert list(frame.columns) == ["method", "layer", "rank", "captured", "best", "any_order", "score"]
    assert set(frame["method"]) == {"ours"}
    assert list(zip(frame["layer"], frame["rank"], strict=True)) == [
        (name, b) for name, r in zip(TARGETS, (5, 3, 5), strict=True) for b in range(1, r + 1)
    ]
    for row in frame.itertuples():
        A, B = parts(adapters)[row.layer]
        choices = itertools.combinations(range(len(A)), row.rank)
        assert row.captured == pytest.approx(held(A, B, range(row.rank)), rel=1e-9)
        assert row.best == pytest.approx(best(A, B, row.rank), rel=1e-9)
        assert row.any_order == pytest.approx(np.mean([held(A, B, list(choice)) for choice in choices]), rel=1e-9)
        assert row.score == pytest.approx(row.captured / row.best, rel=1e-12)
    assert frame["captured"].nunique() > 10


def test_no_choice_holds_more_than_the_best_and_longer_prefixes_hold_more() -> None:
    _, adapters = filled()
    frame = ordering(adapters)
    low = frame[frame["rank"] < frame.groupby("layer")["rank"].transform("max")]
    assert (low["captured"] < low["best"]).all()
    assert (low["any_order"] < low["best"]).all()
    for _, layer in frame.groupby("layer"):
        for column in ("captured", "best", "any_order"):
            assert (layer[column].diff().dropna() > 0).all()


def test_the_whole_adapter_holds_everything() -> None:
    _, adapters = filled()
    last = ordering(adapters).groupby("layer").last()
    for column in ("captured", "best", "any_order", "score"):
        assert last[column].tolist() == pytest.approx([1, 1, 1], abs=1e-9)


def test_sizes_and_signs_of_the_rows_do_not_matter() -> None:
    _, adapters = filled()
    before, delta = ordering(adapters), adapters.delta("first", R)
    with torch.no_grad():
        for layer in adapters.layers.values():
            sizes = torch.tensor([30.0, -0.02, 1.0, -7.0, 0.4], dtype=torch.float64)[: layer.r]
            layer.lora_A.mul_(sizes[:, None])
            layer.lora_B.div_(sizes)
    torch.testing.assert_close(adapters.delta("first", R), delta)
    after = ordering(adapters)
    for column in ("captured", "best", "any_order", "score"):
        np.testing.assert_allclose(after[column], before[column], rtol=1e-8)


@pytest.mark.parametrize("factor", [1e-4, -300.0])
@pytest.mark.parametrize("part", ["lora_A", "lora_B"])
def test_the_size_of_the_whole_adapter_does_not_matter(part: str, factor: float) -> None:
    _, adapters = filled()
    before = ordering(adapters)["score"]
    with torch.no_grad():
        for layer in adapters.layers.values():
            getattr(layer, part).mul_(factor)
    np.testing.assert_allclose(ordering(adapters)["score"], before, rtol=1e-8)


def test_scale_and_active_rank_do_not_matter_and_are_left_alone() -> None:
    model, adapters = filled()
    before, state = ordering(adapters), state_of(model)
    for scaling, rank in (("alpha/r", 2), ("alpha/sqrt(b)", torch.tensor([1, 3]))):
        adapters.scaling, adapters.rank = scaling, rank
        assert ordering(adapters).equals(before)
        assert_same(adapters.rank, rank)
        assert adapters.scaling == scaling
    assert_same(state_of(model), state)


def test_another_order_of_the_rows_changes_what_a_prefix_holds_and_nothing_else() -> None:
    _, adapters = filled()
    before, order = ordering(adapters), [3, 0, 4, 2, 1]
    with torch.no_grad():
        layer = adapters.layers["first"]
        layer.lora_A.copy_(layer.lora_A[order].clone())
        layer.lora_B.copy_(layer.lora_B[:, order].clone())
    after = ordering(adapters)
    np.testing.assert_allclose(after["best"], before["best"], rtol=1e-9)
    np.testing.assert_allclose(after["any_order"], before["any_order"], rtol=1e-9)
    moved = (after["captured"] - before["captured"]).abs() > 1e-3
    assert after["layer"][moved].tolist() == ["first"] * 4
    A, B = parts(adapters)["first"]
    assert after["captured"][1] == pytest.approx(held(A, B, range(2)))


def test_rows_that_are_singular_directions_in_the_wrong_order_score_low() -> None:
    _, adapters = filled()
    _, cut = svd_cut(adapters)
    energies = np.linalg.svd(cut.delta("third", R).numpy(), compute_uv=False)[:R] ** 2
    with torch.no_grad():
        layer = cut.layers["third"]
        layer.lora_A.copy_(layer.lora_A.flip(0))
        layer.lora_B.copy_(layer.lora_B.flip(1))
    expected = [energies[::-1][:b].sum() / energies[:b].sum() for b in range(1, R + 1)]
    frame = ordering(cut)
    assert frame[frame["layer"] == "third"]["score"].tolist() == pytest.approx(expected)
    assert frame[frame["layer"] == "first"]["score"].tolist() == pytest.approx([1] * R)


def test_with_many_rows_the_average_is_over_drawn_choices_and_repeats_itself() -> None:
    model = nn.Sequential(nn.Linear(20, 15, dtype=torch.float64), nn.Linear(15, 13, dtype=torch.float64))
    adapters = dk.attach(model, r=12, target_modules=["0", "1"])
    fill(adapters)
    state = torch.get_rng_state()
    frame = ordering(adapters)
    assert torch.equal(torch.get_rng_state(), state)
    assert ordering(adapters).equals(frame)
    assert len(frame) == 24
    for row in frame.itertuples():
        A, B = parts(adapters)[row.layer]
        assert row.captured == pytest.approx(held(A, B, range(row.rank)), rel=1e-8)
        assert row.best == pytest.approx(best(A, B, row.rank), rel=1e-8)
        if math.comb(12, row.rank) <= 200:  # every choice is in the average
            choices = itertools.combinations(range(12), row.rank)
            assert row.any_order == pytest.approx(np.mean([held(A, B, list(choice)) for choice in choices]), rel=1e-8)
        elif row.rank in (4, 6) and row.layer == "0":
            every = [held(A, B, list(choice)) for choice in itertools.combinations(range(12), row.rank)]
            assert row.any_order == pytest.approx(np.mean(every), abs=5 * np.std(every) / math.sqrt(200))


def test_a_layer_without_a_change_is_left_out_and_scores_zero() -> None:
    _, adapters = filled()
    with torch.no_grad():
        adapters.layers["second"].lora_B.zero_()
    frame = ordering(adapters)
    assert list(dict.fromkeys(frame["layer"])) == ["first", "third"]
    assert frame.notna().all(None)
    by_layer = scores(adapters)
    assert by_layer["second"] == [0.0, 0.0, 0.0]
    assert by_layer["third"] == frame[frame["layer"] == "third"]["score"].tolist()


def test_a_fresh_adapter_has_no_order_yet() -> None:
    _, adapters = filled(nonzero=False)
    frame = ordering(adapters)
    assert frame.empty
    assert list(frame.columns) == ["method", "layer", "rank", "captured", "best", "any_order", "score"]
    assert scores(adapters) == {"first": [0.0] * 5, "second": [0.0] * 3, "third": [0.0] * 5}


def test_the_scores_alone_are_those_of_the_table() -> None:
    _, adapters = filled()
    table = ordering(adapters).groupby("layer", sort=False)["score"].apply(list).to_dict()
    assert scores(adapters) == table


@pytest.mark.parametrize("part", ["lora_A", "lora_B"])
def test_a_row_that_is_zero_holds_nothing(part: str) -> None:
    _, adapters = filled()
    with torch.no_grad():
        for layer in adapters.layers.values():
            getattr(layer, part).movedim(0 if part == "lora_A" else 1, 0)[0] = 0  # never trained, or pruned
    for row in ordering(adapters).itertuples():
        A, B = parts(adapters)[row.layer]
        assert row.captured == pytest.approx(held(A, B, range(row.rank)), abs=1e-9)


def test_a_row_that_repeats_another_adds_nothing() -> None:
    _, adapters = filled()
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_A[1] = layer.lora_A[0]
            layer.lora_B[:, 1] = layer.lora_B[:, 0]
    frame = ordering(adapters).set_index(["layer", "rank"])["captured"]
    for name in TARGETS:
        assert frame[name, 2] == pytest.approx(frame[name, 1], abs=1e-9)


def test_float32_adapters_on_a_half_precision_base_are_measured_too() -> None:
    _, adapters = make(r=R, dtype=torch.bfloat16)
    for row in ordering(adapters).itertuples():
        A, B = parts(adapters)[row.layer]
        assert row.captured == pytest.approx(held(A, B, range(row.rank)), rel=1e-6)


def test_detached_adapters_are_refused() -> None:
    _, adapters = filled()
    adapters.detach()
    with pytest.raises(ValueError, match="detached"):
        ordering(adapters)
    with pytest.raises(ValueError, match="detached"):
        svd_cut(adapters)


def test_training_at_every_rank_orders_the_rows_and_training_at_one_does_not() -> None:
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(96, 12, generator=generator)
    u, v = (torch.linalg.qr(torch.randn(d, 6, generator=generator))[0] for d in (17, 12))
    goal = x @ (u * 0.7 ** torch.arange(6) @ v.T).T
    data = [{"x": row, "y": wanted} for row, wanted in zip(x, goal, strict=True)]
    score_of = {}
    for name, distribution in (("DyLoRA", dk.Uniform(1, 6)), ("LoRA", dk.Fixed(6))):
        torch.manual_seed(0)
        base = nn.Linear(12, 17)
        nn.init.zeros_(base.weight)
        adapters = dk.attach(nn.Sequential(base), r=6, scaling="alpha/r", target_modules=["0"])
        dk.train(
            adapters.model,
            adapters,
            data,
            sampler=dk.RankSampler(distribution, seed=1),
            steps=300,
            lr=0.02,
            loss=lambda model, batch: (model(batch["x"]) - batch["y"]).square().mean(),
            progress=False,
        )
        score_of[name] = ordering(adapters)["score"]
    assert score_of["DyLoRA"].min() > 0.9
    assert score_of["LoRA"].min() < 0.6


# The cut by singular values


def truncated(adapters: dk.Adapters, scaling: str, name: str, b: int) -> np.ndarray:
    """ΔW at rank r, from the formula, cut to its b largest singular values."""
    A, B = parts(adapters)[name]
    u, s, vh = np.linalg.svd(SCALES[scaling](len(A), len(A)) * B @ A, full_matrices=False)
    return (u[:, :b] * s[:b]) @ vh[:b]


@SCALINGS
def test_every_prefix_of_the_cut_is_the_truncated_singular_value_decomposition(scaling: str) -> None:
    _, adapters = filled(scaling=scaling)
    adapters.rank = 2
    _, cut = svd_cut(adapters)
    for name, layer in cut.layers.items():
        assert layer.r == adapters.layers[name].r
        for b in range(1, layer.r + 1):
            np.testing.assert_allclose(cut.delta(name, b).numpy(), truncated(adapters, scaling, name, b), atol=1e-10)
            assert np.linalg.matrix_rank(cut.delta(name, b).numpy(), tol=1e-9) == b


@SCALINGS
def test_at_rank_r_the_cut_does_what_the_original_does_and_below_it_does_not(scaling: str) -> None:
    model, adapters = filled(scaling=scaling)
    twin, cut = svd_cut(adapters)
    x = batch(dtype=torch.float64)
    assert twin is cut.model
    torch.testing.assert_close(twin(x), model(x), rtol=1e-10, atol=1e-10)
    adapters.rank = cut.rank = 2
    assert not torch.allclose(twin(x), model(x), atol=1e-3)
    assert cut.scaling == "alpha/r"


def test_the_cut_runs_at_its_truncated_matrices() -> None:
    model, adapters = filled()
    twin, cut = svd_cut(adapters)
    x = batch(dtype=torch.float64)
    for b in (1, 2, 4):
        cut.rank = b
        h = x
        for name in TARGETS:
            base = model.get_submodule(name).base_layer
            delta = torch.from_numpy(truncated(adapters, "alpha/b", name, min(b, adapters.layers[name].r)))
            h = torch.tanh(nn.functional.linear(h, base.weight + delta, base.bias))
        torch.testing.assert_close(twin(x), model.classifier(h), rtol=1e-9, atol=1e-9)


def test_the_original_is_not_touched_and_the_cut_shares_nothing_with_it() -> None:
    model, adapters = filled(scaling="alpha/sqrt(b)", head=True)
    adapters.rank, adapters.frozen = 3, True
    x = batch(dtype=torch.float64)
    before, config, out = state_of(model), dict(adapters.config), model(x)
    twin, cut = svd_cut(adapters)
    assert_same(state_of(model), before)
    assert adapters.config == config
    assert (adapters.scaling, adapters.rank, adapters.frozen) == ("alpha/sqrt(b)", 3, True)
    assert cut.rank == 3
    assert torch.equal(model(x), out)
    cut.rank, cut.scaling = 1, "alpha/b"
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert_same(state_of(model), before)
    assert (adapters.scaling, adapters.rank) == ("alpha/sqrt(b)", 3)
    assert torch.equal(model(x), out)


@SCALINGS
def test_no_prefix_is_closer_than_the_singular_value_decomposition(scaling: str) -> None:
    _, adapters = filled(scaling=scaling)
    _, cut = svd_cut(adapters)
    for name, layer in adapters.layers.items():
        whole = adapters.delta(name, layer.r)
        for b in range(1, layer.r):
            of_prefix = (whole - adapters.delta(name, b)).norm()
            of_cut = (whole - cut.delta(name, b)).norm()
            lost = torch.linalg.svdvals(whole)[b:].norm()
            assert of_cut.item() == pytest.approx(lost.item(), rel=1e-9)
            assert of_prefix > 1.01 * of_cut


def test_a_cut_is_ordered_at_every_rank() -> None:
    for adapters in (filled()[1], make(r=8)[1]):
        _, cut = svd_cut(adapters)
        frame = ordering(cut)
        np.testing.assert_allclose(frame["score"], 1, atol=1e-6)
        assert (ordering(adapters)["score"] < 0.95).any()


def test_a_cut_of_a_cut_changes_nothing() -> None:
    _, adapters = filled()
    _, once = svd_cut(adapters)
    _, twice = svd_cut(once)
    for name, layer in once.layers.items():
        for b in range(1, layer.r + 1):
            torch.testing.assert_close(twice.delta(name, b), once.delta(name, b), rtol=1e-9, atol=1e-9)


def test_a_fresh_adapter_is_cut_to_nothing() -> None:
    model, adapters = filled(nonzero=False)
    twin, cut = svd_cut(adapters)
    x = batch(dtype=torch.float64)
    for b in (1, 5):
        cut.rank = b
        assert torch.equal(twin(x), model(x))


def test_merged_adapters_are_not_cut() -> None:
    _, adapters = filled()
    adapters.merge(rank=2)
    with pytest.raises(ValueError, match="before cutting"):
        svd_cut(adapters)
    adapters.unmerge()
    assert svd_cut(adapters)[1].rank == 2


def test_a_cut_can_be_saved_loaded_and_trained_on(tmp_path: Path) -> None:
    _, adapters = make(r=R, head=True)
    twin, cut = svd_cut(adapters)
    cut.save(tmp_path)
    torch.manual_seed(0)
    loaded = dk.load(Net(), tmp_path)
    loaded.rank = cut.rank = 2
    torch.testing.assert_close(loaded.model(batch()), twin(batch()))
    optimizer = dk.NestedAdamW(cut, lr=0.01)
    before = state_of(twin)
    loss_of(twin, batch()).backward()
    optimizer.step()
    layer = cut.layers["third"]
    assert (layer.lora_A != before["third.lora_A"]).any(1).tolist() == [True, True, False, False, False]


# What a hostile reader tried


@pytest.mark.parametrize("measure", [ordering, scores, svd_cut])
def test_a_layer_that_is_not_finite_is_named(measure: Callable[[dk.Adapters], object]) -> None:
    _, adapters = filled()
    with torch.no_grad():
        adapters.layers["second"].lora_B[0, 0] = torch.nan
    with pytest.raises(ValueError, match="'second' holds values that are not finite"):
        measure(adapters)


def test_a_row_that_repeats_another_in_single_precision_spans_nothing_new() -> None:
    adapters = dk.attach(nn.Sequential(nn.Linear(9, 7)), r=3, target_modules=["0"])
    layer = adapters.layers["0"]
    with torch.no_grad():
        layer.lora_B.normal_(generator=torch.Generator().manual_seed(0))
        layer.lora_B[:, 1] = 0.3 * layer.lora_B[:, 0]
        layer.lora_A[1] = 0.3 * layer.lora_A[0]
    captured = ordering(adapters)["captured"]
    assert captured[1] == pytest.approx(captured[0], abs=1e-6)


def test_the_svd_cut_of_a_large_layer_is_quick() -> None:
    adapters = dk.attach(nn.Sequential(nn.Linear(2048, 1024, bias=False)), r=8, target_modules=["0"])
    torch.nn.init.normal_(adapters.layers["0"].lora_B)
    start = time.perf_counter()
    _, cut = svd_cut(adapters)
    assert time.perf_counter() - start < 5
    torch.testing.assert_close(cut.delta("0", 8), adapters.delta("0", 8), rtol=1e-3, atol=1e-4)


def test_a_new_head_is_all_that_refitting_changes() -> None:
    adapters = adapted(toy(dropout=0.0))
    adapters.rank = 3
    before = state_of(adapters.model)
    model, copied = refit_head(adapters, examples(30), rank=2, steps=20, lr=0.05)
    assert copied.rank == 2
    assert_same(state_of(adapters.model), before)
    assert adapters.rank == 3
    after = state_of(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_without_a_head_there_is_nothing_to_refit() -> None:
    adapters = adapted(toy(), modules_to_save=[])
    with pytest.raises(ValueError, match="no head to refit"):
        refit_head(adapters, examples(8), rank=1)
