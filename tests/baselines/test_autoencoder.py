"""Autoencoders with nested dropout: the code is really cut, and the kit's loop, sweep and handle serve it too."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor
from toys import assert_same, state_of

import dylora_kit as dk
from dylora_kit.baselines.autoencoder import Autoencoder, angles, pca
from dylora_kit.evaluation.metrics import error
from dylora_kit.tasks import digits

D, K = 9, 5
KINDS = pytest.mark.parametrize("hidden", [None, 7], ids=["linear", "hidden layer"])
RANKS = pytest.mark.parametrize("b", range(1, K + 1))
OBJECTIVES = pytest.mark.parametrize("objective", [dk.individual_loss, dk.summation_loss, dk.mixed_loss])


def rows(n: int = 24, seed: int = 0) -> Tensor:
    """Centred examples (n, 9) whose directions differ in size, along axes that are not the coordinates."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
    x = torch.randn(n, D, generator=generator) * 0.7 ** torch.arange(D) @ turn
    return x - x.mean(0)


def dataset(x: Tensor) -> list[dict[str, Tensor]]:
    return [{"pixel_values": row, "labels": row} for row in x]


def run(model: Autoencoder, x: Tensor) -> dict[str, Tensor]:
    """Output, code and the gradients of every parameter and of x, for the loss against other rows."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    out = model(x, labels=rows(len(x), seed=9).to(x.dtype))
    out.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"logits": out.logits.detach(), "units": model.code.units(x).detach(), "x": x.grad.clone(), **gradients}


def by_hand(model: Autoencoder, x: Tensor, b: int) -> Tensor:
    """The reconstruction from b units as plain matrix products."""
    encoder, decoder = model.encoder.detach(), model.decoder.detach()
    if isinstance(model.before, torch.nn.Identity):
        return x @ encoder[:b].T @ decoder[:, :b].T
    first, last = model.before[0], model.after[1]
    units = F.gelu(x @ first.weight.detach().T + first.bias.detach()) @ encoder[:b].T
    return F.gelu(units @ decoder[:, :b].T) @ last.weight.detach().T + last.bias.detach()


def close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# The cut


@KINDS
@RANKS
def test_a_reconstruction_at_b_is_made_of_the_first_b_units(hidden: int | None, b: int) -> None:
    model, x = Autoencoder(D, K, hidden), rows()
    model.code.rank = b
    out = model(x)
    assert out.loss is None
    assert out.logits.shape == x.shape
    close(out.logits.detach(), by_hand(model, x, b))
    assert model.code.units(x).shape == (len(x), b)
    assert model(x, labels=x).loss.item() == pytest.approx(F.mse_loss(by_hand(model, x, b), x).item(), rel=1e-4)


@KINDS
@pytest.mark.parametrize("fixed", [0, 2])
@pytest.mark.parametrize("rank", [1, 2, 4, torch.tensor([3, 1, 2, 1]), torch.tensor([2, 2, 2, 2])], ids=str)
def test_units_beyond_the_largest_b_are_never_read(hidden: int | None, fixed: int, rank: int | Tensor) -> None:
    model, x = Autoencoder(D, K, hidden), rows(4)
    model.code.rank, model.code.fixed = rank, fixed
    most = rank if isinstance(rank, int) else int(rank.max())
    expected = run(model, x)
    with torch.no_grad():
        model.encoder[most:] = math.nan
        model.decoder[:, most:] = math.nan
    assert_same(run(model, x), expected)
    assert all(tensor.isfinite().all() for tensor in expected.values())


@KINDS
@RANKS
def test_gradients_reach_exactly_the_first_b_units(hidden: int | None, b: int) -> None:
    model = Autoencoder(D, K, hidden)
    model.code.rank = b
    gradients = run(model, rows())
    wanted = [unit < b for unit in range(K)]
    assert gradients["encoder"].ne(0).any(1).tolist() == gradients["encoder"].ne(0).all(1).tolist() == wanted
    assert gradients["decoder"].ne(0).any(0).tolist() == gradients["decoder"].ne(0).all(0).tolist() == wanted


@KINDS
def test_a_mixed_batch_equals_one_run_per_example(hidden: int | None) -> None:
    model, ranks = Autoencoder(D, K, hidden).double(), [3, 1, 4, 1, 2]
    x, labels = rows(5).double(), rows(5, seed=4).double()
    model.code.rank = torch.tensor(ranks)
    assert model.code.rank.tolist() == ranks
    out = model(x, labels=labels)
    out.loss.backward()
    mixed = {name: p.grad.clone() for name, p in model.named_parameters()}
    units = model.code.units(x)
    assert units.shape == (5, 4)
    assert units.ne(0).sum(1).tolist() == ranks

    model.zero_grad()
    for i, b in enumerate(ranks):
        model.code.rank = b
        single = model(x[i : i + 1], labels=labels[i : i + 1])
        close(out.logits[i], single.logits[0], 1e-12)
        close(units[i, :b], model.code.units(x[i : i + 1])[0], 1e-12)
        (single.loss / len(ranks)).backward()
    for name, p in model.named_parameters():
        close(mixed[name], p.grad, 1e-12)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_rank_tensor_of_the_wrong_length_is_refused(n: int) -> None:
    model = Autoencoder(D, K)
    model.code.rank = torch.tensor([1, 2, 3])
    with pytest.raises(ValueError, match=f"names 3 examples, but the batch holds {n}"):
        model(rows(n))


@pytest.mark.parametrize(
    "rank", [0, K + 1, -1, 1.5, True, "2", None, torch.tensor([1, K + 1]), torch.tensor([0, 1]), torch.tensor(2.0)]
)
def test_a_rank_out_of_range_is_refused_and_changes_nothing(rank: Any) -> None:
    model = Autoencoder(D, K)
    model.code.rank = 3
    before = run(model, rows())
    with pytest.raises(ValueError, match="1 to 5"):
        model.code.rank = rank
    with pytest.raises(ValueError, match="1 to 5"), model.code.at(rank):
        pytest.fail("the block must not run")
    assert model.code.rank == 3
    assert_same(run(model, rows()), before)


def test_at_gives_the_rank_back_also_after_an_error() -> None:
    model, ranks = Autoencoder(D, K), torch.tensor([1, 4])
    model.code.rank = ranks
    with pytest.raises(KeyboardInterrupt), model.code.at(2) as code:
        assert code is model.code
        assert code.rank == 2
        raise KeyboardInterrupt
    assert_same(model.code.rank, ranks)


def test_the_units_at_b_are_the_first_b_of_all_units() -> None:
    model, x = Autoencoder(D, K, hidden=7), rows()
    whole = model.code.units(x)
    for b in range(1, K):
        with model.code.at(b):
            close(model.code.units(x), whole[:, :b], 1e-6)


def test_dropout_takes_whole_units_and_only_in_training() -> None:
    model, x = Autoencoder(D, K, dropout=0.5), rows(200)
    model.code.rank = 4
    model.eval()
    close(model(x).logits.detach(), by_hand(model, x, 4))
    model.train()
    torch.manual_seed(3)
    out = model(x).logits.detach()
    torch.manual_seed(3)
    units = F.dropout(model.code.units(x).detach(), 0.5)
    assert 0.4 < units.eq(0).double().mean() < 0.6
    close(out, units @ model.decoder[:, :4].detach().T)


# The start


def test_the_seed_decides_the_start_and_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 (the global generator is what this is about)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, same, another = (state_of(Autoencoder(D, K, hidden=7, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    torch.manual_seed(6)
    assert_same(state_of(Autoencoder(D, K, hidden=7, seed=1)), first)
    assert_same(first, same)
    assert all(not torch.equal(first[name], another[name]) for name in first)


def test_a_linear_autoencoder_has_no_weights_beside_encoder_and_decoder() -> None:
    shapes = {name: tuple(p.shape) for name, p in Autoencoder(D, K).named_parameters()}
    assert shapes == {"encoder": (K, D), "decoder": (D, K)}
    shapes = {name: tuple(p.shape) for name, p in Autoencoder(D, K, hidden=7).named_parameters()}
    assert {"encoder": (K, 7), "decoder": (7, K)}.items() <= shapes.items()


@pytest.mark.parametrize(
    "sizes", [{"d": 0}, {"k": 0}, {"hidden": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"dropout": math.nan}], ids=str
)
def test_sizes_that_make_no_autoencoder_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Autoencoder(**{"d": D, "k": K, **sizes})


def test_a_deep_copy_has_a_code_of_its_own() -> None:
    model, x = Autoencoder(D, K), rows()
    model.code.rank = 3
    twin = copy.deepcopy(model)
    assert twin.code.model is twin
    twin.code.rank, twin.code.fixed = 1, 2
    assert (model.code.rank, model.code.fixed) == (3, 0)
    close(twin(x).logits.detach(), by_hand(model, x, 1))
    close(model(x).logits.detach(), by_hand(model, x, 3))


@KINDS
def test_num_parameters_counts_the_weights_into_and_out_of_the_kept_units(hidden: int | None) -> None:
    code = Autoencoder(D, K, hidden).code
    code.rank = 2
    width = hidden or D
    assert [code.num_parameters(b) for b in range(1, K + 1)] == [2 * b * width for b in range(1, K + 1)]
    assert code.num_parameters() == 2 * 2 * width
    assert code.rank == 2
    with pytest.raises(ValueError, match="1 to 5"):
        code.num_parameters(K + 1)


# Units that are not trained any more


@KINDS
@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD])
def test_fixed_units_keep_every_bit_while_later_ones_move(hidden: int | None, make: Any) -> None:
    model, x = Autoencoder(D, K, hidden), rows()
    model.code.fixed = 2
    before, optimizer = state_of(model), make(model.parameters(), lr=0.05)
    for rank in (5, 3, torch.arange(len(x)) % K + 1, 1):
        model.code.rank = rank
        optimizer.zero_grad()
        model(x, labels=x).loss.backward()
        optimizer.step()
    after = state_of(model)
    assert torch.equal(after["encoder"][:2], before["encoder"][:2])
    assert torch.equal(after["decoder"][:, :2], before["decoder"][:, :2])
    assert (after["encoder"][2:] != before["encoder"][2:]).any(1).all()
    assert (after["decoder"][:, 2:] != before["decoder"][:, 2:]).any(0).all()


@KINDS
def test_fixing_changes_neither_the_output_nor_the_gradients_of_later_units(hidden: int | None) -> None:
    model, x = Autoencoder(D, K, hidden), rows()
    model.code.rank = 4
    free = run(model, x)
    model.code.fixed = 3
    fixed = run(model, x)
    close(fixed["logits"], free["logits"], 1e-6)
    assert fixed["encoder"].ne(0).any(1).tolist() == [False, False, False, True, False]
    assert fixed["decoder"].ne(0).any(0).tolist() == [False, False, False, True, False]
    close(fixed["encoder"][3], free["encoder"][3])
    close(fixed["decoder"][:, 3], free["decoder"][:, 3])
    close(fixed["x"], free["x"])


@pytest.mark.parametrize("units", [-1, K, K + 3, 1.0, True, "1", None])
def test_a_number_of_fixed_units_out_of_range_is_refused_and_changes_nothing(units: Any) -> None:
    code = Autoencoder(D, K).code
    code.fixed = 2
    with pytest.raises(ValueError, match="from 0 to 4"):
        code.fixed = units
    assert code.fixed == 2


# The kit's loop and sweep


def train(model: Autoencoder, **settings: Any) -> pd.DataFrame:
    settings = {
        "steps": 12,
        "batch_size": 5,
        "progress": False,
        "seed": 3,
        "sampler": dk.RankSampler(dk.Uniform(1, K), seed=10),
        **settings,
    }
    if "optimizer" not in settings:
        settings["optimizer"] = torch.optim.Adam(model.parameters(), lr=0.02)
    return dk.train(model, model.code, settings.pop("data", dataset(rows())), **settings)


@OBJECTIVES
@KINDS
def test_the_same_loop_trains_an_autoencoder_with_every_objective(hidden: int | None, objective: Any) -> None:
    model = Autoencoder(D, K, hidden)
    model.code.rank = 2
    x = rows()
    errors = [error(by_hand(model, x, b).numpy(), x.numpy()) for b in range(1, K + 1)]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    frame = train(model, objective=objective, steps=300, schedule="constant")
    after = [error(by_hand(model, x, b).numpy(), x.numpy()) for b in range(1, K + 1)]
    assert all(now < then for now, then in zip(after, errors, strict=True))
    assert after[K - 1] < 0.5 * errors[K - 1]
    assert after == sorted(after, reverse=True)
    assert len(frame) == 300
    assert frame["rank"].isna().all() == (objective is not dk.individual_loss)
    assert model.code.rank == 2
    assert torch.equal(torch.get_rng_state(), state)


@OBJECTIVES
def test_the_first_loss_is_the_objectives_as_computed_by_hand(objective: Any) -> None:
    model, x = Autoencoder(D, K), rows(5)
    distribution = dk.Categorical({1: 1, 2: 2, 4: 5})
    draws = dk.RankSampler(distribution, seed=10)
    drawn = draws.draw()
    if objective is dk.mixed_loss:
        ranks = draws.draw_many(5).tolist()
        order = torch.randperm(5, generator=torch.Generator().manual_seed(3)).tolist()
        squares = [F.mse_loss(by_hand(model, x[i : i + 1], b), x[i : i + 1]) for i, b in zip(order, ranks, strict=True)]
        expected = float(sum(squares)) / 5
    else:
        weights = {drawn: 1.0} if objective is dk.individual_loss else {1: 1 / 8, 2: 2 / 8, 4: 5 / 8}
        expected = sum(w * F.mse_loss(by_hand(model, x, b), x).item() for b, w in weights.items())
    sampler = dk.RankSampler(distribution, seed=10)
    frame = train(model, objective=objective, steps=1, sampler=sampler, data=dataset(x))
    assert frame["loss"][0] == pytest.approx(expected, rel=1e-5)


class BreakError(Exception):
    """What stops a run in these tests."""


@OBJECTIVES
@pytest.mark.parametrize("fixed", [0, 1])
def test_a_resumed_run_equals_one_without_a_break_bit_for_bit(tmp_path: Path, objective: Any, fixed: int) -> None:
    def start(seed: int = 0) -> Autoencoder:
        model = Autoencoder(D, K, hidden=7, dropout=0.2, seed=seed)
        model.code.fixed = fixed
        return model

    def stop(step: int) -> None:
        if step == 9:
            raise BreakError

    whole = start()
    history = train(whole, objective=objective)
    with pytest.raises(BreakError):
        train(start(), objective=objective, checkpoint=tmp_path, checkpoint_every=7, on_step=stop)
    resumed = start(seed=4)  # starts from other weights, which must not matter
    torch.rand(11)
    again = train(resumed, objective=objective, checkpoint=tmp_path, resume=True)
    pd.testing.assert_frame_equal(again, history, check_exact=True)
    assert_same(state_of(resumed), state_of(whole))


@pytest.mark.parametrize(
    ("other", "fixed", "words"),
    [({"k": 4}, 0, "code = "), ({"dropout": 0.1}, 0, "dropout = "), ({}, 1, "fixed = 0, this run has fixed = 1")],
)
def test_a_checkpoint_of_another_autoencoder_is_refused(
    tmp_path: Path, other: dict[str, Any], fixed: int, words: str
) -> None:
    four = {"sampler": dk.RankSampler(dk.Uniform(1, 4), seed=10)}
    train(Autoencoder(D, K), checkpoint=tmp_path, **four)
    model = Autoencoder(**{"d": D, "k": K, **other})
    model.code.fixed = fixed
    before = state_of(model)
    with pytest.raises(ValueError, match=words):
        train(model, checkpoint=tmp_path, resume=True, **four)
    assert_same(state_of(model), before)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": None}, "pass an optimizer"),
        ({"sampler": dk.RankSampler(dk.Uniform(1, K + 1), seed=0)}, "up to 6"),
        ({"optimizer": "only the encoder"}, "does not train"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_changes(settings: dict[str, Any], words: str) -> None:
    model = Autoencoder(D, K)
    before = state_of(model)
    if settings.get("optimizer") == "only the encoder":
        settings = {"optimizer": torch.optim.Adam([model.encoder])}
    with pytest.raises(ValueError, match=words):
        train(model, **settings)
    assert_same(state_of(model), before)


def test_the_code_of_another_model_is_refused() -> None:
    model, other = Autoencoder(D, K), Autoencoder(D, K)
    optimizer, sampler = torch.optim.Adam(model.parameters()), dk.RankSampler(dk.Uniform(1, K), seed=0)
    with pytest.raises(ValueError, match="another model"):
        dk.train(model, other.code, dataset(rows()), sampler=sampler, steps=1, optimizer=optimizer)
    with pytest.raises(ValueError, match="another model"):
        dk.sweep(model, other.code, dataset(rows()), metric="error", progress=False)
    with pytest.raises(ValueError, match="another model"):
        dk.predict(model, other.code, dataset(rows()), ranks=[1])


@KINDS
def test_a_sweep_gives_the_error_of_each_code_length_and_changes_nothing(hidden: int | None) -> None:
    model, x = Autoencoder(D, K, hidden, dropout=0.4).train(), rows(23)
    ranks = torch.tensor([1, 2, 3])
    model.code.rank, model.code.fixed = ranks, 1
    before, state = state_of(model), torch.get_rng_state()
    frame = dk.sweep(model, model.code, dataset(x), metric="error", method="ours", batch_size=5, progress=False)
    outputs, labels = dk.predict(model, model.code, dataset(x), ranks=[K, 2], batch_size=4)
    assert frame["rank"].tolist() == list(range(1, K + 1))
    assert set(frame["metric"]) == {"error"}
    expected = [float((by_hand(model, x, b) - x).square().sum() / x.square().sum()) for b in range(1, K + 1)]
    assert frame["value"].tolist() == pytest.approx(expected, rel=1e-4)
    assert len(set(frame["value"])) == K
    assert list(outputs) == [K, 2]
    np.testing.assert_array_equal(labels, x.numpy())
    for b, output in outputs.items():
        np.testing.assert_allclose(output, by_hand(model, x, b).numpy(), rtol=1e-4, atol=1e-5)
    assert_same(model.code.rank, ranks)
    assert model.training
    assert_same(state_of(model), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_error_is_the_share_of_the_variance_that_is_left() -> None:
    labels = np.array([[3.0, 0.0], [-3.0, 4.0], [0.0, -4.0]])
    assert error(labels, labels) == 0
    assert error(np.zeros_like(labels), labels) == 1
    assert error(-labels, labels) == 4
    assert error(labels * [1, 0], labels) == pytest.approx(32 / 50)


# Principal components


@pytest.fixture(scope="module")
def pixels() -> digits.Pixels:
    return digits.load_pixels("upright").train


def test_pca_leaves_the_error_that_scikit_learns_leaves_at_every_code_length(pixels: digits.Pixels) -> None:
    x = pixels.pixel_values.double().numpy()
    model = pca(pixels, k=12)
    values = dk.sweep(model, model.code, pixels, metric="error", progress=False)["value"]
    reference = PCA(64, svd_solver="full").fit(x)
    for b, value in enumerate(values, start=1):
        cut = PCA(b, svd_solver="full").fit(x)
        rebuilt = cut.inverse_transform(cut.transform(x))
        assert value == pytest.approx(((rebuilt - x) ** 2).sum() / (x**2).sum(), rel=1e-4)
        assert value == pytest.approx(1 - reference.explained_variance_ratio_[:b].sum(), rel=1e-4)
    assert model.encoder.shape == (12, 64)
    close(model.encoder @ model.decoder, torch.eye(12))


def test_no_linear_autoencoder_has_a_smaller_error_on_its_own_training_data() -> None:
    x = rows(60)
    best = [error(by_hand(pca(dataset(x), K), x, b).numpy(), x.numpy()) for b in range(1, K + 1)]
    trained = Autoencoder(D, K)
    train(trained, data=dataset(x), objective=dk.summation_loss, steps=400, schedule="constant", batch_size=60)
    turned = pca(dataset(x), K)  # the same space at K, its directions mixed
    turn = torch.linalg.qr(torch.randn(K, K, generator=torch.Generator().manual_seed(0)))[0]
    with torch.no_grad():
        turned.encoder.copy_(turn @ turned.encoder)
        turned.decoder.copy_(turned.decoder @ turn.T)
    for model in (trained, turned):
        errors = [error(by_hand(model, x, b).numpy(), x.numpy()) for b in range(1, K + 1)]
        assert all(value >= least - 1e-6 for value, least in zip(errors, best, strict=True))
    assert errors[K - 1] == pytest.approx(best[K - 1], rel=1e-4)
    assert all(value > 1.05 * least for value, least in zip(errors[: K - 1], best[: K - 1], strict=True))


@pytest.mark.parametrize(
    "part",
    [
        "train",
        "validation",
        "test",
    ],
)
def test_pca_is_exact_repeatable_and_leaves_the_global_random_state_alone(part: str) -> None:
    data = getattr(digits.load_pixels("upright"), part)
    np.random.seed(3)  # noqa: NPY002 (the global generator is what this is about)
    before = np.random.get_state()  # noqa: NPY002
    first, second = pca(data, 5), pca(data, 5)
    after = np.random.get_state()  # noqa: NPY002
    assert after[2] == before[2] and (after[1] == before[1]).all()
    assert_same(state_of(first), state_of(second))


def test_angles_are_those_between_decoder_columns_whatever_their_size_and_sign() -> None:
    first, second = Autoencoder(D, 3), Autoencoder(D, 3, seed=1)
    with torch.no_grad():
        first.decoder.zero_()
        first.decoder[0, 0] = first.decoder[1, 1] = first.decoder[2, 2] = 1
        second.decoder.zero_()
        second.decoder[0, 0] = -5
        second.decoder[1, 1] = second.decoder[4, 1] = 0.3
        second.decoder[7, 2] = 2
    assert angles(first, second) == pytest.approx([0, 45, 90], abs=1e-4)
    assert angles(second, first) == angles(first, second)
    other = Autoencoder(D, K, seed=2)
    assert angles(other, other) == pytest.approx([0] * K, abs=1e-4)
    expected = F.cosine_similarity(Autoencoder(D, K).decoder, other.decoder, dim=0).abs().arccos().rad2deg().tolist()
    assert angles(Autoencoder(D, K), other) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("shape", [(D, 4), (8, K)])
def test_angles_need_decoders_of_one_shape(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="decoders of one shape"):
        angles(Autoencoder(D, K), Autoencoder(*shape))


def test_nested_dropout_finds_the_principal_directions_in_order_and_plain_training_does_not() -> None:
    x = rows(60)
    best = pca(dataset(x), K)
    settings = {"data": dataset(x), "steps": 600, "batch_size": 60, "schedule": "constant"}
    nested, plain = Autoencoder(D, K), Autoencoder(D, K)
    train(nested, objective=dk.summation_loss, **settings)
    train(plain, sampler=dk.RankSampler(dk.Fixed(K), seed=0), **settings)
    assert max(angles(nested, best)) < 8
    assert max(angles(plain, best)) > 30


# The data


@pytest.mark.parametrize("domain", ["upright", "inverted"])
def test_pixels_are_the_scans_as_rows_less_the_mean_of_the_training_scans(domain: str) -> None:
    task, scans = digits.load_pixels(domain), digits.load(domain)
    mean = scans.train.pixel_values.mean(0).flatten()
    assert task.name == f"digits-{domain}-pixels"
    assert task.metric == "error"
    for part, size in (("train", 1000), ("validation", 200), ("test", 597)):
        data, original = getattr(task, part), getattr(scans, part).pixel_values
        assert data.pixel_values.shape == data.labels.shape == (size, 64)
        assert torch.equal(data.pixel_values, data.labels)
        assert torch.equal(data[3]["labels"], data.pixel_values[3])
        close(data.pixel_values + mean, original.flatten(1), 1e-6)
        close(data.pictures(data.pixel_values), original[:, 0], 1e-6)
    close(task.train.pixel_values.mean(0), torch.zeros(64), 1e-5)
    assert task.test.pixel_values.mean(0).abs().max() > 1e-3


def test_changing_loaded_pixels_changes_neither_their_labels_nor_what_is_loaded_next() -> None:
    first = digits.load_pixels().test
    expected = first.labels.clone()
    first.pixel_values.zero_()
    assert torch.equal(first.labels, expected)
    assert torch.equal(digits.load_pixels().test.pixel_values, expected)


def test_an_unknown_domain_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of 'upright', 'turned'"):
        digits.load_pixels("sideways")
