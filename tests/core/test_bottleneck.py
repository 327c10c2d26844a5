"""Bottlenecks: what each rank computes and trains, what their files hold, and what they are not."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from toys import R, adapted, toy
from transformers import GPT2Config, GPT2LMHeadModel

import dylora_kit as dk
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.bottleneck import KINDS, Bottleneck
from dylora_kit.resizing.opening import open_adapter

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
RANKS = pytest.mark.parametrize("b", [1, 2, 3, 4])
FROZEN = pytest.mark.parametrize("frozen", [False, True], ids=["nested", "frozen"])


def filled(kind: str, **options: Any) -> Bottleneck:
    """A layer of 7 → 5 in float64, all of whose matrices have values."""
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        layer = Bottleneck(kind, nn.Linear(7, 5, dtype=torch.float64), R, **({"lora_alpha": 10} | options))
        nn.init.normal_(layer.lora_B)
    return layer


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def expected(layer: Bottleneck, x: Tensor, b: int, scale: float) -> Tensor:
    h = x @ layer.base_layer.weight.T + layer.base_layer.bias
    read = x if layer.kind == "parallel" else h
    units = torch.stack([F.gelu(read @ layer.lora_A[row]) for row in range(b)], dim=-1)
    return h + scale * sum(units[..., row, None] * layer.lora_B[:, row] for row in range(b))


@EVERY_KIND
@RANKS
@pytest.mark.parametrize(("scaling", "scale"), [("alpha/b", lambda b: 10 / b), ("alpha/r", lambda b: 10 / R)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
def test_a_rank_runs_its_first_units(
    kind: str, b: int, scaling: str, scale: Callable[[int], float], shape: tuple[int, ...]
) -> None:
    layer = filled(kind, scaling=scaling)
    layer.rank = b
    x = inputs(*shape)
    torch.testing.assert_close(layer(x), expected(layer, x, b, scale(b)))
    assert layer.lora_A.shape == (R, 7 if kind == "parallel" else 5)


@EVERY_KIND
@RANKS
@FROZEN
def test_units_beyond_the_rank_are_neither_read_nor_trained(kind: str, b: int, frozen: bool) -> None:
    layer = filled(kind)
    layer.rank, layer.frozen = b, frozen
    with torch.no_grad():
        layer.lora_A[b:] = layer.lora_B[:, b:] = float("nan")
    layer(inputs(3)).square().sum().backward()
    reached = torch.zeros(R, dtype=torch.bool)
    reached[b - 1 if frozen else 0 : b] = True
    assert layer.lora_A.grad is not None and layer.lora_B.grad is not None
    assert layer.lora_A.grad.ne(0).all(1).equal(reached) and layer.lora_B.grad.ne(0).all(0).equal(reached)
    assert not layer.lora_A.grad[~reached].any() and not layer.lora_B.grad[:, ~reached].any()


@EVERY_KIND
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    layer = filled(kind)
    layer.rank = 3
    x = inputs(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *_: layer(x), (x, layer.lora_A, layer.lora_B))


@EVERY_KIND
@FROZEN
def test_each_example_of_a_batch_may_have_a_rank_of_its_own(kind: str, frozen: bool) -> None:
    handle = adapted(toy().double(), bottleneck=kind)
    model = handle.model.eval()
    handle.frozen = frozen
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    ranks = [2, 4, 1, 3]

    def gradients() -> list[Tensor]:
        found = [p.grad.clone() for p in handle.nested_parameters() if p.grad is not None]
        model.zero_grad()
        return found

    alone = []
    for row, b in enumerate(ranks):
        handle.rank = b
        alone.append(model(x[row : row + 1]).logits)
        alone[-1].square().sum().backward()
    one_by_one = gradients()
    handle.rank = torch.tensor(ranks)
    together = model(x).logits
    together.square().sum().backward()
    torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(gradients(), one_by_one)


@EVERY_KIND
def test_a_new_bottleneck_changes_nothing_and_one_that_is_switched_off_is_not_there(kind: str) -> None:
    model, x = toy().eval(), torch.randn(3, 6)
    plain = model(x).logits
    adapters = dk.attach(model, r=R, target_modules=["up", "down"], modules_to_save=["classifier"], bottleneck=kind)
    assert model(x).logits.equal(plain)
    nn.init.normal_(adapters.layers["down"].lora_B)
    assert not torch.allclose(model(x).logits, plain)
    with adapters.disabled():
        assert model(x).logits.equal(plain)


@EVERY_KIND
def test_the_optimizer_leaves_units_alone_that_a_step_does_not_draw(kind: str) -> None:
    adapters = adapted(toy(), bottleneck=kind)
    optimizer = dk.NestedAdamW(adapters, lr=0.01, weight_decay=0.1)
    for b in (4, 2):
        before = copy.deepcopy(adapters.tensors())
        adapters.rank = b
        adapters.model(torch.randn(8, 6)).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        for name, layer in adapters.layers.items():
            moved_A = layer.lora_A.ne(before[f"{name}.lora_A.weight"]).any(1)
            moved_B = layer.lora_B.ne(before[f"{name}.lora_B.weight"]).any(0)
            assert moved_A.tolist() == moved_B.tolist() == [row < b for row in range(R)]


@EVERY_KIND
def test_a_file_gives_back_the_same_bits_and_is_no_lora(kind: str, tmp_path: Path) -> None:
    adapters, x = adapted(toy(), bottleneck=kind), torch.randn(3, 6)
    adapters.save(tmp_path)
    loaded = dk.load(toy(), tmp_path)
    for b in range(1, R + 1):
        adapters.rank = loaded.rank = b
        assert loaded.model.eval()(x).logits.equal(adapters.model.eval()(x).logits)
    with pytest.raises(KeyError, match="NESTED_BOTTLENECK"):
        PeftModel.from_pretrained(toy(), tmp_path)
    with pytest.raises(ValueError, match="only LORA adapters can be imported"):
        dk.import_peft(toy(), tmp_path)
    with pytest.raises(ValueError, match="only LORA adapters can be cut"):
        open_adapter(tmp_path)


@EVERY_KIND
@pytest.mark.parametrize(
    "act",
    [
        lambda adapters, folder: adapters.merge(),
        lambda adapters, folder: adapters.merge(rank=2),
        lambda adapters, folder: adapters.merge_and_unload(),
        lambda adapters, folder: adapters.order(),
        lambda adapters, folder: adapters.export_peft(folder / "out", rank=2),
        lambda adapters, folder: adapters.export_peft(folder / "out", rank=2, serving=True),
        lambda adapters, folder: adapters.delta("up"),
        lambda adapters, folder: dk.ordering(adapters),
        lambda adapters, folder: svd_cut(adapters),
        lambda adapters, folder: dk.advise(adapters.model, adapters, frame=dk.sweep(adapters.model, adapters, DATA)),
    ],
    ids=["merge", "merge at 2", "unload", "order", "export", "serving", "delta", "ordering", "svd cut", "advise"],
)
def test_what_needs_a_product_of_two_matrices_is_refused_and_nothing_changes(
    kind: str, act: Callable[[dk.Adapters, Path], object], tmp_path: Path
) -> None:
    adapters = adapted(toy(), bottleneck=kind)
    adapters.rank = 3
    before, modules = copy.deepcopy(adapters.model.state_dict()), [type(m) for m in adapters.model.modules()]
    with pytest.raises(ValueError, match="has no ΔW, since an activation stands between its matrices"):
        act(adapters, tmp_path)
    after = adapters.model.state_dict()
    assert before.keys() == after.keys() and all(after[name].equal(before[name]) for name in before)
    assert [type(m) for m in adapters.model.modules()] == modules
    assert (adapters.rank, adapters.scaling, adapters.merged) == (3, "alpha/b", False)
    assert list(tmp_path.iterdir()) == []


DATA = [{"x": torch.randn(6), "labels": torch.tensor(0)} for _ in range(4)]


@pytest.mark.parametrize("strict", [True, False])
def test_a_state_is_read_by_the_kind_that_wrote_it_alone(strict: bool) -> None:
    def square(kind: str | None, seed: int) -> dk.Adapters:
        model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
        return dk.attach(model, r=3, seed=seed, bottleneck=kind, target_modules=r"\d")

    kinds: tuple[str | None, ...] = (None, *KINDS)
    for wrote, reads in itertools.product(kinds, kinds):
        state, model = square(wrote, 1).model.state_dict(), square(reads, 2).model
        before = copy.deepcopy(model.state_dict())
        if wrote == reads:
            model.load_state_dict(state, strict=strict)
            assert all(value.equal(state[name]) for name, value in model.state_dict().items())
            continue
        with pytest.raises(ValueError, match="another kind of adapter at '0' than this model"):
            model.load_state_dict(state, strict=strict)
        assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@EVERY_KIND
def test_it_grows_without_changing_a_rank_that_there_was(kind: str) -> None:
    adapters, x = adapted(toy(), bottleneck=kind), torch.randn(3, 6)
    model = adapters.model.eval()
    adapters.rank = 2
    before = model(x).logits
    adapters.grow(6)
    assert model(x).logits.equal(before) and adapters.r == 6


@EVERY_KIND
def test_a_training_that_was_stopped_goes_on_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    data = [{"x": torch.randn(6), "labels": torch.tensor(n % 3)} for n in range(24)]

    def trained(steps: int, **options: Any) -> dk.Adapters:
        adapters = adapted(toy(), bottleneck=kind)
        sampler = dk.RankSampler(dk.Uniform(1, R), seed=1)
        dk.train(adapters.model, adapters, data, sampler=sampler, steps=steps, batch_size=4, lr=0.01, progress=False,
                 schedule="constant", **options)  # fmt: skip
        return adapters

    class Stop(Exception):
        pass

    def stop(step: int) -> None:
        if step == 7:
            raise Stop

    whole = trained(12)
    with pytest.raises(Stop):
        trained(12, checkpoint=tmp_path, checkpoint_every=5, on_step=stop)
    resumed = trained(12, checkpoint=tmp_path, resume=True)
    for ours, theirs in zip(whole.tensors().values(), resumed.tensors().values(), strict=True):
        assert ours.equal(theirs)
    with pytest.raises(ValueError, match="bottleneck"):
        other = adapted(toy())
        dk.train(other.model, other, data, sampler=dk.RankSampler(dk.Uniform(1, R), seed=1), steps=12, batch_size=4,
                 lr=0.01, progress=False, schedule="constant", checkpoint=tmp_path, resume=True)  # fmt: skip


def test_an_unknown_kind_is_refused_and_the_model_stays_as_it_was() -> None:
    model = toy()
    with pytest.raises(ValueError, match="unknown bottleneck 'serial': expected None or one of 'parallel', 'houlsby'"):
        dk.attach(model, target_modules=["up"], bottleneck="serial")
    assert all(type(module) is not Bottleneck for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_fused_projection_is_taken_as_a_whole_or_not_at_all() -> None:
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=11, n_positions=16)
    with pytest.raises(ValueError, match="takes a projection as a whole: pass split_fused=False"):
        dk.attach(GPT2LMHeadModel(config), target_modules=["c_attn"], bottleneck="parallel")
    whole = dk.attach(GPT2LMHeadModel(config), target_modules=["c_attn"], bottleneck="houlsby", split_fused=False, r=2)
    (layer,) = whole.layers.values()
    assert layer.lora_A.shape == layer.lora_B.T.shape == (2, 24)


@EVERY_KIND
def test_autocast_computes_in_its_type(kind: str) -> None:
    layer = filled(kind).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(inputs(3).float())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(inputs(3).float()), rtol=0.05, atol=0.2)


@EVERY_KIND
@FROZEN
def test_compiled_once_it_computes_and_trains_every_rank_as_it_does_alone(kind: str, frozen: bool) -> None:
    adapters, x = adapted(toy(), bottleneck=kind), torch.randn(5, 6)
    model, adapters.frozen = adapters.model.eval(), frozen
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(model, backend=counter)

    def run(forward: nn.Module | Callable[..., Any], rank: Any) -> list[Tensor]:
        adapters.rank = rank
        model.zero_grad()
        logits = forward(x).logits
        logits.square().sum().backward()
        return [logits, *(p.grad.clone() for p in adapters.nested_parameters() if p.grad is not None)]

    for rank in (4, 2, 3, 1):
        torch.testing.assert_close(run(compiled, rank), run(model, rank))
    assert counter.frame_count <= 2
    ranks = torch.tensor([1, 4, 2, 3, 2])
    torch.testing.assert_close(run(compiled, ranks), run(model, ranks))


@EVERY_KIND
def test_nesting_one_is_refused_before_a_step(kind: str) -> None:
    adapters = adapted(toy(), bottleneck=kind)
    before = copy.deepcopy(adapters.model.state_dict())
    with pytest.raises(ValueError, match="has no ΔW"):
        dk.nest(adapters.model, adapters, DATA, steps=4, progress=False)
    assert all(value.equal(before[name]) for name, value in adapters.model.state_dict().items())


@EVERY_KIND
def test_a_transform_goes_through_it_at_one_rank_for_all(kind: str) -> None:
    layer, x = filled(kind), inputs(4)
    layer.rank = 2
    each = torch.func.vmap(torch.func.jacrev(layer))(x)  # (4, 5, 7)
    whole = torch.autograd.functional.jacobian(layer, x)  # (4, 5, 4, 7)
    torch.testing.assert_close(each, torch.stack([whole[n, :, n] for n in range(4)]))
    layer.rank = torch.tensor([1, 2, 3, 4])
    with pytest.raises(NotImplementedError, match="set one rank"):
        torch.func.jacrev(layer)(x)
