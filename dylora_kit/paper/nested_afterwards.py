"""What a LoRA of one rank can do at the ranks below: cut, taught by its own answers (`nest`), or trained on by labels.

The LoRAs are those of Table 2, trained again. What comes after has `AFTER` steps, or as many as take about the same
time. Four learning rates are tried, and examples that are not tested on choose; a new head alone has the rate of Table
2. Beside them, on the embedded tier, stand DyLoRA and a LoRA of its own for each rank, with the steps of the LoRA.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from dylora_kit.baselines.svd_cut import refit_head, svd_cut
from dylora_kit.core.adapters import Adapters
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper.compared_methods import DYLORA, LORA, NEW_HEAD, ONE, SVD, Build, trained
from dylora_kit.paper.embedded import load, made_of, measure
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.real_text import RealText
from dylora_kit.paper.results_files import MISSING, Rows, at_every_rank, mean_with_interval, results_of, with_metric
from dylora_kit.paper.settings import CANDIDATES, SECONDS_PER_STEP, SEEDS, TABLE2, R
from dylora_kit.tasks import Task, glue
from dylora_kit.training.loop import train
from dylora_kit.training.objectives import individual_loss, mixed_loss
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.sampling import Fixed, RankSampler
from dylora_kit.training.self_distillation import nest

NESTED, NESTED_ONE, NESTED_MIXED = "nested", "nested, one rank a step", "nested, a rank for each example"
NESTED_HEAD, SQUEEZED = "nested, head as it was", "cut by SVD and trained on, for each rank"
METHODS = (SVD, NEW_HEAD, NESTED, NESTED_HEAD, NESTED_ONE, NESTED_MIXED, SQUEEZED, DYLORA, ONE)
AFTER = 200
SAME_TIME = 500  # steps with one pass that take about as long as AFTER with three, the teacher's pass included
WAYS: dict[str, dict[str, Any]] = {
    NESTED: {"steps": AFTER},
    NESTED_HEAD: {"steps": AFTER, "train_heads": False},
    NESTED_ONE: {"steps": SAME_TIME, "objective": individual_loss},
    NESTED_MIXED: {"steps": SAME_TIME, "objective": mixed_loss},
}
POWERS = (1, 2, 4, 8)  # the ranks that every method has


@dataclass(frozen=True)
class Case:
    """A task, what builds a model for it, and how a model is measured.

    Attributes:
        measure: `(model, adapters, ranks)`, on the test split; with `split="validation"` on that.
    """

    build: Build
    task: Task
    measure: Callable[..., pd.DataFrame]
    max_grad_norm: float | None = 1.0


def embedded(task: str) -> Case:
    """A case of the embedded tier."""
    build, data = load(task)

    def measured(model: nn.Module, adapters: Adapters, ranks: list[int] | None, split: str = "test") -> pd.DataFrame:
        return measure(task, data, model, adapters, ranks, split=split)

    return Case(build, data, measured, None if task.startswith("digits-") else 1.0)


def run(case: Callable[[], Case], seed: int, own: Sequence[int], **settings: Any) -> pd.DataFrame:
    """One LoRA, what each way makes of it, and LoRAs of their own.

    `seconds` is the CPU time that comes after the LoRA's training, learning rates that were not kept included; of a
    LoRA of its own it is that of its training.

    Arguments:
        own: the ranks for which a LoRA of its own is trained.
        settings: steps, lr and batch_size of the LoRA.
    """
    here = case()
    clipped: dict[str, Any] = {"max_grad_norm": here.max_grad_norm}
    here.build()  # so that what it imports counts for nobody
    frames: list[pd.DataFrame] = []

    def add(method: str, pair: tuple[nn.Module, Adapters], start: float, ranks: list[int] | None = None) -> None:
        seconds = round(time.process_time() - start, 1)
        frames.append(here.measure(*pair, ranks).assign(method=method, seconds=seconds))

    pair = trained(here.build, here.task, LORA, seed, **clipped, **settings)
    start = time.process_time()
    closest = svd_cut(pair[1])
    add(SVD, closest, start)
    batches: dict[str, Any] = {"batch_size": settings["batch_size"], "collate": here.task.collate, "seed": seed}
    model, lora = pair
    for method, how in WAYS.items():
        if method == NESTED_HEAD and not pair[1].saved_modules:
            continue
        start = time.process_time()
        nesting = nest(model, lora, here.task.train, progress=False, **batches, **how)
        add(method, pair, start)
        frames[-1] = frames[-1].assign(chosen_lr=nesting.lr)
        nesting.undo()
    for b in range(1, R) if pair[1].saved_modules else ():
        start = time.process_time()
        add(NEW_HEAD, refit_head(closest[1], here.task.train, rank=b, steps=AFTER, **batches), start, [b])
    for b in POWERS[:-1]:
        start = time.process_time()
        squeezed, lr = trained_on(closest[1], here.task, b, seed, **clipped, batch_size=settings["batch_size"])
        add(SQUEEZED, squeezed, start, [b])
        frames[-1] = frames[-1].assign(chosen_lr=lr)
    for b in own:
        start = time.process_time()
        add(ONE, trained(here.build, here.task, ONE, seed, r=b, **clipped, **settings), start, [b])
    whole = frames[0][frames[0]["rank"] == R].assign(seconds=0.0)  # at its own rank every cut is the LoRA itself
    by_rank = {str(frame["method"].iloc[0]) for frame in frames} & {NEW_HEAD, SQUEEZED, ONE}
    return pd.concat([*frames, *(whole.assign(method=name) for name in sorted(by_rank))])


def trained_on(
    closest: Adapters, task: Task, b: int, seed: int, **settings: Any
) -> tuple[tuple[nn.Module, Adapters], float]:
    """A LoRA, cut by SVD to rank b and trained on with labels, at the candidate rate of the lowest validation loss.

    Source: Cont-Squeeze of LoRA-Squeeze.

    Arguments:
        closest: what `svd_cut` made; a copy is trained.
        settings: of `train`.

    Returns the copy and its handle, at all ranks up to b, and the learning rate.
    """
    best: tuple[float, tuple[nn.Module, Adapters], float] | None = None
    for lr in CANDIDATES:
        model, cut = svd_cut(closest)
        try:
            train(model, cut, task.train, sampler=RankSampler(Fixed(b), seed=seed), optimizer=NestedAdamW(cut, lr=lr),
                  steps=AFTER, seed=seed, collate=task.collate, progress=False, **settings)  # fmt: skip
        except FloatingPointError:
            continue
        frame = sweep(model, cut, task.validation, metric="loss", ranks=[b], collate=task.collate, progress=False)
        loss = float(frame["value"].iloc[0])
        if best is None or loss < best[0]:
            best = loss, (model, cut), lr
    assert best is not None
    return best[1:]


def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """The one measurement of a task with a seed: every way."""
    own = () if task.startswith("digits-") else POWERS[:-1]  # Table 2 has those of digits
    per_step = SECONDS_PER_STEP[task.partition("-")[0]]
    passes = TABLE2[task]["steps"] * (1 + len(own)) + 3 * (2 * 4 * AFTER + 2 * 2 * SAME_TIME) + 12 * AFTER
    settings = TABLE2[task] | made_of(task) | {"steps_after": AFTER}
    run_it = partial(run, partial(embedded, task), seed, own, **TABLE2[task])
    return [Job({"task": task}, seed, settings, run_it, per_step * passes)]


def real_case(real: RealText, task: str) -> Case:
    """A case of GLUE, with a model of the hub or of a folder."""
    data = real.load(task)

    def measured(model: nn.Module, adapters: Adapters, ranks: list[int] | None, split: str = "test") -> pd.DataFrame:
        return sweep(model, adapters, getattr(data, split), metric=(data.metric, *data.also), ranks=ranks,
                     collate=data.collate, progress=False)  # fmt: skip

    return Case(partial(real.build, task), data, measured)


def real_study(real: RealText, tasks: Sequence[str]) -> Study:
    """The same on GLUE; all tasks go into one results file."""

    def real_jobs(task: str, seed: int, adapters: Path) -> list[Job]:
        recorded, settings = {**real.recorded(task), "steps_after": AFTER}, real.settings_of(task)
        run_it = partial(run, partial(real_case, real, task), seed, POWERS[:-1], **settings)
        passes = 4 + (3 * (2 * 4 * AFTER + 2 * 2 * SAME_TIME) + 12 * AFTER) / settings["steps"]
        return [Job({"task": real.load(task).name}, seed, recorded, run_it, passes * real.takes(task)[0])]

    return Study(stem=f"nested-glue-{real.name}", tasks=tuple(glue.SPECS), default=tuple(tasks),
                 seeds=lambda task: SEEDS[:3], jobs=real_jobs, one_file=True)  # fmt: skip


STUDY = Study(stem="nested", tasks=tuple(TABLE2), default=("digits-turned",), seeds=lambda task: SEEDS, jobs=jobs)


def table(folder: Path) -> Rows:
    """Every way on every task, at every rank; the mean over the ranks 1, 2, 4 and 8; the CPU-seconds that it took."""
    rows: Rows = []
    for task in TABLE2:
        for metric in (None, "slot error rate") if task == "world-describe" else (None,):
            after = results_of(folder, "nested", task, metric)
            if after.empty:
                continue
            before = results_of(folder, "table2", task, metric)
            lacking = {DYLORA, ONE} - set(after["method"])
            before = before[before["method"].isin(lacking) & before["seed"].isin(after["seed"])]
            both = pd.concat([after, before.assign(seconds=float("nan"))])
            for row in at_every_rank(both, with_metric(task, metric), METHODS):
                of = both[both["method"] == row["method"]]
                rows.append(row | {"mean of 1, 2, 4, 8": mean_with_interval(of, POWERS), "CPU-seconds": _seconds(of)})
    return rows


def _seconds(rows: pd.DataFrame) -> str:
    """The time that a method took, a mean over seeds: for all ranks together, or for one after the other."""
    one_by_one = rows["method"].iloc[0] in (NEW_HEAD, SQUEEZED, ONE)
    by_seed = rows.groupby("seed")["seconds"].agg("sum" if one_by_one else "max")
    return MISSING if rows["seconds"].isna().any() else f"{by_seed.mean():.0f}"
