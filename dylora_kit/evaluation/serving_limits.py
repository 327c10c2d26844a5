"""Which ranks two engines serve. Facts of other projects, read on 29 November 2026: they may change.

vLLM (`vllm/config/lora.py`, 0.14 and later): `max_lora_rank` is one of `VLLM`, 16 if it is not given, and an adapter
of a higher rank is refused. SGLang (its page on LoRA serving): `--max-lora-rank` may be any number, and is by default
the largest rank of the adapters that the server starts with; there is no fixed limit.
"""

VLLM = (1, 8, 16, 32, 64, 128, 256, 320, 512)
VLLM_DEFAULT = 16
READ = "November 2026"


def vllm_max_lora_rank(rank: int) -> int | None:
    """The smallest `max_lora_rank` of vLLM that takes an adapter of a rank; None if there is none.

    >>> vllm_max_lora_rank(3), vllm_max_lora_rank(16), vllm_max_lora_rank(513)
    (8, 16, None)
    """
    return next((limit for limit in VLLM if rank <= limit), None)


def serving(rank: int) -> str:
    """What the two engines need to be told to serve an adapter of a rank, as sentences.

    >>> serving(17).split(" SGLang ")[0]
    'vLLM serves it with max_lora_rank=32 or more: its default, 16, is too small.'
    """
    limit = vllm_max_lora_rank(rank)
    if limit is None:
        vllm = f"vLLM does not serve rank {rank}: its largest max_lora_rank is {VLLM[-1]}."
    elif rank <= VLLM_DEFAULT:
        less = f", and {limit} will do" if limit < VLLM_DEFAULT else ""
        vllm = f"vLLM serves it as it is: its default, max_lora_rank={VLLM_DEFAULT}, is enough{less}."
    else:
        vllm = f"vLLM serves it with max_lora_rank={limit} or more: its default, {VLLM_DEFAULT}, is too small."
    return (
        f"{vllm} SGLang has no fixed limit; give it --max-lora-rank {rank} or more if it starts without this adapter "
        f"({READ})."
    )
