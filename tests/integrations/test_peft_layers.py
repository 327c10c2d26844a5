"""`nest_peft`: PEFT's own LoRA layers, at any rank."""

import copy
import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import LAYERS, WORDS, D, build, calm, inputs, logits, picture
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from toys import assert_same

import dylora_kit as dk
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.handle import handle_of
from dylora_kit.training.optim import NestedAdamW

R = 4
QV = ["query", "value"]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
LABELS = torch.tensor([0, 1, 1, 0])
SCALINGS = ["alpha/b", "alpha/r", "alpha/sqrt(b)"]


def in_peft(name: str = "roberta", **options: Any) -> PeftModel:
    """A model that PEFT adapted, in evaluation mode; `lora_B` is not zero."""
    settings = {"r": R, "lora_alpha": 6, "target_modules": QV} | options
    torch.manual_seed(1)
    with calm():
        model = get_peft_model(build(name), LoraConfig(**settings)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.3)
    return model


def ours(nested: dk.Adapters, **options: Any) -> tuple[Any, dk.Adapters]:
    """The same model with layers of this kit that have the same weights."""
    model = build("roberta")
    alpha = 6 / R**0.5 if nested.scaling == "alpha/sqrt(b)" else 6  # so that the scale at rank R is PEFT's
    settings = {"r": nested.r, "lora_alpha": alpha, "target_modules": QV, "scaling": nested.scaling}
    adapters = dk.attach(model, **settings | options)
    assert list(adapters.layers) == list(nested.layers)
    with torch.no_grad():
        for key, layer in adapters.layers.items():
            layer.lora_A.copy_(nested.layers[key].lora_A)
            layer.lora_B.copy_(nested.layers[key].lora_B)
    return model, adapters


def examples(n: int = 24) -> list[dict[str, Tensor]]:
    ids = inputs("roberta", n, seed=4)["input_ids"]
    return [{"input_ids": row, "labels": (row[1] > WORDS // 2).long()} for row in ids]


def run(model: nn.Module, adapters: dk.Adapters, batch: dict[str, Tensor]) -> tuple[Tensor, list[Tensor | None]]:
    """Logits, and the gradients of lora_A and lora_B, layer by layer."""
    model.zero_grad()
    out = model(**batch).logits
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    (out * weights).sum().backward()
    return out.detach(), [p.grad.clone() for p in adapters.nested_parameters() if p.grad is not None]


RANKS: list[Any] = [1, 2, 3, 4, torch.tensor([4, 1, 3, 2])]


# The same as our own layers


@pytest.mark.parametrize("frozen", [False, True], ids=["rows to b", "row b"])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("rank", RANKS, ids=str)
def test_outputs_and_gradients_are_those_of_our_own_layers(frozen, scaling, rank):
    peft_model = in_peft()
    nested = dk.nest_peft(peft_model, scaling=scaling)
    model, adapters = ours(nested)
    batch = inputs("roberta", 4)
    for handle in (nested, adapters):
        handle.rank, handle.frozen = rank, frozen
    got, grads = run(peft_model, nested, batch)
    wanted, expected = run(model, adapters, batch)
    torch.testing.assert_close(got, wanted, **CLOSE)
    torch.testing.assert_close(grads, expected, rtol=1e-4, atol=1e-5)
    assert len(grads) == 4 * LAYERS
    if isinstance(rank, int):
        for layer in nested.layers.values():
            rows = layer.lora_A.grad.any(1).tolist()
            assert rows == [row == rank - 1 if frozen else row < rank for row in range(R)]
            assert layer.lora_B.grad.any(0).tolist() == rows


PEFTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("roberta", {}),
    "rslora": ("roberta", {"use_rslora": True}),
    "rank_pattern": ("roberta", {"rank_pattern": {"value": 2, "0.attention.self.query": 6}}),
    "alpha_pattern": ("roberta", {"alpha_pattern": {"value": 3}}),
    "both": ("llama", {"target_modules": ["q_proj", "down_proj"], "rank_pattern": {"q_proj": 7}, "use_rslora": True}),
    "fused Conv1D": ("gpt2", {"target_modules": ["c_attn", "c_proj"]}),
    "neox": ("neox", {"target_modules": ["query_key_value"]}),
    "head": ("bert", {"modules_to_save": ["classifier"]}),
    "cross-attention": ("t5", {"target_modules": ["q", "v", "wo"]}),
    "dropout in evaluation": ("vit", {"target_modules": ["q_proj"], "lora_dropout": 0.4}),
    "inference": ("opt", {"target_modules": ["q_proj"], "inference_mode": True}),
}


@pytest.mark.parametrize(("name", "options"), PEFTS.values(), ids=PEFTS)
def test_at_rank_r_nothing_changes_and_every_rank_is_exported_to_plain_peft(tmp_path, name, options):
    model, batch = in_peft(name, **options), inputs(name)
    before, wanted = picture(model), logits(model, batch)
    nested = dk.nest_peft(model)
    after = picture(model)
    assert_same(after["values"], before["values"])
    assert after["parameters"] == before["parameters"]
    assert [(key, module) for key, module, _ in after["modules"]] == [
        (key, module) for key, module, _ in before["modules"]
    ]
    assert nested.scaling == ("alpha/sqrt(b)" if options.get("use_rslora") else "alpha/b")
    torch.testing.assert_close(logits(model, batch), wanted, **CLOSE)
    seen = [wanted]
    for b in range(1, nested.r):
        nested.rank = b
        here = logits(model, batch)
        assert all((here - other).abs().max() > 1e-3 for other in seen)
        seen.append(here)
        for serving in (False, True) if not options.get("modules_to_save") else (False,):
            nested.export_peft(tmp_path, rank=b, serving=serving)
            with calm():
                loaded = PeftModel.from_pretrained(build(name), tmp_path).eval()
            torch.testing.assert_close(logits(loaded, batch), here, **CLOSE)
    nested.rank = nested.r
    torch.testing.assert_close(logits(model, batch), wanted, **CLOSE)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_rank_uses_its_own_rows_and_scale_alone(scaling):
    model = in_peft()
    nested = dk.nest_peft(model, scaling=scaling)
    layer = model.base_model.model.roberta.encoder.layer[0].attention.self.query
    A, B, x = layer.lora_A["default"].weight, layer.lora_B["default"].weight, torch.randn(3, 5, D)
    for b in range(R, 0, -1):
        nested.rank = b
        scale = {"alpha/b": 6 / b, "alpha/r": 6 / R, "alpha/sqrt(b)": 6 / R**0.5 / b**0.5}[scaling]
        with torch.no_grad():
            A[b:], B[:, b:] = torch.nan, torch.nan
            wanted = layer.base_layer(x) + scale * x @ A[:b].T @ B[:, :b].T
            torch.testing.assert_close(layer(x), wanted, **CLOSE)


def test_ranks_per_layer():
    model = in_peft()
    nested = dk.nest_peft(model)
    twin, adapters = ours(nested)
    ranks = dict(zip(nested.layers, (1, 4, 2, 3), strict=True))
    nested.rank = adapters.rank = ranks
    torch.testing.assert_close(logits(model, inputs("roberta")), logits(twin, inputs("roberta")), **CLOSE)
    assert next(iter(ranks)) == "roberta.encoder.layer.0.attention.self.query"


def test_delta_and_numbers_are_those_of_the_layers():
    model = in_peft(rank_pattern={"value": 2})
    nested = dk.nest_peft(model)
    name = "roberta.encoder.layer.1.attention.self.query"
    layer = model.base_model.model.get_submodule(name)
    torch.testing.assert_close(nested.delta(name, rank=R), layer.get_delta_weight("default"), **CLOSE)
    assert nested.num_parameters(3) == LAYERS * (3 + 2) * 2 * D
    assert nested.num_parameters(R) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert nested.config["rank_pattern"] == {f"roberta.encoder.layer.{i}.attention.self.value": 2 for i in range(2)}
    assert "4 layers, r=4" in repr(nested)


def test_dropout_is_applied_by_peft_and_recorded():
    model = in_peft(lora_dropout=0.5)
    nested = dk.nest_peft(model)
    assert nested.config["lora_dropout"] == 0.5
    layer = model.base_model.model.roberta.encoder.layer[0].attention.self.query.train()
    nested.rank = 2
    x = torch.randn(6, D)
    torch.manual_seed(3)
    got = layer(x)
    torch.manual_seed(3)
    adapter = nested.layers["roberta.encoder.layer.0.attention.self.query"]
    dropped = F.dropout(x, 0.5)
    torch.testing.assert_close(got, layer.base_layer(x) + dropped @ adapter.delta(2).T, **CLOSE)
    assert not torch.allclose(got, layer.eval()(x), atol=1e-2)


# What PEFT does still works


def test_save_pretrained_writes_what_it_wrote_before(tmp_path):
    model = in_peft(modules_to_save=["classifier"])
    model.save_pretrained(tmp_path / "before")
    names = list(model.state_dict())
    nested = dk.nest_peft(model)
    nested.rank = 1
    assert list(model.state_dict()) == names
    model.save_pretrained(tmp_path / "after")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "after" / file).read_bytes() == (tmp_path / "before" / file).read_bytes()
    loaded = PeftModel.from_pretrained(build("roberta"), tmp_path / "after").eval()
    nested.rank = R
    torch.testing.assert_close(logits(loaded, inputs("roberta")), logits(model, inputs("roberta")), **CLOSE)


def test_the_adapter_can_be_disabled_and_merged_by_peft():
    model, batch = in_peft(), inputs("roberta")
    nested = dk.nest_peft(model)
    wanted = logits(model, batch)
    nested.rank = 2
    with model.disable_adapter():
        assert torch.equal(logits(model, batch), logits(build("roberta"), batch))
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged, batch), wanted, **CLOSE)


def test_an_exported_head_is_the_trained_one(tmp_path):
    model = in_peft(modules_to_save=["classifier"])
    nested = dk.nest_peft(model)
    assert list(nested.saved_modules) == ["classifier"]
    with torch.no_grad():
        nested.saved_modules["classifier"].out_proj.bias.add_(1.0)
    nested.export_peft(tmp_path, rank=2)
    nested.rank = 2
    loaded = PeftModel.from_pretrained(build("roberta"), tmp_path).eval()
    torch.testing.assert_close(logits(loaded, inputs("roberta")), logits(model, inputs("roberta")), **CLOSE)


def test_our_own_format_is_written_too(tmp_path):
    model = in_peft(modules_to_save=["classifier"], rank_pattern={"value": 2}, lora_dropout=0.1)
    nested = dk.nest_peft(model)
    nested.save(tmp_path)
    fresh = build("roberta")
    loaded = dk.load(fresh, tmp_path)
    for b in range(1, R + 1):
        nested.rank = loaded.rank = b
        torch.testing.assert_close(logits(fresh, inputs("roberta")), logits(model, inputs("roberta")), **CLOSE)


def test_our_own_format_is_refused_where_layers_differ_in_alpha(tmp_path):
    nested = dk.nest_peft(in_peft(alpha_pattern={"value": 3}))
    with pytest.raises(ValueError, match=r"different values of lora_alpha \(3.0, 6.0\).*save_pretrained"):
        nested.save(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("how", ["pissa", "olora"])
def test_what_only_peft_brings_back_is_left_to_save_pretrained(tmp_path, how):
    nested = dk.nest_peft(in_peft(init_lora_weights=how))
    nested.rank = 2
    for write in (nested.save, nested.export_peft):
        with pytest.raises(ValueError, match=f"init_lora_weights = '{how}' changed the base model.*save_pretrained"):
            write(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_rank_above_the_layers_size_is_saved(tmp_path):
    model = in_peft(r=48)
    nested = dk.nest_peft(model)
    nested.rank = 40
    nested.save(tmp_path)
    again = build("roberta")
    dk.load(again, tmp_path).rank = 40
    torch.testing.assert_close(logits(again, inputs("roberta")), logits(model, inputs("roberta")), rtol=0, atol=1e-5)


@pytest.mark.parametrize("saved", ["lm_head", "wte"])
def test_pefts_copy_of_a_shared_weight_is_left_to_pefts_formats(tmp_path, saved):
    model = in_peft("gpt2", target_modules=["c_attn"], fan_in_fan_out=True, modules_to_save=[saved])
    nested = dk.nest_peft(model)
    with torch.no_grad():
        for module in nested.saved_modules.values():
            module.weight.add_(torch.randn_like(module.weight) * 0.3)
    with pytest.raises(ValueError, match="PEFT trains a copy of a weight that the base model shares"):
        nested.save(tmp_path / "ours")
    nested.rank = 2
    nested.export_peft(tmp_path / "peft")
    with calm():
        loaded = PeftModel.from_pretrained(build("gpt2"), tmp_path / "peft").eval()
    torch.testing.assert_close(logits(loaded, inputs("gpt2")), logits(model, inputs("gpt2")), **CLOSE)


def unload(model: PeftModel) -> None:
    model.merge_and_unload()


def second(model: PeftModel) -> None:
    model.add_adapter("other", LoraConfig(r=2, target_modules=QV))
    model.set_adapter("other")


BEHIND: dict[str, tuple[Any, str]] = {
    "merged": (lambda model: model.merge_adapter(), r"PEFT has merged adapters.*unmerge_adapter\(\)"),
    "unloaded": (unload, "PEFT has taken the adapter 'default' out of this model"),
    "deleted": (lambda model: model.delete_adapter("default"), "PEFT has taken the adapter 'default' out"),
    "another active": (second, "the adapter 'default' is not active in PEFT"),
    "switched off": (lambda model: model.base_model.disable_adapter_layers(), "'default' is not active in PEFT"),
}


@pytest.mark.parametrize(("change", "message"), BEHIND.values(), ids=BEHIND)
def test_a_rank_that_would_turn_nothing_is_refused(tmp_path, change, message):
    model = in_peft()
    nested = dk.nest_peft(model)
    change(model)
    uses = (lambda: setattr(nested, "rank", 1), lambda: nested.export_peft(tmp_path / "folder"), nested.check_usable)
    for use in uses:
        with pytest.raises(ValueError, match=message):
            use()
    assert not (tmp_path / "folder").exists()
    nested.detach()


def test_the_handle_works_again_once_peft_has_unmerged():
    model, batch = in_peft(), inputs("roberta")
    nested = dk.nest_peft(model)
    nested.rank = 1
    wanted = logits(model, batch)
    nested.rank = R
    model.merge_adapter()
    model.unmerge_adapter()
    nested.rank = 1
    torch.testing.assert_close(logits(model, batch), wanted, **CLOSE)


@pytest.mark.parametrize("rank", [1, 3], ids=str)
def test_detach_gives_pefts_forward_back(rank):
    model, batch = in_peft(modules_to_save=["classifier"]), inputs("roberta")
    before, wanted = picture(model), logits(model, batch)
    nested = dk.nest_peft(model)
    nested.rank = rank
    assert nested.detach() is model
    assert_same(picture(model), before)
    assert torch.equal(logits(model, batch), wanted)
    for use in (nested.detach, lambda: setattr(nested, "rank", 1), lambda: nested.export_peft("nowhere")):
        with pytest.raises(ValueError, match="detached"):
            use()
    assert not any("nested" in module.__dict__ for module in model.modules())
    again = dk.nest_peft(model)
    again.rank = rank
    assert not torch.allclose(logits(model, batch), wanted, atol=1e-3)


def test_a_copy_has_a_rank_and_weights_of_its_own():
    model, batch = in_peft(), inputs("roberta")
    nested = dk.nest_peft(model)
    nested.rank = 3
    wanted = logits(model, batch)
    twin, handle = copy.deepcopy((model, nested))
    handle.rank = 1
    assert not torch.allclose(logits(twin, batch), wanted, atol=1e-3)
    with torch.no_grad():
        for layer in handle.layers.values():
            layer.lora_B.zero_()
    torch.testing.assert_close(logits(twin, batch), logits(build("roberta"), batch), **CLOSE)
    assert nested.rank == 3
    assert torch.equal(logits(model, batch), wanted)


# Training


@pytest.mark.parametrize("frozen", [False, True], ids=["rows to b", "row b"])
def test_the_exact_optimizer_leaves_other_rows_bit_for_bit(frozen):
    model = in_peft(modules_to_save=["classifier"])
    nested = dk.nest_peft(model)
    optimizer = NestedAdamW(nested, lr=0.01, weight_decay=0.1)
    batch = inputs("roberta", 4) | {"labels": LABELS}

    def step(b: int) -> dict[str, Tensor]:
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        nested.rank = b
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        return {key: p.detach() != before[key] for key, p in model.named_parameters()}

    step(R)
    nested.frozen = frozen
    for b in (2, 1, 3):
        wanted = [row == b - 1 if frozen else row < b for row in range(R)]
        for key, changed in step(b).items():
            if "lora_" in key:
                assert changed.any(1 if "lora_A" in key else 0).tolist() == wanted
            else:
                assert bool(changed.any()) == ("modules_to_save" in key), key


@pytest.mark.parametrize("update", ["exact", "authors"])
def test_training_takes_the_steps_that_our_own_layers_take(update):
    histories, models = [], []
    peft_model = in_peft(modules_to_save=["classifier"])
    nested = dk.nest_peft(peft_model)
    plain, adapters = ours(nested, modules_to_save=["classifier"])
    for model, handle in ((peft_model, nested), (plain, adapters)):
        handle.rank = 3
        sampler = dk.RankSampler(dk.Uniform(1, R), seed=3)
        optimizer = NestedAdamW(handle, lr=0.01, weight_decay=0.1, update=update)
        options = {"sampler": sampler, "optimizer": optimizer, "steps": 8, "batch_size": 8, "progress": False}
        histories.append(dk.train(model, handle, examples(), **options))
        models.append(model.eval())
        assert handle.rank == 3
    assert histories[0]["rank"].tolist() == histories[1]["rank"].tolist()
    for name, layer in nested.layers.items():
        torch.testing.assert_close(layer.lora_A, adapters.layers[name].lora_A, rtol=1e-3, atol=2e-4)
        torch.testing.assert_close(layer.lora_B, adapters.layers[name].lora_B, rtol=1e-3, atol=2e-4)
    frames = [
        dk.sweep(model, h, examples(), progress=False) for model, h in zip(models, (nested, adapters), strict=True)
    ]
    assert frames[0]["rank"].tolist() == [1, 2, 3, 4]
    assert frames[0]["value"].tolist() == frames[1]["value"].tolist()
    outputs, _ = dk.predict(peft_model, nested, examples(), ranks=[1, 4])
    assert abs(outputs[1] - outputs[4]).max() > 0.01


def test_training_learns_and_can_be_saved_between(tmp_path):
    model = in_peft(modules_to_save=["classifier"])
    nested = dk.nest_peft(model)
    before = dk.sweep(model, nested, examples(), progress=False)["value"].mean()
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
    options = {"sampler": sampler, "lr": 0.01, "progress": False, "batch_size": 12, "checkpoint": tmp_path / "state"}
    dk.train(model, nested, examples(), steps=40, checkpoint_every=20, **options)
    assert dk.sweep(model, nested, examples(), progress=False)["value"].mean() > before + 0.1
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(build("roberta"), tmp_path / "adapter").eval()
    model.eval()
    torch.testing.assert_close(logits(loaded, inputs("roberta")), logits(model, inputs("roberta")), **CLOSE)


@pytest.mark.parametrize("name", ["roberta", "gpt2", "neox"])
@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_gradient_checkpointing_gives_the_same_gradients(name, reentrant):
    targets = {"roberta": QV, "gpt2": ["c_attn"], "neox": ["query_key_value"]}[name]
    gradients, calls = [], []
    for checkpointing in (False, True):
        model = in_peft(name, target_modules=targets, lora_dropout=0.2).train()
        nested = dk.nest_peft(model)
        nested.rank = 2
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        seen: list[int] = []
        calls.append(seen)
        first = next(module for module in model.modules() if isinstance(module, LoraLayer))
        first.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        torch.manual_seed(0)
        gradients.append(run(model, nested, inputs(name))[1])
    assert [len(seen) for seen in calls] == [1, 2]
    assert all(grad.any() for grad in gradients[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
def test_autocast_stays_close_to_peft_and_keeps_float32_gradients(name):
    model = in_peft(name, target_modules=["c_attn"] if name == "gpt2" else QV)
    batch = inputs(name, 4)
    exact = logits(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = logits(model, batch)
        nested = dk.nest_peft(model)
        got = logits(model, batch)
        assert got.dtype == theirs.dtype
        up = next(module for module in model.modules() if isinstance(module, LoraLayer)).lora_B["default"]
        assert up(torch.randn(2, D)).dtype == torch.bfloat16
        nested.rank = 2
        out = model(**batch).logits
        out.float().square().mean().backward()
    assert (got.float() - exact).abs().max() < 3 * (theirs.float() - exact).abs().max() + 1e-3
    torch.testing.assert_close(out.float(), logits(model, batch), rtol=0.1, atol=0.1)
    for layer in nested.layers.values():
        assert layer.lora_A.grad.dtype == torch.float32
        assert layer.lora_A.grad.any(1).tolist() == [True, True, False, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_base_keeps_pefts_float32_adapters(dtype):
    torch.manual_seed(1)
    model = get_peft_model(build("roberta").to(dtype), LoraConfig(r=R, lora_alpha=6, target_modules=QV)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.3)
    wanted = logits(model, inputs("roberta"))
    nested = dk.nest_peft(model)
    assert {p.dtype for p in nested.nested_parameters()} == {torch.float32}
    torch.testing.assert_close(logits(model, inputs("roberta")), wanted, rtol=0.02, atol=0.02)
    nested.rank = 1
    model(**inputs("roberta")).logits.float().sum().backward()
    for layer in nested.layers.values():
        assert layer.lora_B.grad.dtype == torch.float32
        assert layer.lora_B.grad.any(0).tolist() == [True, False, False, False]


class Int8Linear(nn.Linear):
    """A frozen linear layer whose weight is whole numbers and one scale per output, as quantised ones are."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.weight = nn.Parameter((linear.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


def quantised() -> nn.Module:
    model = build("roberta")
    for layer in model.roberta.encoder.layer:
        for name in QV:
            setattr(layer.attention.self, name, Int8Linear(getattr(layer.attention.self, name)))
    return model


def test_a_quantised_base_is_nested_as_it_is_attached_to():
    torch.manual_seed(1)
    model, batch = (
        get_peft_model(quantised(), LoraConfig(r=R, lora_alpha=6, target_modules=QV)).eval(),
        inputs("roberta"),
    )
    nested = dk.nest_peft(model)
    plain = quantised()
    adapters = dk.attach(plain, target_modules=QV, r=R, lora_alpha=6)
    assert torch.equal(logits(plain, batch), logits(model, batch))
    with torch.no_grad():
        for key, layer in nested.layers.items():
            layer.lora_B.normal_(std=0.3)
            adapters.layers[key].lora_A.copy_(layer.lora_A)
            adapters.layers[key].lora_B.copy_(layer.lora_B)
    for b in range(1, R + 1):
        nested.rank = adapters.rank = b
        got, grads = run(model, nested, batch)
        wanted, expected = run(plain, adapters, batch)
        torch.testing.assert_close(got, wanted, **CLOSE)
        torch.testing.assert_close(grads, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"cannot merge .*its weight is quantised \(torch.int8\)"):
        adapters.merge(rank=1)
    assert {p.dtype for p in adapters.nested_parameters()} == {torch.float32}


# The rest of the kit


def test_the_svd_cut_of_a_nested_model():
    model, batch = in_peft(), inputs("roberta")
    nested = dk.nest_peft(model)
    wanted = logits(model, batch)
    twin, cut = svd_cut(nested)
    torch.testing.assert_close(logits(twin, batch), wanted, rtol=1e-4, atol=1e-4)
    name = "roberta.encoder.layer.1.attention.self.value"
    u, s, vh = torch.linalg.svd(nested.delta(name, R))
    for b in range(1, R + 1):
        torch.testing.assert_close(cut.delta(name, b), u[:, :b] * s[:b] @ vh[:b], rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(model, batch), wanted)
    frames = [dk.ordering(handle) for handle in (nested, cut)]
    assert set(frames[0]["layer"]) == set(nested.layers)
    assert frames[1]["score"].min() > 0.999 > frames[0]["score"].min()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"layer.1.attention.self.value": 3}},
        {"modules_to_save": ["classifier"]},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_a_nested_model_is_ordered_in_place_and_peft_computes_and_saves_the_same(options, tmp_path):
    model, batch = in_peft(**options), inputs("roberta")
    wanted, before = logits(model, batch), {name: id(p) for name, p in model.named_parameters()}
    nested = dk.nest_peft(model)
    whole = {name: nested.delta(name, layer.r) for name, layer in nested.layers.items()}
    nested.order()
    torch.testing.assert_close(logits(model, batch), wanted, **CLOSE)
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert dk.ordering(nested)["score"].min() > 1 - 1e-5
    for name, layer in nested.layers.items():
        u, s, vh = torch.linalg.svd(whole[name])
        for b in range(1, layer.r + 1):
            torch.testing.assert_close(nested.delta(name, b), u[:, :b] * s[:b] @ vh[:b], **CLOSE)
    nested.rank = 2
    cut = logits(model, batch)
    nested.export_peft(tmp_path / "two", rank=2)
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(build("roberta"), tmp_path / "two"), batch), cut, **CLOSE
    )
    nested.detach()
    torch.testing.assert_close(logits(model, batch), wanted, **CLOSE)
    model.save_pretrained(tmp_path / "whole")
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(build("roberta"), tmp_path / "whole"), batch), wanted, **CLOSE
    )


def test_a_nested_model_does_not_grow():
    nested = dk.nest_peft(in_peft())
    with pytest.raises(ValueError, match="PEFT's layers keep their rank"):
        nested.grow(R + 2)


def test_the_explorer_turns_a_nested_model():
    widgets = importlib.import_module("dylora_kit.widgets.rank_explorer")
    model = in_peft(modules_to_save=["classifier"])
    nested = dk.nest_peft(model)
    views = ["accuracy", "matrices", "spectrum", "ordering"]
    explorer = widgets.RankExplorer(model, nested, examples(), views=views)
    pictures = []
    for b in (1, 2, R):
        explorer.slider.value = b
        assert nested.rank == b
        pictures.append(explorer.picture.value)
    assert len(set(pictures)) == 3


def test_several_handles_share_no_rank():
    first_model, second_model = (in_peft() for _ in range(2))
    first, second = dk.nest_peft(first_model), dk.nest_peft(second_model)
    wanted = logits(second_model, inputs("roberta"))
    first.rank = 1
    assert second.rank == R
    assert torch.equal(logits(second_model, inputs("roberta")), wanted)
    with pytest.raises(ValueError, match="belongs to another model"):
        dk.sweep(second_model, first, examples(), progress=False)


def test_layers_injected_without_a_peft_model_are_nested():
    from peft import inject_adapter_in_model

    model = build("roberta")
    inject_adapter_in_model(LoraConfig(r=R, lora_alpha=6, target_modules=QV, init_lora_weights=False), model)
    model.eval()
    nested = dk.nest_peft(model)
    assert "roberta.encoder.layer.0.attention.self.query" in nested.layers
    wanted = logits(model, inputs("roberta"))
    nested.rank = 1
    assert not torch.allclose(logits(model, inputs("roberta")), wanted, atol=1e-3)


def test_of_two_adapters_the_active_one_is_nested():
    model, batch = in_peft(), inputs("roberta")
    torch.manual_seed(9)
    model.add_adapter("other", LoraConfig(r=2, target_modules=["key"], init_lora_weights=False))
    model.set_adapter("other")
    nested = dk.nest_peft(model)
    assert nested.r == 2
    assert all(name.endswith(".key") for name in nested.layers)
    wanted = logits(model, batch)
    nested.rank = 1
    assert not torch.allclose(logits(model, batch), wanted, atol=1e-3)
    model.set_adapter("default")
    default = logits(model, batch)
    with pytest.raises(ValueError, match="'other' is not active in PEFT: call its set_adapter first"):
        nested.rank = 2
    model.set_adapter("other")
    nested.rank = 2
    assert torch.equal(logits(model, batch), wanted)
    assert not torch.allclose(default, wanted, atol=1e-3)


# What is refused


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv = nn.Linear(8, 6), nn.Conv1d(8, 4, 1)
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.conv(x.mT).sum() + self.attention(x, x, x)[0].sum()


def peft_of(model: nn.Module, **options: Any) -> PeftModel:
    with calm():
        return get_peft_model(model, LoraConfig(r=2, **options))


def two_active() -> nn.Module:
    model = in_peft()
    model.add_adapter("other", LoraConfig(r=2, target_modules=QV))
    model.base_model.set_adapter(["default", "other"])
    return model


def merged() -> nn.Module:
    model = in_peft()
    model.merge_adapter()
    return model


def nested() -> nn.Module:
    model = in_peft()
    model.handle = [dk.nest_peft(model)]
    return model


def switched_off() -> nn.Module:
    model = in_peft()
    model.base_model.disable_adapter_layers()
    return model


def no_scale() -> nn.Module:
    model = in_peft()
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    layers[-1].scaling["default"] = 0.0
    return model


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no PEFT": (lambda: build("roberta"), ValueError, "one LoRA adapter of PEFT is active: it has no LoRA layer"),
    "our own": (
        lambda: dk.attach(build("roberta"), target_modules=QV, r=2).model,
        ValueError,
        "it has adapters of this kit",
    ),
    "switched off": (switched_off, ValueError, r"are switched off: call PEFT's enable_adapter_layers\(\) first"),
    "DoRA": (lambda: in_peft(use_dora=True), ValueError, "query': it uses DoraLinearVariant"),
    "two active": (two_active, ValueError, r"2 are: \['default', 'other'\]"),
    "merged": (merged, ValueError, r"query' is merged into its base weight: call PEFT's unmerge_adapter\(\)"),
    "nested already": (nested, ValueError, r"nested already: call detach\(\)"),
    "scaled by 0": (no_scale, ValueError, "1.attention.self.value': PEFT scales it by 0.0"),
    "bias of lora_B": (lambda: in_peft(lora_bias=True), ValueError, "its lora_A or lora_B has a bias"),
    "biases": (lambda: in_peft(bias="lora_only"), ValueError, "bias = 'lora_only'"),
    "tokens": (lambda: in_peft(trainable_token_indices=[3]), ValueError, r"trainable_token_indices = \[3\]"),
    "embedding": (
        lambda: in_peft(target_modules=["query", "word_embeddings"]),
        TypeError,
        "word_embeddings': it adapts an embedding",
    ),
    "embedding alone": (lambda: in_peft(target_modules=["word_embeddings"]), TypeError, "it adapts an embedding"),
    "convolution": (lambda: peft_of(Mixed(), target_modules=["linear", "conv"]), TypeError, "lora_A is a Conv1d"),
    "parameter": (
        lambda: peft_of(Mixed(), target_modules=[], target_parameters=["linear.weight"]),
        TypeError,
        "ParamWrapper never calls lora_A and lora_B",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_nested_is_refused_and_the_model_left_as_it_was(make, error, message):
    model = make().train()
    before = picture(model)
    with pytest.raises(error, match=message):
        dk.nest_peft(model)
    assert_same(picture(model), before)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="expected a model with PEFT's LoRA layers: got a str"):
        dk.nest_peft("roberta-base")


def test_pefts_multihead_attention_is_refused_and_the_layers_before_it_left_as_they_were():
    model = peft_of(Mixed(), target_modules=["linear", "attention"]).train()  # whose state_dict() makes new parameters
    before = [(name, type(module)) for name, module in model.named_modules()]
    with pytest.raises(TypeError, match="MultiheadAttention never calls lora_A and lora_B"):
        dk.nest_peft(model)
    assert [(name, type(module)) for name, module in model.named_modules()] == before


def test_an_unknown_scaling_is_refused_and_the_model_left_as_it_was():
    model = in_peft()
    before = picture(model)
    with pytest.raises(ValueError, match="unknown scaling 'alpha'"):
        dk.nest_peft(model, scaling="alpha")
    assert_same(picture(model), before)


def test_merging_at_a_rank_is_left_to_peft():
    nested = dk.nest_peft(in_peft())
    with pytest.raises(ValueError, match=r"cannot be merged at a rank: use export_peft\(path, rank\)"):
        nested.merge(rank=2)
    assert not nested.merged


@pytest.mark.parametrize("rank", [0, R + 1, 1.5, torch.tensor([1, 9])], ids=str)
def test_a_bad_rank_is_refused_and_the_old_one_kept(rank):
    nested = dk.nest_peft(in_peft())
    nested.rank = 2
    with pytest.raises(ValueError, match="rank"):
        nested.rank = rank
    assert nested.rank == 2


def test_attaching_to_a_nested_model_is_refused():
    model = in_peft()
    dk.nest_peft(model)
    before = picture(model)
    with pytest.raises((ValueError, TypeError)):
        dk.attach(model, target_modules=QV, r=2)
    assert_same(picture(model), before)


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
def test_without_adapters_a_nested_model_is_the_base(name):
    options = {"modules_to_save": ["classifier"]} if name == "roberta" else {"target_modules": ["c_attn"]}
    model = in_peft(name, **options)
    nested = dk.nest_peft(model)
    with torch.no_grad():
        for module in nested.saved_modules.values():
            for parameter in module.parameters():
                parameter.add_(1.0)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    nested.rank = torch.tensor([1, 2, 1])
    trained, base = logits(model, inputs(name)), logits(build(name), inputs(name))
    with nested.disabled():
        torch.testing.assert_close(logits(model, inputs(name)), base, rtol=0, atol=0)
    assert torch.equal(logits(model, inputs(name)), trained)
    assert not torch.allclose(trained, base)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


def test_a_copy_of_a_nested_model_alone_has_a_handle_of_its_own():
    model = in_peft()
    nested = dk.nest_peft(model)
    twin = copy.deepcopy(model)
    handle_of(twin).rank = 1
    assert nested.rank == nested.r
    assert not torch.equal(logits(twin, inputs("roberta")), logits(model, inputs("roberta")))
    nested.rank = 1
    assert torch.equal(logits(twin, inputs("roberta")), logits(model, inputs("roberta")))


def test_beams_of_a_nested_model_have_the_rank_of_their_example():
    model = in_peft("gpt2", target_modules=["c_attn"])
    nested = dk.nest_peft(model)
    ids, ranks = inputs("gpt2")["input_ids"], torch.tensor([1, 2, 1])
    options = {"num_beams": 3, "max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    alone = []
    for example, rank in enumerate(ranks.tolist()):
        nested.rank = rank
        alone.append(model.generate(input_ids=ids[example : example + 1], **options))
    nested.rank = ranks
    assert torch.equal(model.generate(input_ids=ids, **options), torch.cat(alone))
