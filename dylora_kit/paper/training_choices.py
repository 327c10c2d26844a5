"""The design choices of DyLoRA (the paper's Tables 4 and 7, section 5.8): which rows a step updates, how b is drawn,
what is minimised.

Each choice has the same steps and batches, and the same learning rate, where that is not the choice; what a training
costs is measured in `cpu_seconds`.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank import Rank
from dylora_kit.paper.compared_methods import DYLORA, FROZEN, Build, trained
from dylora_kit.paper.embedded import load, made_of, measure
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.settings import MEASURED, SEEDS, SHORT, R, seconds_per_step
from dylora_kit.tasks import Task
from dylora_kit.training.objectives import Objective, individual_loss, mixed_loss, summation_in_one, summation_loss
from dylora_kit.training.sampling import Categorical, Geometric, RankSampler, Uniform


def sandwich(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
    """The smallest and the largest rank in each step, beside the drawn one (Yu and Huang 2019). Three passes.

    >>> sandwich(3, RankSampler(Uniform(1, 8), seed=0), batch_size=32)[1]
    (0.3333333333333333, 3)
    """
    return [(1 / 3, rank) for rank in (sampler.distribution.lo, b, sampler.distribution.hi)]


ONLY_B = {"method": FROZEN}
WAYS: dict[str, dict[str, Any]] = {
    "exact": {},
    "as the authors": {"update": "authors"},
    "exact, lr / √frequency": {"lr_exponent": 0.5},
    "exact, lr / frequency": {"lr_exponent": 1.0},
    "exact, twice the steps": {"longer": 2},
    "exact, rows at 2 lr": {"faster": 2},
    "as the authors, rows at 2 lr": {"update": "authors", "faster": 2},
    "exact, decay 0.1": {"weight_decay": 0.1},
    "as the authors, decay 0.1": {"update": "authors", "weight_decay": 0.1},
}
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "updates": {
        **{f"rows 1 … b, {name}": how for name, how in WAYS.items()},
        **{f"row b, {name}": how | ONLY_B for name, how in WAYS.items()},
        "row b, exact, four times the steps": {"longer": 4} | ONLY_B,
    },
    "distributions": {
        "uniform": {},
        "geometric 0.15": {"distribution": Geometric(0.15, 1, R)},
        "harmonic": {"distribution": Categorical({b: 1 / b for b in range(1, R + 1)})},
        "linear": {"distribution": Categorical({b: b for b in range(1, R + 1)})},
        "uniform 4 … 8": {"distribution": Uniform(4, R)},
        "uniform 1 … 4": {"distribution": Uniform(1, 4)},
        "1, a drawn one, and 8": {"objective": sandwich},
        "uniform, row b": ONLY_B,
        "geometric 0.15, row b": {"distribution": Geometric(0.15, 1, R)} | ONLY_B,
    },
    "objectives": {
        "individual": {},
        "summation": {"objective": summation_loss},
        "summation, one batch": {"objective": summation_in_one},
        "one rank for each example": {"objective": mixed_loss},
    },
}
WRITTEN_AS = {"lr_exponent": "evening"}  # what results files call it


def described(choice: dict[str, Any]) -> str:
    """A choice in words, to be kept with its results.

    >>> described({"objective": sandwich})
    'objective = sandwich'
    """
    words = [f"{WRITTEN_AS.get(key, key)} = {getattr(value, '__name__', value)}" for key, value in choice.items()]
    return "; ".join(words) or "as published"


def trained_by(
    choice: dict[str, Any], build: Build, task: Task, seed: int, *, steps: int, lr: float, **settings: Any
) -> tuple[nn.Module, Adapters]:
    """A training as a choice says it.

    Arguments:
        choice: arguments of `trained`, and perhaps `"longer"`, how many times the steps, and `"faster"`, how many times
            the learning rate of the adapters, while that of the head stays.
    """
    how: dict[str, Any] = {"method": DYLORA, "longer": 1, "faster": 1} | choice
    steps, rate = steps * how.pop("longer"), lr * how.pop("faster")
    return trained(build, task, seed=seed, steps=steps, lr=rate, head_lr=lr, **how, **settings)


def run(task: str, choice: dict[str, Any], seed: int, **settings: Any) -> pd.DataFrame:
    """One training, and the test split at every rank, also at those that were never drawn."""
    build, data = load(task)
    build()  # so that what it imports counts for nobody
    start = time.process_time()
    model, adapters = trained_by(choice, build, data, seed, **settings)
    seconds = round(time.process_time() - start, 1)
    frame = measure(task, data, model, adapters)
    return frame.drop(columns="method").assign(cpu_seconds=seconds)


def jobs(choices: str, task: str, seed: int, adapters: Path) -> list[Job]:
    """The trainings of one kind of choice on a task with a seed."""
    settings, made = SHORT[task], made_of(task)
    seconds = seconds_per_step(task) * settings["steps"]
    return [
        Job(
            {"task": task, "method": method},
            seed,
            settings | made | {"choice": described(choice)},
            partial(run, task, choice, seed, **settings),
            seconds * choice.get("longer", 1) * PASSES.get(choice.get("objective", individual_loss), 1),
        )
        for method, choice in CHOICES[choices].items()
    ]


PASSES: dict[Objective, int] = {
    summation_loss: R,
    summation_in_one: R,
    sandwich: 3,
}  # forward passes of a step, where it is not one


def _study(stem: str, choices: str) -> Study:
    return Study(stem, tuple(SHORT), MEASURED, lambda task: SEEDS, partial(jobs, choices))


DISTRIBUTIONS = _study("table4", "distributions")
OBJECTIVES = _study("table7", "objectives")
UPDATES = _study("updates", "updates")
