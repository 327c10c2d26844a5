import copy
import io
import math
import statistics
import time
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Net, R, batch, loss_of, make, parameters, rows_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import dylora_kit as dk
from dylora_kit.training.row_update import Rows

FROZEN = pytest.mark.parametrize("frozen", [False, True], ids=["nested", "frozen"])
OPTIONS = {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.3}


class RowAdamW:
    """AdamW on one tensor, row by row: each row has its own moments and step count, an idle row keeps them."""

    def __init__(self, tensor, dim, lr, betas, eps, weight_decay, row_lr=None):
        self.dim, self.betas, self.eps, self.weight_decay = dim, betas, eps, weight_decay
        self.rows = list(rows_of(tensor.double(), dim).clone())
        self.lr = [lr * factor for factor in row_lr or [1] * len(self.rows)]
        self.m = [torch.zeros_like(row) for row in self.rows]
        self.v = [torch.zeros_like(row) for row in self.rows]
        self.t = [0] * len(self.rows)

    def step(self, gradient, selected):
        gradient = rows_of(gradient.double(), self.dim)
        beta1, beta2 = self.betas
        for i in selected:
            g = gradient[i - 1]
            self.t[i - 1] += 1
            self.m[i - 1] = beta1 * self.m[i - 1] + (1 - beta1) * g
            self.v[i - 1] = beta2 * self.v[i - 1] + (1 - beta2) * g**2
            m_hat = self.m[i - 1] / (1 - beta1 ** self.t[i - 1])
            v_hat = self.v[i - 1] / (1 - beta2 ** self.t[i - 1])
            decayed = self.rows[i - 1] * (1 - self.lr[i - 1] * self.weight_decay)
            self.rows[i - 1] = decayed - self.lr[i - 1] * m_hat / (v_hat.sqrt() + self.eps)


class Devices(TorchDispatchMode):
    """Notes on which devices operations run."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        self.devices |= {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)}
        return out


def build(update="exact", *, seed=0, head=False, options=None, **model_options):
    model, adapters = make(seed, head=head, **model_options)
    return model, adapters, dk.NestedAdamW(adapters, update=update, **{**OPTIONS, **(options or {})})


def selected_rows(b, frozen):
    return [b] if frozen else list(range(1, b + 1))


def frozen_state(optimizer, adapters):
    """Every row's weight, moments and step count, to compare bit for bit; an untouched state counts as zeros."""
    picture = []
    for p, dim in parameters(adapters):
        state = optimizer.state[p]
        step = state.get("step", torch.zeros(p.shape[dim]))
        moments = [state.get(key, torch.zeros_like(p)) for key in ("exp_avg", "exp_avg_sq")]
        picture.append([rows_of(t, dim).clone() for t in (p, *moments)] + [step.clone()])
    return picture


def moved_rows(before, after):
    """The rows, counted from 1, of which anything changed: weight, a moment or the count. One list per parameter."""
    return [
        [i + 1 for i in range(len(old[0])) if not all(torch.equal(a[i], b[i]) for a, b in zip(old, new, strict=True))]
        for old, new in zip(before, after, strict=True)
    ]


def step_and_see(optimizer, adapters):
    """The rows that a step moved: one list, the same for every parameter."""
    before = frozen_state(optimizer, adapters)
    optimizer.step()
    moved = moved_rows(before, frozen_state(optimizer, adapters))
    assert all(rows == moved[0] for rows in moved), moved
    return moved[0]


def run_at(model, adapters, rank, x=None):
    adapters.rank = rank
    loss_of(model, batch() if x is None else x).backward()


def warm_up(model, adapters, optimizer):
    """A few steps at full rank, so that every row has momentum that could move it."""
    adapters.frozen, was = False, adapters.frozen
    for seed in range(3):
        run_at(model, adapters, R, batch(seed=seed))
        optimizer.step()
        optimizer.zero_grad()
    adapters.frozen = was


@settings(max_examples=15)
@given(st.lists(st.integers(1, R), min_size=1, max_size=10), st.booleans(), st.sampled_from([0.0, 0.3]),
       st.sampled_from([None, [1.0, 1.5, 2, 0, 3, 0.5, 7, 4]]))  # fmt: skip
def test_selected_rows_follow_their_own_adamw_and_the_others_keep_every_bit(ranks, frozen, weight_decay, row_lr):
    options = {**OPTIONS, "weight_decay": weight_decay, "row_lr": row_lr}
    model, adapters, optimizer = build(options=options, dtype=torch.float64)
    adapters.frozen = frozen
    references = [RowAdamW(p, dim, **options) for p, dim in parameters(adapters)]
    for i, b in enumerate(ranks):
        optimizer.zero_grad()
        run_at(model, adapters, b, batch(seed=i, dtype=torch.float64))
        for (p, _), ref in zip(parameters(adapters), references, strict=True):
            ref.step(p.grad, selected_rows(b, frozen))
        assert step_and_see(optimizer, adapters) == selected_rows(b, frozen)
        for (p, dim), ref in zip(parameters(adapters), references, strict=True):
            state = optimizer.state[p]
            for actual, wanted in ((p, ref.rows), (state["exp_avg"], ref.m), (state["exp_avg_sq"], ref.v)):
                torch.testing.assert_close(rows_of(actual, dim), torch.stack(wanted), rtol=1e-10, atol=1e-12)
            assert state["step"].tolist() == ref.t


@FROZEN
def test_in_float32_selected_rows_follow_their_own_adamw_closely(frozen):
    model, adapters, optimizer = build()
    adapters.frozen = frozen
    references = [RowAdamW(p, dim, **OPTIONS) for p, dim in parameters(adapters)]
    for i, b in enumerate([8, 3, 5, 1, 3, 7, 2, 8, 6, 4, 1, 5]):
        optimizer.zero_grad()
        run_at(model, adapters, b, batch(seed=i))
        for (p, _), ref in zip(parameters(adapters), references, strict=True):
            ref.step(p.grad, selected_rows(b, frozen))
        assert step_and_see(optimizer, adapters) == selected_rows(b, frozen)
    for (p, dim), ref in zip(parameters(adapters), references, strict=True):
        torch.testing.assert_close(rows_of(p.double(), dim), torch.stack(ref.rows), rtol=2e-5, atol=2e-6)
        assert optimizer.state[p]["step"].tolist() == ref.t


def test_always_at_r_it_is_torchs_adamw():
    model, adapters, optimizer = build(head=True)
    twin, twin_adapters = make(head=True)
    plain = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], **OPTIONS)
    for i in range(15):
        for net, handle, opt in ((model, adapters, optimizer), (twin, twin_adapters, plain)):
            opt.zero_grad()
            run_at(net, handle, R, batch(seed=i))
            opt.step()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6, msg=name)


def test_authors_is_exactly_torchs_adamw_on_zero_gradients_and_rows_drift():
    model, adapters, optimizer = build("authors", head=True)
    twin, twin_adapters = make(head=True)
    plain = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], **OPTIONS)
    drifted = []
    for i, b in enumerate([8, 2, 5, 1, 1, 3]):
        before = [rows_of(p, dim).clone() for p, dim in parameters(adapters)]
        for net, handle, opt in ((model, adapters, optimizer), (twin, twin_adapters, plain)):
            opt.zero_grad()
            run_at(net, handle, b, batch(seed=i))
            opt.step()
        drifted += [
            not torch.equal(rows_of(p, dim)[b:], old[b:])
            for (p, dim), old in zip(parameters(adapters), before, strict=True)
            if b < R
        ]
    assert all(drifted)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
    for (p, _), (q, _) in zip(parameters(adapters), parameters(twin_adapters), strict=True):
        assert optimizer.state[p]["step"] == plain.state[q]["step"] == 6


@FROZEN
@pytest.mark.parametrize("b", [1, 3, R])
def test_momentum_and_weight_decay_do_not_move_rows_that_were_not_selected(b, frozen):
    model, adapters, optimizer = build()
    adapters.frozen = frozen
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, b)
    assert step_and_see(optimizer, adapters) == selected_rows(b, frozen)


@FROZEN
def test_evaluating_at_another_rank_between_backward_and_step_selects_nothing_more(frozen):
    model, adapters, optimizer = build()
    adapters.frozen = frozen
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, 3)
    adapters.rank = 8
    with torch.no_grad():
        model(batch())
    loss_of(model, batch())  # a graph that nobody walks back
    adapters.rank = 1
    adapters.frozen = not frozen
    assert step_and_see(optimizer, adapters) == selected_rows(3, frozen)


@FROZEN
@pytest.mark.parametrize("ranks", [(3, 5), (5, 3), (2, 2)], ids=str)
@pytest.mark.parametrize("one_backward", [False, True], ids=["two backwards", "one backward"])
def test_accumulating_over_two_ranks_selects_the_union_and_counts_one_step(ranks, frozen, one_backward):
    model, adapters, optimizer = build(dtype=torch.float64)
    adapters.frozen = frozen
    references = [RowAdamW(p, dim, **OPTIONS) for p, dim in parameters(adapters)]
    x = batch(dtype=torch.float64)
    if one_backward:
        losses = []
        for b in ranks:
            adapters.rank = b
            losses.append(loss_of(model, x))
        sum(losses).backward()
    else:
        for b in ranks:
            run_at(model, adapters, b, x)
    union = sorted({row for b in ranks for row in selected_rows(b, frozen)})
    grads = [p.grad.clone() for p, _ in parameters(adapters)]
    assert step_and_see(optimizer, adapters) == union
    for (p, dim), ref, grad in zip(parameters(adapters), references, grads, strict=True):
        ref.step(grad, union)
        torch.testing.assert_close(rows_of(p, dim), torch.stack(ref.rows), rtol=1e-10, atol=1e-12)
        assert optimizer.state[p]["step"].tolist() == ref.t


@FROZEN
def test_the_summation_loss_selects_every_rank_it_sums(frozen):
    model, adapters, optimizer = build()
    adapters.frozen = frozen
    warm_up(model, adapters, optimizer)
    sampler = dk.RankSampler(dk.Uniform(2, 6), seed=0)
    for weight, b in dk.summation_loss(2, sampler, 6):
        adapters.rank = b
        (weight * loss_of(model, batch())).backward()
    assert step_and_see(optimizer, adapters) == list(range(2 if frozen else 1, 7))


@pytest.mark.parametrize(
    ("frozen", "expected"), [(False, [1, 2, 3, 4, 5]), (True, [1, 3, 5])], ids=["nested", "frozen"]
)
def test_a_mixed_batch_selects_up_to_its_largest_rank_or_the_drawn_rows(frozen, expected):
    model, adapters, optimizer = build()
    adapters.frozen = frozen
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, torch.tensor([3, 1, 5, 3, 3, 1]))
    assert step_and_see(optimizer, adapters) == expected


@FROZEN
def test_a_smaller_layer_moves_the_rows_it_has(frozen):
    model, adapters, optimizer = build(rank_pattern={"second": 3})
    adapters.frozen = frozen
    run_at(model, adapters, 5)
    before = frozen_state(optimizer, adapters)
    optimizer.step()
    moved = moved_rows(before, frozen_state(optimizer, adapters))
    assert moved == [selected_rows(b, frozen) for b in (5, 5, 3, 3, 5, 5)]


def test_a_mapping_selects_rows_layer_by_layer():
    model, adapters, optimizer = build()
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, {"first": 2, "second": 7, "third": 1})
    before = frozen_state(optimizer, adapters)
    optimizer.step()
    moved = moved_rows(before, frozen_state(optimizer, adapters))
    assert moved == [list(range(1, b + 1)) for b in (2, 2, 7, 7, 1, 1)]


@FROZEN
@pytest.mark.parametrize("clip", [False, True], ids=["plain", "clipped"])
def test_a_selected_row_of_a_with_zero_gradient_counts_a_step_and_decays(frozen, clip):
    model, adapters, optimizer = build(nonzero=False)
    adapters.frozen = frozen
    start = [layer.lora_A.detach().clone() for layer in adapters.layers.values()]
    run_at(model, adapters, 3)
    rows = [row - 1 for row in selected_rows(3, frozen)]
    assert all(layer.lora_A.grad.count_nonzero() == 0 for layer in adapters.layers.values())
    if clip:
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    keep = 1 - OPTIONS["lr"] * OPTIONS["weight_decay"]
    for layer, before in zip(adapters.layers.values(), start, strict=True):
        step = optimizer.state[layer.lora_A]["step"]
        assert step.tolist() == [float(i in rows) for i in range(R)]
        expected = before.clone()
        expected[rows] *= keep
        torch.testing.assert_close(layer.lora_A.detach(), expected)
        others = [i for i in range(R) if i not in rows]
        assert torch.equal(layer.lora_A[others], before[others])
        assert optimizer.state[layer.lora_B]["step"].tolist() == step.tolist()


def each_gradient(model, change):
    for p in model.parameters():
        if p.grad is not None:
            change(p)


CLEARINGS = {
    "optimizer, none": lambda model, optimizer: optimizer.zero_grad(set_to_none=True),
    "optimizer, zero": lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
    "model, none": lambda model, optimizer: model.zero_grad(set_to_none=True),
    "model, zero": lambda model, optimizer: model.zero_grad(set_to_none=False),
    "in place": lambda model, optimizer: each_gradient(model, lambda p: p.grad.mul_(0)),
    "behind autograd's back": lambda model, optimizer: each_gradient(model, lambda p: p.grad.data.zero_()),
    "new zeros": lambda model, optimizer: each_gradient(model, lambda p: setattr(p, "grad", torch.zeros_like(p))),
    "new data": lambda model, optimizer: each_gradient(model, lambda p: setattr(p.grad, "data", torch.zeros_like(p))),
}
EACH_CLEARING = pytest.mark.parametrize("clear", CLEARINGS.values(), ids=CLEARINGS)


@FROZEN
@EACH_CLEARING
def test_rows_reached_before_gradients_were_cleared_are_not_selected(clear, frozen):
    model, adapters, optimizer = build()
    adapters.frozen = frozen
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, 7)
    optimizer.step()
    for b in (4, 2, 6, 1):
        clear(model, optimizer)
        run_at(model, adapters, b)
        assert step_and_see(optimizer, adapters) == selected_rows(b, frozen)


@FROZEN
@EACH_CLEARING
def test_a_skipped_step_leaves_no_rows_behind(clear, frozen):
    model, adapters, optimizer = build()
    adapters.frozen = frozen
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, 7)
    clear(model, optimizer)
    run_at(model, adapters, 2)
    assert step_and_see(optimizer, adapters) == selected_rows(2, frozen)


@EACH_CLEARING
def test_accumulation_goes_on_after_a_clearing(clear):
    model, adapters, optimizer = build(nonzero=False)
    run_at(model, adapters, 8)
    clear(model, optimizer)
    run_at(model, adapters, 2)
    run_at(model, adapters, 4)
    run_at(model, adapters, 3)
    assert step_and_see(optimizer, adapters) == [1, 2, 3, 4]


@EACH_CLEARING
def test_a_step_without_a_backward_since_the_clearing_moves_nothing(clear):
    model, adapters, optimizer = build()
    run_at(model, adapters, 5)
    optimizer.step()
    clear(model, optimizer)
    assert step_and_see(optimizer, adapters) == []


class Branching(Net):
    """A network that can leave out its second layer."""

    skip = False

    def forward(self, x):
        x = torch.tanh(self.first(x))
        x = x[..., :9] if self.skip else torch.tanh(self.second(x))
        return self.classifier(torch.tanh(self.third(x)))


@EACH_CLEARING
def test_a_layer_without_a_gradient_in_this_step_is_left_alone(clear):
    torch.manual_seed(0)
    model = Branching()
    adapters = dk.attach(model, r=R, target_modules=["first", "second", "third"])
    optimizer = dk.NestedAdamW(adapters, **OPTIONS)
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, 6)
    optimizer.step()
    clear(model, optimizer)
    model.skip = True
    run_at(model, adapters, 3)
    before = frozen_state(optimizer, adapters)
    optimizer.step()
    moved = moved_rows(before, frozen_state(optimizer, adapters))
    assert moved == [[1, 2, 3], [1, 2, 3], [], [], [1, 2, 3], [1, 2, 3]]


def test_a_layer_that_runs_twice_in_one_forward_counts_one_step():
    torch.manual_seed(0)
    shared = nn.Linear(12, 10)
    model = nn.Sequential(shared, nn.Linear(10, 12), shared)
    adapters = dk.attach(model, r=4, target_modules=["0"])
    optimizer = dk.NestedAdamW(adapters, **OPTIONS)
    references = [RowAdamW(p, dim, **OPTIONS) for p, dim in parameters(adapters)]
    for b in (3, 2):
        optimizer.zero_grad()
        run_at(model, adapters, b)
        for (p, _), ref in zip(parameters(adapters), references, strict=True):
            ref.step(p.grad, selected_rows(b, False))
        optimizer.step()
    for (p, dim), ref in zip(parameters(adapters), references, strict=True):
        assert optimizer.state[p]["step"].tolist() == ref.t
        torch.testing.assert_close(rows_of(p.double(), dim), torch.stack(ref.rows), rtol=1e-5, atol=1e-6)


def test_a_repeated_step_on_the_same_gradients_moves_the_same_rows():
    model, adapters, optimizer = build()
    run_at(model, adapters, 3)
    assert step_and_see(optimizer, adapters) == [1, 2, 3]
    assert step_and_see(optimizer, adapters) == [1, 2, 3]
    assert optimizer.state[adapters.layers["first"].lora_A]["step"].tolist() == [2.0] * 3 + [0.0] * 5


@FROZEN
def test_clipping_before_the_step_keeps_the_selection(frozen):
    model, adapters, optimizer = build()
    adapters.frozen = frozen
    warm_up(model, adapters, optimizer)
    for b in (5, 2):
        optimizer.zero_grad()
        run_at(model, adapters, b)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-4)
        assert step_and_see(optimizer, adapters) == selected_rows(b, frozen)


def test_autograd_grad_in_between_changes_nothing():
    results = []
    for probe in (False, True):
        model, adapters, optimizer = build()
        watched = [p for p, _ in parameters(adapters)]
        warm_up(model, adapters, optimizer)
        for b in (3, 5, 2):
            model.zero_grad()
            for rank, runs in ((8, probe), (b, True), (7, probe)):
                adapters.rank = rank
                if runs and rank == b:
                    loss_of(model, batch()).backward()
                elif runs:
                    torch.autograd.grad(loss_of(model, batch()), watched)
            assert step_and_see(optimizer, adapters) == selected_rows(b, False)
        results.append([p.detach() for p in watched])
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


@pytest.mark.parametrize("reached", ["finite", "infinite"])
def test_a_grad_scaler_that_skips_a_step_leaves_no_rows_behind(reached):
    model, adapters, optimizer = build()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    warm_up(model, adapters, optimizer)
    before = frozen_state(optimizer, adapters)
    adapters.rank = 7
    scaler.scale(loss_of(model, batch()) * (math.inf if reached == "infinite" else 1)).backward()
    scaler.step(optimizer)
    scaler.update()
    moved = moved_rows(before, frozen_state(optimizer, adapters))
    assert moved == [[] if reached == "infinite" else list(range(1, 8))] * 6
    model.zero_grad()
    before = frozen_state(optimizer, adapters)
    adapters.rank = 2
    scaler.scale(loss_of(model, batch())).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    assert moved_rows(before, frozen_state(optimizer, adapters)) == [[1, 2]] * 6


@pytest.mark.parametrize("first", ["exact", "authors", "torch"])
def test_a_second_optimizer_on_the_same_adapters_starts_afresh(first):
    model, adapters = make()
    if first == "torch":
        earlier = torch.optim.AdamW([p for p, _ in parameters(adapters)], lr=0.01)
    else:
        earlier = dk.NestedAdamW(adapters, update=first, **OPTIONS)
    run_at(model, adapters, 8)
    earlier.step()
    model.zero_grad()
    optimizer = dk.NestedAdamW(adapters, **OPTIONS)
    for b in (2, 4, 1):
        run_at(model, adapters, b)
        assert step_and_see(optimizer, adapters) == selected_rows(b, False)
        optimizer.zero_grad()


def test_two_optimizers_in_use_at_once_select_the_same_rows():
    model, adapters, first = build()
    second = dk.NestedAdamW(adapters, **OPTIONS)
    for b in (5, 2):
        run_at(model, adapters, b)
        assert step_and_see(first, adapters) == selected_rows(b, False)
        assert step_and_see(second, adapters) == selected_rows(b, False)
        model.zero_grad()


@pytest.mark.parametrize("update", ["exact", "authors"])
def test_a_saved_state_continues_bit_for_bit(update):
    ranks = [5, 2, 8, 1, 3, 7]

    def train(model, adapters, optimizer, steps):
        for i in steps:
            optimizer.zero_grad()
            run_at(model, adapters, ranks[i], batch(seed=i))
            optimizer.step()

    model, adapters, optimizer = build(update, head=True)
    train(model, adapters, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(model, adapters, optimizer, range(3, 6))
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh, fresh_adapters, fresh_optimizer = build(update, seed=8, head=True, options={"lr": 9.0})
    fresh.load_state_dict(saved["model"])
    fresh_optimizer.load_state_dict(saved["optimizer"])
    train(fresh, fresh_adapters, fresh_optimizer, range(3, 6))
    for (name, p), q in zip(model.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q), name
    for p, q in zip(optimizer.state.values(), fresh_optimizer.state.values(), strict=True):
        assert all(torch.equal(p[key], q[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_loading_a_state_does_not_tie_the_two_optimizers_together():
    model, adapters, optimizer = build()
    run_at(model, adapters, 5)
    optimizer.step()
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    fresh, fresh_adapters, fresh_optimizer = build()
    fresh_optimizer.load_state_dict(state)
    run_at(fresh, fresh_adapters, 8)
    fresh_optimizer.step()
    for index, values in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, kept["state"][index][key]) for key, value in values.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_step_counts_are_one_float32_number_per_row_also_after_loading(dtype):
    model, adapters, optimizer = build(dtype=dtype, rank_pattern={"second": 3})
    run_at(model, adapters, 4, batch(dtype=dtype))
    optimizer.step()
    fresh = dk.NestedAdamW(adapters, **OPTIONS)
    fresh.load_state_dict(optimizer.state_dict())
    for opt in (optimizer, fresh):
        for p, dim in parameters(adapters):
            step = opt.state[p]["step"]
            assert step.dtype == torch.float32
            assert step.tolist() == [1.0] * min(4, p.shape[dim]) + [0.0] * max(0, p.shape[dim] - 4)


@pytest.mark.parametrize(("saved", "into"), [("authors", "exact"), ("exact", "authors")])
def test_a_state_of_the_other_update_is_refused(saved, into):
    model, adapters, optimizer = build(saved)
    run_at(model, adapters, 4)
    optimizer.step()
    with pytest.raises(ValueError, match=f"update='{saved}'"):
        build(into)[2].load_state_dict(optimizer.state_dict())


def test_a_state_of_another_rank_is_refused():
    model, adapters, optimizer = build(r=4)
    run_at(model, adapters, 4)
    optimizer.step()
    with pytest.raises(ValueError, match=r"shape \(4,\), expected \(8,\)"):
        build()[2].load_state_dict(optimizer.state_dict())


def test_an_unused_optimizers_state_can_be_loaded_over_a_used_one():
    model, adapters, optimizer = build()
    empty = optimizer.state_dict()
    run_at(model, adapters, 4)
    optimizer.step()
    optimizer.load_state_dict(empty)
    optimizer.step()
    assert optimizer.state[adapters.layers["first"].lora_A]["step"].tolist() == [1.0] * 4 + [0.0] * 4


@pytest.mark.parametrize("update", ["exact", "authors"])
def test_schedulers_set_the_learning_rate_of_both_groups(update):
    model, adapters, optimizer = build(update, head=True, options={"head_lr": 0.5, "weight_decay": 0.0})
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    run_at(model, adapters, 3)
    changes = []
    for _ in range(3):  # with one repeated gradient, AdamW moves by lr at each step
        before = [model.first.lora_B.detach().clone(), model.classifier.weight.detach().clone()]
        optimizer.step()
        scheduler.step()
        after = [model.first.lora_B.detach(), model.classifier.weight.detach()]
        changes.append([(a - b).abs().max().item() for a, b in zip(after, before, strict=True)])
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02 / 8, 0.5 / 8])
    for i, (of_adapter, of_head) in enumerate(changes):
        assert of_adapter == pytest.approx(0.02 * 0.5**i, rel=0.02)
        assert of_head == pytest.approx(0.5 * 0.5**i, rel=0.02)


@pytest.mark.parametrize("head_lr", [None, 0.0, 0.2])
@pytest.mark.parametrize("update", ["exact", "authors"])
def test_the_head_gets_ordinary_adamw_at_its_own_rate(head_lr, update):
    model, adapters, optimizer = build(update, head=True, options={"head_lr": head_lr})
    head = copy.deepcopy(model.classifier)
    plain = torch.optim.AdamW(head.parameters(), **{**OPTIONS, "lr": OPTIONS["lr"] if head_lr is None else head_lr})
    for i, b in enumerate([3, 8, 1, 5]):
        optimizer.zero_grad()
        run_at(model, adapters, b, batch(seed=i))
        for mine, theirs in zip(model.classifier.parameters(), head.parameters(), strict=True):
            theirs.grad = mine.grad.clone()
        optimizer.step()
        plain.step()
    for mine, theirs in zip(model.classifier.parameters(), head.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_groups_hold_the_adapters_and_everything_else():
    model, adapters, optimizer = build(head=True, options={"head_lr": 0.5})
    nested, others = optimizer.param_groups
    assert [id(p) for p in nested["params"]] == [id(p) for p, _ in parameters(adapters)]
    assert [id(p) for p in others["params"]] == [id(p) for p in model.classifier.parameters()]
    assert (nested["lr"], others["lr"]) == (0.02, 0.5)
    assert len(build()[2].param_groups) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_lr": 0.1}, "nothing beside the adapters is trained"),
        ({"update": "plain"}, "'exact' or 'authors'"),
        ({"lr": -1}, "lr must be finite and at least 0"),
        ({"lr": math.nan}, "lr must be finite and at least 0"),
        ({"eps": -1e-8}, "eps"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"betas": (1.0, 0.9)}, "betas"),
        ({"betas": (0.9, -0.1)}, "betas"),
        ({"row_lr": [1.0] * (R - 1)}, f"row_lr must be {R} finite factors"),
        ({"row_lr": [1.0] * (R - 1) + [-1.0]}, f"row_lr must be {R} finite factors"),
        ({"row_lr": [1.0] * R, "update": "authors"}, "row_lr needs update='exact'"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, message):
    _, adapters = make()
    with pytest.raises(ValueError, match=message):
        dk.NestedAdamW(adapters, **options)


def test_a_bad_head_lr_is_refused():
    _, adapters = make(head=True)
    with pytest.raises(ValueError, match="head_lr"):
        dk.NestedAdamW(adapters, head_lr=-0.1)


def test_there_must_be_something_to_train():
    model, adapters = make()
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        dk.NestedAdamW(adapters)


@pytest.mark.parametrize("half", ["lora_A", "lora_B"])
def test_half_of_an_adapter_can_be_left_untrained(half):
    model, adapters = make()
    for layer in adapters.layers.values():
        getattr(layer, half).requires_grad_(False)
    optimizer = dk.NestedAdamW(adapters, **OPTIONS)
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, 3)
    before = frozen_state(optimizer, adapters)
    optimizer.step()
    expected = [[], [1, 2, 3]] if half == "lora_A" else [[1, 2, 3], []]
    assert moved_rows(before, frozen_state(optimizer, adapters)) == expected * 3


def test_an_eps_of_zero_leaves_rows_that_never_ran_alone():
    model, adapters, optimizer = build(options={"eps": 0.0})
    run_at(model, adapters, 3)
    assert step_and_see(optimizer, adapters) == [1, 2, 3]
    assert all(p.isfinite().all() for p, _ in parameters(adapters))


def test_an_infinite_gradient_stays_in_the_selected_rows():
    model, adapters, optimizer = build()
    warm_up(model, adapters, optimizer)
    adapters.rank = 2
    (loss_of(model, batch()) * math.inf).backward()
    assert step_and_see(optimizer, adapters) == [1, 2]
    assert all(rows_of(p, dim)[2:].isfinite().all() for p, dim in parameters(adapters))


def test_a_closure_is_run_and_its_loss_returned():
    model, adapters, optimizer = build()
    adapters.rank = 2

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, batch())
        loss.backward()
        return loss

    wanted = loss_of(model, batch()).item()
    assert optimizer.step(closure).item() == pytest.approx(wanted)
    assert model.first.lora_B.grad.ne(0).any(0).tolist() == [True] * 2 + [False] * 6


def test_an_exact_step_costs_little_more_than_torchs():
    model = nn.Sequential(*[nn.Sequential(nn.Linear(128, 130), nn.Linear(130, 128)) for _ in range(12)])
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    adapters = dk.attach(model, r=R, target_modules=names)
    optimizer = dk.NestedAdamW(adapters, weight_decay=0.1)
    twins = [p.detach().clone().requires_grad_() for p, _ in parameters(adapters)]
    plain = torch.optim.AdamW(twins, weight_decay=0.1, foreach=True)
    for twin in twins:
        twin.grad = torch.randn_like(twin)

    def seconds(step):
        start = time.process_time()
        step()
        return time.process_time() - start

    ratios = []
    for _ in range(60):
        optimizer.zero_grad()
        run_at(model, adapters, 4, torch.randn(2, 128))
        ratios.append(seconds(optimizer.step) / seconds(plain.step))
    ratio = statistics.median(ratios)
    print(f"\nexact step / torch.optim.AdamW(foreach=True): {ratio:.2f}")
    assert ratio <= 3


def test_gradients_of_a_backward_pass_to_some_inputs_alone_select_their_rows():
    model, adapters, optimizer = build()
    warm_up(model, adapters, optimizer)
    adapters.rank = 2
    loss_of(model, batch()).backward(inputs=[p for p, _ in parameters(adapters)])
    assert step_and_see(optimizer, adapters) == [1, 2]


def test_gradients_that_came_before_the_optimizer_was_made_select_their_rows():
    model, adapters = make(0)
    run_at(model, adapters, 3)
    assert step_and_see(dk.NestedAdamW(adapters, **OPTIONS), adapters) == [1, 2, 3]


def test_gradients_put_there_by_hand_select_their_rows():
    model, adapters, optimizer = build()
    warm_up(model, adapters, optimizer)
    adapters.rank = 3
    inputs = [p for p, _ in parameters(adapters)]
    for p, gradient in zip(inputs, torch.autograd.grad(loss_of(model, batch()), inputs), strict=True):
        p.grad = gradient
    assert step_and_see(optimizer, adapters) == [1, 2, 3]


def test_a_row_whose_gradients_are_exactly_zero_is_not_selected():
    model, adapters, optimizer = build()
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, 4)
    for p, dim in parameters(adapters):
        rows_of(p.grad, dim)[2] = 0
    assert step_and_see(optimizer, adapters) == [1, 2, 4]


@FROZEN
@pytest.mark.parametrize("row_lr", [None, [1.0, 1.5, 2, 0, 3, 0.5, 7, 4]])
def test_a_step_by_mask_is_the_step_by_runs_of_rows(frozen, row_lr, monkeypatch):
    """A device other than the CPU takes the way by mask, which never waits for it."""
    found = []
    for masked in (False, True):
        with monkeypatch.context() as patch:
            if masked:
                patch.setattr(Rows, "_common_runs", lambda *_: None)
            model, adapters, optimizer = build(options={"row_lr": row_lr})
            adapters.frozen = frozen
            apart = {name: b for b, name in enumerate(adapters.layers, start=2)}  # step counts differ from then on
            for step, b in enumerate((8, 3, apart, 5, 1, 8, 2)):
                run_at(model, adapters, b, batch(seed=step))
                optimizer.step()
                optimizer.zero_grad()
        found.append(frozen_state(optimizer, adapters))
    for by_runs, by_mask in zip(*found, strict=True):
        for first, second in zip(by_runs, by_mask, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-8)


def test_a_step_by_mask_keeps_every_bit_of_rows_that_are_not_selected(monkeypatch):
    monkeypatch.setattr(Rows, "_common_runs", lambda *_: None)
    model, adapters, optimizer = build()
    warm_up(model, adapters, optimizer)
    for b in (5, 2, 7):
        optimizer.zero_grad()
        run_at(model, adapters, b)
        assert step_and_see(optimizer, adapters) == selected_rows(b, frozen=False)


class Fan(nn.Module):
    """Four layers of one shape side by side, so that one stack of the optimizer holds them all."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(12, 17) for _ in range(4))

    def forward(self, x, used):
        return sum(part(x).pow(2).mean() for part, on in zip(self.parts, used, strict=True) if on)


@FROZEN
def test_layers_of_one_shape_are_updated_each_in_its_own_rows(frozen):
    torch.manual_seed(1)
    model = Fan()
    adapters = dk.attach(model, r=R, target_modules=r"parts\.\d")
    adapters.frozen = frozen
    for la in adapters.layers.values():
        nn.init.normal_(la.lora_B)
    optimizer = dk.NestedAdamW(adapters, **OPTIONS)
    expected = {p: RowAdamW(p.detach(), dim, **OPTIONS) for p, dim in parameters(adapters)}
    draw = torch.Generator().manual_seed(5)
    for _ in range(25):
        ranks = dict(zip(adapters.layers, torch.randint(1, R + 1, (4,), generator=draw).tolist(), strict=True))
        used = torch.rand(4, generator=draw) < 0.7
        if not used.any():
            continue
        adapters.rank = ranks
        optimizer.zero_grad()
        model(batch(), used.tolist()).backward()
        for (la, b), on in zip(zip(adapters.layers.values(), ranks.values(), strict=True), used.tolist(), strict=True):
            if on:
                for p in (la.lora_A, la.lora_B):
                    expected[p].step(p.grad, selected_rows(b, frozen))
        optimizer.step()
        for p, dim in parameters(adapters):
            torch.testing.assert_close(
                rows_of(p.detach().double(), dim), torch.stack(expected[p].rows), rtol=1e-4, atol=1e-6
            )
            assert optimizer.state[p]["step"].tolist() == expected[p].t


@pytest.mark.parametrize("when", ["before", "after"])
def test_one_half_of_the_adapters_can_be_trained_alone(when):
    model, adapters = make(0)
    first = dk.NestedAdamW(adapters, **OPTIONS)
    for la in adapters.layers.values():
        la.lora_A.requires_grad_(False)
    optimizer = dk.NestedAdamW(adapters, **OPTIONS) if when == "before" else first
    before = [(la.lora_A.detach().clone(), la.lora_B.detach().clone()) for la in adapters.layers.values()]
    adapters.rank = 2
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model, batch()).backward()
        optimizer.step()
    for la, (a, b) in zip(adapters.layers.values(), before, strict=True):
        assert torch.equal(la.lora_A, a) and torch.equal(la.lora_B[:, 2:], b[:, 2:])
        assert not torch.equal(la.lora_B[:, :2], b[:, :2])


def test_step_counts_do_not_depend_on_the_default_type():
    torch.set_default_dtype(torch.bfloat16)
    try:
        _, adapters, optimizer = build()
        for _ in range(260):
            optimizer.zero_grad()
            loss_of(adapters.model, batch(dtype=torch.bfloat16)).backward()
            optimizer.step()
        p, _ = parameters(adapters)[0]
        assert optimizer.state[p]["step"].tolist() == [260.0] * len(optimizer.state[p]["step"])
    finally:
        torch.set_default_dtype(torch.float32)


def test_misuse_of_the_optimizer_is_one_sentence():
    _, adapters, optimizer = build()
    with pytest.raises(ValueError, match="row by row"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "nested": True})
    with pytest.raises(TypeError, match="state_dict"):
        copy.deepcopy(optimizer)
    adapters.merge(rank=1)
    with pytest.raises(ValueError, match="unmerge"):
        optimizer.step()
    adapters.detach()
    with pytest.raises(ValueError, match="detached"):
        dk.NestedAdamW(adapters)


def test_a_layer_of_a_smaller_maximum_has_the_first_factors_of_row_lr(monkeypatch):
    found = []
    for masked in (False, True):
        with monkeypatch.context() as patch:
            if masked:
                patch.setattr(Rows, "_common_runs", lambda *_: None)
            options = {"row_lr": [1, 2, 3, 4, 5, 6, 7, 8]}
            model, adapters, optimizer = build(options=options, rank_pattern={"second": 3})
            run_at(model, adapters, R)
            before = [p.detach().clone() for p, _ in parameters(adapters)]
            optimizer.step()
            found.append([p.detach() - old for (p, _), old in zip(parameters(adapters), before, strict=True)])
    for by_runs, by_mask in zip(*found, strict=True):
        torch.testing.assert_close(by_runs, by_mask, rtol=1e-5, atol=1e-8)


def test_a_cleared_state_starts_afresh_and_is_kept_again():
    model, adapters, optimizer = build()
    warm_up(model, adapters, optimizer)
    optimizer.state.clear()
    run_at(model, adapters, 3)
    optimizer.step()
    for p, _ in parameters(adapters):
        assert optimizer.state[p]["step"].tolist() == [1.0] * 3 + [0.0] * 5


def test_a_model_that_changes_its_type_between_steps_goes_on_with_its_moments():
    (model, adapters, optimizer), (twin, twins, other) = build(), build()
    for single in (True, False):
        for one, handle, each in ((model, adapters, optimizer), (twin, twins, other)):
            each.zero_grad()
            x = batch()
            if not single and one is model:
                one.double()
                x = x.double()
            run_at(one, handle, 5, x)
            each.step()
    for (p, _), (q, _) in zip(parameters(adapters), parameters(twins), strict=True):
        assert p.dtype == optimizer.state[p]["exp_avg"].dtype == torch.float64
        assert optimizer.state[p]["step"].tolist() == [2.0] * 5 + [0.0] * 3
        torch.testing.assert_close(p.float(), q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["assigned", "unfrozen"])
def test_adapters_that_the_optimizer_does_not_have_are_named(change):
    model, adapters = make()
    layer = adapters.layers["second"]
    if change == "unfrozen":
        layer.lora_A.requires_grad_(False)
    optimizer = dk.NestedAdamW(adapters, **OPTIONS)
    if change == "unfrozen":
        layer.lora_A.requires_grad_(True)
    else:
        model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
        for each in adapters.layers.values():
            each.lora_A.requires_grad_(True), each.lora_B.requires_grad_(True)
    run_at(model, adapters, 2)
    with pytest.raises(RuntimeError, match="has other matrices than when this optimizer was made"):
        optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_the_state_of_another_kind_of_optimizer_is_refused_and_changes_nothing(kind, used):
    model, adapters, optimizer = build()
    warm_up(model, adapters, optimizer)
    run_at(model, adapters, 3)
    foreign = kind([p for p, _ in parameters(adapters)], lr=0.5)
    if used:
        foreign.step()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="another kind of optimizer"):
        optimizer.load_state_dict(foreign.state_dict())
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for index, state in before["state"].items():
        assert all(torch.equal(value, after["state"][index][key]) for key, value in state.items())


def test_a_parameter_taken_out_of_the_group_rests():
    model, adapters, optimizer = build()
    resting = adapters.layers["second"].lora_A
    group = optimizer.param_groups[0]
    group["params"] = [p for p in group["params"] if p is not resting]
    before = resting.detach().clone()
    run_at(model, adapters, R)
    optimizer.step()
    assert torch.equal(resting, before)


def test_a_step_moves_nothing_between_cpu_and_device():
    """Every tensor that a masked step makes is made on the device of the adapters."""
    _, adapters, optimizer = build(options={"row_lr": [1.0] * R, "weight_decay": 0.1})
    adapters.model.to("meta")
    layers = [layer for layer in adapters.layers.values() if layer.r == R]
    trained = {p for layer in layers for p in (layer.lora_A, layer.lora_B)}
    for p in trained:
        p.grad = torch.zeros_like(p)
    rows, group = Rows(layers, trained, defaultdict(dict)), optimizer.param_groups[0]
    rows.step(group)
    with Devices() as seen:
        rows.step(group)
    assert seen.devices == {"meta"}


def test_a_factor_that_is_changed_in_the_group_counts_from_then_on():
    model, adapters, optimizer = build(options={"row_lr": [1.0] * R, "weight_decay": 0.0})
    warm_up(model, adapters, optimizer)
    optimizer.param_groups[0]["row_lr"][1] = 0.0
    run_at(model, adapters, R)
    before = [rows_of(p, dim).clone() for p, dim in parameters(adapters)]
    optimizer.step()
    for old, (p, dim) in zip(before, parameters(adapters), strict=True):
        still = [torch.equal(a, b) for a, b in zip(old, rows_of(p, dim), strict=True)]
        assert still == [False, True, *[False] * (R - 2)]


def test_moments_of_another_shape_are_refused():
    model, adapters, optimizer = build()
    warm_up(model, adapters, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0]["exp_avg"] = state["state"][0]["exp_avg"][:1]
    with pytest.raises(ValueError, match=r"moments of shape \(1, 12\) for parameter 0, expected \(8, 12\)"):
        optimizer.load_state_dict(state)


def test_matrices_of_two_types_in_one_adapter_are_refused():
    _, adapters, optimizer = build()
    adapters.layers["first"].lora_A.data = adapters.layers["first"].lora_A.data.double()
    with pytest.raises(ValueError, match="lora_A and lora_B of 'first' differ in device or type"):
        optimizer.step()
