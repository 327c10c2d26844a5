"""What "attention" means: query and value of every self-attention, and never those of cross-attention."""

import warnings
from typing import Any

import pytest
import torch
import transformers
from architectures import SMALL, SPECIAL, D
from torch import nn

import dylora_kit as dk
from dylora_kit.core.attention import attentions_of


class Attention(nn.Module):
    """Both kinds of attention in one class, as many architectures have it; what it does is of no account here."""

    def __init__(self, keys: int = 8) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(8, 8), nn.Linear(keys, 8), nn.Linear(keys, 8)


class Optional(Attention):
    def forward(self, x, context=None):
        return x


class QueryKeyValue(Attention):
    def forward(self, query, key, value, mask=None):
        return query


class Plain(Attention):
    def forward(self, x, mask=None):
        return x


class Required(Attention):
    def forward(self, x, memory):
        return x


class Block(nn.Module):
    """A block of two attentions, called a and b."""

    def __init__(self, kind: type[nn.Module] = Optional, **options: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.a, self.b = kind(**options), kind(**options)


class SecondReadsMemory(Block):
    def forward(self, x, memory):
        x = x + self.a(self.norm(x))
        return x + self.b(self.norm(x), memory)


class FirstReadsMemory(Block):
    def forward(this, x, memory):
        x = x + this.a(x, context=memory)
        return x + this.b(x)


class BothReadMemory(Block):
    def forward(self, x, memory):
        x = x + self.a(x, memory)
        return x + self.b(x, memory)


class TwoStreams(Block):
    """As in a model of two kinds of input: each stream attends to the other."""

    def forward(self, text, image):
        return self.a(text, image), self.b(image, text)


class ItsOwnStates(Block):
    def forward(self, x, memory):
        own = self.norm(x)
        x = x + self.a(own, own)
        return x + self.b(x, None)


class KeysFromMemory(Block):
    def __init__(self) -> None:
        super().__init__(QueryKeyValue)

    def forward(self, x, position, memory):
        q = k = x + position
        x = x + self.a(q, k, x)
        return x + self.b(query=x + position, key=memory, value=memory)


class JoinedStates(Block):
    """Queries that are learned, and keys of the states together with them."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(1, 3, 8))

    def forward(self, x):
        latents = self.latents.expand(x.shape[0], -1, -1)
        latents = self.a(latents, torch.cat([x, latents], dim=1))
        return self.b(latents)


class OneOrTheOther(Block):
    """Reads other states only where it is told to when it is made."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.reads = reads

    def forward(self, x, memory):
        x = self.a(x, memory) if self.reads else self.a(x)
        return self.b(x, memory if not self.reads else None)


class OneOrTheOtherBranch(OneOrTheOther):
    def forward(self, x, memory):
        if not self.reads:
            x = self.norm(self.a(x))
        else:
            return self.b(self.a(x, memory))
        if self.reads:
            memory = None
        return self.b(x, memory)


class InAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList([Optional(), Optional()])

    def forward(self, x, memory):
        return self.steps[-1](self.steps[0](x), memory)


class Handing(nn.Module):
    """Hands on whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Optional()

    def forward(self, x, encoder_hidden_states=None):
        return self.inner(x, encoder_hidden_states)


class HandedOn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Handing(), Handing()

    def forward(self, x, encoder_hidden_states):
        return self.b(self.a(x), encoder_hidden_states=encoder_hidden_states)


@pytest.mark.parametrize(
    ("block", "wanted"),
    [
        (SecondReadsMemory(), ["a"]),
        (FirstReadsMemory(), ["b"]),
        (BothReadMemory(), []),
        (TwoStreams(), []),
        (ItsOwnStates(), ["a", "b"]),
        (KeysFromMemory(), ["a"]),
        (JoinedStates(), ["b"]),
        (OneOrTheOther(True), ["b"]),
        (OneOrTheOther(False), ["a"]),
        (OneOrTheOtherBranch(True), ["b"]),
        (OneOrTheOtherBranch(False), ["a"]),
        (SecondReadsMemory(Plain), ["a", "b"]),
        (InAList(), ["steps.0"]),
        (HandedOn(), ["a.inner"]),
        (Handing(), ["inner"]),
        (nn.ModuleDict({"one": Required(), "two": Optional()}), ["two"]),
        (nn.ModuleDict({"one": Optional(keys=6), "two": Optional()}), ["two"]),
        (nn.ModuleDict({"cross_attn": Plain(), "self_attn": Plain()}), ["self_attn"]),
        (nn.ModuleDict({"crossing": nn.ModuleDict({"self_attn": Plain()})}), ["crossing.self_attn"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_a_block_hands_to_an_attention_tells_what_it_is(block, wanted):
    for model, prefix in ((block, ""), (nn.ModuleList([block]), "0.")):
        found = attentions_of(model)
        assert {name for name, layers in found.items() if layers} == {prefix + name for name in wanted}
        assert all(layers in ([], [f"{name}.q_proj", f"{name}.v_proj"]) for name, layers in found.items())


def test_without_a_source_the_first_attention_of_a_block_is_its_own():
    names: dict[str, Any] = {"Block": Block, "nn": nn}
    exec("class Typed(Block):\n    def forward(self, x, memory):\n        return self.b(self.a(x), memory)", names)
    assert [name for name, layers in attentions_of(nn.ModuleList([names["Typed"]()])).items() if layers] == ["0.a"]
    exec("class Typed(Block):\n    def forward(self, x, mask):\n        return self.b(self.a(x))", names)
    assert all(attentions_of(nn.ModuleList([names["Typed"]()])).values())


def make(config: str, model: str, **options: Any) -> Any:
    return getattr(transformers, model)(getattr(transformers, config)(**options))


SEQ2SEQ = SPECIAL | {
    "vocab_size": 50,
    "d_model": D,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 2,
}
SMALL_VISION = {"hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
PIX2STRUCT = {"hidden_size": D, "d_kv": 8, "d_ff": 48, "num_heads": 4}
REAL = {  # each with the parts of names in which its self-attentions and its cross-attentions differ
    "pix2struct": (
        "Pix2StructConfig",
        "Pix2StructForConditionalGeneration",
        {
            "text_config": PIX2STRUCT | {"vocab_size": 50, "num_layers": 1},
            "vision_config": PIX2STRUCT | {"num_hidden_layers": 1, "num_attention_heads": 4},
        },
        4,
        "encoder_decoder_attention",
    ),
    "lxmert": (
        "LxmertConfig",
        "LxmertModel",
        {"vocab_size": 50, "hidden_size": D, "num_attention_heads": 4, "intermediate_size": 48}
        | {"l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 8},
        8,
        "visual_attention",
    ),
    "nllb-moe": (
        "NllbMoeConfig",
        "NllbMoeForConditionalGeneration",
        SEQ2SEQ | {"num_experts": 2, "encoder_sparse_step": 0, "decoder_sparse_step": 0},
        4,
        "cross_attention",
    ),
    "kosmos-2": (
        "Kosmos2Config",
        "Kosmos2ForConditionalGeneration",
        {
            "text_config": {"vocab_size": 50, "embed_dim": D, "layers": 1, "ffn_dim": 48, "attention_heads": 4},
            "vision_config": SMALL_VISION | {"image_size": 8, "patch_size": 4},
        },
        4,
        "x_attn",
    ),
    "xlm": ("XLMConfig", "XLMModel", {"vocab_size": 50, "emb_dim": D, "n_layers": 2, "n_heads": 4}, 4, "none"),
    "blip text": (
        "BlipTextConfig",
        "BlipTextModel",
        SMALL | {"is_decoder": True, "encoder_hidden_size": 24},
        4,
        "crossattention",
    ),
    "mobilebert": (
        "MobileBertConfig",
        "MobileBertModel",
        SMALL | {"intra_bottleneck_size": 16, "embedding_size": D, "true_hidden_size": 16},
        4,
        "none",
    ),
    "whisper": (
        "WhisperConfig",
        "WhisperModel",
        SEQ2SEQ | {"num_mel_bins": 4, "max_source_positions": 10, "max_target_positions": 10},
        4,
        "encoder_attn",
    ),
    "musicgen decoder": (
        "MusicgenDecoderConfig",
        "MusicgenForCausalLM",
        {"vocab_size": 50, "hidden_size": D, "num_hidden_layers": 2, "ffn_dim": 48, "num_attention_heads": 4},
        4,
        "encoder_attn",
    ),
}


@pytest.mark.parametrize(("config", "model", "options", "adapters", "cross"), REAL.values(), ids=REAL)
def test_no_cross_attention_of_transformers_is_taken(config, model, options, adapters, cross):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = make(config, model, **options)
        attached = dk.attach(made, target_modules="attention", r=2)
    assert not any(cross in name for name in attached.layers)
    assert len(attached.layers) == adapters
    assert any(cross in name for name, _ in made.named_modules()) or cross == "none"


def mllama() -> Any:
    options = SMALL | SPECIAL | {"num_hidden_layers": 3, "num_key_value_heads": 2, "cross_attention_layers": [1]}
    return make("MllamaTextConfig", "MllamaForCausalLM", **options)


def jamba() -> Any:
    options = SMALL | SPECIAL | {"num_hidden_layers": 3, "num_key_value_heads": 2, "num_experts": 1}
    layers = {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4, "mamba_dt_rank": 2}
    return make("JambaConfig", "JambaForCausalLM", **options, **layers, use_mamba_kernels=False)


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([SecondReadsMemory(), nn.Sequential(nn.Linear(8, 8)), SecondReadsMemory()])


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (mllama, r"model\.layers\.1,"),
        (jamba, r"model\.layers\.0, model\.layers\.2,"),
        (Mixed, r"blocks\.1,"),
        (lambda: nn.ModuleDict({"own": Optional(), "blocks": nn.ModuleList([BothReadMemory()])}), r"blocks\.0,"),
    ],
    ids=["mllama", "jamba", "mixed", "a list of cross-attention"],
)
def test_blocks_without_an_adapter_are_named(build, names):
    with pytest.warns(UserWarning, match=f"finds no query and value of a self-attention in {names} which get no"):
        dk.attach(build(), target_modules="attention", r=2)


def test_blocks_that_are_left_out_on_purpose_are_not_named(recwarn):
    dk.attach(mllama(), target_modules="attention", r=2, layers_to_transform=[0])
    dk.attach(mllama(), target_modules="attention", r=2, exclude_modules=r".*\.2\..*")
    dk.attach(mllama(), target_modules=["q_proj"], r=2)
    assert not recwarn.list


def test_only_cross_attention_is_no_attention():
    with pytest.raises(ValueError, match="'attention' finds no query and value here: name the layers"):
        dk.attach(nn.ModuleList([BothReadMemory()]), target_modules="attention", r=2)
