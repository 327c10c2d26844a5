"""`adapters.order()`: rows ordered by singular value in place, with the function at rank r as it was."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import build, inputs, logits
from models import TARGETS, Net, batch, fill, loss_of, make
from toys import assert_same, state_of

import dylora_kit as dk
from dylora_kit.core.rotation import ordered

R = 5
PATTERN = {"second": 3}
SCALINGS = pytest.mark.parametrize("scaling", ["alpha/b", "alpha/r", "alpha/sqrt(b)"])
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


def cut(delta: torch.Tensor, b: int) -> torch.Tensor:
    u, s, vh = torch.linalg.svd(delta.double(), full_matrices=False)
    return (u[:, :b] * s[:b]) @ vh[:b]


@SCALINGS
@pytest.mark.parametrize("head", [False, True])
def test_at_rank_r_the_model_computes_what_it_did_in_single_precision(scaling: str, head: bool) -> None:
    model, adapters = make(r=R, lora_alpha=4, scaling=scaling, rank_pattern=PATTERN, head=head)
    classifier, wanted = state_of(model.classifier), model(batch())
    adapters.order()
    assert adapters.rank == R
    torch.testing.assert_close(model(batch()), wanted, **CLOSE)
    assert_same(state_of(model.classifier), classifier)


@SCALINGS
def test_every_prefix_is_the_closest_cut_and_has_score_1(scaling: str) -> None:
    _, adapters = make(r=R, scaling=scaling, rank_pattern=PATTERN)
    whole = {name: adapters.delta(name, layer.r) for name, layer in adapters.layers.items()}
    assert dk.ordering(adapters)["score"].min() < 0.95
    adapters.order()
    assert adapters.scaling == "alpha/r"
    for name, layer in adapters.layers.items():
        for b in range(1, layer.r + 1):
            torch.testing.assert_close(adapters.delta(name, b), cut(whole[name], b).float(), rtol=1e-5, atol=1e-5)
    assert dk.ordering(adapters)["score"].min() > 1 - 1e-6


@pytest.mark.parametrize("name", ["gpt2", "phi3", "roberta"])
def test_a_real_architecture_also_with_a_fused_projection_computes_what_it_did(name: str) -> None:
    model = build(name)
    adapters = dk.attach(model, r=3, target_modules="attention")
    fill(adapters)
    wanted = logits(model, inputs(name))
    adapters.order()
    torch.testing.assert_close(logits(model, inputs(name)), wanted, rtol=1e-5, atol=1e-5)
    assert dk.ordering(adapters)["score"].min() > 1 - 1e-5
    adapters.rank = 1
    assert not torch.allclose(logits(model, inputs(name)), wanted, atol=1e-3)


def test_parameters_stay_the_same_objects_and_both_matrices_share_the_size() -> None:
    model, adapters = make(r=R)
    before = dict(model.named_parameters())
    adapters.order()
    assert {name: id(p) for name, p in model.named_parameters()} == {name: id(p) for name, p in before.items()}
    for layer in adapters.layers.values():
        torch.testing.assert_close(layer.lora_A.norm(dim=1), layer.lora_B.norm(dim=0), rtol=1e-5, atol=1e-6)


def test_rows_without_a_singular_value_can_still_be_trained() -> None:
    model, adapters = make(r=R)
    with torch.no_grad():
        adapters.layers["first"].lora_B[:, 3:] = 0  # as after grow
        adapters.layers["third"].lora_B.zero_()  # as after attach
    wanted = model(batch())
    adapters.order()
    torch.testing.assert_close(model(batch()), wanted, **CLOSE)
    for name, begin in (("first", 3), ("third", 0)):
        layer = adapters.layers[name]
        assert not layer.lora_B[:, begin:].any()
        torch.testing.assert_close(layer.lora_A[begin:].norm(dim=1), torch.ones(R - begin))
    loss_of(model, batch()).backward()
    assert adapters.layers["third"].lora_B.grad.ne(0).any(0).all()


@pytest.mark.parametrize(("d_in", "d_out"), [(3, 11), (11, 3), (3, 2)])
def test_a_rank_above_the_size_of_the_layer(d_in: int, d_out: int) -> None:
    torch.manual_seed(0)
    A, B = torch.randn(6, d_in), torch.randn(d_out, 6)
    new_A, new_B = ordered(A, B)
    assert (new_A.shape, new_B.shape) == (A.shape, B.shape)
    torch.testing.assert_close(new_B @ new_A, B.double() @ A.double())
    torch.testing.assert_close(new_B[:, :1] @ new_A[:1], cut(B.double() @ A.double(), 1))


def test_half_precision_is_rounded_once() -> None:
    model, adapters = make(r=R)
    model.bfloat16()
    whole = adapters.delta("first", R).double()
    adapters.order()
    assert adapters.layers["first"].lora_A.dtype == torch.bfloat16
    torch.testing.assert_close(adapters.delta("first", R).double(), whole, rtol=0.03, atol=0.03 * whole.abs().max())


def test_ordered_adapters_are_saved_and_exported_at_each_rank(tmp_path: Path) -> None:
    model, adapters = make(r=R, rank_pattern=PATTERN, scaling="alpha/sqrt(b)", head=True)
    adapters.order()
    adapters.save(tmp_path / "ours")
    adapters.export_peft(tmp_path / "peft", rank=2)
    torch.manual_seed(0)
    loaded, imported = dk.load(Net(), tmp_path / "ours"), dk.import_peft(_bare(model), tmp_path / "peft")
    adapters.rank = loaded.rank = 2
    torch.testing.assert_close(loaded.model(batch()), model(batch()), **CLOSE)
    torch.testing.assert_close(imported.model(batch()), model(batch()), rtol=1e-5, atol=1e-5)


def _bare(model: Net) -> Net:
    adapters = dk.handle_of(copied := copy.deepcopy(model))
    adapters.detach()
    return copied


def test_an_imported_adapter_is_ordered(tmp_path: Path) -> None:
    model, adapters = make(r=R)
    wanted = model(batch())
    adapters.export_peft(tmp_path)
    imported = dk.import_peft(_bare(model), tmp_path)
    imported.order()
    torch.testing.assert_close(imported.model(batch()), wanted, **CLOSE)
    assert dk.ordering(imported)["score"].min() > 1 - 1e-6


def test_an_optimizer_with_moments_of_the_rows_before_is_refused() -> None:
    model, adapters = make(r=R)
    unused, optimizer = dk.NestedAdamW(adapters), dk.NestedAdamW(adapters)
    loss_of(model, batch()).backward()
    optimizer.step()
    adapters.order()
    with pytest.raises(RuntimeError, match=r"rotated by order\(\).* make the optimizer anew"):
        optimizer.step()
    unused.step()
    unused.step()


@pytest.mark.parametrize("spoiled", ["merged", "disabled", "not finite", "meta", "detached"])
def test_what_cannot_be_ordered_is_refused_and_nothing_changes(spoiled: str) -> None:
    model, adapters = make(r=R)

    def refused(sentence: str) -> None:
        before: Any = {name: tensor for name, tensor in state_of(model).items() if not tensor.is_meta}
        with pytest.raises(ValueError, match=sentence):
            adapters.order()
        after = {name: tensor for name, tensor in state_of(model).items() if not tensor.is_meta}
        assert_same(after, before)
        assert (adapters.scaling, adapters.orderings) == ("alpha/b", 0)

    last = adapters.layers[TARGETS[-1]]
    if spoiled == "merged":
        adapters.merge(2)
        refused("before ordering their rows")
    elif spoiled == "disabled":
        with adapters.disabled():
            refused("leave it before ordering their rows")
    elif spoiled == "not finite":
        with torch.no_grad():
            last.lora_A[1, 1] = torch.inf
        refused("'third' holds values that are not finite: its rows have no order")
    elif spoiled == "meta":
        last.to("meta")
        refused("cannot order 'third.lora_A': it has no values")
    else:
        adapters.detach()
        refused("detached")
