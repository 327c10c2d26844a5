"""Which layers are meant by a user's names: as PEFT means them, or said in one sentence."""

import copy
from typing import Any

import peft
import pytest
import torch
import transformers
from architectures import SMALL, SPECIAL, D, build, calm, inputs, logits, picture
from models import fill
from peft.tuners.lora import LoraLayer
from torch import nn
from toys import assert_same

import dylora_kit as dk

MODELS = ["llama", "bert", "t5", "vit", "gpt2", "roberta", "opt", "bart"]
OPTIONS: dict[str, dict[str, Any]] = {
    "all-linear": {"target_modules": "all-linear"},
    "all-linear in capitals": {"target_modules": "All-Linear"},
    "all-linear without some": {"target_modules": "all-linear", "exclude_modules": ["0.mlp.up_proj", "value", "fc1"]},
    "all-linear without an expression": {"target_modules": "all-linear", "exclude_modules": r".*\.1\..*"},
    "all-linear and a saved head": {"target_modules": "all-linear", "modules_to_save": ["HEAD"]},
    "names without some": {"target_modules": ["Q", "V"], "exclude_modules": [".1.", "Q"]},
    "names without an expression": {"target_modules": ["Q", "V"], "exclude_modules": r".*[a-z]\.0\..*"},
    "an expression without names": {"target_modules": r".*\.(Q|V)", "exclude_modules": ["V"]},
    "one block": {"target_modules": ["Q", "V"], "layers_to_transform": 1},
    "blocks": {"target_modules": ["Q", "V"], "layers_to_transform": [0]},
    "all blocks": {"target_modules": ["Q", "V"], "layers_to_transform": []},
    "a whole name in another block": {"target_modules": ["WHOLE", "V"], "layers_to_transform": [1]},
    "blocks by the name of their list": {"target_modules": ["Q"], "layers_to_transform": [0], "layers_pattern": "LIST"},
    "blocks by several names": {"target_modules": ["V"], "layers_to_transform": [1], "layers_pattern": ["no", "LIST"]},
    "ranks and alphas": {"target_modules": ["Q", "V"], "rank_pattern": {"Q": 2}, "alpha_pattern": {"V": 3}},
    "expressions": {
        "target_modules": ["Q", "V"],
        "rank_pattern": {r".*\.0\..*": 2, r"\w+\.V": 7, "V": 3},
        "alpha_pattern": {r"(0|1)\..*Q": 5, ".*": 2.5},
    },
    "from the start": {"target_modules": ["Q", "V"], "rank_pattern": {"^WHOLE": 1, "Q": 2}, "alpha_pattern": {"^W": 1}},
    "rank above the width": {"target_modules": ["Q", "V"], "r": 40, "rank_pattern": {"V": 90}},
}
QUERY = {"bert": ("query", "value"), "t5": ("q", "v"), "gpt2": ("c_attn", "c_proj"), "roberta": ("query", "value")}
LISTS = {"bert": "layer", "t5": "block", "gpt2": "h", "roberta": "layer"}


def filled(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options with this architecture's own names in the places of Q, V, LIST, HEAD and WHOLE."""
    query, value = QUERY.get(name, ("q_proj", "v_proj"))
    whole = next(key for key, _ in build(name).named_modules() if key.endswith(f"0.{query}") or f".{query}" in key)
    words = {"WHOLE": whole, "HEAD": "classifier" if name in ("bert", "roberta", "vit") else "mlp"}
    words |= {"LIST": LISTS.get(name, "layers"), "Q": query, "V": value}

    def fill_in(given: Any) -> Any:
        if isinstance(given, str):
            for word, own in words.items():
                given = given.replace(word, own)
            return given
        if isinstance(given, dict):
            return {fill_in(key): fill_in(inner) for key, inner in given.items()}
        return [fill_in(inner) for inner in given] if isinstance(given, list) else given

    return {key: fill_in(given) for key, given in options.items()}


def of_peft(name: str, options: dict[str, Any]) -> dict[str, tuple[int, float]]:
    """The rank and α of each layer that PEFT adapts."""
    task = "SEQ_CLS" if type(build(name)).__name__.endswith("ForSequenceClassification") else None
    with calm():
        config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": task} | copy.deepcopy(options))
        model = peft.get_peft_model(build(name), config).get_base_model()
    return {
        key: (layer.r["default"], layer.lora_alpha["default"])
        for key, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_layers_ranks_and_alphas_are_those_of_peft(name, options):
    options = filled(name, options)
    try:
        wanted = of_peft(name, options)
    except ValueError:
        with pytest.raises(ValueError, match=r"layers_to_transform|layers_pattern|exclude"):
            dk.attach(build(name), **{"r": 4, "lora_alpha": 8} | options, split_fused=False)
        return
    try:
        adapters = dk.attach(build(name), **{"r": 4, "lora_alpha": 8} | options, split_fused=False)
    except ValueError as error:  # stricter on purpose where PEFT says nothing: a module to save that there is not
        assert "modules_to_save: 'mlp' matches no module" in str(error)
        assert name in ("t5", "opt", "bart")
        return
    assert {key: (layer.r, layer.lora_alpha) for key, layer in adapters.layers.items()} == wanted


def test_all_linear_gives_every_part_of_a_fused_projection_an_adapter():
    adapters = dk.attach(build("gpt2"), target_modules="all-linear", r=2)
    whole = dk.attach(build("gpt2"), target_modules="all-linear", r=2, split_fused=False)
    assert {key for key in whole.layers if not key.endswith(".c_attn")} == {
        key for key in adapters.layers if ".c_attn." not in key
    }
    assert [key[-1] for key in adapters.layers if ".c_attn." in key] == ["q", "k", "v"] * 2
    assert "lm_head" not in adapters.layers


def test_exclusion_names_parts_too():
    adapters = dk.attach(build("gpt2"), target_modules=["c_attn"], exclude_modules=["1.attn.c_attn", "c_attn.v"], r=2)
    assert list(adapters.layers) == ["transformer.h.0.attn.c_attn.q"]


def test_patterns_may_name_a_projection_for_all_its_parts():
    adapters = dk.attach(
        build("gpt2"),
        target_modules=["c_attn"],
        r=2,
        rank_pattern={"h.0.attn.c_attn": 3, "c_attn.v": 5},
        alpha_pattern={"transformer.h.1.attn.c_attn.v": 4, r".*\.1\..*c_attn": 7},
    )
    assert [layer.r for layer in adapters.layers.values()] == [3, 3, 2, 5]
    assert [layer.lora_alpha for layer in adapters.layers.values()] == [16, 16, 7, 4]


def test_attention_may_be_meant_in_some_blocks():
    adapters = dk.attach(build("t5"), target_modules="attention", layers_to_transform=[1], layers_pattern="block", r=2)
    assert {key.split(".")[2] for key in adapters.layers} == {"1"}
    assert len(adapters.layers) == 4


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "blocks of an expression": ({"target_modules": r".*q_proj", "layers_to_transform": [0]}, "go with a list of names"),
    "blocks of all-linear": ({"target_modules": "all-linear", "layers_to_transform": 0}, "go with a list of names"),
    "a pattern alone": ({"layers_pattern": "layers"}, "give layers_to_transform too"),
    "no such block": ({"layers_to_transform": [7]}, r"layers_to_transform=\[7\] holds none of the targets"),
    "blocks that are no numbers": ({"layers_to_transform": ["0"]}, "must hold the numbers of blocks"),
    "a truth value": ({"layers_to_transform": True}, "must hold the numbers of blocks"),
    "a broken layers_pattern": ({"layers_to_transform": [0], "layers_pattern": "("}, "no regular expression"),
    "all excluded": ({"exclude_modules": ["q_proj", "v_proj"]}, "excludes all targets"),
    "a broken exclusion": ({"exclude_modules": "(q"}, "exclude_modules: '\\(q' is no regular expression"),
    "a broken rank_pattern": ({"rank_pattern": {"(q": 2}}, "rank_pattern has a key that is no regular expression"),
    "a broken alpha_pattern": ({"alpha_pattern": {"q)": 2}}, "alpha_pattern has a key that is no regular expression"),
    "alpha 0": ({"alpha_pattern": {"q_proj": 0}}, "q_proj: lora_alpha must be a finite number greater than 0"),
    "alpha a word": ({"alpha_pattern": {"q_proj": "8"}}, "q_proj: lora_alpha must be a finite number"),
    "a list for a pattern": ({"alpha_pattern": ["q_proj"]}, "alpha_pattern must map names of layers to numbers"),
    "numbers for names": ({"rank_pattern": {0: 2}}, "rank_pattern must map names of layers to numbers"),
    "a target that is no name": ({"target_modules": ["q_proj", 1]}, "target_modules must be names: got"),
    "a number for targets": ({"target_modules": 5}, "target_modules must be names: got 5"),
    "no target": ({"target_modules": None}, "target_modules is empty"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_said_and_the_model_stays_as_it_was(options, message):
    model = build("llama")
    before = picture(model)
    with pytest.raises(ValueError, match=message):
        dk.attach(model, **{"r": 2, "target_modules": ["q_proj", "v_proj"]} | options)
    assert_same(picture(model), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude_modules": ["layers.0"]}, "exclude_modules: 'layers.0' excludes none of the targets"),
        ({"alpha_pattern": {"layers.0": 4}}, "alpha_pattern names 'layers.0', which is no target"),
    ],
)
def test_an_option_that_changes_nothing_warns(options, message):
    with pytest.warns(UserWarning, match=message):
        adapters = dk.attach(build("llama"), r=2, target_modules=["q_proj"], **options)
    assert [layer.lora_alpha for layer in adapters.layers.values()] == [16, 16]


# Saved, loaded, exported


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("scaling", ["alpha/b", "alpha/sqrt(b)"])
def test_alphas_of_their_own_are_saved_loaded_and_exported(tmp_path, name, scaling):
    options = {"alpha_pattern": {"v_proj": 3.5, "c_attn": 3.5}, "exclude_modules": [".1."], "layers_to_transform": [0]}
    targets = ["q_proj", "v_proj"] if name == "llama" else ["c_attn", "c_fc"]
    model = build(name)
    adapters = dk.attach(model, target_modules=targets, r=4, lora_alpha=8, scaling=scaling, **options)
    fill(adapters)
    adapters.save(tmp_path / "own")
    fresh = build(name)
    loaded = dk.load(fresh, tmp_path / "own")
    assert loaded.config == adapters.config
    assert loaded.config["alpha_pattern"] == options["alpha_pattern"]
    for b in (2, 4):
        adapters.rank = loaded.rank = b
        wanted = logits(model, inputs(name))
        assert torch.equal(logits(fresh, inputs(name)), wanted)
        adapters.export_peft(tmp_path / str(b))
        with calm():
            exported = peft.PeftModel.from_pretrained(build(name), tmp_path / str(b)).eval()
        torch.testing.assert_close(logits(exported, inputs(name)), wanted, rtol=1e-4, atol=1e-4)
    if name == "llama":  # at its full rank the folder is an adapter of PEFT as it is
        with calm():
            same = peft.PeftModel.from_pretrained(build(name), tmp_path / "own").eval()
        torch.testing.assert_close(logits(same, inputs(name)), wanted, rtol=1e-4, atol=1e-4)


def test_settings_of_a_training_tell_alphas_apart():
    settings = [
        dk.attach(build("llama"), r=2, target_modules=["q_proj"], alpha_pattern=pattern).settings()
        for pattern in (None, {"q_proj": 3}, {"q_proj": 4})
    ]
    assert settings[0] != settings[1] != settings[2]


def test_a_rank_above_a_narrow_key_and_value_is_saved_merged_and_exported(tmp_path):
    model = build("llama")
    adapters = dk.attach(model, target_modules=["k_proj", "v_proj"], r=D + 5, lora_alpha=8)
    fill(adapters)
    adapters.save(tmp_path / "own")
    loaded = dk.load(build("llama"), tmp_path / "own")
    for b in (1, 20, D + 5):
        adapters.rank = loaded.rank = b
        wanted = logits(model, inputs("llama"))
        assert torch.equal(logits(loaded.model, inputs("llama")), wanted)
        adapters.export_peft(tmp_path / str(b))
        with calm():
            exported = peft.PeftModel.from_pretrained(build("llama"), tmp_path / str(b)).eval()
        torch.testing.assert_close(logits(exported, inputs("llama")), wanted, rtol=1e-4, atol=1e-4)
        adapters.merge()
        torch.testing.assert_close(logits(model, inputs("llama")), wanted, rtol=1e-4, atol=1e-4)
        adapters.unmerge()


# Experts


def mixtral() -> Any:
    config = transformers.MixtralConfig(**SMALL, **SPECIAL, num_key_value_heads=2, num_local_experts=2)
    return transformers.MixtralForCausalLM(config)


class Mixture(nn.Module):
    """A layer beside experts whose weights are one Parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 5)
        self.bank = nn.ModuleList([Bank()])


class Bank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.zeros(3, 5, 6))
        self.down = nn.Parameter(torch.zeros(3, 6, 5))


@pytest.mark.parametrize(
    ("make", "options", "names"),
    [
        (mixtral, "all-linear", r"experts\.gate_up_proj, .*experts\.down_proj"),
        (Mixture, "all-linear", r"\(bank\.0\.up, bank\.0\.down\)"),
        (Mixture, ["up"], r"\(bank\.0\.up\)"),
        (Mixture, r"(.*\.)?up", r"\(bank\.0\.up\)"),
    ],
)
def test_experts_that_get_no_adapter_are_named(make, options, names):
    with pytest.warns(UserWarning, match=rf"also means weights that are plain Parameters.*{names}.*get no adapter"):
        adapters = dk.attach(make(), target_modules=options, r=2)
    assert not any("experts" in key or "bank" in key for key in adapters.layers)


@pytest.mark.parametrize(
    ("make", "target", "error"),
    [
        (mixtral, ["gate_up_proj"], ValueError),
        (mixtral, ["q_proj", "experts.down_proj"], ValueError),
        (mixtral, ["experts"], TypeError),
        (mixtral, r".*\.experts", TypeError),
        (Mixture, ["down"], ValueError),
        (Mixture, r"bank\.0\.down", ValueError),
        (Mixture, ["bank.0"], TypeError),
    ],
)
def test_experts_as_a_target_are_refused_in_one_sentence(make, target, error):
    model = make()
    before = picture(model)
    with pytest.raises(error, match="weights that are plain Parameters and no linear layers, such as those of experts"):
        dk.attach(model, target_modules=target, r=2)
    assert_same(picture(model), before)


def test_names_that_experts_once_had_are_refused_with_the_names_of_today():
    with pytest.raises(ValueError, match=r"'w1' matches no module.*plain Parameters.*experts\.gate_up_proj"):
        dk.attach(mixtral(), target_modules=["w1"], r=2)


def test_the_router_and_attention_of_a_mixture_are_adapted_without_a_word(recwarn):
    dk.attach(mixtral(), target_modules="attention", r=2)
    assert not recwarn.list
