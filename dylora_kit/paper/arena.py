"""The arena: which way to a model for every rank is best in the same time?

Every candidate has the CPU time of as many steps of the individual loss, and as many learning rates to choose from;
validation chooses, by the mean over the ranks, and test is only measured. How many steps fit into that time follows
from `STEP_TIMES`, so that budgets are the same on every machine; `cpu_seconds` is what it took here, all rates
together. `REFERENCES` have more time, and say what could be reached.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from dylora_kit.evaluation.aurac import aurac
from dylora_kit.paper.arena_candidates import (
    BOTTLENECKS,
    DISTILLED,
    ENTRIES,
    MATRYOSHKA,
    REFERENCES,
    WITH_P,
    Budget,
    Parts,
    Start,
    budget_of,
    cannot_take,
)
from dylora_kit.paper.compared_methods import SVD
from dylora_kit.paper.embedded import made_of
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.nested_afterwards import Case, embedded, real_case
from dylora_kit.paper.real_text import RealText
from dylora_kit.paper.results_files import WRITTEN, Rows, at_every_rank, results_of, title, with_metric
from dylora_kit.paper.runs import read_results
from dylora_kit.paper.settings import ARENA, CANDIDATES, SECONDS_PER_TEXT, SEEDS, STEP_TIMES, R, seconds_per_step
from dylora_kit.tasks import glue, world

# what cannot take a part of a fused projection, as world-gpt2 has one, or does not distil at every token
NOT_FOR_TEXTS = (*MATRYOSHKA.values(), *BOTTLENECKS.values(), DISTILLED)
METHODS = (*ENTRIES, SVD, *WITH_P.values())


def run(case: Callable[[], Case], budget: Budget, batch_size: int, entry: str, seed: int) -> pd.DataFrame:
    """A candidate's trainings at each learning rate, and the test split at every rank at the rate that was chosen.

    Ways that share a training choose for themselves. Raises `FloatingPointError` if the loss was finite at no rate.
    """
    here, candidate = case(), ENTRIES[entry]
    here.build()  # so that what it imports counts for nobody
    best: dict[str, tuple[float, float, Parts]] = {}
    spent = 0.0
    rates = candidate.rates or CANDIDATES
    for lr in rates:
        start = time.process_time()
        try:
            found = candidate.train(Start(here, batch_size, seed, lr), *candidate.steps(budget))
        except FloatingPointError:
            found = {}
        spent += time.process_time() - start
        for method, parts in found.items():
            frame = measured(here, parts, "validation")
            value = float(frame[frame["metric"] == here.task.metric]["value"].mean(skipna=False))
            if value > best.get(method, (float("-inf"),))[0]:
                best[method] = value, lr, parts
    if not best:
        name = here.task.name
        raise FloatingPointError(f"{entry} on {name}: the loss was finite at none of the rates {rates}")
    frames = [
        measured(here, parts, "test").assign(method=method, chosen_lr=lr, validation=round(value, 6))
        for method, (value, lr, parts) in best.items()
    ]
    return pd.concat(frames).assign(cpu_seconds=round(spent, 1))


def measured(here: Case, parts: Parts, split: str) -> pd.DataFrame:
    """The task's metric on a split, each part at the ranks that it is for."""
    return pd.concat([here.measure(adapters.model, adapters, ranks, split=split) for adapters, ranks in parts])


def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """The candidates on a task of the embedded tier with a seed; on `world-describe` those that can take it."""
    per_step, settings = seconds_per_step(task), ARENA[task] | made_of(task)
    measuring = 0.0
    if task == "world-describe":
        inputs = {split: len(world.texts("describe")[split]) for split in ("validation", "test")}
        measuring = SECONDS_PER_TEXT * R * (len(CANDIDATES) * inputs["validation"] + inputs["test"])
    made = _jobs(partial(embedded, task), task, budget_of(task), seed, settings, per_step, measuring)
    return [job for job in made if task != "world-describe" or job.part["method"] not in NOT_FOR_TEXTS]


def _jobs(
    case: Callable[[], Case], task: str, budget: Budget, seed: int, settings: dict[str, Any], per_step: float,
    measuring: float = 0.0,
) -> list[Job]:  # fmt: skip
    made = []
    for entry, candidate in ENTRIES.items():
        run_it = partial(run, case, budget, settings["batch_size"], entry, seed)
        seconds = per_step * len(CANDIDATES) * candidate.cost(budget) + measuring
        recorded = settings | {"trained_for": candidate.described(budget)}
        made.append(Job({"task": task, "method": entry}, seed, recorded, run_it, seconds))
    return made


def real_study(real: RealText, tasks: Sequence[str]) -> Study:
    """The same on GLUE; all tasks go into one results file."""

    def real_jobs(task: str, seed: int, adapters: Path) -> list[Job]:
        steps = real.settings_of(task)["steps"]
        settings = {key: value for key, value in real.recorded(task).items() if key not in ("lr", "weight_decay")}
        case, data = partial(real_case, real, task), real.load(task)
        seconds, per_rank, _ = real.takes(task)
        of_a_rate = R * per_rank * len(data.validation) / len(data.test)
        measuring = len(CANDIDATES) * of_a_rate + R * per_rank
        made = _jobs(case, data.name, Budget(steps, STEP_TIMES["world"]), seed, settings, seconds / steps, measuring)
        left_out = cannot_take(partial(real.build, task))
        return [job for job in made if job.part["method"] not in left_out]

    classes = tuple(task for task in glue.SPECS if glue.num_labels(task) > 1)  # distillation needs them
    return Study(stem=f"arena-glue-{real.name}", tasks=classes, default=tuple(tasks),
                 seeds=lambda task: SEEDS[:2], jobs=real_jobs, one_file=True)  # fmt: skip


STUDY = Study(stem="arena", tasks=tuple(ARENA), default=("digits-turned", "world-acceptability"),
              seeds=lambda task: SEEDS[:3] if task == "world-describe" else SEEDS, jobs=jobs)  # fmt: skip


def table(folder: Path) -> Rows:
    """Every candidate on every task: at every rank, the area under that curve, and the time; the largest area first."""
    rows: Rows = []
    for task in ARENA:
        frame = results_of(folder, "arena", task)
        if len(frame):
            rows += _of_a_task(frame, with_metric(task))
    for path in sorted(folder.glob("arena-glue-*.csv")):
        for task, frame in read_results(path).groupby("task", sort=False):
            frame = frame[frame["metric"] == frame["metric"].iloc[0]]  # the task's own comes first
            metric, model = WRITTEN.get(frame["metric"].iloc[0], frame["metric"].iloc[0]), frame["model"].iloc[0]
            rows += _of_a_task(frame, f"{title(task)}, {model} ({metric})")
    return rows


def _of_a_task(frame: pd.DataFrame, name: str) -> Rows:
    areas, over_log = (aurac(frame, log=log).set_index("method") for log in (False, True))
    order = sorted(areas.index, key=lambda method: (method in REFERENCES, -areas["aurac"][method]))
    rows: Rows = []
    for row in at_every_rank(frame, name, order):
        of = frame[frame["method"] == row["method"]]
        rows.append(row | {"AURAC": _with_interval(areas.loc[row["method"]]),
                           "AURAC over log₂ b": _with_interval(over_log.loc[row["method"]]),
                           "CPU-seconds": f"{of['cpu_seconds'].mean() / len(CANDIDATES):.1f}",
                           "steps": of["trained_for"].iloc[0]})  # fmt: skip
    return rows


def _with_interval(area: pd.Series) -> str:
    whole = f"{100 * area['aurac']:.1f}"
    return whole if area["seeds"] < len(SEEDS) else f"{whole} ({100 * area['low']:.1f} to {100 * area['high']:.1f})"
