"""Generation token by token, and a sweep over all ranks."""

from typing import Any

import torch
from bench.models import Shape, batch_of, bert, causal, nested, with_peft
from bench.rounds import Cost, take_turns
from torch.utils.data import Dataset

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.tasks import digits

NONE = "no adapter"


def generation(name: str, rounds: int, tokens: int = 16) -> dict[str, list[Cost]]:
    """Costs of writing a text, of one model: without an adapter, with PEFT's, and with ours in five states."""
    base, targets = causal(name)
    base.generation_config.eos_token_id = None  # all write equally many tokens
    models: dict[str, Any] = {NONE: base, "PEFT LoRA": with_peft(base, 8, targets).eval()}
    ours, adapters = nested(base, 8, targets)
    merged, other = nested(base, 8, targets)
    other.merge(rank=8)
    prompt = torch.randint(5, 200, (1, 12))

    def write(model: Any, rows: int = 1) -> None:
        ids = prompt.expand(rows, -1)
        mask = torch.ones_like(ids)
        with torch.inference_mode():
            model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0)

    def at(rank: Any, rows: int = 1) -> None:
        adapters.rank = rank
        write(ours, rows)

    def switching(_: int) -> None:
        ids, cache = prompt, None
        with torch.inference_mode():
            for step in range(tokens):
                adapters.rank = 1 + step % 8
                out = ours(input_ids=ids, past_key_values=cache, use_cache=True)
                ids, cache = out.logits[:, -1:].argmax(-1), out.past_key_values

    def not_switching(_: int) -> None:
        ids, cache = prompt, None
        with torch.inference_mode():
            for _ in range(tokens):
                out = base(input_ids=ids, past_key_values=cache, use_cache=True)
                ids, cache = out.logits[:, -1:].argmax(-1), out.past_key_values

    methods = {name: (lambda _, model=model: write(model)) for name, model in models.items()}
    methods |= {
        "rank 8": lambda _: at(8),
        "rank 2": lambda _: at(2),
        "merged": lambda _: write(merged),
        "no adapter, eight rows": lambda _: write(base, 8),
        "a rank for each of eight rows": lambda _: at(torch.arange(1, 9), 8),
        "no adapter, token by token": not_switching,
        "another rank at each token": switching,
    }
    return take_turns(methods, [0], rounds)


def sweep(name: str, rounds: int) -> dict[str, list[Cost]]:
    """Costs of a sweep over eight ranks, and of eight forward passes of the same adapted model over the same data."""
    if name == "digits-vit":
        model, data = backbones.load("digits-vit"), digits.load("turned").test
        adapters = dk.attach(model, r=8, target_modules=["q_proj", "v_proj"])
    else:
        shape = Shape(6, 384, 12, 128, 32)
        model, adapters = nested(bert(shape).eval(), 8)
        data = _Rows(batch_of(shape))
    batches = [torch.utils.data.default_collate([data[i] for i in range(start, min(start + 64, len(data)))])
               for start in range(0, len(data), 64)]  # fmt: skip

    def forwards(_: int) -> None:
        model.eval()
        with torch.inference_mode():
            for batch in batches:
                for b in range(1, 9):
                    adapters.rank = b
                    model(**{key: value for key, value in batch.items() if key != "labels"})

    methods = {
        "sweep": lambda _: dk.sweep(model, adapters, data, batch_size=64),
        "forwards": forwards,
    }
    return take_turns(methods, [0], rounds)


class _Rows(Dataset[dict[str, Any]]):
    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["labels"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: value[index] for key, value in self.batch.items()}
