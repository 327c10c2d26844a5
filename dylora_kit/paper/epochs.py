"""With Table 8's settings: how good is a LoRA that is cut, and a DyLoRA, after 1, 3, 10 and 30 epochs?

One training of 30 epochs for each method, measured along the way, so the learning rate of an earlier epoch is that of a
longer training. A LoRA is cut in every way, at the end also with a new head. Biases and norms have no weight decay, as
with transformers' `Trainer`; full fine-tuning and the head alone have none at all.
"""

import math
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.adapters import Adapters
from dylora_kit.paper.compared_methods import (
    DYLORA,
    FULL,
    HEAD,
    HELD,
    LORA,
    NEW_HEAD,
    ONE,
    SVD,
    begun,
    trained,
    with_new_head,
)
from dylora_kit.paper.embedded import made_of
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.nested_afterwards import AFTER, POWERS, Case, embedded, real_case
from dylora_kit.paper.real_text import RealText, steps_of
from dylora_kit.paper.results_files import WRITTEN, Rows, cell, title
from dylora_kit.paper.run_folders import slug
from dylora_kit.paper.runs import read_results
from dylora_kit.paper.settings import FULL_LR_ON_TEXT, ROBERTA, SEEDS, TABLE2, R, seconds_per_step
from dylora_kit.storage.files import write_files
from dylora_kit.tasks import glue, world

MARKS = (1, 3, 10, 30)
AUTHORS = f"{DYLORA}, as the authors"
WAYS: dict[str, dict[str, Any]] = {
    LORA: {"method": LORA},
    DYLORA: {"method": DYLORA},
    AUTHORS: {"method": DYLORA, "update": "authors"},
}
ALSO: dict[str, dict[str, Any]] = {  # on real text
    ONE: {"method": LORA, "r": 1},
    HEAD: {"method": HEAD},
    FULL: {"method": FULL, "lr": FULL_LR_ON_TEXT},
}
RANKS_OF = {ONE: (1,), HEAD: (R,), FULL: (R,)}  # others: POWERS; what has no adapters is the same at every rank
WORDS = tuple(task for task in TABLE2 if task.startswith("world-") and task != "world-describe")


def run(
    case: Callable[[], Case], way: str, seed: int, marks: Sequence[int] = MARKS, *, checkpoint: Path | None = None
) -> pd.DataFrame:
    """One training, and the test split at the ranks 1, 2, 4 and 8 after so many epochs; the last of them ends it.

    `cpu_seconds` is the time until then, without the time to measure; missing after a training was stopped.

    Arguments:
        checkpoint: a folder, from which a training that was stopped goes on.
    """
    here = case()
    here.build()  # so that what it imports counts for nobody
    kept = None if checkpoint is None else checkpoint / "measured.csv"
    found = pd.DataFrame()
    if kept is not None and begun(checkpoint) and kept.is_file():
        found = pd.read_csv(kept, float_precision="round_trip")
    ends = {steps_of(len(here.task.train), ROBERTA["batch_size"], epochs): epochs for epochs in marks}
    start, measuring = (math.nan if begun(checkpoint) else time.process_time()), 0.0

    def measure(step: int, model: nn.Module, adapters: Adapters) -> None:
        nonlocal measuring, found
        if step not in ends:
            return
        now = time.process_time()
        frames = [found[found["epochs"] != ends[step]]] if len(found) else []  # what came after the checkpoint, again
        for method, frame in measured(here, way, model, adapters, seed if step == max(ends) else None).items():
            seconds = round(now - start - measuring, 1)
            frames.append(frame.assign(method=method, epochs=ends[step], cpu_seconds=seconds))
            values = ", ".join(f"{value:.3f}" for value in frame[frame["metric"] == here.task.metric]["value"])
            print(f"{here.task.name}, seed {seed}, epoch {ends[step]}, {method}: {values}", flush=True)
        found = pd.concat(frames, ignore_index=True)
        if kept is not None:
            write_files(kept.parent, {kept.name: found.to_csv(index=False).encode()})
        measuring += time.process_time() - now

    chosen = {key: ROBERTA[key] for key in ("lr", "weight_decay", "batch_size", "max_grad_norm")} | (WAYS | ALSO)[way]
    pair = trained(here.build, here.task, seed=seed, steps=max(ends), after_step=measure, checkpoint=checkpoint,
                   checkpoint_every=_between(ends), **chosen)  # fmt: skip
    if max(marks) not in set(found.get("epochs", ())):  # it was stopped between its last step and the measurement
        measure(max(ends), *pair)
    if checkpoint is not None and not set(marks) <= set(found["epochs"]):  # somebody deleted what was measured
        shutil.rmtree(checkpoint)
        return run(case, way, seed, marks, checkpoint=checkpoint)
    return found


def _between(ends: Collection[int]) -> int:
    """How many steps lie between checkpoints: none is written at a mark before the last, where a measurement follows.

    >>> _between([250, 800, 4500])
    201
    """
    return next(every for every in count(200) if all(end % every for end in ends))


def measured(
    case: Case, way: str, model: nn.Module, adapters: Adapters, head_seed: int | None = None
) -> dict[str, pd.DataFrame]:
    """The test split at the ranks 1, 2, 4 and 8, by method: a LoRA in every way to cut it.

    Arguments:
        head_seed: with it, the SVD cut also gets a new head for each rank below the last.
    """
    ranks = list(RANKS_OF.get(way, POWERS))
    found = {way: case.measure(model, adapters, ranks)}
    if way == LORA:
        cut = svd_cut(adapters)
        found[SVD] = case.measure(*cut, ranks)
        scaling, adapters.scaling = adapters.scaling, "alpha/r"
        found[HELD] = case.measure(model, adapters, ranks)
        adapters.scaling = scaling
        if head_seed is not None:
            found[NEW_HEAD] = pd.concat([_with_new_head(case, cut[1], b, head_seed) for b in POWERS[:-1]])
    return found


def _with_new_head(case: Case, cut: Adapters, b: int, seed: int) -> pd.DataFrame:
    pair, lr = with_new_head(cut, case.task, b, seed, steps=AFTER, batch_size=ROBERTA["batch_size"])
    return case.measure(*pair, [b]).assign(chosen_lr=lr)


def jobs_of(
    case: Callable[[], Case], task: str, seed: int, settings: dict[str, Any], seconds: float,
    checkpoints: Path | None = None, disk: int = 0, ways: Collection[str] = WAYS,
) -> list[Job]:  # fmt: skip
    """One training for each method.

    Arguments:
        seconds: about how long a training takes.
        checkpoints: a folder, from which trainings that were stopped go on; without it each begins anew.
        disk: about how many bytes a checkpoint has.
        ways: the methods.
    """
    recorded = {key: ROBERTA[key] for key in ("lr", "weight_decay", "batch_size")} | settings
    jobs = []
    for way in ways:
        checkpoint = checkpoints and checkpoints / slug(way)
        run_it = partial(run, case, way, seed, checkpoint=checkpoint)
        own = {"weight_decay": 0.0} if way in (FULL, HEAD) else {}
        own |= {"lr": FULL_LR_ON_TEXT} if way == FULL else {}
        jobs.append(
            Job({"task": task, "method": way}, seed, recorded | own, run_it, seconds, disk=disk, scratch=checkpoint)
        )
    return jobs


def _embedded_jobs(task: str, seed: int) -> list[Job]:
    steps = steps_of(len(world.texts(task.removeprefix("world-"))["train"]), ROBERTA["batch_size"], ROBERTA["epochs"])
    settings, seconds = {"steps": steps} | made_of(task), seconds_per_step(task) * steps
    return jobs_of(partial(embedded, task), task, seed, settings, seconds)


def real_study(real: RealText, tasks: Sequence[str]) -> Study:
    """The same on GLUE, a results file for each task."""

    def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
        seconds, per_rank, disk = real.takes(task)
        name, recorded = real.load(task).name, real.recorded(task)
        checkpoints = real.checkpoints(f"epochs-glue-{real.name}", name, seed, adapters, recorded)
        seconds += len(MARKS) * len(POWERS) * per_rank
        return jobs_of(partial(real_case, real, task), name, seed, recorded, seconds, checkpoints, disk,
                       (*WAYS, *ALSO))  # fmt: skip

    return Study(f"epochs-glue-{real.name}", tuple(glue.SPECS), tuple(tasks), lambda task: SEEDS[:3], jobs,
                 parts=("task", "metric", "epochs"))  # fmt: skip


STUDY = Study("epochs", WORDS, ("world-acceptability",), lambda task: SEEDS[:3],
              lambda task, seed, _: _embedded_jobs(task, seed), parts=("task", "metric", "epochs"))  # fmt: skip


def table(folder: Path) -> Rows:
    """Every method at the ranks 1, 2, 4 and 8, a column for each mark; at rank 8 all cuts are the LoRA itself."""
    rows: Rows = []
    for path in [folder / f"epochs-{task}.csv" for task in WORDS] + sorted(folder.glob("epochs-glue-*.csv")):
        results = read_results(path)
        for _, frame in results.groupby("task", sort=False) if len(results) else ():
            frame = frame[frame["metric"] == frame["metric"].iloc[0]]  # the task's own comes first
            seeds = frame["seed"].nunique()
            for method in (LORA, SVD, NEW_HEAD, HELD, DYLORA, AUTHORS, ONE, FULL, HEAD):
                for rank in POWERS if method not in (SVD, HELD) else POWERS[:-1]:
                    of = frame[(frame["method"] == method) & (frame["rank"] == rank)]
                    cells = {_epochs(mark): cell(of[of["epochs"] == mark]["value"], seeds=seeds) for mark in MARKS}
                    if len(of):
                        rows.append({"task": _title(frame, seeds), "method": method, "rank b": str(rank)} | cells)
    return rows


def _title(frame: pd.DataFrame, seeds: int) -> str:
    task, metric = str(frame["task"].iloc[0]), str(frame["metric"].iloc[0])
    of = f"{title(task)}, {frame['model'].iloc[0]}" if "model" in frame else title(task)
    return f"{of} ({WRITTEN.get(metric, metric)}, {seeds} seed{'s' * (seeds > 1)})"


def _epochs(mark: int) -> str:
    return f"{mark} epoch{'s' * (mark > 1)}"
