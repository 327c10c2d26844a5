"""Twelve tiny transformers with random weights, large enough that a wrong number shows in the outputs."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import Tensor, nn

D, LAYERS, HEADS, WORDS = 32, 2, 4, 50
KV = 16  # outputs of k and of v where two heads share them (Llama, Phi-3)
SMALL = {
    "hidden_size": D,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "vocab_size": WORDS,
}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def _make(config: str, model: str, **options: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, model)(getattr(transformers, config)(**options))


GPT2 = {"n_embd": D, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": WORDS, "n_positions": 40} | SPECIAL
GPT = {"hidden_size": D, "n_layer": 1, "n_head": HEADS}
FALCON = {"hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": HEADS}
QWEN = (
    SMALL
    | SPECIAL
    | {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 4,
    }
)
VIT = {name: value for name, value in SMALL.items() if name != "vocab_size"}
BUILDERS = {
    "roberta": _make("RobertaConfig", "RobertaForSequenceClassification", **SMALL, max_position_embeddings=40),
    "bert": _make("BertConfig", "BertForSequenceClassification", **SMALL),
    "distilbert": _make(
        "DistilBertConfig",
        "DistilBertForSequenceClassification",
        dim=D,
        n_layers=LAYERS,
        n_heads=HEADS,
        hidden_dim=48,
        vocab_size=WORDS,
    ),
    "deberta": _make("DebertaV2Config", "DebertaV2ForSequenceClassification", **SMALL),
    "gpt2": _make("GPT2Config", "GPT2LMHeadModel", **GPT2),
    "neox": _make("GPTNeoXConfig", "GPTNeoXForCausalLM", **SMALL, **SPECIAL),
    "phi3": _make("Phi3Config", "Phi3ForCausalLM", **SMALL, **SPECIAL, num_key_value_heads=2),
    "opt": _make(
        "OPTConfig",
        "OPTForCausalLM",
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        ffn_dim=48,
        vocab_size=WORDS,
        word_embed_proj_dim=D,
        max_position_embeddings=40,
    ),
    "llama": _make("LlamaConfig", "LlamaForCausalLM", **SMALL, **SPECIAL, num_key_value_heads=2),
    "t5": _make(
        "T5Config",
        "T5ForConditionalGeneration",
        d_model=D,
        d_kv=8,
        d_ff=48,
        num_layers=LAYERS,
        num_heads=HEADS,
        vocab_size=WORDS,
        decoder_start_token_id=0,
    ),
    "vit": _make("ViTConfig", "ViTForImageClassification", **VIT, image_size=8, patch_size=4, num_channels=1),
    "bart": _make(
        "BartConfig",
        "BartForConditionalGeneration",
        d_model=D,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        vocab_size=WORDS,
        max_position_embeddings=40,
        **SPECIAL,
    ),
    # for single tests
    "gpt2-cross": _make("GPT2Config", "GPT2LMHeadModel", **GPT2, add_cross_attention=True),
    "gpt2-score": _make("GPT2Config", "GPT2ForSequenceClassification", **GPT2, num_labels=3),
    "japanese": _make(
        "GPTNeoXJapaneseConfig",
        "GPTNeoXJapaneseForCausalLM",
        hidden_size=D,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        intermediate_multiple_size=1,
        vocab_size=WORDS,
        **SPECIAL,
    ),
    # fused projections
    "bloom": _make("BloomConfig", "BloomForCausalLM", **GPT, vocab_size=WORDS),
    "falcon": _make("FalconConfig", "FalconForCausalLM", **FALCON, vocab_size=WORDS),
    "falcon-alibi": _make("FalconConfig", "FalconForCausalLM", **FALCON, vocab_size=WORDS, alibi=True),
    "falcon-grouped": _make(
        "FalconConfig", "FalconForCausalLM", **FALCON, vocab_size=WORDS, new_decoder_architecture=True, num_kv_heads=2
    ),
    "falcon-heads": _make("FalconConfig", "FalconForCausalLM", **FALCON, vocab_size=WORDS, multi_query=False),
    "mpt": _make("MptConfig", "MptForCausalLM", d_model=D, n_layers=1, n_heads=HEADS, vocab_size=WORDS, max_seq_len=40),
    "codegen": _make("CodeGenConfig", "CodeGenForCausalLM", **(GPT2 | {"n_head": 8}), rotary_dim=4),
    "bigcode": _make("GPTBigCodeConfig", "GPTBigCodeForCausalLM", **GPT2),
    "bigcode-heads": _make("GPTBigCodeConfig", "GPTBigCodeForCausalLM", **GPT2, multi_query=False),
    "bigcode-cross": _make(
        "GPTBigCodeConfig", "GPTBigCodeForCausalLM", **GPT2, multi_query=False, add_cross_attention=True
    ),
    "persimmon": _make("PersimmonConfig", "PersimmonForCausalLM", **SMALL, **SPECIAL, max_position_embeddings=40),
    "modernbert": _make(
        "ModernBertConfig",
        "ModernBertForMaskedLM",
        **SMALL,
        max_position_embeddings=40,
        pad_token_id=0,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "qwen3-next": _make(
        "Qwen3NextConfig",
        "Qwen3NextForCausalLM",
        **QWEN,
        num_experts=0,
        decoder_sparse_step=100,
        mlp_only_layers=[0, 1],
    ),
    "qwen3.5": _make("Qwen3_5TextConfig", "Qwen3_5ForCausalLM", **QWEN),
}
ARCHITECTURES = list(BUILDERS)[:12]
FUSED = ["gpt2", "neox", "phi3"]
SPLIT = [  # fused projections beside these
    "bloom", "falcon", "falcon-alibi", "falcon-grouped", "falcon-heads", "mpt", "codegen", "bigcode", "bigcode-heads",
    "persimmon", "modernbert", "qwen3-next", "qwen3.5",
]  # fmt: skip
CLASSIFIERS = ["roberta", "bert", "distilbert", "deberta", "vit"]


def build(name: str, seed: int = 0) -> Any:
    """A seeded model in evaluation mode whose outputs are of size 1: also the head, and biases, are random."""
    with torch.random.fork_rng([]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        model = BUILDERS[name]().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=parameter[0].numel() ** -0.5)
                else:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def inputs(name: str, n: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """A batch for a model."""
    generator = torch.Generator().manual_seed(seed)
    if name == "vit":
        return {"pixel_values": torch.randn(n, 1, 8, 8, generator=generator)}
    ids = torch.randint(3, WORDS, (n, 7), generator=generator)
    if name == "gpt2-score":
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {"input_ids": ids} | ({"decoder_input_ids": ids.flip(1)} if name in ("t5", "bart") else {})


def logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """What a model answers, without gradients."""
    with torch.no_grad():
        return model(**batch).logits


def picture(model: nn.Module) -> dict[str, Any]:
    """All that attaching, or importing, must leave as it was when it fails."""
    return {
        "modules": [(name, id(one), type(one).__name__) for name, one in model.named_modules(remove_duplicate=False)],
        "parameters": [(name, id(p), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)],
        "modes": [module.training for module in model.modules()],
        "values": {name: tensor.clone() for name, tensor in model.state_dict().items()},
    }


@contextmanager
def calm() -> Iterator[None]:
    """A block in which PEFT's warnings are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
