"""A few steps before a study starts, so that it can say how long it takes on this machine, and how much it writes."""

import time
from functools import cache
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from torch import nn

from dylora_kit.core.adapters import Adapters
from dylora_kit.paper.compared_methods import LORA, Build, trained
from dylora_kit.paper.embedded import load
from dylora_kit.paper.settings import SECONDS_PER_STEP, SEEDS
from dylora_kit.tasks import Task

BYTES = 12  # of a checkpoint, for each trained number: itself and AdamW's two moments, four bytes each
TIMED = {"digits": ("digits-turned", 40), "world": ("world-acceptability", 12)}  # a task of each kind, and its steps


class Timing(NamedTuple):
    """What one training takes: seconds of a step, and bytes of its checkpoint."""

    per_step: float
    disk: int


def timed(build: Build, task: Task, batch_size: int, *, steps: int = 4) -> Timing:
    """What a LoRA's training takes here: the median of some steps after the first one, which is slower.

    Nothing of it remains: model and adapters are its own, and the random state is what it was.
    """
    ends: list[float] = []
    numbers = 0

    def note(_: int, model: nn.Module, __: Adapters) -> None:
        nonlocal numbers
        ends.append(time.perf_counter())
        numbers = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)

    trained(build, task, LORA, SEEDS[0], steps=steps, batch_size=batch_size, after_step=note)
    return Timing(median(end - start for start, end in pairwise(ends)), BYTES * numbers)


@cache
def slowness(kind: str) -> float:
    """How long a step of the embedded tier takes here, where 1 is what `SECONDS_PER_STEP` says.

    Arguments:
        kind: `"digits"` or `"world"`.
    """
    name, steps = TIMED[kind]
    build, task = load(name)
    return timed(build, task, 32, steps=steps).per_step / SECONDS_PER_STEP[kind]
