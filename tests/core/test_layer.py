import copy
import math
import warnings

import pytest
import reference
import torch
import torch._dynamo
import torch.nn.utils.prune
from hypothesis import given, settings
from hypothesis import strategies as st
from models import TARGETS, Net, R, batch, fill, layer, loss_of, make, parameters
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import dylora_kit as dk

ALPHA = 10
RANKS = pytest.mark.parametrize("b", [1, 2, 3, 4])
FROZEN = pytest.mark.parametrize("frozen", [False, True], ids=["nested", "frozen"])
SCALINGS = pytest.mark.parametrize("scaling", ["alpha/b", "alpha/r", "alpha/sqrt(b)"])
SHAPES = pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 4, 7), (2, 3, 2, 7), (4, 5, 7), (0, 7)], ids=str)
FEW_OR_MANY = pytest.mark.parametrize("n", [5, 20], ids=["low-rank", "merged"])  # the faster way for as many inputs


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual.detach().double(), expected.detach().double(), rtol=tolerance, atol=tolerance)


def expected_output(la, x, b):
    return reference.forward(x, la.weight, la.bias, la.lora_A, la.lora_B, b, la.lora_alpha, la.scaling)


def run(la, x, seed=5):
    """Output and the gradients of A, B and x, for a fixed gradient of the output."""
    la.zero_grad()
    x = x.clone().requires_grad_()
    h = la(x)
    generator = torch.Generator().manual_seed(seed)
    grad_h = torch.randn(h.shape, generator=generator, dtype=torch.float64).to(h.dtype)
    h.backward(grad_h)
    return h.detach(), la.lora_A.grad.clone(), la.lora_B.grad.clone(), x.grad, grad_h


@RANKS
@SCALINGS
@SHAPES
def test_output_equals_equation_7(b, scaling, shape):
    la = layer(lora_alpha=ALPHA, scaling=scaling)
    la.rank = b
    x = torch.randn(shape, dtype=torch.float64)
    close(la(x), expected_output(la, x, b))
    with torch.no_grad():
        close(la(x), expected_output(la, x, b))
    with torch.inference_mode():
        close(la(x), expected_output(la, x, b))


@RANKS
def test_a_layer_without_bias_equals_equation_7(b):
    la = layer(bias=False, lora_alpha=ALPHA)
    la.rank = b
    x = torch.randn(5, 7, dtype=torch.float64)
    assert la.bias is None
    close(la(x), expected_output(la, x, b))


@RANKS
@SCALINGS
def test_delta_is_the_scaled_product_of_the_first_b_rows(b, scaling):
    la = layer(lora_alpha=ALPHA, scaling=scaling)
    expected = reference.delta(la.lora_A, la.lora_B, b, ALPHA, scaling)
    close(la.delta(rank=b), expected)
    la.rank = b
    close(la.delta(), expected)
    assert la.delta().shape == (11, 7)
    assert not la.delta().requires_grad


def test_the_three_scales_are_the_named_ones():
    scales = {name: layer(r=4, lora_alpha=10, scaling=name).scale(2) for name in reference.SCALES}
    assert scales == pytest.approx({"alpha/b": 5.0, "alpha/r": 2.5, "alpha/sqrt(b)": 10 / math.sqrt(2)})


def test_at_b_equal_r_it_is_plain_lora():
    la = layer(lora_alpha=ALPHA)
    x = torch.randn(5, 7, dtype=torch.float64)
    assert la.rank == 4
    close(la(x), la.base_layer(x) + ALPHA / 4 * (x @ la.lora_A.T @ la.lora_B.T))


def test_a_fresh_adapter_changes_nothing_and_its_a_is_gaussian():
    torch.manual_seed(0)
    base = nn.Linear(200, 150)
    x = torch.randn(3, 200)
    before = base(x)
    la = dk.DyLoRALinear(base, r=50)
    for b in (1, 7, 50):
        la.rank = b
        assert torch.equal(la(x), before)
    assert la.lora_B.count_nonzero() == 0
    assert la.lora_A.mean().abs() < 5 * 200**-0.5 / math.sqrt(50 * 200)
    assert la.lora_A.std().item() == pytest.approx(200**-0.5, rel=0.05)
    within_one = (la.lora_A.abs() < 200**-0.5).double().mean().item()
    assert within_one == pytest.approx(0.6827, abs=0.02)


@FEW_OR_MANY
@FROZEN
@RANKS
def test_rows_beyond_b_are_never_read(b, frozen, n):
    la = layer(lora_alpha=ALPHA)
    la.frozen, la.rank = frozen, b
    x = torch.randn(n, 7, dtype=torch.float64)
    h, grad_a, grad_b, grad_x, _ = run(la, x)
    with torch.no_grad():
        la.lora_A[b:] = math.nan
        la.lora_B[:, b:] = math.nan
    for actual, expected in zip(run(la, x), (h, grad_a, grad_b, grad_x), strict=False):
        assert torch.equal(actual, expected)
    assert grad_a.isfinite().all()
    assert grad_b.isfinite().all()
    close(la.delta(), reference.delta(la.lora_A[:b], la.lora_B[:, :b], b, ALPHA))


@FROZEN
@pytest.mark.parametrize("ranks", [[1, 2, 1], [3, 1, 2], [2, 2, 2]])
def test_rows_beyond_the_largest_rank_of_a_mixed_batch_are_never_read(ranks, frozen):
    la = layer(lora_alpha=ALPHA)
    la.frozen, la.rank = frozen, torch.tensor(ranks)
    x = torch.randn(3, 7, dtype=torch.float64)
    expected = run(la, x)
    with torch.no_grad():
        la.lora_A[max(ranks) :] = math.nan
        la.lora_B[:, max(ranks) :] = math.nan
    for actual, wanted in zip(run(la, x), expected, strict=True):
        assert torch.equal(actual, wanted)
        assert actual.isfinite().all()


@FEW_OR_MANY
@FROZEN
@SCALINGS
@RANKS
def test_gradients_equal_the_papers(b, scaling, frozen, n):
    la = layer(lora_alpha=ALPHA, scaling=scaling)
    la.frozen, la.rank = frozen, b
    x = torch.randn(n, 7, dtype=torch.float64)
    _, grad_a, grad_b, grad_x, grad_h = run(la, x)
    wanted_a, wanted_b = reference.gradients(x, grad_h, la.lora_A, la.lora_B, b, ALPHA, scaling, frozen)
    close(grad_a, wanted_a)
    close(grad_b, wanted_b)
    close(grad_x, grad_h @ (la.weight + reference.delta(la.lora_A, la.lora_B, b, ALPHA, scaling)))


@FEW_OR_MANY
@FROZEN
@RANKS
def test_gradients_reach_exactly_the_selected_rows(b, frozen, n):
    la = layer()
    la.frozen, la.rank = frozen, b
    _, grad_a, grad_b, _, _ = run(la, torch.randn(n, 7, dtype=torch.float64))
    wanted = [i == b - 1 if frozen else i < b for i in range(4)]
    assert grad_a.ne(0).all(1).tolist() == grad_a.ne(0).any(1).tolist() == wanted
    assert grad_b.ne(0).all(0).tolist() == grad_b.ne(0).any(0).tolist() == wanted
    assert la.weight.grad is None
    assert la.bias.grad is None


def test_freezing_changes_the_gradient_and_not_the_output():
    la = layer()
    la.rank = 3
    x = torch.randn(5, 7, dtype=torch.float64)
    h, _, _, grad_x, _ = run(la, x)
    la.frozen = True
    assert la.frozen is True
    frozen_h, _, _, frozen_grad_x, _ = run(la, x)
    assert torch.equal(h, frozen_h)
    close(grad_x, frozen_grad_x)


@FROZEN
@SCALINGS
@pytest.mark.parametrize("shape", [(5, 7), (5, 3, 7), (5, 2, 3, 7)], ids=str)
def test_a_mixed_batch_equals_one_run_per_example(shape, scaling, frozen):
    ranks = [3, 1, 4, 1, 2]
    la = layer(lora_alpha=ALPHA, scaling=scaling)
    la.frozen, la.rank = frozen, torch.tensor(ranks)
    assert la.rank.tolist() == ranks
    x = torch.randn(shape, dtype=torch.float64)
    h, grad_a, grad_b, grad_x, grad_h = run(la, x)
    sum_a, sum_b = torch.zeros_like(grad_a), torch.zeros_like(grad_b)
    for i, b in enumerate(ranks):
        close(h[i], expected_output(la, x[i], b))
        close(grad_x[i], grad_h[i] @ (la.weight + reference.delta(la.lora_A, la.lora_B, b, ALPHA, scaling)))
        flat = x[i].reshape(-1, 7), grad_h[i].reshape(-1, 11)
        of_a, of_b = reference.gradients(*flat, la.lora_A, la.lora_B, b, ALPHA, scaling, frozen)
        sum_a, sum_b = sum_a + of_a, sum_b + of_b
    close(grad_a, sum_a)
    close(grad_b, sum_b)


@FROZEN
def test_a_frozen_mixed_batch_gives_gradients_to_the_drawn_rows_only(frozen):
    la = layer()
    la.frozen, la.rank = frozen, torch.tensor([3, 1, 3])
    _, grad_a, grad_b, _, _ = run(la, torch.randn(3, 7, dtype=torch.float64))
    wanted = [True, not frozen, True, False]
    assert grad_a.ne(0).any(1).tolist() == wanted
    assert grad_b.ne(0).any(0).tolist() == wanted


def test_a_mixed_batch_uses_the_smaller_maximum_of_a_smaller_layer():
    model, adapters = make(rank_pattern={"second": 3})
    x = batch(3)
    adapters.rank = torch.tensor([2, 8, 5])
    mixed = model(x)
    for i, b in enumerate([2, 8, 5]):
        adapters.rank = b
        close(mixed[i], model(x)[i], 1e-5)


@pytest.mark.parametrize("shape", [(4, 7), (2, 7), (1, 7), (3,), (7,), (4, 3, 7)], ids=str)
def test_a_rank_tensor_of_the_wrong_length_is_refused(shape):
    la = layer()
    la.rank = torch.tensor([1, 2, 3])
    x = torch.randn(*shape[:-1], 7, dtype=torch.float64)
    with pytest.raises(ValueError, match="names 3 examples"):
        la(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ranks", [2, torch.tensor([1, 3, 2])], ids=["one rank", "mixed"])
@FROZEN
def test_a_half_precision_base_keeps_float32_adapters(dtype, ranks, frozen):
    la = layer(dtype=dtype)
    la.frozen, la.rank = frozen, ranks
    x = torch.randn(3, 7).to(dtype)
    h, grad_a, grad_b, _, _ = run(la, x)
    assert la.weight.dtype == h.dtype == dtype
    assert la.lora_A.dtype == la.lora_B.dtype == grad_a.dtype == grad_b.dtype == torch.float32
    for i, b in enumerate([2, 2, 2] if isinstance(ranks, int) else ranks.tolist()):
        close(h[i], expected_output(la, x[i], b), 0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_full_precision_base_sets_the_type_of_its_adapters(dtype):
    la = layer(dtype=dtype)
    assert la.lora_A.dtype == la.lora_B.dtype == la(torch.randn(2, 7, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ranks", [3, torch.tensor([1, 3, 2])], ids=["one rank", "mixed"])
@FROZEN
def test_autocast_computes_in_bfloat16_and_keeps_float32_gradients(base, ranks, frozen):
    la = layer(dtype=base)
    la.frozen, la.rank = frozen, ranks
    x = torch.randn(3, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = la(x)
    assert h.dtype == torch.bfloat16
    for i, b in enumerate([3, 3, 3] if isinstance(ranks, int) else ranks.tolist()):
        close(h[i], expected_output(la, x[i], b), 0.05)
    h.float().sum().backward()
    assert la.lora_A.grad.dtype == la.lora_B.grad.dtype == torch.float32
    assert la.lora_A.grad.isfinite().all()
    assert la.lora_A.grad[3:].count_nonzero() == 0


class ProductTypes(TorchDispatchMode):
    """Notes the types that go into every matrix product."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.seen |= {tensor.dtype for tensor in args if isinstance(tensor, torch.Tensor)}
        return operation(*args, **(kwargs or {}))


def test_every_product_under_autocast_is_computed_in_bfloat16():
    la = layer(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16), ProductTypes() as products:
        la(torch.randn(3, 7))
    assert products.seen == {torch.bfloat16}


def test_dropout_acts_on_the_adapters_input_in_training_only():
    la = layer(r=4, d_in=400, d_out=11, lora_alpha=ALPHA, lora_dropout=0.25)
    x = torch.randn(2, 400, dtype=torch.float64)
    la.eval()
    close(la(x), expected_output(la, x, 4))
    la.train()
    torch.manual_seed(1)
    h = la(x)
    torch.manual_seed(1)
    dropped = nn.functional.dropout(x, 0.25)
    assert 0.15 < (dropped == 0).double().mean() < 0.35
    close(h - la.base_layer(x), dropped @ la.delta().T)


def test_dropout_does_nothing_in_evaluation_where_the_base_layer_is_called_too():
    la = layer(r=4, d_in=400, d_out=11, lora_alpha=ALPHA, lora_dropout=0.25).eval()
    x = torch.randn(2, 400, dtype=torch.float64)
    la.base_layer.register_forward_hook(lambda *_: None)
    close(la(x), expected_output(la, x, 4))


def test_without_dropout_a_forward_leaves_the_global_generator_untouched():
    la = layer()
    before = torch.get_rng_state()
    la(torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


@SCALINGS
@RANKS
def test_merging_changes_the_weight_and_not_the_function(b, scaling):
    la = layer(lora_alpha=ALPHA, scaling=scaling).eval()
    la.rank = b
    x = torch.randn(5, 7, dtype=torch.float64)
    weight, before = la.weight.clone(), la(x)
    la.merge()
    close(la.weight, weight + reference.delta(la.lora_A, la.lora_B, b, ALPHA, scaling))
    close(la(x), before)
    la.unmerge()
    assert torch.equal(la.weight, weight)
    assert torch.equal(la(x), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_unmerge_restores_the_weight_bit_for_bit_where_subtracting_could_not(dtype):
    la = layer(dtype=dtype)
    with torch.no_grad():
        la.lora_B.mul_(1000)
    weight = la.weight.clone()
    la.merge(rank=2)
    subtracted = (la.weight.to(la.lora_A.dtype) - la.delta()).to(dtype)
    assert not torch.equal(subtracted, weight)
    la.unmerge()
    assert torch.equal(la.weight, weight)
    assert la.rank == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_weight_is_merged_in_float32_and_rounded_once(dtype):
    la = layer(d_in=30, d_out=40, dtype=dtype)
    weight, delta = la.weight.float(), la.delta(rank=2)
    la.merge(rank=2)
    assert la.weight.dtype == dtype
    assert torch.equal(la.weight, (weight + delta).to(dtype))
    assert not torch.equal(la.weight, weight.to(dtype) + delta.to(dtype))  # rounded before and after the sum


def test_merging_twice_unmerging_twice_and_setting_a_rank_while_merged_are_refused():
    la = layer()
    with pytest.raises(ValueError, match="not merged"):
        la.unmerge()
    la.merge(rank=2)
    merged = la.weight.clone()
    for forbidden in (la.merge, lambda: la.merge(rank=1), lambda: setattr(la, "rank", 1)):
        with pytest.raises(ValueError, match="unmerge"):
            forbidden()
    assert torch.equal(la.weight, merged)
    assert la.rank == 2


@pytest.mark.parametrize("rank", [0, 5, 2.5, True], ids=str)
def test_merging_at_a_rank_out_of_range_changes_nothing(rank):
    la = layer()
    weight = la.weight.clone()
    with pytest.raises(ValueError, match="1 to 4"):
        la.merge(rank=rank)
    with pytest.raises(ValueError, match="1 to 4"):
        la.delta(rank=rank)
    assert torch.equal(la.weight, weight)
    assert (la.rank, la.active.merged) == (4, False)


def test_a_mixed_batch_has_no_single_delta_to_merge():
    la = layer()
    weight = la.weight.clone()
    la.rank = torch.tensor([1, 2])
    with pytest.raises(ValueError, match="at which rank"):
        la.delta()
    with pytest.raises(ValueError, match="at which rank"):
        la.merge()
    assert torch.equal(la.weight, weight)
    assert not la.active.merged


def test_forward_in_training_while_merged_raises():
    la = layer()
    x = torch.randn(2, 7, dtype=torch.float64)
    la.merge()
    with pytest.raises(RuntimeError, match="unmerge"):
        la.train()(x)
    with torch.no_grad():
        la(x)
    la.eval()(x)


ACTIONS = st.one_of(
    st.tuples(st.just("rank"), st.integers(1, R)),
    st.tuples(st.just("merge"), st.one_of(st.none(), st.integers(1, R))),
    st.tuples(st.sampled_from(["unmerge", "train", "eval", "forward"]), st.none()),
)


@settings(max_examples=25)
@given(st.lists(ACTIONS, max_size=12), st.sampled_from(sorted(reference.SCALES)))
def test_any_order_of_rank_merge_train_and_eval_keeps_weights_and_outputs_right(actions, scaling):
    model, adapters = make(dtype=torch.float64, scaling=scaling, lora_alpha=ALPHA)
    weights = {name: la.weight.clone() for name, la in adapters.layers.items()}
    biases = {name: None if la.bias is None else la.bias.clone() for name, la in adapters.layers.items()}
    tensors = {name: (la.lora_A, la.lora_B, la.base_layer.weight) for name, la in adapters.layers.items()}
    x = batch(3, dtype=torch.float64)
    b, merged = R, False
    for action, value in [*actions, ("forward", None)]:
        if action == "rank":
            if merged:
                with pytest.raises(ValueError, match="unmerge"):
                    adapters.rank = value
            else:
                adapters.rank = b = value
        elif action == "merge":
            if merged:
                with pytest.raises(ValueError, match="unmerge"):
                    adapters.merge(value)
            else:
                adapters.merge(value)
                b, merged = value or b, True
        elif action == "unmerge":
            if merged:
                adapters.unmerge()
            else:
                with pytest.raises(ValueError, match="merge"):
                    adapters.unmerge()
            merged = False
        elif action in ("train", "eval"):
            assert getattr(model, action)() is model
        assert (adapters.merged, adapters.rank) == (merged, b)
        expected = x
        for name in TARGETS:
            la = adapters.layers[name]
            pieces = weights[name], biases[name], la.lora_A, la.lora_B
            expected = torch.tanh(reference.forward(expected, *pieces, b, ALPHA, scaling))
        expected = reference.forward(
            expected, model.classifier.weight, model.classifier.bias, torch.zeros(1, 13), torch.zeros(5, 1), 1, 1
        )
        with torch.no_grad():
            close(model(x), expected)
        for name, la in adapters.layers.items():
            assert la.lora_A is tensors[name][0]
            assert la.lora_B is tensors[name][1]
            assert la.base_layer.weight is tensors[name][2]
            assert torch.equal(la.weight, weights[name]) is not merged
    if merged:
        adapters.unmerge()
    assert all(torch.equal(la.weight, weights[name]) for name, la in adapters.layers.items())


@pytest.mark.parametrize("mode", [True, False])
def test_train_and_eval_return_the_model_and_never_merge(mode):
    model, adapters = make()
    weights = [la.weight.clone() for la in adapters.layers.values()]
    for target in (model, adapters.layers["first"]):
        assert target.train(mode) is target
        assert target.eval() is target
        assert target.train() is target
    assert not adapters.merged
    for la, weight in zip(adapters.layers.values(), weights, strict=True):
        assert torch.equal(la.weight, weight)


def test_two_evaluations_are_identical():
    model, adapters = make(lora_dropout=0.5)
    model.eval()
    adapters.rank = 3
    x = batch()
    assert torch.equal(model(x), model(x))


def test_parameters_stay_the_same_objects():
    model, adapters = make()
    before = dict(model.named_parameters())
    adapters.rank = 2
    adapters.merge(rank=5)
    adapters.unmerge()
    adapters.frozen = True
    with adapters.at(rank=1):
        loss_of(model, batch()).backward()
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is parameter for name, parameter in before.items())


@pytest.mark.parametrize("use_reentrant", [True, False], ids=["reentrant", "non-reentrant"])
@pytest.mark.parametrize("ranks", [3, torch.tensor([1, 5, 2, 8, 3, 3])], ids=["one rank", "mixed"])
@FROZEN
def test_gradient_checkpointing_gives_the_same_gradients_and_selects_the_same_rows(use_reentrant, ranks, frozen):
    results = []
    for recompute in (False, True):
        model, adapters = make(lora_dropout=0.2)
        adapters.frozen = frozen
        optimizer = dk.NestedAdamW(adapters, lr=0.01, weight_decay=0.1)
        torch.manual_seed(11)
        x = batch().requires_grad_()
        adapters.rank = ranks
        out = checkpoint(model, x, use_reentrant=use_reentrant) if recompute else model(x)
        out.pow(2).mean().backward()
        grads = [p.grad.clone() for p, _ in parameters(adapters)]
        optimizer.step()
        results.append([*grads, x.grad, *[p.detach() for p, _ in parameters(adapters)]])
    for eager, recomputed in zip(*results, strict=True):
        assert torch.equal(eager, recomputed)


def compiled_run(order, frozen, backend=None):
    """Gradients and parameters after training steps at each rank of `order`, and the number of compiled graphs."""
    model, adapters = make()
    adapters.frozen = frozen
    optimizer = dk.NestedAdamW(adapters, lr=0.01, weight_decay=0.1)
    counter = None
    run_model = model
    if backend is not None:
        torch._dynamo.reset()
        counter = CompileCounterWithBackend(backend)
        run_model = torch.compile(model, backend=counter)
    x, record, frames = batch(), [], []
    for b in order:
        adapters.rank = b
        optimizer.zero_grad()
        run_model(x).pow(2).mean().backward()
        record.append([p.grad.clone() for p, _ in parameters(adapters)])
        optimizer.step()
        record[-1] += [p.detach().clone() for p, _ in parameters(adapters)]
        record[-1] += [optimizer.state[p]["step"].clone() for p, _ in parameters(adapters)]
        frames.append(counter.frame_count if counter else 0)
    return record, frames


@pytest.mark.parametrize(
    ("order", "frozen"),
    [([1, 2, 3, 4, 5, 6, 7, 8], False), ([3, 4, 8, 5, 1, 7, 2, 6], True)],
    ids=["walk-nested", "shuffled-frozen"],
)
def test_compiled_training_has_one_graph_for_every_rank_and_equals_eager(order, frozen):
    order = [*order, 2, 7, 1, 8, 4]
    eager, _ = compiled_run(order, frozen)
    compiled, frames = compiled_run(order, frozen, "aot_eager")
    assert frames == [1] * len(order)
    for eager_step, compiled_step in zip(eager, compiled, strict=True):
        for wanted, actual in zip(eager_step, compiled_step, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)
            assert torch.equal(actual == 0, wanted == 0)


@pytest.mark.parametrize("per", ["layer", "example"])
def test_compiled_training_has_one_graph_for_ranks_by_layer_and_by_example(per):
    model, adapters = make()
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled, x, generator = torch.compile(model, backend=counter), batch(), torch.Generator().manual_seed(0)
    for _ in range(6):
        drawn = torch.randint(1, 9, (len(x if per == "example" else adapters.layers),), generator=generator)
        adapters.rank = drawn if per == "example" else dict(zip(adapters.layers, drawn.tolist(), strict=True))
        results = []
        for run_model in (model, compiled):
            model.zero_grad()
            out = run_model(x)
            out.pow(2).mean().backward()
            results.append([out, *[p.grad for p, _ in parameters(adapters)]])
        for wanted, actual in zip(*results, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)
    assert counter.frame_count == 1


def test_inductor_gives_the_gradients_of_eager_mode():
    la = layer(dtype=torch.float32)
    x = torch.randn(5, 7)
    torch._dynamo.reset()
    compiled = torch.compile(la)
    la.rank = 3
    wanted = run(la, x)
    la.zero_grad()
    h = compiled(x)
    h.backward(wanted[-1])
    close(h, wanted[0], 1e-5)
    close(la.lora_A.grad, wanted[1], 1e-5)
    close(la.lora_B.grad, wanted[2], 1e-5)
    assert la.lora_A.grad[3:].count_nonzero() == 0


def test_a_deep_copy_with_its_handle_works_alone():
    model, adapters = make()
    optimizer = dk.NestedAdamW(adapters, lr=0.1)
    adapters.rank = 3
    loss_of(model, batch()).backward()
    twin, twin_adapters = copy.deepcopy((model, adapters))
    assert torch.equal(twin(batch()), model(batch()))
    before = {name: p.detach().clone() for name, p in twin.named_parameters()}
    twin_adapters.rank = 8
    twin.zero_grad()
    loss_of(twin, batch()).backward()
    optimizer.step()
    assert adapters.rank == 3
    assert all(torch.equal(p, before[name]) for name, p in twin.named_parameters())
    for p, dim in parameters(adapters):
        assert optimizer.state[p]["step"].tolist() == [1.0] * 3 + [0.0] * 5, dim
    now = [p.detach().clone() for p, _ in parameters(adapters)]
    dk.NestedAdamW(twin_adapters, lr=0.1)
    fill(twin_adapters, seed=4)
    twin_adapters.merge(rank=2)
    assert not adapters.merged
    assert all(torch.equal(p, old) for (p, _), old in zip(parameters(adapters), now, strict=True))


def test_a_deep_copied_model_alone_runs_at_the_rank_it_had():
    model, adapters = make()
    adapters.rank = 3
    twin = copy.deepcopy(model)
    expected = model(batch())
    adapters.rank = 1
    assert torch.equal(twin(batch()), expected)


def test_a_plain_copy_of_the_state_dict_moves_a_layer_to_another():
    model, adapters = make()
    names = set(model.state_dict())
    assert {f"{name}.{key}" for name in TARGETS for key in ("lora_A", "lora_B", "base_layer.weight")} <= names
    assert len(names) == len(Net().state_dict()) + 3 * len(TARGETS)
    assert {model.state_dict()[f"{name}.weight"].shape for name in TARGETS} == {(1,)}  # no plain model takes these
    other, other_adapters = make(seed=9)
    other.load_state_dict(model.state_dict())
    for b in (1, 5):
        adapters.rank = other_adapters.rank = b
        assert torch.equal(other(batch()), model(batch()))


@pytest.mark.parametrize(("d_in", "d_out"), [(3, 11), (11, 3)])
@pytest.mark.parametrize("b", [1, 3, 12])
def test_a_rank_above_the_layers_sides_is_as_any_other(d_in, d_out, b):
    made = layer(12, d_in, d_out)
    assert (made.lora_A.shape, made.lora_B.shape) == ((12, d_in), (d_out, 12))
    made.rank = b
    x = torch.randn(5, d_in, dtype=torch.float64)
    plain = nn.functional.linear(x, made.weight, made.bias) + 16 / b * x @ made.lora_A[:b].T @ made.lora_B[:, :b].T
    torch.testing.assert_close(made(x), plain, rtol=1e-12, atol=1e-12)
    made(x).sum().backward()
    assert made.lora_A.grad.abs().amax(1).ne(0).tolist() == [row < b for row in range(12)]


@pytest.mark.parametrize(
    "options",
    [
        {"r": 0},
        {"r": -1},
        {"r": 2.0},
        {"r": True},
        {"r": "2"},
        {"r": None},
        {"lora_alpha": 0},
        {"lora_alpha": -1},
        {"lora_alpha": math.nan},
        {"lora_alpha": math.inf},
        {"lora_alpha": True},
        {"lora_alpha": "16"},
        {"scaling": "alpha"},
        {"scaling": ""},
        {"scaling": None},
        {"lora_dropout": -0.1},
        {"lora_dropout": 1.0},
        {"lora_dropout": math.nan},
    ],
    ids=str,
)
def test_bad_options_are_refused_and_the_base_layer_stays_trainable(options):
    base = nn.Linear(7, 11)
    with pytest.raises(ValueError):
        dk.DyLoRALinear(base, **{"r": 4, **options})
    assert base.weight.requires_grad
    assert base.bias.requires_grad


@pytest.mark.parametrize(
    "module",
    [
        nn.Embedding(7, 11),
        nn.Conv2d(3, 4, 1),
        nn.Bilinear(7, 7, 11),
        nn.LayerNorm(7),
        nn.Identity(),
        nn.Sequential(nn.Linear(7, 11)),
        nn.MultiheadAttention(8, 2),
        dk.DyLoRALinear(nn.Linear(7, 11), r=2),
    ],
    ids=lambda module: type(module).__name__,
)
def test_modules_other_than_linear_are_refused(module):
    before = [p.requires_grad for p in module.parameters()]
    with pytest.raises(TypeError, match=f"cannot adapt a {type(module).__name__}"):
        dk.DyLoRALinear(module, r=2)
    assert [p.requires_grad for p in module.parameters()] == before


def test_weight_and_bias_of_the_base_show_through():
    base = nn.Linear(7, 11)
    la = dk.DyLoRALinear(base, r=2)
    assert la.base_layer is base
    assert la.weight is base.weight
    assert la.bias is base.bias
    assert (la.in_features, la.out_features) == (7, 11)
    assert not base.weight.requires_grad
    assert not base.bias.requires_grad
    assert {name for name, p in la.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    assert "r=2, lora_alpha=16, scaling='alpha/b'" in repr(la)


def test_a_generator_decides_the_start_and_the_global_one_is_left_alone():
    base = nn.Linear(7, 11)
    before = torch.get_rng_state()
    first, same, another = (
        dk.DyLoRALinear(base, r=4, generator=torch.Generator().manual_seed(seed)).lora_A for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, another)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_lora_b_can_be_trained():
    la = layer()
    la.lora_A.requires_grad_(False)
    la.rank = 2
    la(torch.randn(3, 7, dtype=torch.float64)).sum().backward()
    assert la.lora_A.grad is None
    assert la.lora_B.grad.ne(0).any(0).tolist() == [True, True, False, False]


def test_training_warns_about_nothing():
    model, adapters = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for b in (3, torch.tensor([1, 2, 3, 4, 5, 6])):
            adapters.rank = b
            loss_of(model, batch()).backward()


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_base_layer_that_was_made_trainable_again_gets_its_gradient(part):
    la = layer()
    nn.init.normal_(la.lora_B)
    getattr(la.base_layer, part).requires_grad_(True)
    x = torch.randn(5, la.in_features, dtype=la.weight.dtype)
    la(x).sum().backward()
    expected = {
        "weight": x.sum(0).expand(la.out_features, -1),
        "bias": torch.full((la.out_features,), 5.0, dtype=x.dtype),
    }
    torch.testing.assert_close(getattr(la.base_layer, part).grad, expected[part])


def test_hooks_on_the_base_layer_see_its_output_without_the_adapter():
    la = layer()
    nn.init.normal_(la.lora_B)
    seen = []
    la.base_layer.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    x = torch.randn(5, la.in_features, dtype=la.weight.dtype)
    out = la(x)
    torch.testing.assert_close(seen[0], nn.functional.linear(x, la.weight, la.bias))
    assert not torch.allclose(out, seen[0])


def test_a_forward_that_was_put_on_the_base_layer_is_called():
    la = layer()
    nn.init.normal_(la.lora_B)
    x = torch.randn(5, la.in_features, dtype=la.weight.dtype)
    plain, own = la(x), la.base_layer.forward
    la.base_layer.forward = lambda x: own(x) + 1  # as accelerate's hooks do
    torch.testing.assert_close(la(x), plain + 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_change_below_the_weights_own_precision_is_not_lost_where_many_inputs_come_at_once(dtype):
    la = layer(bias=False, lora_alpha=4).to(dtype)
    with torch.no_grad():
        la.base_layer.weight.fill_(256.0)
        la.lora_A.zero_()[0, 0] = 0.5
        la.lora_B.fill_(1.0)
    x = torch.zeros(70, 7, dtype=dtype)
    x[:, 0], x[:, 1] = 1, -1  # what the weights give is zero
    close(la(x), torch.full((70, 11), 0.5))


@pytest.mark.parametrize("dropout", [0.0, 0.2], ids=["plain", "base layer called"])
@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (4, 5, 7)], ids=str)
def test_the_output_may_be_changed_in_place_as_that_of_a_plain_layer(shape, dropout):
    la = layer(lora_dropout=dropout)
    found = []
    for activation in (nn.ReLU(), nn.ReLU(inplace=True)):
        torch.manual_seed(0)
        la.zero_grad()
        activation(la(torch.ones(shape, dtype=torch.float64))).sum().backward()
        found.append([la.lora_A.grad.clone(), la.lora_B.grad.clone()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_matrices_that_are_no_parameters_of_the_layer_are_found():
    pruned, replica, la = layer(), layer(), layer()
    x = torch.randn(5, 7, dtype=torch.float64)
    expected = la(x)
    nn.utils.prune.identity(pruned, "lora_A")
    for name in ("lora_A", "lora_B"):  # as in the replicas of nn.DataParallel
        matrix = replica._parameters.pop(name)
        setattr(replica, name, matrix.detach().clone())
    for other in (pruned, replica):
        close(other(x), expected)
