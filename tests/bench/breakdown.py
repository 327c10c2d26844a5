"""Where the time goes in what stays above its goal: a step, a layer, one that writes, a sweep, the update.

python tests/bench/breakdown.py
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))
from bench.models import SHAPES, batch_of, bert, filled, nested, only_biases
from bench.rounds import take_turns

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.core.low_rank_product import PlainProduct, plain_product
from dylora_kit.tasks import digits

CALLS, ROUNDS, R = 20, 40, 8


class Context:
    """What autograd hands a function, without autograd."""

    needs_input_grad = (True, False, False, True, True)

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for the backward."""
        self.saved_tensors = tensors


def microseconds(methods: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median time of a call of each method; they take turns."""

    def repeated(call: Callable[[], object]) -> Callable[[int], None]:
        def calls(_: int) -> None:
            for _ in range(CALLS):
                call()

        return calls

    costs = take_turns({name: repeated(call) for name, call in methods.items()}, [R], ROUNDS)
    return {name: 1e6 * statistics.median(cost.wall for cost in of) / CALLS for name, of in costs.items()}


def layers(width: int, r: int = R) -> tuple[Any, Any, Any]:
    """A frozen linear layer, PEFT's LoRA on it, and ours."""
    torch.manual_seed(0)
    base = nn.Linear(width, width).requires_grad_(False)
    config = peft.LoraConfig(r=r, lora_alpha=16, target_modules=["0"])
    theirs = peft.get_peft_model(nn.Sequential(base), config).base_model.model[0]
    ours = nn.Sequential(base)
    filled(dk.attach(ours, r=r, lora_alpha=16, target_modules=["0"]))
    return base, theirs, ours[0]


def training(tokens: int, width: int, r: int = R) -> dict[str, float]:
    """Forward and backward of a layer, for inputs and adapters; of our function; of its operations alone."""
    base, theirs, ours = layers(width, r)
    x, grad = torch.randn(tokens, width, requires_grad=True), torch.randn(tokens, width)
    numbers = x, base.weight, base.bias, ours.lora_A, ours.lora_B, r, False, 2.0

    def directly() -> None:
        with torch.no_grad():
            context = Context()
            PlainProduct.forward(context, *numbers)
            PlainProduct.backward(context, grad)

    their_matrices = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight
    our_matrices = ours.lora_A, ours.lora_B
    return microseconds(
        {
            "a frozen layer": lambda: torch.autograd.grad(base(x), x, grad),
            "PEFT's layer": lambda: torch.autograd.grad(theirs(x), (x, *their_matrices), grad),
            "our layer": lambda: torch.autograd.grad(ours(x), (x, *our_matrices), grad),
            "its function": lambda: torch.autograd.grad(PlainProduct.apply(*numbers), (x, *our_matrices), grad),
            "its operations": directly,
        }
    )


@torch.inference_mode()
def writing(width: int) -> dict[str, float]:
    """Forward of a layer for one token, without autograd."""
    base, theirs, ours = layers(width)
    x = torch.randn(1, 1, width)
    return microseconds(
        {
            "a frozen layer": lambda: base(x),
            "PEFT's layer": lambda: theirs(x),
            "our layer": lambda: ours(x),
            "its operations": lambda: plain_product(x, base.weight, base.bias, ours.lora_A, ours.lora_B, R, 2.0),
        }
    )


def parts_of_a_step(name: str) -> dict[str, float]:
    """Forward, backward and update of a whole step at rank 4, of ours and of the limit, in milliseconds."""
    base, batch = bert(SHAPES[name]), batch_of(SHAPES[name])
    model, adapters = nested(base, R)
    adapters.rank = R // 2
    bare, biases = only_biases(base)
    optimizers = dk.NestedAdamW(adapters, lr=1e-3), torch.optim.AdamW(biases, lr=1e-3, foreach=True)
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for who, one, optimizer in (("ours", model, optimizers[0]), ("limit", bare, optimizers[1])):
            optimizer.zero_grad()
            marks = [time.perf_counter()]
            loss = one(**batch).loss
            marks.append(time.perf_counter())
            loss.backward()
            marks.append(time.perf_counter())
            optimizer.step()
            marks.append(time.perf_counter())
            for part, (start, end) in zip(("forward", "backward", "update"), pairwise(marks), strict=True):
                times.setdefault(f"{part}, {who}", []).append(1000 * (end - start))
    return {name: statistics.median(of) for name, of in times.items()}


def sweeping() -> dict[str, float]:
    """A sweep of digits at eight ranks; the forwards alone; with the loss of the model, in milliseconds."""
    model, task = backbones.load("digits-vit"), digits.load("turned").test
    adapters = dk.attach(model, r=R, target_modules=["q_proj", "v_proj"])
    batches = [task[start : start + 64] for start in range(0, len(task), 64)]

    def forwards(labels: bool) -> None:
        with torch.inference_mode():
            for batch in batches:
                for b in range(1, R + 1):
                    adapters.rank = b
                    model(**(batch if labels else {"pixel_values": batch["pixel_values"]}))

    methods: dict[str, Callable[[int], object]] = {
        "forwards": lambda _: forwards(False),
        "with the loss": lambda _: forwards(True),
        "accuracy": lambda _: dk.sweep(model, adapters, task, batch_size=64, progress=False),
        "accuracy and loss": lambda _: dk.sweep(model, adapters, task, metric=("accuracy", "loss"), batch_size=64,
                                                progress=False),
    }  # fmt: skip
    model.eval()
    costs = take_turns(methods, [R], 8)
    return {name: 1000 * statistics.median(cost.wall for cost in of) for name, of in costs.items()}


def update(count: int = 24, width: int = 768) -> dict[str, float]:
    """The share of each of torch's operations in the exact update, in percent; the largest first."""
    from torch.profiler import ProfilerActivity, profile

    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(width, width) for _ in range(count)])
    adapters = filled(dk.attach(model, r=R, target_modules=[str(index) for index in range(count)]))
    optimizer = dk.NestedAdamW(adapters, lr=1e-3, weight_decay=0.01)
    for parameter in adapters.nested_parameters():
        parameter.grad = torch.randn_like(parameter)
    for _ in range(3):
        optimizer.step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(20):
            optimizer.step()
    events = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    whole = sum(events.values())
    return {key: 100 * time / whole for key, time in sorted(events.items(), key=lambda pair: -pair[1])[:10]}


def main() -> None:
    torch.set_num_threads(1)
    for what, found in (
        ("training, 8 tokens, width 128, µs", training(8, 128)),
        ("training, 64 tokens, width 384, µs", training(64, 384)),
        ("training, 1,024 tokens, width 384, r = 256, µs", training(1024, 384, 256)),
        ("a step, mini, ms", parts_of_a_step("mini")),
        ("a step, minilm, ms", parts_of_a_step("minilm")),
        ("eight ranks, digits, ms", sweeping()),
        ("writing, one token, width 576, µs", writing(576)),
        ("update, 24 adapters of 768, % of its time", update()),
    ):
        print(f"{what}: " + ", ".join(f"{name} {number:.1f}" for name, number in found.items()))


if __name__ == "__main__":
    main()
