"""Measures `STEP_TIMES` of dylora_kit/paper/settings.py: the kinds of steps take turns. Run by hand; minutes.

python tests/bench/arena.py digits-turned
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from rounds import Method, ratio, take_turns

from dylora_kit.baselines.in_place_distillation import InPlaceDistillation, sandwich_from_the_top
from dylora_kit.baselines.matryoshka import all_ranks_summed
from dylora_kit.paper.arena_candidates import Start
from dylora_kit.paper.nested_afterwards import POWERS, embedded
from dylora_kit.paper.settings import ARENA, SEEDS, R
from dylora_kit.training.objectives import individual_loss, mixed_loss, sandwich_loss, summation_in_one
from dylora_kit.training.sampling import Fixed, RankDistribution, Uniform
from dylora_kit.training.teacher import Teacher

STEPS, ROUNDS = 8, 12  # 8 steps of a kind in a turn
UNIFORM = Uniform(1, R)


def kinds(task: str) -> dict[str, Method]:
    """`{kind: function that takes STEPS steps of it}`."""
    start = Start(embedded(task), ARENA[task]["batch_size"], SEEDS[0], lr=1e-3)

    def of(objective: Callable, distribution: RankDistribution = UNIFORM, loss: Callable | None = None,
           bottleneck: str | None = None) -> Method:  # fmt: skip
        adapters = start.fresh(bottleneck=bottleneck)
        made = loss(adapters) if loss else None
        return lambda b: start.train(adapters, STEPS, distribution, objective, made)

    def summed(b: int) -> None:
        with all_ranks_summed(alpha_free, POWERS):
            start.train(alpha_free, STEPS, Fixed(R))

    alpha_free = start.fresh(lora_alpha=1)
    return {
        "individual": of(individual_loss),
        "a rank for each example": of(mixed_loss),
        "summation": of(summation_in_one),
        "sandwich": of(sandwich_loss),
        "sandwich, distilled": of(sandwich_from_the_top, loss=InPlaceDistillation),
        "parallel bottlenecks": of(individual_loss, bottleneck="parallel"),
        "houlsby bottlenecks": of(individual_loss, bottleneck="houlsby"),
        "MatryoshkaLoRA": summed,
        "LoRA": of(individual_loss, Fixed(R)),
        "nest": of(sandwich_loss, loss=Teacher),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        costs = take_turns(kinds(name), [R], ROUNDS)
        seconds = statistics.median(cost.cpu for cost in costs["individual"]) / STEPS
        print(f"{name}: a step of the individual loss takes {1000 * seconds:.1f} ms of CPU time")
        for kind in costs:
            print(f"  {kind}: {ratio(costs, kind, 'individual').cpu:.2f}", flush=True)
