"""The arena: which way to a model for every rank is best in the same time?

Every candidate has the CPU time of as many steps of the individual loss, and as many learning rates to choose from;
validation chooses, by the mean over the ranks, and test is only measured. How many steps fit into that time follows
from `STEP_TIMES`, so that results are the same on every machine; `cpu_seconds` is what it took here, all rates
together. `REFERENCES` have more time, and say what could be reached.
"""

import time
from functools import partial
from pathlib import Path

import pandas as pd

from dylora_kit.evaluation.aurac import aurac
from dylora_kit.paper.arena_candidates import ENTRIES, REFERENCES, WITH_P, Parts, Start
from dylora_kit.paper.compared_methods import SVD
from dylora_kit.paper.embedded import made_of, measure
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.nested_afterwards import Case, embedded
from dylora_kit.paper.results_files import Rows, at_every_rank, results_of, with_metric
from dylora_kit.paper.settings import ARENA, CANDIDATES, SECONDS_PER_STEP, SEEDS

METHODS = (*ENTRIES, SVD, *WITH_P.values())


def run(task: str, entry: str, seed: int) -> pd.DataFrame:
    """A candidate's trainings at each learning rate, and the test split at every rank at the rate that was chosen.

    Ways that share a training choose for themselves. Raises `FloatingPointError` if the loss was finite at no rate.
    """
    here, candidate = embedded(task), ENTRIES[entry]
    here.build()  # so that what it imports counts for nobody
    best: dict[str, tuple[float, float, Parts]] = {}
    spent = 0.0
    for lr in CANDIDATES:
        start = time.process_time()
        try:
            found = candidate.train(Start(here, ARENA[task]["batch_size"], seed, lr), *candidate.steps(task))
        except FloatingPointError:
            found = {}
        spent += time.process_time() - start
        for method, parts in found.items():
            frame = measured(task, here, parts, "validation")
            value = float(frame[frame["metric"] == here.task.metric]["value"].mean(skipna=False))
            if value > best.get(method, (float("-inf"),))[0]:
                best[method] = value, lr, parts
    if not best:
        raise FloatingPointError(f"{entry} on {task}: the loss was finite at none of the rates {CANDIDATES}")
    frames = [
        measured(task, here, parts, "test").assign(method=method, chosen_lr=lr, validation=round(value, 6))
        for method, (value, lr, parts) in best.items()
    ]
    return pd.concat(frames).assign(cpu_seconds=round(spent, 1))


def measured(task: str, here: Case, parts: Parts, split: str) -> pd.DataFrame:
    """The task's metric on a split, each part at the ranks that it is for."""
    return pd.concat(
        [measure(task, here.task, adapters.model, adapters, ranks, split=split) for adapters, ranks in parts]
    )


def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """The candidates on a task with a seed."""
    per_step = SECONDS_PER_STEP[task.partition("-")[0]]
    return [
        Job(
            {"task": task, "method": entry},
            seed,
            ARENA[task] | {"trained_for": candidate.described(task)} | made_of(task),
            partial(run, task, entry, seed),
            per_step * len(CANDIDATES) * candidate.cost(task),
        )
        for entry, candidate in ENTRIES.items()
    ]


STUDY = Study(stem="arena", tasks=tuple(ARENA), default=("digits-turned",), seeds=lambda task: SEEDS, jobs=jobs)


def table(folder: Path) -> Rows:
    """Every candidate on every task: at every rank, the area under that curve, and the time; the largest area first."""
    rows: Rows = []
    for task in ARENA:
        frame = results_of(folder, "arena", task)
        if frame.empty:
            continue
        areas, over_log = (aurac(frame, log=log).set_index("method") for log in (False, True))
        order = sorted(areas.index, key=lambda method: (method in REFERENCES, -areas["aurac"][method]))
        for row in at_every_rank(frame, with_metric(task), order):
            of = frame[frame["method"] == row["method"]]
            rows.append(row | {"AURAC": _with_interval(areas.loc[row["method"]]),
                               "AURAC over log₂ b": _with_interval(over_log.loc[row["method"]]),
                               "CPU-seconds": f"{of['cpu_seconds'].mean() / len(CANDIDATES):.1f}",
                               "steps": of["trained_for"].iloc[0]})  # fmt: skip
    return rows


def _with_interval(area: pd.Series) -> str:
    whole = f"{100 * area['aurac']:.1f}"
    return whole if area["seeds"] < 2 else f"{whole} ({100 * area['low']:.1f} to {100 * area['high']:.1f})"
