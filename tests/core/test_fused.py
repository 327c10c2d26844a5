"""Attach on real architectures, above all on those whose query, key and value are one projection."""

import copy
from typing import Any

import peft
import pytest
import torch
from architectures import ARCHITECTURES, FUSED, HEADS, KV, LAYERS, D, build, calm, inputs, logits, picture
from models import fill
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from toys import assert_same

import dylora_kit as dk
from dylora_kit.core.fused import DyLoRAFused, parts_of
from dylora_kit.core.low_rank import LowRankAdapter

R = 3
ATTENTION = {  # where "attention" finds its adapters, and Σ (d_in + d_out) of one layer
    "roberta": (["roberta.encoder.layer.{}.attention.self.query", "…value"], 4 * D),
    "bert": (["bert.encoder.layer.{}.attention.self.query", "…value"], 4 * D),
    "distilbert": (["distilbert.transformer.layer.{}.attention.q_lin", "…v_lin"], 4 * D),
    "deberta": (["deberta.encoder.layer.{}.attention.self.query_proj", "…value_proj"], 4 * D),
    "gpt2": (["transformer.h.{}.attn.c_attn.q", "…v"], 4 * D),
    "neox": (["gpt_neox.layers.{}.attention.query_key_value.q", "…v"], 4 * D),
    "phi3": (["model.layers.{}.self_attn.qkv_proj.q", "…v"], 3 * D + KV),
    "opt": (["model.decoder.layers.{}.self_attn.q_proj", "…v_proj"], 4 * D),
    "llama": (["model.layers.{}.self_attn.q_proj", "…v_proj"], 3 * D + KV),
    "t5": (
        [
            "encoder.block.{}.layer.0.SelfAttention.q",
            "…v",
            "decoder.block.{}.layer.0.SelfAttention.q",
            "…v",
        ],
        8 * D,
    ),
    "vit": (["vit.layers.{}.attention.q_proj", "…v_proj"], 4 * D),
    "bart": (
        ["model.encoder.layers.{}.self_attn.q_proj", "…v_proj", "model.decoder.layers.{}.self_attn.q_proj", "…v_proj"],
        8 * D,
    ),
}
PROJECTION = {"gpt2": "c_attn", "neox": "query_key_value", "phi3": "qkv_proj"}


def expected_names(name: str) -> set[str]:
    names: set[str] = set()
    for layer in range(LAYERS):
        previous = ""
        for pattern in ATTENTION[name][0]:
            previous = pattern.replace("…", previous.rpartition(".")[0] + ".")
            names.add(previous.format(layer))
    return names


def attached(name: str, seed: int = 0, **options: Any) -> tuple[Any, dk.Adapters]:
    """A model with adapters whose `lora_B` is not zero."""
    model = build(name)
    settings = {"target_modules": "attention", "r": R, "lora_alpha": 6, "seed": seed} | options
    adapters = dk.attach(model, **settings)
    fill(adapters, seed)
    return model, adapters


def projection(model: nn.Module, name: str, layer: int = 0) -> nn.Module:
    """The fused projection of one layer."""
    projections = [module for key, module in model.named_modules() if key.endswith(f".{PROJECTION[name]}")]
    return projections[layer]


# All architectures


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_attention_is_query_and_value_of_every_self_attention(name):
    model = build(name)
    adapters = dk.attach(model, target_modules="attention", r=R)
    assert set(adapters.layers) == expected_names(name)
    assert adapters.num_parameters(R) == R * LAYERS * ATTENTION[name][1]
    assert adapters.num_parameters(R) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert adapters.num_parameters(1) * R == adapters.num_parameters(R)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_new_adapters_change_nothing_and_filled_ones_much(name):
    model, batch = build(name), inputs(name)
    before = logits(model, batch)
    assert before.std() > 0.1
    adapters = dk.attach(model, target_modules="attention", r=R)
    torch.testing.assert_close(logits(model, batch), before, rtol=0, atol=1e-5)
    fill(adapters)
    seen = []
    for b in range(1, R + 1):
        adapters.rank = b
        seen.append(logits(model, batch))
    for later, earlier in [(seen[0], before), (seen[1], seen[0]), (seen[2], seen[1])]:
        assert (later - earlier).abs().max() > 0.01


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_beyond_the_rank_are_not_read(name):
    model, adapters = attached(name)
    batch = inputs(name)
    for b in range(R - 1, 0, -1):
        adapters.rank = b
        wanted = logits(model, batch)
        with torch.no_grad():
            for layer in adapters.layers.values():
                layer.lora_A[b:] = torch.nan
                layer.lora_B[:, b:] = torch.nan
        assert torch.isfinite(wanted).all()
        assert torch.equal(logits(model, batch), wanted)
    adapters.rank = R
    assert logits(model, batch).isnan().any()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_merged_is_unmerged_at_every_rank_and_the_bits_come_back(name):
    model, adapters = attached(name)
    batch = inputs(name)
    before = picture(model)
    for b in range(1, R + 1):
        adapters.rank = b
        wanted = logits(model, batch)
        adapters.merge()
        torch.testing.assert_close(logits(model, batch), wanted, rtol=1e-5, atol=3e-5)
        with torch.no_grad():
            for layer in adapters.layers.values():
                layer.lora_B.neg_()  # no adapter is read while merged
        torch.testing.assert_close(logits(model, batch), wanted, rtol=1e-5, atol=3e-5)
        with torch.no_grad():
            for layer in adapters.layers.values():
                layer.lora_B.neg_()
        adapters.unmerge()
        assert_same(picture(model), before)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("merged", [False, True], ids=["plain", "merged"])
def test_detach_gives_back_the_model(name, merged):
    model, batch = build(name), inputs(name)
    before, wanted = picture(model), logits(model, batch)
    adapters = dk.attach(model, target_modules="attention", r=R)
    fill(adapters)
    if merged:
        adapters.merge(rank=2)
    adapters.detach()
    assert_same(picture(model), before)
    assert torch.equal(logits(model, batch), wanted)


@pytest.mark.parametrize("name", ["roberta", "gpt2", "neox", "phi3", "t5", "bart"])
@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_gradient_checkpointing_gives_the_same_gradients(name, reentrant):
    batch = inputs(name)

    def gradients(checkpointing: bool) -> dict[str, Tensor]:
        model, adapters = attached(name)
        adapters.rank = 2
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        calls: list[int] = []
        adapters.wrappers[0].register_forward_hook(lambda *_: calls.append(1))
        torch.manual_seed(0)  # dropout
        model(**batch).logits.square().mean().backward()
        assert len(calls) == (2 if checkpointing else 1)
        return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}

    plain, recomputed = gradients(False), gradients(True)
    assert len(plain) == 2 * len(expected_names(name))
    assert plain.keys() == recomputed.keys()
    for key, grad in plain.items():
        torch.testing.assert_close(recomputed[key], grad, rtol=1e-4, atol=1e-7)
        assert grad.abs().max() > 1e-6
        rows = grad if key.endswith("lora_A") else grad.T
        assert rows[2:].count_nonzero() == 0


@pytest.mark.parametrize("name", ["gpt2", "neox", "phi3", "roberta", "t5"])
def test_inputs_that_require_gradients_change_no_gradient_of_the_adapters(name):
    batch, gradients = inputs(name), []
    for wanted in (False, True):
        model, adapters = attached(name)
        if wanted:
            model.enable_input_require_grads()
        model(**batch).logits.square().mean().backward()
        gradients.append([p.grad for p in adapters.nested_parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", [*FUSED, "roberta", "vit", "llama"])
@pytest.mark.parametrize("frozen", [False, True], ids=["rows to b", "row b"])
def test_a_mixed_batch_is_each_example_at_its_own_rank(name, frozen):
    model, adapters = attached(name)
    ranks, batch = [2, 1, 3], inputs(name)
    adapters.frozen = frozen

    def run(rank: Any, part: slice) -> tuple[Tensor, list[Tensor]]:
        model.zero_grad()
        adapters.rank = rank
        out = model(**{key: value[part] for key, value in batch.items()}).logits
        out.square().sum().backward()
        return out.detach(), [p.grad.clone() for p in adapters.nested_parameters()]

    mixed, together = run(torch.tensor(ranks), slice(None))
    alone = [run(b, slice(i, i + 1)) for i, b in enumerate(ranks)]
    torch.testing.assert_close(mixed, torch.cat([out for out, _ in alone]), rtol=1e-5, atol=1e-5)
    for index, grad in enumerate(together):
        wanted = torch.stack([grads[index] for _, grads in alone]).sum(0)
        torch.testing.assert_close(grad, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())
    assert not torch.allclose(mixed[:1], run(1, slice(0, 1))[0], atol=1e-3)


# Which outputs are q, k and v


@pytest.mark.parametrize("name", FUSED)
def test_the_parts_are_what_the_attention_takes_for_query_key_and_value(name):
    """Each output of the projection is changed at one position; the attention's weights tell what it was.

    A change of the query at position 2 changes row 2 of the attention, a change of the key there row 2 and all later
    ones, a change of the value none.
    """
    model = build(name)
    model.set_attn_implementation("eager")
    module = projection(model, name)
    d_out = D + 2 * (KV if name == "phi3" else D)

    def change(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[range(d_out), 2, range(d_out)] += 3.0
        return output

    batch = {"input_ids": inputs(name, 1)["input_ids"].expand(d_out, -1)}
    with torch.no_grad():
        plain = model(**batch, output_attentions=True).attentions[0]
        handle = module.register_forward_hook(change)
        changed = model(**batch, output_attentions=True).attentions[0]
        handle.remove()
    rows = (changed - plain).abs().amax((1, 3)) > 1e-6  # (d_out, positions)
    kinds = {(): "v", (2,): "q", tuple(range(2, rows.shape[1])): "k"}
    kind_of_output = [kinds[tuple(row.nonzero().flatten().tolist())] for row in rows]
    key = next(key for key, candidate in model.named_modules() if candidate is module)
    parts = parts_of(model, key)
    assert parts is not None
    assert {part: list(outputs) for part, outputs in parts.items()} == {
        part: [index for index, kind in enumerate(kind_of_output) if kind == part] for part in "qkv"
    }


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("b", range(1, R + 1))
def test_the_weights_changed_by_hand_give_the_same_outputs(name, b):
    model, adapters = attached(name)
    plain = build(name)
    adapters.rank = b
    size = D // HEADS
    with torch.no_grad():
        for layer in range(LAYERS):
            fused = projection(model, name, layer)
            deltas = {part: 6 / b * fused.part(part).lora_B[:, :b] @ fused.part(part).lora_A[:b] for part in ("q", "v")}
            weight = projection(plain, name, layer).weight
            if name == "gpt2":
                weight[:, :D] += deltas["q"].T
                weight[:, 2 * D :] += deltas["v"].T
            elif name == "neox":
                by_head = weight.view(HEADS, 3, size, D)
                by_head[:, 0] += deltas["q"].view(HEADS, size, D)
                by_head[:, 2] += deltas["v"].view(HEADS, size, D)
            else:
                weight[:D] += deltas["q"]
                weight[D + KV :] += deltas["v"]
    batch = inputs(name)
    torch.testing.assert_close(logits(model, batch), logits(plain, batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FUSED)
def test_the_key_is_untouched_bit_for_bit(name):
    model, adapters = attached(name)
    fused = projection(model, name)
    parts = parts_of(build(name), next(iter(adapters.layers)).rpartition(".")[0])
    x = torch.randn(2, 5, D)
    with torch.no_grad():
        difference = (fused(x) - fused.base_layer(x)).abs().amax((0, 1))
        assert (difference[list(parts["k"])] == 0).all()
        assert (difference[[*parts["q"], *parts["v"]]] > 0).all()
        base = fused.weight.clone()
        adapters.merge(rank=2)
        changed = (fused.weight != base).any(0 if name == "gpt2" else 1)
        assert not changed[list(parts["k"])].any()
        assert changed[[*parts["q"], *parts["v"]]].all()


def test_gpt2_has_as_many_parameters_as_loralibs_merged_linear():
    _, adapters = attached("gpt2")
    enable_lora = [True, False, True]
    lora_a = (R * sum(enable_lora), D)
    lora_b = (3 * D // len(enable_lora) * sum(enable_lora), R)
    per_layer = lora_a[0] * lora_a[1] + lora_b[0] * lora_b[1]
    assert adapters.num_parameters(R) == LAYERS * per_layer == sum(p.numel() for p in adapters.nested_parameters())


# Naming parts


@pytest.mark.parametrize(
    ("targets", "parts"),
    [
        (["c_attn"], "qv"),
        (["c_attn.k"], "k"),
        (["c_attn.v", "c_attn.k", "c_attn.q"], "qkv"),
        (["c_attn", "c_attn.k"], "qvk"),
        (["h.0.attn.c_attn.q", "h.1.attn.c_attn.q"], "q"),
        (r".*c_attn\.(q|k)", "qk"),
        (r".*\.c_attn", "qv"),
    ],
    ids=str,
)
def test_parts_are_named_after_the_projection(targets, parts):
    model, adapters = attached("gpt2", target_modules=targets)
    assert set(adapters.layers) == {f"transformer.h.{i}.attn.c_attn.{part}" for i in range(LAYERS) for part in parts}
    assert all(type(layer) is LowRankAdapter for layer in adapters.layers.values())
    assert set(projection(model, "gpt2").parts) == set(parts)
    for part in parts:
        assert adapters.delta(f"transformer.h.0.attn.c_attn.{part}").shape == (D, D)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("named", ["attention", "by name"])
def test_split_fused_false_adapts_the_projection_as_one_layer(name, named):
    targets = "attention" if named == "attention" else [PROJECTION[name]]
    model, adapters = attached(name, target_modules=targets, split_fused=False)
    d_out = D + 2 * (KV if name == "phi3" else D)
    assert [layer.lora_B.shape for layer in adapters.layers.values()] == [(d_out, R)] * LAYERS
    assert all(key.endswith(f".{PROJECTION[name]}") for key in adapters.layers)
    fused, x = projection(model, name), torch.randn(2, 5, D)
    with torch.no_grad():
        assert ((fused(x) - fused.base_layer(x)).abs().amax((0, 1)) > 0).all()


def test_rank_pattern_for_parts():
    model, adapters = attached("gpt2", rank_pattern={"c_attn.q": 2, "h.1.attn.c_attn.v": 5})
    limits = [layer.r for layer in adapters.layers.values()]
    assert dict(zip(adapters.layers, limits, strict=True)) == {
        "transformer.h.0.attn.c_attn.q": 2,
        "transformer.h.0.attn.c_attn.v": 3,
        "transformer.h.1.attn.c_attn.q": 2,
        "transformer.h.1.attn.c_attn.v": 5,
    }
    adapters.rank = 3
    assert [layer.rank for layer in adapters.layers.values()] == [2, 3, 2, 3]
    plain, batch = logits(model, inputs("gpt2")), inputs("gpt2")
    with torch.no_grad():
        adapters.layers["transformer.h.1.attn.c_attn.v"].lora_B[:, 3:] = torch.nan
    assert torch.equal(logits(model, batch), plain)
    adapters.merge()
    torch.testing.assert_close(logits(model, batch), plain, rtol=1e-5, atol=1e-5)


def test_a_whole_name_in_rank_pattern_means_that_layer_alone():
    model = nn.ModuleDict({"up": nn.Linear(6, 5), "inner": nn.ModuleDict({"up": nn.Linear(6, 5)})})
    adapters = dk.attach(model, target_modules=["up"], r=4, rank_pattern={"up": 2})
    assert {name: layer.r for name, layer in adapters.layers.items()} == {"up": 2, "inner.up": 4}


def test_the_key_and_value_of_cross_attention_are_adapted_only_by_name():
    names = set(attached("gpt2-cross")[1].layers)
    assert names == {f"transformer.h.{i}.attn.c_attn.{part}" for i in range(LAYERS) for part in "qv"}
    model, adapters = attached("gpt2-cross", target_modules=["crossattention.c_attn"])
    assert set(adapters.layers) == {f"transformer.h.{i}.crossattention.c_attn.v" for i in range(LAYERS)}
    assert model.transformer.h[0].crossattention.c_attn.parts == {"v": list(range(D, 2 * D))}
    both = attached("gpt2-cross", target_modules=["crossattention.c_attn.k"])[0]
    assert both.transformer.h[0].crossattention.c_attn.parts == {"k": list(range(D))}


@pytest.mark.parametrize("name", ["japanese", "another class"])
@pytest.mark.parametrize("targets", [["query_key_value"], r".*query_key_value", "attention", "all-linear"], ids=str)
def test_a_projection_of_unknown_split_is_not_guessed(name, targets):
    model = build("japanese")
    if name == "another class":  # of a name that is known, and without what the split is read from
        for module in [module for module in model.modules() if type(module).__name__ == "GPTNeoXJapaneseAttention"]:
            module.__class__ = type("BloomAttention", (type(module),), {})
    before = picture(model)
    with pytest.raises(ValueError, match=r"query_key_value' looks like a fused projection.*pass split_fused=False"):
        dk.attach(model, target_modules=targets, r=R)
    assert_same(picture(model), before)
    adapters = dk.attach(model, target_modules=targets, r=R, split_fused=False)
    [layer] = [layer for key, layer in adapters.layers.items() if key.rpartition(".")[2] == "query_key_value"]
    assert layer.out_features == 3 * D


BAD = {
    "no such part": ("gpt2", {"target_modules": ["c_attn.w"]}, r"'c_attn\.w' matches no module"),
    "part of what is not split": ("gpt2", {"target_modules": ["c_attn.q"], "split_fused": False}, "matches no module"),
    "other names": ("gpt2", {"target_modules": ["q_proj"]}, "'q_proj' matches no module.*c_attn"),
    "pattern below 1": (
        "phi3",
        {"target_modules": "attention", "rank_pattern": {"1.self_attn.qkv_proj.v": 0}},
        "1.self_attn.qkv_proj: rank 0",
    ),
    "saved inside a target": (
        "gpt2",
        {"target_modules": "attention", "modules_to_save": ["h.1"]},
        r"'transformer.h.1.attn.c_attn.q' is both a target and in modules_to_save",
    ),
}


@pytest.mark.parametrize(("name", "options", "message"), BAD.values(), ids=BAD)
def test_a_failing_attach_leaves_the_model_as_it_was(name, options, message):
    model = build(name)
    model.train()
    before = picture(model)
    with pytest.raises(ValueError, match=message):
        dk.attach(model, **{"r": R} | options)
    assert_same(picture(model), before)


def test_attention_that_finds_nothing_names_the_layers_there_are():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with pytest.raises(ValueError, match=r"'attention' finds no query and value here.*\['0'\]"):
        dk.attach(model, target_modules="attention")


@pytest.mark.parametrize("r", [KV, D, D + 8])
def test_a_slice_may_have_any_rank(r):
    model, adapters = attached("phi3", target_modules=["qkv_proj.q", "qkv_proj.v"], r=r)
    assert {tuple(layer.lora_B.shape) for layer in adapters.layers.values()} == {(D, r), (KV, r)}
    adapters.rank = r - 1
    wanted = logits(model, inputs("phi3"))
    adapters.merge()
    torch.testing.assert_close(logits(model, inputs("phi3")), wanted, rtol=1e-4, atol=1e-4)


# Training


@pytest.mark.parametrize("name", FUSED)
def test_frozen_gives_row_b_alone_a_gradient(name):
    model, adapters = attached(name)
    batch = inputs(name)
    adapters.rank = 2
    plain = logits(model, batch)
    adapters.frozen = True
    out = model(**batch).logits
    assert torch.equal(out, plain)
    out.square().mean().backward()
    for layer in adapters.layers.values():
        for grad in (layer.lora_A.grad, layer.lora_B.grad.T):
            assert grad.abs().amax(1).ne(0).tolist() == [False, True, False]


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("frozen", [False, True], ids=["rows to b", "row b"])
def test_the_exact_optimizer_leaves_other_rows_of_every_part_bit_for_bit(name, frozen):
    model, adapters = attached(name)
    batch = inputs(name)
    optimizer = dk.NestedAdamW(adapters, lr=0.01, weight_decay=0.1)

    def step(b: int) -> dict[str, list[bool]]:
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        adapters.rank = b
        optimizer.zero_grad()
        model(**batch).logits.square().mean().backward()
        optimizer.step()
        moved = {}
        for key, p in model.named_parameters():
            dims = 1 if key.endswith("lora_A") else 0
            changed = p.detach() != before[key]
            moved[key] = changed.any(dims).tolist() if "lora_" in key else [bool(changed.any())]
        return moved

    step(R)  # momentum everywhere
    for b in (2, 1):
        wanted = [row == b - 1 if frozen else row < b for row in range(R)]
        adapters.frozen = frozen
        moved = step(b)
        assert {key for key in moved if "lora_" in key} >= {
            f"{key.rpartition('.')[0]}.adapters.{part}.lora_A" for key in adapters.layers for part in "qv"
        }
        for key, rows in moved.items():
            assert rows == (wanted if "lora_" in key else [False]), key


def test_the_authors_update_moves_the_other_rows_of_a_part():
    model, adapters = attached("gpt2")
    optimizer = dk.NestedAdamW(adapters, lr=0.01, weight_decay=0.1, update="authors")
    layer = next(iter(adapters.layers.values()))
    for b in (R, 1):
        adapters.rank = b
        before = layer.lora_A.detach().clone()
        optimizer.zero_grad()
        model(**inputs("gpt2")).logits.square().mean().backward()
        optimizer.step()
    assert (layer.lora_A != before).any(1).all()


@pytest.mark.parametrize("name", FUSED)
def test_autocast_runs_the_parts_in_bfloat16_and_trains_them_in_float32(name):
    model, adapters = attached(name)
    batch = inputs(name)
    adapters.rank = 2
    wanted = model(**batch).logits
    with torch.autocast("cpu", torch.bfloat16):
        out = model(**batch).logits
        out.square().mean().backward()
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), wanted, rtol=0.1, atol=0.1 * wanted.abs().max().item())
    assert all(p.grad.dtype == torch.float32 and p.grad.any() for p in adapters.nested_parameters())


@pytest.mark.parametrize("name", FUSED)
def test_parts_of_a_half_precision_model_are_float32(name):
    model = build(name).bfloat16()
    adapters = dk.attach(model, target_modules="attention", r=R)
    fill(adapters)
    assert {p.dtype for p in adapters.nested_parameters()} == {torch.float32}
    out = model(**inputs(name)).logits
    assert out.dtype == torch.bfloat16
    out.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.any() for p in adapters.nested_parameters())
    wanted = logits(model, inputs(name))
    adapters.merge()
    merged = logits(model, inputs(name))
    torch.testing.assert_close(merged, wanted, rtol=0.1, atol=0.1 * wanted.abs().max().item())


# Keeping


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize(
    "options",
    [{}, {"split_fused": False}, {"rank_pattern": {".v": 2}, "scaling": "alpha/sqrt(b)"}, {"lora_dropout": 0.2}],
    ids=str,
)
def test_a_saved_fused_adapter_comes_back(tmp_path, name, options):
    if "rank_pattern" in options:
        options = options | {"rank_pattern": {f"{PROJECTION[name]}.v": 2}}
    model, adapters = attached(name, **options)
    adapters.save(tmp_path)
    fresh = build(name)
    loaded = dk.load(fresh, tmp_path)
    assert loaded.config == adapters.config
    assert list(loaded.layers) == list(adapters.layers)
    for b in range(1, R + 1):
        adapters.rank = loaded.rank = b
        assert torch.equal(logits(fresh, inputs(name)), logits(model, inputs(name)))


def test_loading_into_another_split_is_refused(tmp_path):
    attached("neox")[1].save(tmp_path)
    model = build("gpt2")
    before = picture(model)
    with pytest.raises(ValueError, match=r"does not fit this model: the file lacks .*c_attn\.q"):
        dk.load(model, tmp_path)
    assert_same(picture(model), before)


@pytest.mark.parametrize("name", FUSED)
def test_a_copy_has_ranks_weights_and_merging_of_its_own(name):
    model, adapters = attached(name)
    batch = inputs(name)
    adapters.rank = 2
    wanted = logits(model, batch)
    twin, handle = copy.deepcopy((model, adapters))
    assert torch.equal(logits(twin, batch), wanted)
    handle.rank = 1
    alone = logits(twin, batch)
    with torch.no_grad():
        next(iter(handle.layers.values())).lora_B.zero_()
    assert not torch.equal(logits(twin, batch), alone)
    handle.merge()
    assert not adapters.merged
    assert adapters.rank == 2
    assert torch.equal(logits(model, batch), wanted)


def test_a_tied_head_is_adapted_and_not_merged():
    model, adapters = attached("gpt2", target_modules=["lm_head", "c_attn"])
    assert model.lm_head.weight is model.transformer.wte.weight
    before = picture(model)
    with pytest.raises(ValueError, match=r"cannot merge 'lm_head': its weight is shared by transformer\.wte"):
        adapters.merge(rank=1)
    assert not adapters.merged
    assert_same(picture(model), before)


def test_a_fused_projection_under_two_names_is_adapted_once():
    model = build("gpt2")
    model.transformer.h[1] = model.transformer.h[0]
    base = model.transformer.h[0].attn.c_attn
    adapters = dk.attach(model, target_modules="attention", r=R)
    fill(adapters)
    assert set(adapters.layers) == {"transformer.h.0.attn.c_attn.q", "transformer.h.0.attn.c_attn.v"}
    wanted = logits(model, inputs("gpt2"))
    adapters.merge()
    torch.testing.assert_close(logits(model, inputs("gpt2")), wanted, rtol=1e-5, atol=1e-5)
    adapters.detach()
    assert model.transformer.h[1].attn.c_attn is base


# The layer alone


@pytest.mark.parametrize("interleaved", [False, True], ids=["slices", "index sets"])
def test_a_fused_layer_equals_plain_products_and_their_gradients(interleaved):
    torch.manual_seed(0)
    base = nn.Linear(7, 12, dtype=torch.float64)
    parts = {"v": range(1, 12, 3), "q": range(0, 12, 3)} if interleaved else {"q": range(7, 11), "v": range(2, 5)}
    ranks = {"q": 3, "v": 2}
    fused = DyLoRAFused(base, parts, ranks, lora_alpha=5)
    for part in parts:
        nn.init.normal_(fused.part(part).lora_B)
        fused.part(part).rank = 2
    x = torch.randn(2, 4, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 4, 12, dtype=torch.float64)
    (fused(x) * weight).sum().backward()
    got = [x.grad.clone(), *(fused.part(part).lora_A.grad for part in parts)]
    got += [fused.part(part).lora_B.grad for part in parts]
    for tensor in (x, *(p for p in fused.parameters() if p.requires_grad)):
        tensor.grad = None
    plain = nn.functional.linear(x, base.weight, base.bias)
    for part, outputs in parts.items():
        adapter = fused.part(part)
        here = torch.zeros(12, len(outputs), dtype=torch.float64)
        here[list(outputs), range(len(outputs))] = 1
        plain = plain + 5 / 2 * x @ adapter.lora_A[:2].T @ adapter.lora_B[:, :2].T @ here.T
    torch.testing.assert_close(fused(x), plain, rtol=1e-12, atol=1e-12)
    (plain * weight).sum().backward()
    wanted = [x.grad, *(fused.part(part).lora_A.grad for part in parts)]
    wanted += [fused.part(part).lora_B.grad for part in parts]
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    whole = nn.functional.linear(x, base.weight + fused.delta_as_weight(), base.bias)
    torch.testing.assert_close(whole, plain, rtol=1e-12, atol=1e-12)


def test_training_while_merged_is_refused():
    model, adapters = attached("gpt2")
    adapters.merge(rank=2)
    model.train()
    with pytest.raises(RuntimeError, match=r"merged into the base weights: call unmerge\(\)"):
        model(**inputs("gpt2"))
    model.eval()
    assert torch.isfinite(model(**inputs("gpt2")).logits).all()


@pytest.mark.parametrize("b", range(1, R + 1))
def test_conv1d_is_adapted_and_merged_in_its_own_layout(b):
    model, adapters = attached("gpt2", target_modules=["c_fc", "mlp.c_proj"])
    plain = build("gpt2")
    with torch.no_grad():
        for key, layer in adapters.layers.items():
            plain.get_submodule(key).weight += 6 / b * (layer.lora_B[:, :b] @ layer.lora_A[:b]).T
    adapters.rank = b
    batch = inputs("gpt2")
    wanted = logits(plain, batch)
    torch.testing.assert_close(logits(model, batch), wanted, rtol=1e-5, atol=1e-5)
    adapters.merge()
    torch.testing.assert_close(logits(model, batch), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "neox"])
def test_a_compiled_model_is_not_compiled_anew_while_b_walks_over_all_ranks(name):
    torch._dynamo.reset()
    model, adapters = attached(name, r=4)
    counter = CompileCounterWithBackend("aot_eager")
    compiled, frames = torch.compile(model, backend=counter), []
    for b in [1, 2, 3, 4, 3, 1, 4, 2]:
        adapters.rank = b
        outputs = compiled(**inputs(name)).logits
        torch.testing.assert_close(outputs, logits(model, inputs(name)), rtol=1e-4, atol=1e-5)
        outputs.square().mean().backward()
        frames.append(counter.frame_count)
    assert frames[-1] == frames[0] >= 1


def test_a_model_under_peft_is_sent_to_nest_peft():
    with calm():
        model = peft.get_peft_model(build("roberta"), peft.LoraConfig(target_modules=["query"]))
    before = picture(model)
    with pytest.raises(ValueError, match=r"the model has adapters of PEFT: use nest_peft\(model\)"):
        dk.attach(model, r=2, target_modules=["value"])
    assert_same(picture(model), before)


@pytest.mark.parametrize("turned", [False, True])
def test_in_rank_pattern_a_whole_name_wins_and_else_the_first(turned):
    whole = "roberta.encoder.layer.0.attention.self.query"
    pattern = {whole: 1, "self.query": 3, "query": 2}
    adapters = dk.attach(build("roberta"), r=4, target_modules=["query"],
                         rank_pattern=dict([*pattern.items()][::-1]) if turned else pattern)  # fmt: skip
    ranks = {name: layer.r for name, layer in adapters.layers.items()}
    assert ranks.pop(whole) == 1
    assert set(ranks.values()) == {2 if turned else 3}


def test_a_string_that_would_match_as_a_list_says_so():
    with pytest.raises(ValueError, match=r"a string is an expression for whole names, did you mean \['query'\]"):
        dk.attach(build("roberta"), r=2, target_modules="query")


def test_no_modules_to_save_may_be_none_as_in_peft():
    assert dk.attach(build("roberta"), r=2, target_modules=["query"], modules_to_save=None).saved_modules == {}
