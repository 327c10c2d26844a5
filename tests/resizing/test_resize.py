"""A LoRA of PEFT, or of this kit, cut from its files: what PEFT then opens is the closest cut, and nothing else."""

import copy
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from architectures import build, calm, inputs, logits
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from toys import adapted, assert_same, examples, toy

import dylora_kit as dk
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.resizing.opening import open_adapter
from dylora_kit.resizing.rank_choice import ranks_under_budget
from dylora_kit.resizing.resize import resize
from dylora_kit.storage.adapter_files import CONFIG, WEIGHTS
from dylora_kit.storage.files import TensorFile

R = 5
EXACT = {"rtol": 0.0, "atol": 1e-5}
# architecture and what differs from a plain LoRA of rank 5
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("roberta", {"target_modules": ["query", "dense"]}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "rslora": ("roberta", {"target_modules": ["query", "value"], "use_rslora": True}),
    "patterns": (
        "roberta",
        {
            "target_modules": "all-linear",
            "rank_pattern": {"layer.1.attention.self.query": 2, "intermediate.dense": 7},
            "alpha_pattern": {"value": 9, "0.output.dense": 1},
        },
    ),
    "embeddings": ("roberta", {"target_modules": ["query", "word_embeddings"]}),
    "convolution": ("vit", {"target_modules": ["q_proj", "projection"]}),
    "head and biases": (
        "roberta",
        {"target_modules": ["query"], "modules_to_save": ["classifier"], "bias": "all", "lora_bias": True},
    ),
}


def trained(name: str, folder: Path, seed: int = 1, **options: Any) -> peft.PeftModel:
    """A model with a PEFT adapter whose every value is random, saved into a folder."""
    with calm():
        model = peft.get_peft_model(build(name), peft.LoraConfig(**{"r": R, "lora_alpha": 7} | options)).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    with calm():
        model.save_pretrained(folder)
    return model


def in_peft(name: str, folder: Path) -> peft.PeftModel:
    with calm():
        return peft.PeftModel.from_pretrained(build(name), folder).eval()


def layers(model: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}


def deltas(model: nn.Module) -> dict[str, Tensor]:
    """ΔW of each adapted layer, as PEFT computes it; of a convolution as a matrix."""
    return {name: layer.get_delta_weight("default").detach().flatten(1) for name, layer in layers(model).items()}


def closest(matrix: Tensor, b: int) -> Tensor:
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return (u[:, :b] * s[:b] @ vh[:b]).float()


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG).read_text())


def change(folder: Path, **tensors: Tensor | None) -> None:
    """Replaces tensors of a file, or takes them out."""
    content = load_file(folder / WEIGHTS) | tensors
    save_file({name: tensor for name, tensor in content.items() if tensor is not None}, folder / WEIGHTS)


@pytest.mark.parametrize("b", [1, 3, R])
@pytest.mark.parametrize(("name", "options"), ADAPTERS.values(), ids=ADAPTERS)
def test_what_peft_opens_is_the_closest_cut_of_every_layer(
    tmp_path: Path, name: str, options: dict[str, Any], b: int
) -> None:
    before = trained(name, tmp_path / "whole", **options)
    ranks = {layer: module.r["default"] for layer, module in layers(before).items()}
    done = resize(tmp_path / "whole", tmp_path / "cut", rank=b)
    after = in_peft(name, tmp_path / "cut")
    assert deltas(after).keys() == deltas(before).keys()
    for layer, delta in deltas(before).items():
        torch.testing.assert_close(deltas(after)[layer], closest(delta, b), **EXACT)
        assert layers(after)[layer].r["default"] == min(b, ranks[layer], *delta.shape)
        assert layers(after)[layer].scaling["default"] == pytest.approx(layers(before)[layer].scaling["default"])
    assert list(done.before.values()) == [ranks[f"base_model.model.{layer}"] for layer in done.before]
    written = {layer.removeprefix("base_model.model."): module.r["default"] for layer, module in layers(after).items()}
    assert done.after == written


@pytest.mark.parametrize(("name", "options"), ADAPTERS.values(), ids=ADAPTERS)
def test_the_whole_model_does_what_the_base_with_the_cut_added_does(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    before = trained(name, tmp_path / "whole", **options)
    resize(tmp_path / "whole", tmp_path / "cut", rank=2)
    found = logits(in_peft(name, tmp_path / "cut"), inputs(name))
    expected = copy.deepcopy(before)
    if options.get("lora_bias"):  # PEFT folds the bias into the base when it merges
        for layer in layers(expected).values():
            layer.base_layer.bias.data += layer.lora_B["default"].bias.detach() * layer.scaling["default"]
    for layer in layers(expected).values():
        weight = layer.get_base_layer().weight
        weight.data += closest(layer.get_delta_weight("default").flatten(1), 2).reshape(weight.shape)
    with calm(), expected.disable_adapter():
        for module in expected.modules():
            if isinstance(module, peft.utils.other.ModulesToSaveWrapper):
                module.enable_adapters(True)
        wanted = logits(expected, inputs(name))
    torch.testing.assert_close(found, wanted, **EXACT)
    assert (wanted - logits(before, inputs(name))).abs().max() > 0.01
    assert (wanted - logits(build(name), inputs(name))).abs().max() > 0.01


BY_RANK = [(kind, how) for kind in ("roberta", "gpt2", "rslora") for how in (1, 3)]
BY_ENERGY = [(kind, how) for kind in ("roberta", "gpt2", "rslora", "patterns") for how in (0.5, 0.9, 1.0)]


@pytest.mark.parametrize(("kind", "how"), BY_RANK + BY_ENERGY)
def test_pefts_own_conversion_gives_the_same_matrices(tmp_path: Path, kind: str, how: float) -> None:
    name, options = ADAPTERS[kind]
    model = trained(name, tmp_path / "whole", **options)
    with calm():
        peft.save_as_lora(tmp_path / "theirs", model, rank=how)
    resize(tmp_path / "whole", tmp_path / "ours", **({"rank": how} if isinstance(how, int) else {"energy": how}))
    ours, theirs = in_peft(name, tmp_path / "ours"), in_peft(name, tmp_path / "theirs")
    for layer, delta in deltas(theirs).items():
        torch.testing.assert_close(deltas(ours)[layer], delta, **EXACT)
        if how != 1.0:  # there PEFT counts what rounding leaves beyond the rank
            assert layers(ours)[layer].r["default"] == layers(theirs)[layer].r["default"]


@pytest.mark.parametrize("scaling", ["alpha/b", "alpha/r", "alpha/sqrt(b)"])
def test_an_adapter_of_this_kit_becomes_one_of_peft_and_does_what_the_baseline_does(
    tmp_path: Path, scaling: str
) -> None:
    model = toy()
    adapted(model, scaling=scaling, rank_pattern={"down": 3}, alpha_pattern={"up": 5}).save(tmp_path / "whole")
    resize(tmp_path / "whole", tmp_path / "cut", rank=2)
    assert "dylora" not in config_of(tmp_path / "cut")
    baseline, handle = svd_cut(dk.load(toy(), tmp_path / "whole"))
    handle.rank = 2
    x = torch.stack([example["x"] for example in examples(9)])
    with torch.no_grad():
        wanted = baseline.eval()(x).logits
        fresh = toy()
        imported = dk.import_peft(fresh, tmp_path / "cut")
        torch.testing.assert_close(fresh.eval()(x).logits, wanted, **EXACT)
        with calm():
            opened = peft.PeftModel.from_pretrained(toy(), tmp_path / "cut").eval()
        torch.testing.assert_close(opened(x=x).logits, wanted, **EXACT)
    assert {layer.r for layer in imported.layers.values()} == {2}


def test_a_warning_of_another_base_is_kept(tmp_path: Path) -> None:
    adapted(toy()).save(tmp_path / "whole")
    resize(tmp_path / "whole", tmp_path / "cut", rank=2)
    with pytest.warns(UserWarning, match="base"):
        dk.import_peft(toy(seed=3), tmp_path / "cut")


def test_a_budget_is_kept_and_spent_where_the_energy_is(tmp_path: Path) -> None:
    options = {"target_modules": ["query", "dense"], "alpha_pattern": {"query": 28, "intermediate.dense": 2}}
    before = trained("roberta", tmp_path / "whole", **options)
    budget = 2000
    done = resize(tmp_path / "whole", tmp_path / "cut", budget=budget)
    after = in_peft("roberta", tmp_path / "cut")
    pairs = [(layer.lora_A["default"].weight, layer.lora_B["default"].weight) for layer in layers(after).values()]
    written = sum(A.numel() + B.numel() for A, B in pairs)
    assert budget - 80 < written == done.parameters_after <= budget < done.parameters_before
    values = {name.removeprefix("base_model.model."): torch.linalg.svdvals(delta)[:R].double()
              for name, delta in deltas(before).items()}  # fmt: skip
    costs = {name.removeprefix("base_model.model."): sum(delta.shape) for name, delta in deltas(before).items()}
    assert done.after == ranks_under_budget(budget, values, costs)
    assert len(set(done.after.values())) > 1
    lost = sum((deltas(before)[name] - delta).square().sum() for name, delta in deltas(after).items())
    total = sum(delta.square().sum() for delta in deltas(before).values())
    assert done.kept_in_all == pytest.approx(1 - float(lost / total), abs=1e-5)


def test_what_is_no_layer_is_copied_bit_for_bit(tmp_path: Path) -> None:
    trained("roberta", tmp_path / "whole", **ADAPTERS["head and biases"][1])
    resize(tmp_path / "whole", tmp_path / "cut", rank=2)
    before, after = load_file(tmp_path / "whole" / WEIGHTS), load_file(tmp_path / "cut" / WEIGHTS)
    copied = {name for name in before if not name.endswith(("lora_A.weight", "lora_B.weight"))}
    assert {name.split(".")[-2] for name in copied} >= {"dense", "out_proj", "lora_B", "LayerNorm"}
    assert_same({name: after[name] for name in copied}, {name: before[name] for name in copied})
    changed = {"r", "lora_alpha", "rank_pattern", "alpha_pattern"}
    whole, cut = config_of(tmp_path / "whole"), config_of(tmp_path / "cut")
    assert whole.keys() - cut.keys() <= {"init_lora_weights", "eva_config", "lora_ga_config"}
    assert {name for name in cut if whole[name] != cut[name]} <= changed


def test_how_it_was_started_does_not_keep_peft_from_opening_it(tmp_path: Path) -> None:
    before = trained("roberta", tmp_path / "whole", target_modules=["query"], r=8, init_lora_weights="orthogonal")
    resize(tmp_path / "whole", tmp_path / "cut", rank=3)  # PEFT starts orthogonal matrices of even ranks alone
    for layer, delta in deltas(in_peft("roberta", tmp_path / "cut")).items():
        torch.testing.assert_close(delta, closest(deltas(before)[layer], 3))


def test_a_whole_model_gets_no_adapter_into_its_folder(tmp_path: Path) -> None:
    trained("roberta", tmp_path / "whole", target_modules=["query"])
    build("roberta").save_pretrained(tmp_path / "base")
    before = {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    adapters = dk.attach(build("roberta"), target_modules=["query"], r=2, modules_to_save=["classifier"])
    for write in (
        lambda: resize(tmp_path / "whole", tmp_path / "base", rank=2),
        lambda: adapters.save(tmp_path / "base"),
        lambda: adapters.export_peft(tmp_path / "base", rank=1),
    ):
        with pytest.raises(
            ValueError, match="base holds a whole model, and from_pretrained would add the adapter to it"
        ):
            write()
    assert {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()} == before


def test_a_result_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained("roberta", tmp_path / "whole", target_modules=["query"])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ValueError, match="the result has no name"):
        resize(tmp_path / "whole", "", rank=2)
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_type_of_numbers_stays(tmp_path: Path, dtype: torch.dtype) -> None:
    before = trained("roberta", tmp_path, target_modules=["query"])
    change(tmp_path, **{name: tensor.to(dtype) for name, tensor in load_file(tmp_path / WEIGHTS).items()})
    resize(tmp_path, tmp_path / "cut", rank=2)
    assert {tensor.dtype for tensor in load_file(tmp_path / "cut" / WEIGHTS).values()} == {dtype}
    for layer, delta in deltas(in_peft("roberta", tmp_path / "cut")).items():
        torch.testing.assert_close(delta, closest(deltas(before)[layer], 2), rtol=0, atol=0.02)


def test_a_convolution_with_groups_keeps_its_rank(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grouped, self.plain = nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.plain(torch.tanh(self.grouped(x)))

    torch.manual_seed(0)
    base, x = Net(), torch.randn(2, 4, 7, 7)
    config = peft.LoraConfig(r=4, lora_alpha=3, target_modules=["grouped", "plain"], init_lora_weights=False)
    with calm():
        before = peft.get_peft_model(copy.deepcopy(base), config)
        before.save_pretrained(tmp_path / "whole")
    done = resize(tmp_path / "whole", tmp_path / "cut", rank=2)
    assert done.fixed == ["grouped"] and done.after == {"plain": 2}
    with calm(), torch.no_grad():
        after = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "cut")
        torch.testing.assert_close(
            after.base_model.model.grouped(x), before.base_model.model.grouped(x), rtol=0, atol=1e-6
        )
    delta, cut = (model.base_model.model.plain.get_delta_weight("default").flatten(1) for model in (before, after))
    torch.testing.assert_close(cut, closest(delta, 2), **EXACT)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"rank": 6}, "rank 6 is out of range: .* has rank 5, so name 1 to 5"),
        ({"rank": 0}, "rank 0 is out of range"),
        ({"energy": 0.0}, "an energy of 0 is out of range: name a share above 0 and up to 1"),
        ({"energy": 90.0}, "an energy of 90 is out of range"),
        ({"energy": float("nan")}, "an energy of nan is out of range"),
        ({"budget": 63}, "a budget of 63 parameters is too small: rank 1 in every layer has 128"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_and_nothing_is_written(
    tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    trained("roberta", tmp_path / "whole", target_modules=["query"])
    with pytest.raises(ValueError, match=message):
        resize(tmp_path / "whole", tmp_path / "cut", **how)
    assert not (tmp_path / "cut").exists()


def test_one_way_to_choose_ranks_is_asked_for(tmp_path: Path) -> None:
    trained("roberta", tmp_path, target_modules=["query"])
    for how in ({}, {"rank": 2, "energy": 0.9}):
        with pytest.raises(TypeError, match="takes one of rank, energy and budget"):
            resize(tmp_path, tmp_path / "cut", **how)


QUERY = "base_model.model.roberta.encoder.layer.1.attention.self.query"
DAMAGED: dict[str, tuple[Any, str]] = {
    "truncated": (lambda path: (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-9]), "is damaged or no"),
    "no lora_B": (
        lambda path: change(path, **{f"{QUERY}.lora_B.weight": None}),
        "query.lora_A.weight' without .*query.lora_B.weight': save the adapter again, whole",
    ),
    "no lora_A": (lambda path: change(path, **{f"{QUERY}.lora_A.weight": None}), "query.lora_B.weight' without"),
    "NaN": (
        lambda path: change(path, **{f"{QUERY}.lora_B.weight": torch.full((32, R), torch.nan)}),
        "holds values that are not finite in .*layer.1.attention.self.query.lora_B.weight'",
    ),
    "another shape": (
        lambda path: change(path, **{f"{QUERY}.lora_B.weight": torch.ones(32, 4)}),
        r"in shape \(5, 32\) and .* in shape \(32, 4\): expected \(r, d_in\) and \(d_out, r\)",
    ),
    "another rank": (
        lambda path: change(
            path, **{f"{QUERY}.lora_A.weight": torch.ones(4, 32), f"{QUERY}.lora_B.weight": torch.ones(32, 4)}
        ),
        "gives 'roberta.encoder.layer.1.attention.self.query' rank 5, but .* holds 4 rows for it",
    ),
    "another tensor": (
        lambda path: change(path, **{f"{QUERY}.lora_magnitude_vector": torch.ones(32)}),
        "query.lora_magnitude_vector': only plain LoRA can be cut to a lower rank",
    ),
    "no prefix": (lambda path: change(path, up=torch.ones(3)), "holds 'up': expected names that begin with 'base_mod"),
    "pickled": (
        lambda path: (path / WEIGHTS).rename(path / "adapter_model.bin"),
        "has its weights in adapter_model.bin, which can run code when it is opened",
    ),
    "no weights": (lambda path: (path / WEIGHTS).unlink(), "there is no adapter_model.safetensors"),
    "no config": (lambda path: (path / CONFIG).unlink(), "there is no adapter_config.json"),
    "bad pattern": (
        lambda path: (path / CONFIG).write_text(json.dumps(config_of(path) | {"rank_pattern": {"(a+)+b": 1}})),
        "can take too long to match",
    ),
    "alpha 0": (
        lambda path: (path / CONFIG).write_text(json.dumps(config_of(path) | {"lora_alpha": 0})),
        "lora_alpha = 0: expected a number greater than 0",
    ),
    "unknown field": (
        lambda path: (path / CONFIG).write_text(json.dumps(config_of(path) | {"new_kind": 1})),
        "uses new_kind = 1: only plain LoRA can be cut",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_adapter_is_refused_by_name_and_nothing_changes(tmp_path: Path, damage: Any, message: str) -> None:
    trained("roberta", tmp_path / "whole", target_modules=["query"])
    resize(tmp_path / "whole", tmp_path / "cut", rank=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "cut").iterdir()}
    damage(tmp_path / "whole")
    for how in ({"rank": 1}, {"energy": 0.9}, {"budget": 200}):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            resize(tmp_path / "whole", tmp_path / "cut", **how)
    assert {path.name: path.read_bytes() for path in (tmp_path / "cut").iterdir()} == before


def test_a_bit_that_flipped_in_a_file_of_this_kit_is_seen(tmp_path: Path) -> None:
    adapted(toy()).save(tmp_path / "whole")
    content = bytearray((tmp_path / "whole" / WEIGHTS).read_bytes())
    content[-3] ^= 1
    (tmp_path / "whole" / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match="its checksum is not that of its contents"):
        resize(tmp_path / "whole", tmp_path / "cut", rank=2)


OTHER_KINDS = {
    "DoRA": (peft.LoraConfig(target_modules=["query"], use_dora=True), "uses use_dora = True: only plain LoRA"),
    "pissa": (peft.LoraConfig(target_modules=["query"], init_lora_weights="pissa"), "init_lora_weights = 'pissa'"),
    "LoHa": (peft.LoHaConfig(target_modules=["query"]), "is of type 'LOHA': only LORA adapters can be cut"),
    "IA3": (peft.IA3Config(target_modules=["query"], feedforward_modules=[]), "is of type 'IA3'"),
    "parameter": (peft.LoraConfig(target_modules=[], target_parameters=["query.weight"]), "target_parameters"),
}


@pytest.mark.parametrize(("config", "message"), OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_another_kind_of_adapter_is_refused(tmp_path: Path, config: peft.PeftConfig, message: str) -> None:
    with calm():
        peft.get_peft_model(build("roberta"), copy.deepcopy(config)).save_pretrained(tmp_path / "whole")
    with pytest.raises(ValueError, match=message):
        resize(tmp_path / "whole", tmp_path / "cut", rank=2)
    assert not (tmp_path / "cut").exists()


def test_parts_of_a_fused_projection_are_refused_with_the_way_that_works(tmp_path: Path) -> None:
    model = build("gpt2")
    adapters = dk.attach(model, r=4, target_modules="attention")
    adapters.save(tmp_path / "parts")
    with pytest.raises(ValueError, match=r"c_attn.q', a part of a fused projection, .* with export_peft first"):
        resize(tmp_path / "parts", tmp_path / "cut", rank=2)
    adapters.export_peft(tmp_path / "exported")
    resize(tmp_path / "exported", tmp_path / "cut", rank=2)
    assert set(open_adapter(tmp_path / "cut").layers) == {f"transformer.h.{block}.attn.c_attn" for block in range(2)}


def test_an_adapter_that_is_there_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    trained("roberta", tmp_path / "whole", target_modules=["query"])
    resize(tmp_path / "whole", tmp_path / "first", rank=2)
    shutil.copytree(tmp_path / "first", tmp_path / "cut")
    (tmp_path / "cut" / "README.md").write_text("mine")
    resize(tmp_path / "whole", tmp_path / "cut", rank=3)
    resize(tmp_path / "whole", tmp_path / "cut", rank=2)
    again = {path.name: path.read_bytes() for path in (tmp_path / "cut").iterdir()}
    first = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert again == first | {"README.md": b"mine"}


def test_the_adapter_itself_is_never_replaced(tmp_path: Path) -> None:
    trained("roberta", tmp_path / "whole", target_modules=["query"])
    before = (tmp_path / "whole" / WEIGHTS).read_bytes()
    for out in (tmp_path / "whole", tmp_path / "other" / ".." / "whole"):
        with pytest.raises(ValueError, match="is the adapter itself: name another folder"):
            resize(tmp_path / "whole", out, rank=2)
    with pytest.raises(ValueError, match="is a folder, so the result is one"):
        resize(tmp_path / "whole", tmp_path / "cut.safetensors", rank=2)
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == before


def test_one_layer_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained("roberta", tmp_path / "lora", target_modules=["query", "value", "dense"])
    alive: list[weakref.ref[Tensor]] = []
    most, read = [0], TensorFile.read

    def counted(self: TensorFile, name: str) -> Tensor:
        most[0] = max(most[0], sum(reference() is not None for reference in alive))
        tensor = read(self, name)
        alive.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(TensorFile, "read", counted)
    resize(tmp_path / "lora", tmp_path / "small", rank=2)
    assert len(alive) > 20 and 1 <= most[0] <= 3  # A of a layer while B is read, and the last layer's two
