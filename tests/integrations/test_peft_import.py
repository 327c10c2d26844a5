"""Exchange with PEFT: an adapter does there what it does here, exported at any rank, and here what it did there."""

import copy
import json
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from architectures import ARCHITECTURES, CLASSIFIERS, FUSED, HEADS, KV, LAYERS, D, build, calm, inputs, logits, picture
from models import fill
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from toys import assert_same

import dylora_kit as dk
from dylora_kit.storage.adapter_files import CONFIG, WEIGHTS
from dylora_kit.storage.peft_files import KNOWN, NOT_CARRIED

R = 3
SCALINGS = ["alpha/b", "alpha/r", "alpha/sqrt(b)"]
CLOSE = {"rtol": 0.0, "atol": 1e-5}


def adapted(name: str, **options: Any) -> tuple[Any, dk.Adapters]:
    """A model with adapters, and a head where it has one, that are all random."""
    model = build(name)
    settings = {"target_modules": "attention", "r": R, "lora_alpha": 3}
    settings |= {"modules_to_save": ["classifier"]} if name in CLASSIFIERS else {}
    adapters = dk.attach(model, **settings | options)
    fill(adapters)
    torch.manual_seed(5)
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.mul_(2 if name in ("distilbert", "deberta", "bert") else 1)
        for module in adapters.saved_modules.values():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model, adapters


def in_peft(name: str, folder: Path) -> peft.PeftModel:
    """A fresh model with the adapter of a folder, loaded by PEFT alone."""
    with calm():
        model = peft.PeftModel.from_pretrained(build(name), folder)
    return model.eval()


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG).read_text())


def assert_peft_agrees(name: str, folder: Path, wanted: Tensor) -> peft.PeftModel:
    loaded, batch = in_peft(name, folder), inputs(name)
    torch.testing.assert_close(logits(loaded, batch), wanted, **CLOSE)
    return loaded


# Export


@pytest.mark.parametrize("b", range(1, R + 1))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_peft_gives_the_same_logits_at_every_rank(tmp_path, name, b):
    model, adapters = adapted(name)
    batch = inputs(name)
    adapters.export_peft(tmp_path, rank=b)
    adapters.rank = b
    wanted = logits(model, batch)
    assert 0.1 < wanted.std() < 5
    assert (wanted - logits(build(name), batch)).abs().max() > 0.05
    assert_peft_agrees(name, tmp_path, wanted)
    for other in {1, 2, 3} - {b}:
        adapters.rank = other
        assert (logits(model, batch) - wanted).abs().max() > 0.005


@pytest.mark.parametrize("b", range(1, R + 1))
@pytest.mark.parametrize("name", ["roberta", *FUSED])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("serving", [False, True], ids=["plain", "serving"])
def test_every_scaling_is_written_as_peft_reads_it(tmp_path, name, scaling, b, serving):
    model, adapters = adapted(name, scaling=scaling, modules_to_save=[])
    adapters.export_peft(tmp_path, rank=b, serving=serving)
    adapters.rank = b
    loaded = assert_peft_agrees(name, tmp_path, logits(model, inputs(name)))
    config, width = config_of(tmp_path), 2 * b if name in FUSED else b
    alpha = {"alpha/b": 3, "alpha/r": 3 * b / R, "alpha/sqrt(b)": 3}[scaling]
    alpha *= width / b if scaling != "alpha/sqrt(b)" else (width / b) ** 0.5
    rslora = scaling == "alpha/sqrt(b)"
    if serving:
        alpha, rslora = width, False
    assert (config["r"], config["use_rslora"]) == (width, rslora)
    assert config["lora_alpha"] == pytest.approx(alpha)
    assert not config["rank_pattern"] and not config["alpha_pattern"]
    assert all(layer.r["default"] == width for layer in loaded.modules() if isinstance(layer, peft.tuners.lora.Linear))


@pytest.mark.parametrize("name", ["roberta", *FUSED, "t5"])
def test_pefts_merge_and_unload_is_our_merge(tmp_path, name):
    model, adapters = adapted(name)
    adapters.export_peft(tmp_path, rank=2)
    adapters.merge(rank=2)
    theirs = in_peft(name, tmp_path).merge_and_unload()
    torch.testing.assert_close(logits(theirs, inputs(name)), logits(model, inputs(name)), **CLOSE)
    for wrapper in adapters.wrappers:
        key = next(key for key, module in model.named_modules() if module is wrapper)
        torch.testing.assert_close(theirs.get_submodule(key).weight, wrapper.weight, rtol=0, atol=1e-6)
        assert (theirs.get_submodule(key).weight - wrapper._original).abs().max() > 0.01


@pytest.mark.parametrize("name", FUSED)
def test_a_fused_projection_is_exported_in_blocks(tmp_path, name):
    _, adapters = adapted(name)
    adapters.export_peft(tmp_path, rank=2)
    tensors = load_file(tmp_path / WEIGHTS)
    key = next(iter(adapters.layers)).rpartition(".")[0]
    A, B = (tensors[f"base_model.model.{key}.lora_{letter}.weight"] for letter in "AB")
    q, v = adapters.layers[f"{key}.q"], adapters.layers[f"{key}.v"]
    assert torch.equal(A, torch.cat([q.lora_A[:2], v.lora_A[:2]]))
    assert B.shape == (D + 2 * (KV if name == "phi3" else D), 4)
    size = D // HEADS
    outputs = {"gpt2": (range(D), range(2 * D, 3 * D)), "phi3": (range(D), range(D + KV, D + 2 * KV))}
    if name == "neox":
        of = [[3 * size * head + place + i for head in range(HEADS) for i in range(size)] for place in (0, 2 * size)]
        outputs["neox"] = (of[0], of[1])
    wanted = torch.zeros_like(B)
    wanted[list(outputs[name][0]), :2] = q.lora_B[:, :2].detach()
    wanted[list(outputs[name][1]), 2:] = v.lora_B[:, :2].detach()
    assert torch.equal(B, wanted)
    assert len(tensors) == 2 * LAYERS


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("serving", [False, True], ids=["plain", "serving"])
@pytest.mark.parametrize("name", ["roberta", "gpt2", "neox"])
def test_ranks_per_layer_and_per_part(tmp_path, name, scaling, serving):
    _, probe = adapted(name)
    names = list(probe.layers)
    pattern = {names[0]: 1, names[3]: 5}
    model, adapters = adapted(name, scaling=scaling, rank_pattern=pattern, modules_to_save=[])
    adapters.rank = 2
    ranks = dict(zip(names, (1, 3, 2, 5), strict=True))
    adapters.export_peft(tmp_path, rank=ranks, serving=serving)
    assert adapters.rank == 2
    config = config_of(tmp_path)
    widths = list(ranks.values()) if name == "roberta" else [1 + 3, 2 + 5]
    exported = [len(tensor) for key, tensor in sorted(load_file(tmp_path / WEIGHTS).items()) if "lora_A" in key]
    assert exported == ([max(widths)] * len(widths) if serving else widths)
    assert bool(config["rank_pattern"]) != serving
    with adapters.at(ranks):
        assert_peft_agrees(name, tmp_path, logits(model, inputs(name)))


def test_the_active_rank_is_exported_by_default_and_kept(tmp_path):
    model, adapters = adapted("roberta")
    for b in (2, {name: index % R + 1 for index, name in enumerate(adapters.layers)}):
        adapters.rank = b
        adapters.export_peft(tmp_path / str(type(b)))
        assert adapters.rank == b
        assert_peft_agrees("roberta", tmp_path / str(type(b)), logits(model, inputs("roberta")))


def test_layers_with_a_maximum_below_the_rank_are_exported_at_it(tmp_path):
    model, adapters = adapted("gpt2", rank_pattern={"c_attn.q": 1})
    adapters.export_peft(tmp_path, rank=3)
    assert config_of(tmp_path)["r"] == 4
    assert_peft_agrees("gpt2", tmp_path, logits(model, inputs("gpt2")))


@pytest.mark.parametrize("serving", [False, True], ids=["plain", "serving"])
def test_modules_to_save_are_exported_unless_for_serving(tmp_path, serving):
    model, adapters = adapted("gpt2-score", modules_to_save=["score", "h.1.ln_2"])
    batch = inputs("gpt2-score")
    adapters.export_peft(tmp_path, serving=serving)
    heads = {key for key in load_file(tmp_path / WEIGHTS) if "lora" not in key}
    if serving:
        assert config_of(tmp_path)["modules_to_save"] is None
        assert heads == set()
        fresh = build("gpt2-score")
        model.score.load_state_dict(fresh.score.state_dict())
        model.transformer.h[1].ln_2.load_state_dict(fresh.transformer.h[1].ln_2.state_dict())
    else:
        assert heads == {
            "base_model.model.score.weight",
            "base_model.model.transformer.h.1.ln_2.weight",
            "base_model.model.transformer.h.1.ln_2.bias",
        }
    assert_peft_agrees("gpt2-score", tmp_path, logits(model, batch))


class Nest(nn.Module):
    """Two layers, of which the name of one ends that of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 5)
        self.inner = nn.ModuleDict({"up": nn.Linear(5, 7)})

    def forward(self, x: Tensor) -> Tensor:
        return self.inner["up"](self.up(x))


def test_peft_adapts_no_module_whose_name_ends_like_that_of_an_adapted_one(tmp_path):
    torch.manual_seed(0)
    model = Nest()
    plain, x = copy.deepcopy(model), torch.randn(4, 6)
    adapters = dk.attach(model, target_modules="up", r=4)
    fill(adapters)
    adapters.export_peft(tmp_path, rank=2)
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(plain), tmp_path)
    assert [name for name, part in loaded.named_modules() if hasattr(part, "lora_A")] == ["base_model.model.up"]
    with adapters.at(2):
        torch.testing.assert_close(loaded(x), model(x), **CLOSE)
    imported = dk.import_peft(copy.deepcopy(plain), tmp_path)
    assert list(imported.layers) == ["up"]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_name_that_ends_another_gets_its_own_rank_and_alpha(tmp_path, scaling):
    torch.manual_seed(0)
    model = Nest()
    plain, x = copy.deepcopy(model), torch.randn(4, 6)
    adapters = dk.attach(model, target_modules=["up"], r=4, scaling=scaling)
    fill(adapters)
    for ranks in ({"up": 2, "inner.up": 3}, {"up": 3, "inner.up": 1}):
        adapters.export_peft(tmp_path, rank=ranks)
        assert bool(config_of(tmp_path)["alpha_pattern"]) == (scaling == "alpha/r")
        loaded = peft.PeftModel.from_pretrained(copy.deepcopy(plain), tmp_path)
        imported = copy.deepcopy(plain)
        assert {name: layer.r for name, layer in dk.import_peft(imported, tmp_path).layers.items()} == ranks
        with adapters.at(ranks):
            torch.testing.assert_close(loaded(x), model(x), **CLOSE)
            torch.testing.assert_close(imported(x), model(x), **CLOSE)


@pytest.mark.parametrize(("name", "transposed"), [("gpt2", True), ("roberta", False)])
def test_the_config_says_whether_weights_are_transposed_and_peft_has_nothing_to_mend(tmp_path, name, transposed):
    _, adapters = adapted(name, modules_to_save=[])
    adapters.export_peft(tmp_path)
    assert config_of(tmp_path)["fan_in_fan_out"] == transposed
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="fan_in_fan_out")
        peft.PeftModel.from_pretrained(build(name), tmp_path)


def test_a_folder_of_ours_is_exported_over_and_holds_two_files(tmp_path):
    model, adapters = adapted("roberta")
    adapters.save(tmp_path)
    adapters.export_peft(tmp_path, rank=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, WEIGHTS]
    assert "dylora" not in config_of(tmp_path)
    adapters.rank = 1
    assert_peft_agrees("roberta", tmp_path, logits(model, inputs("roberta")))


def test_exporting_leaves_the_model_alone(tmp_path):
    model, adapters = adapted("phi3")
    adapters.rank = 2
    before = picture(model)
    adapters.export_peft(tmp_path, rank=1, serving=True)
    assert_same(picture(model), before)
    assert adapters.rank == 2


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(tmp_path):
    _, adapters = adapted("gpt2")
    folder = tmp_path / "folder"
    for rank, message in [
        (0, "rank 0 is out of range: expected 1 to 3"),
        (4, "rank 4 is out of range"),
        (1.5, "whole number"),
        ({"transformer.h.0.attn.c_attn.q": 1}, "gives no rank for 'transformer.h.0.attn.c_attn.v'"),
        (torch.tensor([1, 2]), r"export_peft\(path, rank=3\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            adapters.export_peft(folder, rank=rank)
    adapters.rank = torch.tensor([1, 2])
    with pytest.raises(ValueError, match=r"each example has its own rank"):
        adapters.export_peft(folder)
    adapters.merge(rank=2)
    with pytest.raises(ValueError, match=r"call unmerge\(\) before exporting"):
        adapters.export_peft(folder)
    adapters.unmerge()
    with torch.no_grad():
        adapters.layers["transformer.h.0.attn.c_attn.v"].lora_B[0, 2] = torch.nan
    with pytest.raises(ValueError, match=r"not finite: there are some in 'transformer.h.0.attn.c_attn.lora_B"):
        adapters.export_peft(folder, rank=3)
    assert not folder.exists()
    adapters.export_peft(folder, rank=2)  # which does not read the third column
    adapters.detach()
    with pytest.raises(ValueError, match="detached"):
        adapters.export_peft(folder, rank=2)


# Import


def peft_saved(name: str, folder: Path, **options: Any) -> peft.PeftModel:
    """An adapter made and saved by PEFT alone, with every weight of it random."""
    torch.manual_seed(2)
    with calm():
        model = peft.get_peft_model(build(name), peft.LoraConfig(**options)).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_B" in key:
                    parameter.normal_(std=0.3)
                elif "modules_to_save" in key:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        model.save_pretrained(folder)
    return model


QV = ["query", "value"]
MADE_BY_PEFT: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("roberta", {"target_modules": QV, "r": 4, "lora_alpha": 6}),
    "rslora": ("roberta", {"target_modules": QV, "r": 4, "lora_alpha": 6, "use_rslora": True}),
    "rank_pattern": ("roberta", {"target_modules": QV, "r": 4, "rank_pattern": {"value": 2, r"1\..*query": 6}}),
    "alpha_pattern": ("roberta", {"target_modules": QV, "r": 4, "alpha_pattern": {"layer.0.attention.self.value": 3}}),
    "both patterns, rslora": (
        "llama",
        {
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "r": 4,
            "use_rslora": True,
            "rank_pattern": {"v_proj": 2, "^model.layers.0.mlp.down_proj": 7},
            "alpha_pattern": {"q_proj": 3, "down_proj": 20},
        },
    ),
    "head": ("bert", {"target_modules": QV, "modules_to_save": ["classifier"]}),
    "head by task": ("gpt2-score", {"target_modules": ["c_attn"], "task_type": "SEQ_CLS"}),
    "two heads by one name": ("distilbert", {"target_modules": ["q_lin"], "modules_to_save": ["classifier"]}),
    "fused": ("gpt2", {"target_modules": ["c_attn"], "r": 5, "lora_alpha": 7}),
    "fused and Conv1D": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "rank_pattern": {"c_attn": 3}}),
    "neox": ("neox", {"target_modules": ["query_key_value"], "r": 4}),
    "all linear": ("t5", {"target_modules": "all-linear", "r": 2, "lora_alpha": 1}),
    "expression": ("bart", {"target_modules": r".*decoder.*(k|out)_proj", "r": 2, "lora_alpha": 2}),
    "chosen layers": ("opt", {"target_modules": ["q_proj"], "layers_to_transform": [1], "r": 4}),
    "dropout": ("vit", {"target_modules": ["q_proj"], "lora_dropout": 0.3, "modules_to_save": ["classifier"]}),
    "gaussian": ("deberta", {"target_modules": ["query_proj"], "init_lora_weights": "gaussian"}),
}


@pytest.mark.parametrize(("name", "options"), MADE_BY_PEFT.values(), ids=MADE_BY_PEFT)
def test_an_adapter_of_peft_gives_pefts_logits(tmp_path, name, options):
    theirs = peft_saved(name, tmp_path, **options)
    model, batch = build(name), inputs(name)
    plain = logits(model, batch)
    adapters = dk.import_peft(model, tmp_path)
    wanted = logits(theirs, batch)
    torch.testing.assert_close(logits(model, batch), wanted, rtol=1e-6, atol=1e-5)
    assert (wanted - plain).abs().max() > 0.01
    layers = {
        key.removeprefix("base_model.model."): layer.r["default"]
        for key, layer in theirs.named_modules()
        if isinstance(layer, peft.tuners.lora.LoraLayer)
    }
    assert {key: layer.r for key, layer in adapters.layers.items()} == layers
    assert adapters.rank == adapters.r == max(layers.values())
    assert adapters.scaling == ("alpha/sqrt(b)" if options.get("use_rslora") else "alpha/b")
    assert adapters.config["lora_dropout"] == options.get("lora_dropout", 0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    adapters.rank = 1
    assert not torch.allclose(logits(model, batch), wanted, atol=1e-3)
    adapters.export_peft(tmp_path / "back", rank=adapters.r)
    torch.testing.assert_close(logits(in_peft(name, tmp_path / "back"), batch), wanted, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("rslora", [False, True], ids=["alpha/r", "rslora"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_scaling_can_be_chosen_for_the_lower_ranks(tmp_path, rslora, scaling):
    theirs = peft_saved("roberta", tmp_path, target_modules=QV, r=4, lora_alpha=6, use_rslora=rslora)
    model = build("roberta")
    adapters = dk.import_peft(model, tmp_path, scaling=scaling)
    assert adapters.scaling == scaling
    torch.testing.assert_close(logits(model, inputs("roberta")), logits(theirs, inputs("roberta")), **CLOSE)
    name = "roberta.encoder.layer.0.attention.self.query"
    peft_layer = theirs.base_model.model.get_submodule(name)
    A, B = peft_layer.lora_A["default"].weight, peft_layer.lora_B["default"].weight
    scale = peft_layer.scaling["default"] * {"alpha/b": 4.0, "alpha/r": 1.0, "alpha/sqrt(b)": 2.0}[scaling]
    torch.testing.assert_close(adapters.delta(name, rank=1), scale * B[:, :1] @ A[:1], rtol=1e-5, atol=1e-6)


def test_an_imported_fused_projection_stays_one_layer_and_is_saved_and_merged_so(tmp_path):
    peft_saved("gpt2", tmp_path, target_modules=["c_attn"], r=4)
    model = build("gpt2")
    adapters = dk.import_peft(model, tmp_path)
    assert list(adapters.layers) == [f"transformer.h.{i}.attn.c_attn" for i in range(LAYERS)]
    assert adapters.delta("transformer.h.0.attn.c_attn").shape == (3 * D, D)
    adapters.save(tmp_path / "ours")
    fresh = build("gpt2")
    dk.load(fresh, tmp_path / "ours")
    wanted = logits(model, inputs("gpt2"))
    assert torch.equal(logits(fresh, inputs("gpt2")), wanted)
    adapters.merge()
    torch.testing.assert_close(logits(model, inputs("gpt2")), wanted, **CLOSE)


def test_half_precision_files_are_read_into_float32(tmp_path):
    theirs = peft_saved("roberta", tmp_path, target_modules=QV, r=4)
    half = {key: tensor.bfloat16() for key, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file(half, tmp_path / WEIGHTS)
    model = build("roberta")
    adapters = dk.import_peft(model, tmp_path)
    assert {p.dtype for p in adapters.nested_parameters()} == {torch.float32}
    torch.testing.assert_close(
        logits(model, inputs("roberta")), logits(theirs, inputs("roberta")), rtol=0.05, atol=0.05
    )


def test_an_imported_adapter_is_trained_on(tmp_path):
    peft_saved("roberta", tmp_path, target_modules=QV, r=4, modules_to_save=["classifier"])
    model = build("roberta")
    adapters = dk.import_peft(model, tmp_path)
    data = [
        {"input_ids": ids, "labels": torch.tensor(i % 2)} for i, ids in enumerate(inputs("roberta", 16)["input_ids"])
    ]
    before = dk.sweep(model, adapters, data, progress=False)
    sampler = dk.RankSampler(dk.Uniform(1, 4), seed=0)
    dk.train(model, adapters, data, sampler=sampler, steps=60, batch_size=16, lr=0.01, progress=False)
    after = dk.sweep(model, adapters, data, progress=False)
    assert after["rank"].tolist() == [1, 2, 3, 4]
    assert after["value"].mean() > before["value"].mean() + 0.1


# Weights that several modules share


SHARED = {  # name of the architecture, what is trained along
    "gpt2 head": ("gpt2", "lm_head"),
    "gpt2 embeddings": ("gpt2", "wte"),
    "t5 head": ("t5", "lm_head"),
    "t5 embeddings": ("t5", "shared"),
}


@pytest.mark.parametrize(("name", "saved"), SHARED.values(), ids=SHARED)
def test_a_shared_weight_that_was_trained_along_is_the_same_under_peft(tmp_path, name, saved):
    model = build(name)
    adapters = dk.attach(model, r=4, target_modules="attention", modules_to_save=[saved])
    fill(adapters)
    with torch.no_grad():
        for module in adapters.saved_modules.values():
            module.weight.add_(torch.randn_like(module.weight) * 0.3)
    adapters.rank = 2
    adapters.export_peft(tmp_path)
    with calm():
        loaded = peft.PeftModel.from_pretrained(build(name), tmp_path).eval()
    torch.testing.assert_close(logits(loaded, inputs(name)), logits(model, inputs(name)), rtol=0, atol=1e-5)
    again = build(name)
    dk.import_peft(again, tmp_path)
    torch.testing.assert_close(logits(again, inputs(name)), logits(model, inputs(name)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("saved", ["lm_head", "wte"])
def test_pefts_own_copy_of_a_shared_weight_is_refused_until_it_is_shared_no_more(tmp_path, saved):
    theirs = peft_saved("gpt2", tmp_path, target_modules=["c_attn"], r=3, fan_in_fan_out=True, modules_to_save=[saved])
    model = build("gpt2")
    before = picture(model)
    with pytest.raises(
        ValueError, match=r"this model shares between .*wte.weight and lm_head.weight: give each a copy"
    ):
        dk.import_peft(model, tmp_path)
    assert_same(picture(model), before)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    dk.import_peft(model, tmp_path)
    torch.testing.assert_close(logits(model, inputs("gpt2")), logits(theirs, inputs("gpt2")), rtol=0, atol=1e-5)


def kept_tied_by_peft(name: str, folder: Path, **options: Any) -> tuple[Any, Any]:
    """A model that ties its embeddings, and the same as PEFT adapted and saved it under ensure_weight_tying."""
    config = copy.deepcopy(build(name).config)
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    model = type(build(name))(config).eval()
    with calm():
        settings = peft.LoraConfig(r=2, ensure_weight_tying=True, **options)
        theirs = peft.get_peft_model(copy.deepcopy(model), settings).eval()
        with torch.no_grad():
            for parameter in theirs.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        theirs.save_pretrained(folder)
    return model, theirs


@pytest.mark.parametrize("name", ["llama", "phi3"])
def test_weights_that_peft_keeps_tied_are_read_into_a_model_that_ties_them(tmp_path, name):
    target = {"llama": "q_proj", "phi3": "qkv_proj"}[name]
    model, theirs = kept_tied_by_peft(name, tmp_path, target_modules=[target], modules_to_save=["embed_tokens"])
    again = copy.deepcopy(model)
    adapters = dk.import_peft(model, tmp_path)
    torch.testing.assert_close(logits(model, inputs(name)), logits(theirs, inputs(name)), **CLOSE)
    adapters.save(tmp_path / "ours")
    dk.load(again, tmp_path / "ours")
    torch.testing.assert_close(logits(again, inputs(name)), logits(theirs, inputs(name)), **CLOSE)


def test_weights_that_peft_was_to_keep_tied_and_did_not_are_refused(tmp_path):
    options = {"target_modules": ["c_proj"], "modules_to_save": ["wte"], "fan_in_fan_out": True}
    model, theirs = kept_tied_by_peft("gpt2", tmp_path, **options)
    before = picture(model)
    assert not torch.equal(theirs.get_output_embeddings().weight, theirs.get_input_embeddings().weight)
    with pytest.raises(ValueError, match=r"wte.weight' alone, which this model shares between"):
        dk.import_peft(model, tmp_path)
    assert_same(picture(model), before)


class Head(nn.Module):
    """A bias that is also that of the layer inside, as in BERT's language models."""

    def __init__(self) -> None:
        super().__init__()
        self.transform, self.decoder = nn.Linear(6, 6), nn.Linear(6, 5)
        self.bias = self.decoder.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.transform(x)))


def with_head() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(OrderedDict(body=nn.Linear(6, 6), head=Head()))


def test_of_modules_one_inside_another_peft_gets_the_outer_one(tmp_path):
    model, x = with_head(), torch.randn(4, 6)
    adapters = dk.attach(model, r=2, target_modules=["body"], modules_to_save=["decoder"])
    fill(adapters)
    with torch.no_grad():
        model.head.decoder.weight.add_(1)
        model.head.bias.add_(1)
    adapters.export_peft(tmp_path)
    assert config_of(tmp_path)["modules_to_save"] == ["head"]
    with calm():
        opened = peft.PeftModel.from_pretrained(with_head(), tmp_path)
    torch.testing.assert_close(opened(x), model(x), **CLOSE)
    again = with_head()
    dk.import_peft(again, tmp_path)
    torch.testing.assert_close(again(x), model(x), **CLOSE)


NOT_OPENABLE: dict[str, tuple[Any, list[str], list[str], str]] = {
    "an adapter inside": (
        with_head,
        ["transform"],
        ["decoder"],
        "copy of 'head', which has adapters inside, in 'trans",
    ),
    "a name that ends like that of the outer one": (
        lambda: nn.Sequential(OrderedDict(body=nn.Linear(6, 6), head=nn.Sequential(OrderedDict(head=nn.Linear(6, 5))))),
        ["body"],
        ["head"],
        "PEFT takes 'head.head' too where 'head' is meant",
    ),
}


@pytest.mark.parametrize(("make", "targets", "saved", "message"), NOT_OPENABLE.values(), ids=NOT_OPENABLE)
def test_what_peft_could_not_open_is_not_exported(tmp_path, make, targets, saved, message):
    adapters = dk.attach(make(), r=2, target_modules=targets, modules_to_save=saved)
    with pytest.raises(ValueError, match=f"cannot export: .*{message}"):
        adapters.export_peft(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    adapters.export_peft(tmp_path / "folder", serving=True)


@pytest.mark.parametrize("head", [True, False], ids=["head", "no head"])
@pytest.mark.parametrize("nested", [False, True], ids=["ours", "nested"])
def test_pefts_auto_classes_open_an_export(tmp_path, nested, head):
    build("roberta").save_pretrained(tmp_path / "base")
    model = type(build("roberta")).from_pretrained(tmp_path / "base").eval()
    saved = ["classifier"] if head else []
    if nested:
        with calm():
            config = peft.LoraConfig(target_modules=QV, r=4, modules_to_save=saved)
            adapters = dk.nest_peft(peft.get_peft_model(model, config).eval())
    else:
        adapters = dk.attach(model, r=4, target_modules=QV, modules_to_save=saved)
    fill(adapters)
    adapters.rank = 2
    adapters.export_peft(tmp_path / "export")
    assert config_of(tmp_path / "export")["base_model_name_or_path"] == str(tmp_path / "base")
    opener = peft.AutoPeftModelForSequenceClassification if head else peft.AutoPeftModel
    with calm():
        opened = opener.from_pretrained(tmp_path / "export").eval()
    torch.testing.assert_close(
        logits(opened, inputs("roberta")), logits(adapters.model, inputs("roberta")), rtol=0, atol=1e-5
    )


def test_one_module_under_two_names_is_not_exported(tmp_path):
    model = nn.Module()
    model.a = model.b = nn.Linear(6, 5)
    adapters = dk.attach(model, r=2, target_modules=["a"])
    with pytest.raises(ValueError, match="'a' and 'b' are one module, of which PEFT would adapt one name alone"):
        adapters.export_peft(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_name_on_the_hub_has_to_be_fetched_first():
    with pytest.raises(FileNotFoundError, match=r"no folder user/adapter: .*huggingface_hub.snapshot_download first"):
        dk.import_peft(build("roberta"), "user/adapter")


# What is refused


NOT_LORA: dict[str, tuple[str, Any, str]] = {
    "DoRA": ("roberta", peft.LoraConfig(target_modules=QV, use_dora=True), "use_dora = True"),
    "biases": ("roberta", peft.LoraConfig(target_modules=QV, bias="all"), "bias = 'all'"),
    "biases of LoRA layers": ("roberta", peft.LoraConfig(target_modules=QV, bias="lora_only"), "bias = 'lora_only'"),
    "bias of lora_B": ("roberta", peft.LoraConfig(target_modules=QV, lora_bias=True), "lora_bias = True"),
    "pissa": ("roberta", peft.LoraConfig(target_modules=QV, init_lora_weights="pissa"), "init_lora_weights = 'pissa'"),
    "olora": ("roberta", peft.LoraConfig(target_modules=QV, init_lora_weights="olora"), "init_lora_weights = 'olora'"),
    "embedding": (
        "roberta",
        peft.LoraConfig(target_modules=["query", "word_embeddings"]),
        "holds 'roberta.embeddings.word_embeddings.lora_embedding_A': only adapters of linear layers",
    ),
    "embedding alone": ("roberta", peft.LoraConfig(target_modules=["word_embeddings"]), "word_embeddings.lora_embed"),
    "convolution": (
        "vit",
        peft.LoraConfig(target_modules=["q_proj", "projection"]),
        "projection.lora_A.weight': only adapters of linear layers",
    ),
    "tokens": ("roberta", peft.LoraConfig(target_modules=QV, trainable_token_indices=[3]), "trainable_token_indices"),
    "parameter": (
        "roberta",
        peft.LoraConfig(target_modules=[], target_parameters=["query.weight"]),
        r"target_parameters = \['query.weight'\]",
    ),
    "IA3": (
        "roberta",
        peft.IA3Config(target_modules=QV, feedforward_modules=[]),
        "is of type 'IA3': only LORA adapters can be imported",
    ),
    "LoHa": ("roberta", peft.LoHaConfig(target_modules=QV), "is of type 'LOHA'"),
}


@pytest.mark.parametrize(("name", "config", "message"), NOT_LORA.values(), ids=NOT_LORA)
def test_what_is_not_carried_is_refused_by_name(tmp_path, name, config, message):
    with calm():
        peft.get_peft_model(build(name), copy.deepcopy(config)).save_pretrained(tmp_path)
    model = build(name)
    before = picture(model)
    with pytest.raises(ValueError, match=message):
        dk.import_peft(model, tmp_path)
    assert_same(picture(model), before)


def set_config(folder: Path, **change: Any) -> None:
    (folder / CONFIG).write_text(json.dumps(config_of(folder) | change))


def drop_alpha(folder: Path) -> None:
    content = config_of(folder)
    del content["lora_alpha"]
    (folder / CONFIG).write_text(json.dumps(content))


def set_tensors(folder: Path, change: dict[str, Tensor | None]) -> None:
    tensors = {PREFIX + key: tensor for key, tensor in change.items()}
    tensors = load_file(folder / WEIGHTS) | tensors
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, folder / WEIGHTS)


PREFIX = "base_model.model."
ONE = "roberta.encoder.layer.1.attention.self.value"
HEAD = "classifier.out_proj.bias"
FAULTS: dict[str, tuple[Any, str]] = {
    "no config": (lambda f: (f / CONFIG).unlink(), "there is no adapter_config.json in"),
    "no tensors": (lambda f: (f / WEIGHTS).unlink(), "there is no adapter_model.safetensors in"),
    "truncated config": (lambda f: (f / CONFIG).write_text((f / CONFIG).read_text()[:-9]), "is damaged or no JSON"),
    "truncated tensors": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]), "is damaged"),
    "list config": (lambda f: (f / CONFIG).write_text("[]"), "holds a list"),
    "no type": (lambda f: set_config(f, peft_type=None), "is of type None"),
    "no alpha": (drop_alpha, "lora_alpha = None: expected a number"),
    "alpha as text": (lambda f: set_config(f, lora_alpha="8"), "lora_alpha = '8': expected a number greater than 0"),
    "alpha 0": (lambda f: set_config(f, lora_alpha=0), "lora_alpha = 0: expected a number greater than 0"),
    "pattern as text": (lambda f: set_config(f, alpha_pattern={"value": "8"}), "lora_alpha = '8'"),
    "pattern as a list": (lambda f: set_config(f, alpha_pattern=["value"]), r"alpha_pattern = \['value'\]"),
    "pattern no expression": (lambda f: set_config(f, alpha_pattern={"(value": 8}), "alpha_pattern"),
    "dropout as text": (lambda f: set_config(f, lora_dropout="some"), "lora_dropout"),
    "a field nobody knows": (
        lambda f: set_config(f, use_new_forward=True),
        "uses use_new_forward = True, which this kit",
    ),
    "a setting nobody knows": (
        lambda f: set_config(f, forward_config={"k": 1}),
        "uses forward_config = {'k': 1}, which",
    ),
    "α beyond floats": (
        lambda f: set_config(f, lora_alpha=10**400),
        "lora_alpha = 1000.*…: expected a number greater than 0, and finite",
    ),
    "an α beyond floats for one layer": (
        lambda f: set_config(f, alpha_pattern={"value": 10**400}),
        "lora_alpha = 1000.*…: expected a number greater than 0, and finite",
    ),
    "two α too far apart": (
        lambda f: set_config(f, alpha_pattern={"value": 1e300}),
        r"gives 'roberta.*value' a lora_alpha that is too far from those of other layers",
    ),
    "an α of next to nothing": (
        lambda f: set_config(f, lora_alpha=5e-324, alpha_pattern={"query": 8}),
        "a lora_alpha that is too far from those of other layers",
    ),
    "rank of no tensor": (lambda f: set_config(f, r=9), r"gives 'roberta.*query' rank 9, but .* holds 4 rows for it"),
    "rank in a pattern": (lambda f: set_config(f, rank_pattern={"value": 2}), r"value' rank 2, but .* holds 4 rows"),
    "rank as text": (lambda f: set_config(f, r="4"), "r = '4': expected int"),
    "saved as a number": (
        lambda f: set_config(f, modules_to_save=5),
        "modules_to_save = 5: expected list of names or null",
    ),
    "saved numbers": (lambda f: set_config(f, modules_to_save=[5]), r"modules_to_save = \[5\]: expected"),
    "rslora as text": (lambda f: set_config(f, use_rslora="no"), "use_rslora = 'no': expected bool"),
    "pattern that takes for ever": (lambda f: set_config(f, alpha_pattern={"(e+)+x": 8}), "can take too long to match"),
    "ranks that take for ever": (lambda f: set_config(f, rank_pattern={"(.*e)*x": 8}), "can take too long to match"),
    "rank pattern a list": (lambda f: set_config(f, rank_pattern=["value"]), r"rank_pattern = \['value'\]: expected"),
    "nested deeply": (lambda f: (f / CONFIG).write_text("[" * 50000), "nested too deeply"),
    "kasa": (lambda f: set_config(f, kasa_config={"beta": 1}), "uses kasa_config = {'beta': 1}"),
    "bdlora": (lambda f: set_config(f, use_bdlora={"nblocks": 2}), "uses use_bdlora"),
    "velora": (lambda f: set_config(f, velora_config={"scale": 1}), "uses velora_config"),
    "monteclora": (lambda f: set_config(f, monteclora_config={"n": 1}), "uses monteclora_config"),
    "activated": (lambda f: set_config(f, alora_invocation_tokens=[1]), r"uses alora_invocation_tokens = \[1\]"),
    "qalora": (lambda f: set_config(f, use_qalora=True), "uses use_qalora = True"),
    "layers repeated": (lambda f: set_config(f, layer_replication=[[0, 2]]), "uses layer_replication"),
    "loftq": (lambda f: set_config(f, init_lora_weights="loftq"), "init_lora_weights = 'loftq'"),
    "head not named": (lambda f: set_config(f, modules_to_save=None), "holds other values for 'classifier.dense.bias'"),
    "half an adapter": (lambda f: set_tensors(f, {f"{ONE}.lora_B.weight": None}), "lacks 'roberta.*value.lora_B"),
    "the other half": (lambda f: set_tensors(f, {f"{ONE}.lora_A.weight": None}), "holds 'roberta.*value.lora_B"),
    "no adapter": (
        lambda f: save_file({"base_model.model.classifier.dense.bias": torch.ones(D)}, f / WEIGHTS),
        "holds no adapter of a linear layer",
    ),
    "half a head": (lambda f: set_tensors(f, {HEAD: None}), "the file lacks 'classifier.out_proj.bias'"),
    "more": (lambda f: set_tensors(f, {"more": torch.ones(2)}), "holds 'more', which the model does not have"),
    "magnitudes": (
        lambda f: set_tensors(f, {f"{ONE}.lora_magnitude_vector.weight": torch.ones(D)}),
        "holds 'roberta.*lora_magnitude_vector.weight'",
    ),
    "ranks differ": (
        lambda f: set_tensors(f, {f"{ONE}.lora_B.weight": torch.ones(D, 2)}),
        r"value.lora_B.weight' has shape \(32, 2\), expected \(32, 4\)",
    ),
    "width": (
        lambda f: set_tensors(f, {f"{ONE}.lora_A.weight": torch.ones(4, 16)}),
        r"value.lora_A.weight' has shape \(4, 16\), expected \(4, 32\)",
    ),
    "not finite": (lambda f: set_tensors(f, {f"{ONE}.lora_A.weight": torch.full((4, D), torch.inf)}), "not finite in"),
    "integers": (
        lambda f: set_tensors(f, {f"{ONE}.lora_A.weight": torch.ones(4, D, dtype=torch.int64)}),
        "holds int64, expected torch.float32",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_does_not_fit_is_named_in_a_sentence_and_the_model_stays_as_it_was(tmp_path, spoil, message):
    peft_saved("roberta", tmp_path, target_modules=QV, r=4, modules_to_save=["classifier"])
    spoil(tmp_path)
    model = build("roberta").train()
    model.roberta.embeddings.eval().requires_grad_(False)
    before = picture(model)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        dk.import_peft(model, tmp_path)
    assert "\n" not in str(caught.value)
    assert_same(picture(model), before)


@pytest.mark.parametrize("scaling", ["alpha/b", "alpha/r", "alpha/sqrt(b)"])
def test_a_folder_of_this_kit_keeps_its_scale_at_every_rank(tmp_path, scaling):
    model = build("roberta")
    saved = dk.attach(model, r=4, scaling=scaling, target_modules=QV, modules_to_save=["classifier"])
    fill(saved)
    saved.save(tmp_path)
    other = build("roberta")
    imported = dk.import_peft(other, tmp_path)
    assert imported.scaling == scaling
    for b in (1, 2, 3, 4):
        for name in saved.layers:
            torch.testing.assert_close(imported.delta(name, b), saved.delta(name, b))
    assert dk.import_peft(build("roberta"), tmp_path, scaling="alpha/b").scaling == "alpha/b"


def test_weights_that_can_run_code_are_told(tmp_path):
    peft_saved("roberta", tmp_path, target_modules=QV, r=4)
    (tmp_path / WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"has its weights in adapter_model\.bin, which can run code"):
        dk.import_peft(build("roberta"), tmp_path)


OTHERS = {
    "another architecture": ("bert", "was made for another model: this one has no module 'roberta.encoder.layer.0"),
    "an adapter under PEFT": ("peft", "has adapters of PEFT: use nest_peft"),
    "adapters already": ("ours", r"has adapters already: call detach\(\)"),
    "another width": ("narrow", r"has shape \(32, 4\), expected \(16, 4\)"),
    "narrower than the rank": ("thin", r"has shape \(32, 4\), expected \(3, 4\)"),
    "another kind of layer": ("norm", "does not fit this model: .*query: cannot adapt a LayerNorm"),
}


@pytest.mark.parametrize(("kind", "message"), OTHERS.values(), ids=OTHERS)
def test_an_adapter_of_another_model_is_refused(tmp_path, kind, message):
    peft_saved("roberta", tmp_path, target_modules=QV, r=4)
    model = build("bert" if kind == "bert" else "roberta")
    if kind == "peft":
        model = peft.get_peft_model(model, peft.LoraConfig(target_modules=QV))
    elif kind == "ours":
        dk.attach(model, target_modules=QV, r=2)
    elif kind != "bert":
        new = {"narrow": nn.Linear(D, 16), "thin": nn.Linear(D, 3), "norm": nn.LayerNorm(D)}[kind]
        model.roberta.encoder.layer[0].attention.self.query = new
    before = picture(model)
    with pytest.raises(ValueError, match=message):
        dk.import_peft(model, tmp_path)
    assert_same(picture(model), before)


def test_adapters_whose_fused_projections_are_split_are_left_to_load(tmp_path):
    _, adapters = adapted("gpt2")
    adapters.save(tmp_path)
    with pytest.raises(
        ValueError, match=r"no module '.*c_attn\.q', and this kit wrote it: open it with dylora_kit\.load"
    ):
        dk.import_peft(build("gpt2"), tmp_path)


def compiled_blocks(model: Any) -> Any:
    for index, block in enumerate(model.roberta.encoder.layer):
        model.roberta.encoder.layer[index] = torch.compile(block, backend="eager")
    return model


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "blocks compiled": compiled_blocks,
    "DataParallel": nn.DataParallel,
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_an_adapter_is_read_into_a_wrapped_model_as_into_a_plain_one(tmp_path, wrap):
    theirs = peft_saved("roberta", tmp_path, target_modules=QV, r=4, modules_to_save=["classifier"])
    with calm():
        theirs.save_pretrained(tmp_path, save_embedding_layers=True)
    model = build("roberta")
    adapters = dk.import_peft(wrap(model), tmp_path)
    assert list(adapters.saved_modules) == ["classifier"]
    torch.testing.assert_close(logits(model, inputs("roberta")), logits(theirs, inputs("roberta")), **CLOSE)


@pytest.mark.parametrize("r", [D, D + 1, 2 * D])
def test_a_rank_above_a_layers_width_is_read(tmp_path, r):
    theirs = peft_saved("roberta", tmp_path, target_modules=QV, r=r)
    model = build("roberta")
    assert dk.import_peft(model, tmp_path).r == r
    torch.testing.assert_close(logits(model, inputs("roberta")), logits(theirs, inputs("roberta")), **CLOSE)


def test_an_unknown_scaling_is_refused_by_import(tmp_path):
    peft_saved("roberta", tmp_path, target_modules=QV, r=4)
    model = build("roberta")
    before = picture(model)
    with pytest.raises(ValueError, match="unknown scaling 'r/alpha'"):
        dk.import_peft(model, tmp_path, scaling="r/alpha")
    assert_same(picture(model), before)


@pytest.mark.parametrize("value", [None, False, [], {}, ""], ids=str)
def test_a_field_that_nobody_knows_and_that_says_nothing_is_no_hindrance(tmp_path, value):
    peft_saved("roberta", tmp_path, target_modules=QV, r=4)
    set_config(tmp_path, of_a_later_version=value, enable_lora=None)
    dk.import_peft(build("roberta"), tmp_path)


def test_every_field_of_pefts_own_config_is_known():
    written = peft.LoraConfig(target_modules=QV).to_dict()
    assert written.keys() <= KNOWN | NOT_CARRIED.keys()
    in_017 = {"alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "eva_config"}
    in_017 |= {"exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layer_replication"}
    in_017 |= {"layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_bias", "lora_dropout"}
    in_017 |= {"megatron_config", "megatron_core", "modules_to_save", "peft_type", "qalora_group_size", "r"}
    in_017 |= {"rank_pattern", "revision", "target_modules", "target_parameters", "task_type", "use_qalora"}
    in_017 |= {"trainable_token_indices", "use_dora", "use_rslora"}
    assert in_017 <= KNOWN | NOT_CARRIED.keys()


# Weights of the base in the file

EMBEDDED = {
    "embedding saved though not trained": ("roberta", {"target_modules": QV}),
    "head of a language model as a target": ("phi3", {"target_modules": ["lm_head"]}),
    "tied head as a target": ("gpt2", {"target_modules": ["c_attn", "lm_head"], "fan_in_fan_out": False}),
}


@pytest.mark.parametrize(("name", "options"), EMBEDDED.values(), ids=EMBEDDED)
@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
def test_weights_of_the_base_in_the_file_are_read_where_they_are_the_models_own(tmp_path, name, options, half):
    theirs = peft_saved(name, tmp_path, r=4, **options)
    with calm():
        theirs.save_pretrained(tmp_path, save_embedding_layers=True)
    tensors = load_file(tmp_path / WEIGHTS)
    assert any("lora_" not in key for key in tensors)
    if half:
        save_file({key: t if "lora_" in key else t.bfloat16() for key, t in tensors.items()}, tmp_path / WEIGHTS)
    model = build(name)
    adapters = dk.import_peft(model, tmp_path)
    torch.testing.assert_close(logits(model, inputs(name)), logits(theirs, inputs(name)), rtol=1e-6, atol=1e-5)
    assert not adapters.saved_modules


def test_weights_of_another_base_in_the_file_are_named(tmp_path):
    theirs = peft_saved("roberta", tmp_path, r=4, target_modules=QV)
    with calm():
        theirs.save_pretrained(tmp_path, save_embedding_layers=True)
    for seed, size, message in (
        (1, None, r"other values for 'roberta.embeddings.word_embeddings.weight' than this model"),
        (0, 60, r"'roberta.embeddings.word_embeddings.weight' has shape \(50, 32\), and here it has \(60, 32\)"),
    ):
        model = build("roberta", seed=seed)
        if size:
            model.resize_token_embeddings(size)
        before = picture(model)
        with pytest.raises(ValueError, match=message):
            dk.import_peft(model, tmp_path)
        assert_same(picture(model), before)


def test_an_export_whose_bits_flip_or_whose_files_are_of_two_is_refused(tmp_path):
    _, adapters = adapted("roberta")
    adapters.export_peft(tmp_path / "one", rank=1)
    adapters.export_peft(tmp_path / "two", rank=2)
    adapters.scaling = "alpha/r"
    adapters.export_peft(tmp_path / "scaled", rank=1)
    dk.import_peft(build("roberta"), tmp_path / "one")
    for other in ("two", "scaled"):
        pair = tmp_path / f"pair with {other}"
        pair.mkdir()
        (pair / CONFIG).write_bytes((tmp_path / "one" / CONFIG).read_bytes())
        (pair / WEIGHTS).write_bytes((tmp_path / other / WEIGHTS).read_bytes())
        with pytest.raises(ValueError, match="of two different adapters"):
            dk.import_peft(build("roberta"), pair)
    content = bytearray((tmp_path / "one" / WEIGHTS).read_bytes())
    for place in (len(content) - 1, len(content) // 2, 200):
        content[place] ^= 4
        (tmp_path / "one" / WEIGHTS).write_bytes(content)
        with pytest.raises(ValueError, match="is damaged"):
            dk.import_peft(build("roberta"), tmp_path / "one")
        content[place] ^= 4
