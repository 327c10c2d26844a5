"""The design choices of DyLoRA (the paper's Tables 4 and 7, section 5.8): which rows a step updates, how b is drawn,
what is minimised.

    python -m dylora_kit.paper.design updates            # into data/results/; goes on where it stopped
    python -m dylora_kit.paper.design distributions --tasks world-acceptability

Each choice has the same steps and batches, and the same learning rate, where that is not the choice; what a training
costs is measured in `cpu_seconds`.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from dylora_kit import backbones
from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank import Rank
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper import SEEDS, Job, collect, command, table, world
from dylora_kit.paper.compared_methods import DYLORA, FROZEN, Build, R, trained
from dylora_kit.storage.files import fingerprint
from dylora_kit.tasks import Task, digits
from dylora_kit.training.objectives import mixed_loss, summation_in_one, summation_loss
from dylora_kit.training.sampling import Categorical, Geometric, RankSampler, Uniform


def sandwich(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
    """The smallest and the largest rank in each step, beside the drawn one (Yu and Huang 2019). Three passes.

    >>> sandwich(3, RankSampler(Uniform(1, 8), seed=0), batch_size=32)[1]
    (0.3333333333333333, 3)
    """
    return [(1 / 3, rank) for rank in (sampler.distribution.lo, b, sampler.distribution.hi)]


ONLY_B = {"method": FROZEN}
UPDATES: dict[str, dict[str, Any]] = {
    "exact": {},
    "as the authors": {"update": "authors"},
    "exact, lr / √frequency": {"evening": 0.5},
    "exact, lr / frequency": {"evening": 1.0},
    "exact, twice the steps": {"longer": 2},
    "exact, rows at 2 lr": {"faster": 2},
    "as the authors, rows at 2 lr": {"update": "authors", "faster": 2},
}
CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "updates": {
        **{f"rows 1 … b, {name}": how for name, how in UPDATES.items()},
        **{f"row b, {name}": how | ONLY_B for name, how in UPDATES.items()},
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
FILES = {"updates": "updates", "distributions": "table4", "objectives": "table7"}
SETTINGS: dict[str, dict[str, Any]] = {
    "digits-turned": {"steps": 1000, "batch_size": 32, "lr": 4e-3},
    **{
        f"world-{part}": world.SETTINGS[part] | {"lr": world.rate(part, DYLORA)}
        for part in ("sentiment", "entailment", "acceptability")
    },
}


def made_of(name: str) -> dict[str, str]:
    """Which backbone and data a task's results are made of."""
    tier, _, part = name.partition("-")
    if tier == "digits":
        return {"backbone": fingerprint(backbones.data_folder() / "backbones" / "digits-vit" / "model.safetensors")}
    return world.made_of(part)


def described(choice: dict[str, Any]) -> str:
    """A choice in words, to be kept with its results.

    >>> described({"objective": sandwich})
    'objective = sandwich'
    """
    return "; ".join(f"{key} = {getattr(value, '__name__', value)}" for key, value in choice.items()) or "as published"


def load(name: str) -> tuple[Build, Task]:
    """What builds the model of a task, and the task."""
    tier, _, part = name.partition("-")
    if tier == "digits":
        return partial(backbones.load, "digits-vit"), digits.load(part)
    return partial(world.backbone, part), world.load(part)


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


def run(name: str, choice: dict[str, Any], seed: int, **settings: Any) -> pd.DataFrame:
    """One training, and the test split at every rank, also at those that were never drawn."""
    build, task = load(name)
    build()  # so that what it imports counts for nobody
    start = time.process_time()
    model, adapters = trained_by(choice, build, task, seed, **settings)
    seconds = round(time.process_time() - start, 1)
    frame = sweep(model, adapters, task.test, metric=task.metric, collate=task.collate, progress=False)
    return frame.drop(columns="method").assign(cpu_seconds=seconds)


def _main(arguments: argparse.Namespace) -> None:
    folder, found = arguments.out or backbones.data_folder() / "results", []
    for name in arguments.tasks:
        settings, made = SETTINGS[name], made_of(name)
        jobs = [
            Job(
                {"task": name, "method": method},
                seed,
                settings | made | {"choice": described(choice)},
                partial(run, name, choice, seed, **settings),
            )
            for seed in SEEDS
            for method, choice in CHOICES[arguments.choice].items()
        ]
        found.append(collect(folder / f"{FILES[arguments.choice]}-{name}.csv", jobs))
    print(table(pd.concat(found), ["task", "metric"]).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare ways to train a DyLoRA.")
    parser.add_argument("choice", choices=list(CHOICES), help="what is compared")
    parser.add_argument("--tasks", nargs="+", choices=list(SETTINGS), default=["digits-turned"])
    parser.add_argument("--out", type=Path, help="another folder than data/results")
    command(parser, _main)
