"""Which outputs of an architecture's fused projection are query, key and value, as its attention takes them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Parts = dict[str, Sequence[int]]  # the outputs of each part, by its name


def _in_groups(groups: int, sizes: Mapping[str, int]) -> Parts:
    """The outputs are groups of equal size, one after another; in each, the parts have these sizes, in this order.

    >>> {name: list(outputs) for name, outputs in _in_groups(2, {"q": 2, "v": 1}).items()}
    {'q': [0, 1, 3, 4], 'v': [2, 5]}
    """
    width, start = sum(sizes.values()), 0
    parts: Parts = {}
    for name, size in sizes.items():
        outputs = [group * width + start + offset for group in range(groups) for offset in range(size)]
        parts[name] = range(start, start + size) if groups == 1 else outputs
        start += size
    return parts


def _gpt2(attention: Any, d_out: int) -> Parts:
    """q, k and v one after another; k and v in cross-attention."""
    return _in_groups(1, dict.fromkeys("kv" if attention.is_cross_attention else "qkv", attention.split_size))


def _thirds(attention: Any, d_out: int) -> Parts:
    """q, k and v one after another, all of one size (MPT, ModernBERT)."""
    return _in_groups(1, dict.fromkeys("qkv", d_out // 3))


def _head_by_head(size: int, d_out: int) -> Parts:
    """Head after head, each with its q, its k and its v."""
    return _in_groups(d_out // (3 * size), dict.fromkeys("qkv", size))


def _falcon(attention: Any, d_out: int) -> Parts:
    """Group after group, each with its heads of q and one head of k and of v; head by head without multi-query."""
    size = attention.head_dim
    if attention.new_decoder_architecture:
        groups = attention.num_kv_heads
    elif attention.multi_query:
        groups = 1
    else:
        return _head_by_head(size, d_out)
    return _in_groups(groups, {"q": attention.num_heads // groups * size, "k": size, "v": size})


def _phi3(attention: Any, d_out: int) -> Parts:
    """q, k and v one after another; k and v may have fewer heads than q."""
    keys = attention.num_key_value_heads * attention.head_dim
    return _in_groups(1, {"q": attention.config.num_attention_heads * attention.head_dim, "k": keys, "v": keys})


def _codegen(attention: Any, d_out: int) -> Parts:
    """Four groups, one for each core of the device it was trained on, each with its q, its v and its k."""
    return _in_groups(4, dict.fromkeys("qvk", attention.head_dim * attention.num_attention_heads // 4))


def _bigcode(attention: Any, d_out: int) -> Parts:
    """q of all heads, one head of k, one of v; head by head without multi-query."""
    if attention.is_cross_attention:
        return {}
    if attention.multi_query:
        return _in_groups(1, {"q": attention.embed_dim, "k": attention.kv_dim, "v": attention.kv_dim})
    return _head_by_head(attention.head_dim, d_out)


def _delta_net(layer: Any, d_out: int) -> Parts:
    """q, k and v one after another."""
    return _in_groups(1, {"q": layer.key_dim, "k": layer.key_dim, "v": layer.value_dim})


def _delta_net_gated(layer: Any, d_out: int) -> Parts:
    """For each head of q and k: its q, its k, and the heads of v and of the gate z that belong to it."""
    values = layer.num_v_heads // layer.num_k_heads * layer.head_v_dim
    return _in_groups(layer.num_k_heads, {"q": layer.head_k_dim, "k": layer.head_k_dim, "v": values, "z": values})


def _gated_query(attention: Any, d_out: int) -> Parts:
    """For each head its q, and the gate of its output."""
    return _in_groups(d_out // (2 * attention.head_dim), {"q": attention.head_dim, "gate": attention.head_dim})


# by the name of the attention's class, and of the projection in it
SPLITS: dict[tuple[str, str], Callable[[Any, int], Parts]] = {
    ("GPT2Attention", "c_attn"): _gpt2,
    ("GPTBigCodeAttention", "c_attn"): _bigcode,
    ("GPTNeoXAttention", "query_key_value"): lambda attention, d_out: _head_by_head(attention.head_size, d_out),
    ("BloomAttention", "query_key_value"): lambda attention, d_out: _head_by_head(attention.head_dim, d_out),
    ("PersimmonAttention", "query_key_value"): lambda attention, d_out: _head_by_head(attention.head_dim, d_out),
    ("FalconAttention", "query_key_value"): _falcon,
    ("Phi3Attention", "qkv_proj"): _phi3,
    ("CodeGenAttention", "qkv_proj"): _codegen,
    ("MptAttention", "Wqkv"): _thirds,
    ("ModernBertAttention", "Wqkv"): _thirds,
    ("Qwen3NextAttention", "q_proj"): _gated_query,
    ("Qwen3NextGatedDeltaNet", "in_proj_qkvz"): _delta_net_gated,
    ("Qwen3_5Attention", "q_proj"): _gated_query,
    ("Qwen3_5GatedDeltaNet", "in_proj_qkv"): _delta_net,
    ("Qwen3_5MoeAttention", "q_proj"): _gated_query,
    ("Qwen3_5MoeGatedDeltaNet", "in_proj_qkv"): _delta_net,
}
