"""Time of a training step: DyLoRA against PEFT's LoRA and against the bare limit. Run by hand, on a quiet machine.

python tests/bench/training_step.py --shape mini
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import peft
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import dylora_kit as dk

R, TARGETS = 8, ["query", "value"]
# layers, width, heads, intermediate, batch, tokens, rounds, wanted ratio to PEFT, wanted ratio to the limit
SHAPES = {
    "mini": (4, 128, 4, 512, 32, 32, 40, 0.92, 1.06),
    "minilm": (6, 384, 12, 1536, 32, 32, 12, 0.95, 1.03),
    "base": (12, 768, 12, 3072, 8, 64, 8, 0.96, 1.03),
}
METHODS = ("DyLoRA", "PEFT LoRA", "q/v biases only")


def backbone(shape: str, dropout: float) -> nn.Module:
    layers, width, heads, intermediate, *_ = SHAPES[shape]
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=2000,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=intermediate,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            num_labels=2,
        )
    ).train()


def stepper(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    return step


def methods(shape: str, dropout: float) -> list[Callable[[int], None]]:
    """One training step at rank b for each of the three; the two others ignore b."""
    base = backbone(shape, dropout)
    size, tokens = SHAPES[shape][4:6]
    batch = {"input_ids": torch.randint(0, 2000, (size, tokens)), "labels": torch.randint(0, 2, (size,))}

    nested = copy.deepcopy(base)
    adapters = dk.attach(nested, r=R, lora_alpha=16, target_modules=TARGETS)
    nested_step = stepper(nested, dk.NestedAdamW(adapters, lr=1e-3), batch)

    def dylora(b: int) -> None:
        adapters.rank = b
        nested_step()

    lora = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(r=R, lora_alpha=16, target_modules=TARGETS))
    trained = [p for p in lora.parameters() if p.requires_grad]
    lora_step = stepper(lora.train(), torch.optim.AdamW(trained, lr=1e-3, foreach=True), batch)

    base.requires_grad_(False)
    ends = tuple(f"{target}.bias" for target in TARGETS)
    biases = [p.requires_grad_() for name, p in base.named_parameters() if name.endswith(ends)]
    bare_step = stepper(base, torch.optim.AdamW(biases, lr=1e-3, foreach=True), batch)
    return [dylora, lambda b: lora_step(), lambda b: bare_step()]


def measure(shape: str, rounds: int, dropout: float) -> list[list[float]]:
    """Seconds per step of each method in each round. A round runs every b once, the methods taking turns."""
    steps = methods(shape, dropout)
    for b in (1, R):
        for step in steps:
            step(b)
    times: list[list[float]] = [[] for _ in steps]
    for number in range(rounds):
        total = [0.0] * len(steps)
        for b in (torch.randperm(R) + 1).tolist():
            for turn in range(len(steps)):
                method = (turn + b + number) % len(steps)
                start = time.perf_counter()
                steps[method](b)
                total[method] += time.perf_counter() - start
        for column, seconds in zip(times, total, strict=True):
            column.append(seconds / R)
    return times


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="mini")
    parser.add_argument("--rounds", type=int, help="of eight steps per method")
    parser.add_argument("--dropout", type=float, default=0.0, help="of the backbone (BERT has 0.1)")
    parser.add_argument("--threads", type=int, help="1 gives steadier ratios where others use the CPU too")
    arguments = parser.parse_args()
    shape = arguments.shape
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    *_, rounds, to_peft, to_limit = SHAPES[shape]
    times = measure(shape, arguments.rounds or rounds, arguments.dropout)
    print(
        f"{shape}, backbone dropout {arguments.dropout}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    for name, column in zip(METHODS, times, strict=True):
        print(f"  {name:<16} {1000 * statistics.median(column):8.2f} ms per step")
    print("ratios per round: median (quartiles)")
    nested, lora, bare = times
    rows = (
        ("DyLoRA / PEFT LoRA", nested, lora, f"≤ {to_peft}"),
        ("DyLoRA / limit", nested, bare, f"≤ {to_limit}"),
        ("PEFT LoRA / limit", lora, bare, ""),
    )
    for name, above, below, wanted in rows:
        print(f"  {name:<19} {spread([a / b for a, b in zip(above, below, strict=True)])}   {wanted}")


if __name__ == "__main__":
    main()
