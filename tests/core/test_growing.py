"""`adapters.grow(r)`: more rows, and at every rank that there was the same function, bit for bit."""

from pathlib import Path

import pytest
import torch
from architectures import build, inputs, logits
from models import Net, batch, fill, loss_of, make
from toys import assert_same, state_of

import dylora_kit as dk

R, LARGER = 4, 6
PATTERN = {"second": 3}
SCALINGS = pytest.mark.parametrize("scaling", ["alpha/b", "alpha/r", "alpha/sqrt(b)"])


def at_ranks(adapters: dk.Adapters, ranks: range) -> dict[int, torch.Tensor]:
    outputs = {}
    for b in ranks:
        with adapters.at(b), torch.no_grad():
            outputs[b] = adapters.model(batch())
    return outputs


@SCALINGS
@pytest.mark.parametrize("pattern", [{}, PATTERN], ids=["one r", "rank_pattern"])
def test_every_rank_that_there_was_computes_the_same_bit_for_bit(scaling: str, pattern: dict[str, int]) -> None:
    _, adapters = make(r=R, scaling=scaling, rank_pattern=pattern)
    adapters.rank = 2
    wanted = at_ranks(adapters, range(1, R + 1))
    adapters.grow(LARGER)
    assert (adapters.r, adapters.rank) == (LARGER, 2)
    assert_same(at_ranks(adapters, range(1, R + 1)), wanted)
    assert [layer.r for layer in adapters.layers.values()] == [LARGER, 3 if pattern else LARGER, LARGER]
    adapters.rank = LARGER
    with pytest.raises(ValueError, match="expected 1 to 6"):
        adapters.rank = LARGER + 1


@pytest.mark.parametrize("name", ["gpt2", "phi3"])
def test_a_fused_projection_grows_but_for_a_part_with_a_rank_of_its_own(name: str) -> None:
    model = build(name)
    part = {"gpt2": "h.0.attn.c_attn.q", "phi3": "layers.0.self_attn.qkv_proj.q"}[name]
    adapters = dk.attach(model, r=3, target_modules="attention", rank_pattern={part: 2})
    fill(adapters)
    wanted = logits(model, inputs(name))
    adapters.grow(5)
    assert torch.equal(logits(model, inputs(name)), wanted)
    assert sorted(layer.r for layer in adapters.layers.values()) == [2, 5, 5, 5]
    adapters.rank = 5
    assert logits(model, inputs(name)).isfinite().all()


def test_new_rows_are_drawn_as_attach_draws_them_and_repeat_no_old_ones() -> None:
    model, adapters = make(r=R, nonzero=False)
    old = {name: layer.lora_A.detach().clone() for name, layer in adapters.layers.items()}
    adapters.grow(R + 200)
    for name, layer in adapters.layers.items():
        new, d_in = layer.lora_A[R:], layer.in_features
        assert torch.equal(layer.lora_A[:R], old[name])
        assert not layer.lora_B.any()
        assert new.std().item() == pytest.approx(d_in**-0.5, rel=0.1)
        assert (torch.cdist(old[name], new) > 1e-3).all()
    loss_of(model, batch()).backward()
    assert adapters.layers["first"].lora_B.grad.shape == (17, R + 200)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    grown = []
    for seed in (0, 0, 1):
        _, adapters = make(r=R)
        state = torch.get_rng_state()
        adapters.grow(LARGER, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        grown.append(adapters.layers["third"].lora_A.detach())
    assert torch.equal(grown[0], grown[1])
    assert not torch.equal(grown[0][R:], grown[2][R:])


def test_parameters_stay_the_same_objects_also_while_a_loss_of_before_is_kept() -> None:
    model, adapters = make(r=R)
    before = {name: id(p) for name, p in model.named_parameters()}
    kept = loss_of(model, batch())
    kept.backward(retain_graph=True)
    adapters.grow(LARGER)
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert all(p.grad is None for p in adapters.nested_parameters())
    adapters.rank = LARGER
    loss_of(model, batch()).backward()
    assert adapters.layers["first"].lora_A.grad.shape == (LARGER, 12)
    assert kept.isfinite()


@SCALINGS
def test_grown_adapters_are_saved_loaded_and_exported(scaling: str, tmp_path: Path) -> None:
    model, adapters = make(
        r=R, scaling=scaling, rank_pattern=PATTERN, alpha_pattern={"first": 3, "second": 5}, head=True
    )
    adapters.grow(LARGER)
    fill(adapters)
    adapters.rank = LARGER
    adapters.save(tmp_path / "ours")
    torch.manual_seed(0)
    loaded = dk.load(Net(), tmp_path / "ours")
    assert loaded.config == adapters.config
    assert [layer.lora_alpha for layer in loaded.layers.values()] == [
        layer.lora_alpha for layer in adapters.layers.values()
    ]
    for b in range(1, LARGER + 1):
        adapters.rank = loaded.rank = b
        torch.testing.assert_close(loaded.model(batch()), model(batch()))
    adapters.export_peft(tmp_path / "peft", rank=5)


def test_under_alpha_over_r_alpha_grows_along_and_a_layer_that_does_not_grow_keeps_its_own() -> None:
    _, adapters = make(r=R, lora_alpha=8, scaling="alpha/r", rank_pattern=PATTERN)
    adapters.grow(LARGER)
    assert adapters.config["lora_alpha"] == 12
    assert adapters.config["alpha_pattern"] == {"second": 8}
    assert [layer.scale(1) for layer in adapters.layers.values()] == [2, 8 / 3, 2]


def test_ordering_after_growing_leaves_rows_to_train() -> None:
    model, adapters = make(r=R, scaling="alpha/r")
    adapters.grow(LARGER)
    wanted = model(batch())
    adapters.order()
    adapters.rank = LARGER
    torch.testing.assert_close(model(batch()), wanted, rtol=1e-5, atol=1e-5)
    loss_of(model, batch()).backward()
    assert adapters.layers["first"].lora_B.grad.ne(0).any(0).all()


def test_one_rank_for_each_example_runs_at_the_new_ranks() -> None:
    model, adapters = make(r=R)
    adapters.rank = torch.tensor([1, 2, 3, 4, 1, 2])
    wanted = model(batch())
    adapters.grow(LARGER)
    assert torch.equal(model(batch()), wanted)
    fill(adapters)
    adapters.rank = torch.tensor([1, 6, 3, 4, 5, 2])
    mixed = model(batch())
    adapters.rank = 6
    torch.testing.assert_close(mixed[1], model(batch())[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("r", "sentence"),
    [(4, "expected more than 4"), (3, "expected more than 4"), (2.5, "whole number"), (0, "1 upwards")],
)
def test_a_rank_that_is_not_larger_is_refused(r: int, sentence: str) -> None:
    model, adapters = make(r=R)
    before = state_of(model)
    with pytest.raises(ValueError, match=sentence):
        adapters.grow(r)
    assert_same(state_of(model), before)


def test_merged_and_disabled_adapters_and_those_with_ranks_of_their_own_are_refused() -> None:
    _, adapters = make(r=R)
    with adapters.disabled(), pytest.raises(ValueError, match="leave it before growing"):
        adapters.grow(LARGER)
    adapters.merge(1)
    with pytest.raises(ValueError, match="before growing"):
        adapters.grow(LARGER)
    _, patterned = make(r=R, rank_pattern={"first|second|third": 3})
    with pytest.raises(ValueError, match="gives every layer a rank of its own"):
        patterned.grow(LARGER)
