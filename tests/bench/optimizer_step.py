"""Time of the exact optimizer step against torch's AdamW, and of setting the rank. Run by hand, on a quiet machine.

python tests/bench/optimizer_step.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import dylora_kit as dk

LAYERS, WIDTH, R, ROUNDS = 24, 768, 8, 60


def seconds(function: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times


def optimizer_ratios() -> tuple[list[float], list[float], list[float]]:
    """Seconds of the exact step and of AdamW, and their ratio, per round; a round has every b once."""
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)])
    adapters = dk.attach(model, r=R, target_modules=[str(index) for index in range(LAYERS)])
    exact = dk.NestedAdamW(adapters, lr=1e-3, weight_decay=0.01)
    copies = [p.detach().clone().requires_grad_() for p in exact.param_groups[0]["params"]]
    plain = torch.optim.AdamW(copies, lr=1e-3, weight_decay=0.01, foreach=True)
    x = torch.randn(4, WIDTH)
    nested_times, plain_times = [], []
    for number in range(ROUNDS + 2):
        nested, torch_own = 0.0, 0.0
        for b in range(1, R + 1):
            adapters.rank = b
            exact.zero_grad()
            model(x).square().mean().backward()
            for copy, parameter in zip(copies, exact.param_groups[0]["params"], strict=True):
                copy.grad = parameter.grad.clone()
            if (b + number) % 2:
                nested += seconds(exact.step, 1)
                torch_own += seconds(plain.step, 1)
            else:
                torch_own += seconds(plain.step, 1)
                nested += seconds(exact.step, 1)
        if number >= 2:
            nested_times.append(nested / R)
            plain_times.append(torch_own / R)
    return nested_times, plain_times, [a / b for a, b in zip(nested_times, plain_times, strict=True)]


def set_rank_times() -> list[float]:
    model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)])
    adapters = dk.attach(model, r=R, target_modules=[str(index) for index in range(LAYERS)])

    def walk() -> None:
        for b in range(1, R + 1):
            adapters.rank = b

    return [seconds(walk, 100) / R for _ in range(ROUNDS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="1 gives steadier ratios where others use the CPU too")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    nested, plain, ratios = optimizer_ratios()
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{LAYERS} adapters of {WIDTH}, r = {R}, torch {torch.__version__}, threads: {torch.get_num_threads()}")
    print(f"  exact step          {1000 * statistics.median(nested):.3f} ms")
    print(f"  AdamW(foreach=True) {1000 * statistics.median(plain):.3f} ms")
    print(f"  ratio per round     {middle:.3f} ({low:.3f} to {high:.3f})   ≤ 1.5")
    print(f"  set the rank        {1e6 * statistics.median(set_rank_times()):.2f} µs   ≤ 20")


if __name__ == "__main__":
    main()
