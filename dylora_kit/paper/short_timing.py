"""A few steps before a study starts, so that it can say how long it takes on this machine, and how much it writes."""

import time
from functools import cache
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import Subset

from dylora_kit.core.adapters import Adapters
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper.compared_methods import LORA, Build, head_of, trained
from dylora_kit.paper.embedded import load
from dylora_kit.paper.settings import SEEDS, seconds_per_step
from dylora_kit.tasks import Task

BYTES = 12  # of a checkpoint, for each trained number: itself and AdamW's two moments, four bytes each
TIMED = {"digits": ("digits-turned", 40), "world": ("world-acceptability", 12)}  # a task of each kind, and its steps


class Timing(NamedTuple):
    """What one training takes: seconds of a step, of one example that is measured at one rank, and bytes on disk."""

    per_step: float
    per_example: float
    disk: int


def timed(build: Build, task: Task, batch_size: int, *, steps: int = 4) -> Timing:
    """What a LoRA's training takes here: the median of some steps after the first one, which is slower.

    Nothing of it remains: model and adapters are its own, and the random state is what it was.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time  # a core may have other work
    ends: list[float] = []
    numbers = 0

    def note(_: int, model: nn.Module, __: Adapters) -> None:
        nonlocal numbers
        ends.append(clock())
        numbers = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

    model, adapters = trained(build, task, LORA, SEEDS[0], steps=steps, batch_size=batch_size, after_step=note)
    some = range(0, len(task.test), len(task.test) // 32 + 1)
    start = clock()
    if head_of(model):  # what writes texts is timed by them
        sweep(model, adapters, Subset(task.test, some), metric="loss", ranks=[1], collate=task.collate,
              progress=False)  # fmt: skip
    per_example = (clock() - start) / len(some)
    return Timing(median(end - start for start, end in pairwise(ends)), per_example, BYTES * numbers)


@cache
def slowness(kind: str) -> float:
    """How long a step of the embedded tier takes here, where 1 is what `seconds_per_step` says.

    Arguments:
        kind: `"digits"` or `"world"`.
    """
    name, steps = TIMED[kind]
    build, task = load(name)
    return timed(build, task, 32, steps=steps).per_step / seconds_per_step(name)
