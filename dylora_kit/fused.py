"""Fused projections: which outputs of GPT-2's, GPT-NeoX's or Phi-3's one attention projection are q, k and v."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

ADAPTED = ("q", "v")  # what is adapted when the whole projection is named, as in the paper
FUSED_NAMES = ("c_attn", "query_key_value", "qkv_proj", "qkv", "Wqkv", "wqkv", "W_pack", "in_proj_qkv", "c_attn_qkv")

Parts = dict[str, Sequence[int]]


def _gpt2(attention: Any, d_out: int) -> Parts:
    size = attention.split_size
    names = "kv" if attention.is_cross_attention else "qkv"
    return {name: range(index * size, (index + 1) * size) for index, name in enumerate(names)}


def _gpt_neox(attention: Any, d_out: int) -> Parts:
    size = attention.head_size  # each head has its q, its k and its v, one after another
    heads = range(d_out // (3 * size))
    return {
        name: [3 * size * head + size * place + one for head in heads for one in range(size)]
        for place, name in enumerate("qkv")
    }


def _phi3(attention: Any, d_out: int) -> Parts:
    queries = attention.config.num_attention_heads * attention.head_dim
    keys = attention.num_key_value_heads * attention.head_dim
    return {"q": range(queries), "k": range(queries, queries + keys), "v": range(queries + keys, queries + 2 * keys)}


SPLITS: dict[tuple[str, str], Callable[[Any, int], Parts]] = {
    ("GPT2Attention", "c_attn"): _gpt2,
    ("GPTNeoXAttention", "query_key_value"): _gpt_neox,
    ("Phi3Attention", "qkv_proj"): _phi3,
}


def parts_of(model: nn.Module, name: str) -> Parts | None:
    """The outputs of each part of the projection called `name`; None if it is not a fused one whose split is known.

    >>> parts_of(nn.Sequential(nn.Linear(2, 6)), "0") is None
    True
    """
    parent_name, _, own = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    split = SPLITS.get((type(parent).__name__, own))
    if split is None:
        return None
    module = model.get_submodule(name)
    d_out = int(getattr(module, "nf", 0) or getattr(module, "out_features", 0))
    parts = split(parent, d_out)
    if sum(len(outputs) for outputs in parts.values()) != d_out:
        raise ValueError(f"{name!r} has {d_out} outputs, which do not split into {', '.join(parts)} as they should")
    return parts


def check_split_known(model: nn.Module, name: str) -> None:
    """Raises `ValueError` for a projection that is fused by its name, and whose split nobody told us."""
    own = name.rpartition(".")[2]
    if own in FUSED_NAMES and parts_of(model, name) is None:
        kind = type(model.get_submodule(name.rpartition(".")[0])).__name__
        raise ValueError(
            f"{name!r} looks like a fused projection, and how {kind} splits it is not known here: "
            "pass split_fused=False to adapt it as one layer"
        )
