"""What a LoRA of one rank can do at the ranks below: cut, taught by its own answers (`nest`), or trained on by labels.

The LoRAs are those of Table 2, trained again. What comes after has `AFTER` steps, or as many as take about the same
time. Four learning rates are tried, and examples that are not tested on choose. Beside them stand DyLoRA and a LoRA of
its own for each rank, with the steps of the LoRA.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.adapters import Adapters
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper.compared_methods import (
    DYLORA,
    LORA,
    NEW_HEAD,
    ONE,
    SVD,
    Build,
    best_on_validation,
    trained,
    with_new_head,
)
from dylora_kit.paper.embedded import load, made_of, measure
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.real_text import RealText
from dylora_kit.paper.results_files import (
    MISSING,
    WRITTEN,
    Rows,
    at_every_rank,
    mean_with_interval,
    results_of,
    title,
    with_metric,
)
from dylora_kit.paper.runs import read_results
from dylora_kit.paper.settings import CANDIDATES, HEAD_RATES, SEEDS, TABLE2, R, seconds_per_step
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
BUDGET = ("task", "model", "steps", "lr", "batch_size", "max_length", "examples")  # what a DyLoRA has to share
BY_RANK = (NEW_HEAD, SQUEEZED, ONE)  # what is trained for one rank after the other
POWERS = (1, 2, 4, 8)  # the ranks that every method has
ON_REAL_TEXT = (SVD, NEW_HEAD, NESTED, SQUEEZED, ONE)  # hours each: how best to nest was asked on the embedded tier


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


def run(case: Callable[[], Case], seed: int, method: str, **settings: Any) -> pd.DataFrame:
    """What one of `METHODS` makes of a LoRA; `ONE` trains LoRAs of their own.

    `seconds` is the CPU time that comes after the LoRA's training, learning rates that were not kept included; of a
    LoRA of its own it is that of its training.

    Arguments:
        settings: steps, lr and batch_size of the LoRA.
    """
    here = case()
    here.build()  # so that what it imports counts for nobody
    model, lora = _a_copy_of_the_lora(case, seed, **settings)
    start, more = time.process_time(), dict[str, Any]()
    if method in BY_RANK:
        whole = here.measure(model, lora, [R]).assign(seconds=0.0)  # at its own rank every cut is the LoRA itself
        return pd.concat([*_rank_by_rank(here, lora, seed, method, **settings), whole]).assign(method=method)
    if method == SVD:
        model, lora = svd_cut(lora)
    else:
        more["chosen_lr"] = nest(model, lora, here.task.train, batch_size=settings["batch_size"], seed=seed,
                                 collate=here.task.collate, progress=False, **WAYS[method]).lr  # fmt: skip
    seconds = round(time.process_time() - start, 1)
    return here.measure(model, lora, None).assign(method=method, seconds=seconds, **more)


def _rank_by_rank(here: Case, lora: Adapters, seed: int, method: str, **settings: Any) -> Iterator[pd.DataFrame]:
    """What one of `BY_RANK` gives at each of its ranks below r, with the seconds of that rank."""
    _, closest = svd_cut(lora)
    for b in range(1, R) if method == NEW_HEAD else POWERS[:-1]:
        start, more = time.process_time(), dict[str, Any]()
        if method == NEW_HEAD:
            batch_size = settings["batch_size"]
            pair, more["chosen_lr"] = with_new_head(closest, here.task, b, seed, steps=AFTER, batch_size=batch_size)
        elif method == SQUEEZED:
            clipped = {"max_grad_norm": here.max_grad_norm, "batch_size": settings["batch_size"]}
            pair, more["chosen_lr"] = trained_on(closest, here.task, b, seed, **clipped)
        else:
            pair = trained(here.build, here.task, ONE, seed, r=b, max_grad_norm=here.max_grad_norm, **settings)
        seconds = round(time.process_time() - start, 1)
        yield here.measure(*pair, [b]).assign(seconds=seconds, **more)


def _a_copy_of_the_lora(case: Callable[[], Case], seed: int, **settings: Any) -> tuple[nn.Module, Adapters]:
    """The LoRA that all begin with, and its model; a copy, so that none begins where another ended."""
    return copy.deepcopy(_lora(case, seed, tuple(settings.items())))


@lru_cache(maxsize=1)
def _lora(case: Callable[[], Case], seed: int, settings: tuple[tuple[str, Any], ...]) -> tuple[nn.Module, Adapters]:
    """Trained once for measurements that follow one another in a process."""
    here = case()
    return trained(here.build, here.task, LORA, seed, max_grad_norm=here.max_grad_norm, **dict(settings))


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

    def train_at(lr: float) -> tuple[nn.Module, Adapters]:
        model, cut = svd_cut(closest)
        train(model, cut, task.train, sampler=RankSampler(Fixed(b), seed=seed), optimizer=NestedAdamW(cut, lr=lr),
              steps=AFTER, seed=seed, collate=task.collate, progress=False, **settings)  # fmt: skip
        return model, cut

    return best_on_validation(train_at, CANDIDATES, task, b)


def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """Every way on a task of the embedded tier with a seed."""
    left_out = {ONE} if task.startswith("digits-") else set()  # Table 2 has those of digits
    if task == "world-describe":  # which has no head
        left_out |= {NEW_HEAD, NESTED_HEAD}
    made = _jobs(partial(embedded, task), task, seed, TABLE2[task], TABLE2[task] | made_of(task),
                 seconds_per_step(task))  # fmt: skip
    return [job for job in made if job.part["method"] not in left_out]


def _jobs(case: Callable[[], Case], task: str, seed: int, settings: dict[str, Any], recorded: dict[str, Any],
          per_step: float, methods: Sequence[str] = METHODS) -> list[Job]:  # fmt: skip
    made = []
    for method in (method for method in methods if method != DYLORA):
        run_it = partial(run, case, seed, method, **settings)
        seconds = per_step * _steps(method, settings["steps"])
        made.append(Job({"task": task, "method": method}, seed, recorded | {"steps_after": AFTER}, run_it, seconds))
    return made


def _steps(method: str, steps: int) -> float:
    """How many steps of a LoRA's training take about as long; those of the LoRA itself count for the first method."""
    if method == SVD:
        return steps
    if method == ONE:
        return len(POWERS[:-1]) * steps
    if method == NEW_HEAD:
        return 0.5 * AFTER * len(HEAD_RATES) * (R - 1)
    if method == SQUEEZED:
        return AFTER * len(CANDIDATES) * len(POWERS[:-1])
    passes = 1.5 if "objective" in WAYS[method] else 3.3  # with the teacher's
    return passes * len(CANDIDATES) * WAYS[method]["steps"]


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
        settings, per_step = real.settings_of(task), real.takes(task)[0] / real.settings_of(task)["steps"]
        case, name, recorded = partial(real_case, real, task), real.load(task).name, real.recorded(task)
        return _jobs(case, name, seed, settings, recorded, per_step, ON_REAL_TEXT)

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
            rows += _rows(after, results_of(folder, "table2", task, metric), with_metric(task, metric))
    for path in sorted(folder.glob("nested-glue-*.csv")):
        results, table2 = read_results(path), read_results(folder / path.name.replace("nested", "table2", 1))
        for (task, metric), after in results.groupby(["task", "metric"], sort=False):
            alike = [name for name in BUDGET if name in table2]
            same = (table2[[*alike, "metric"]] == after.iloc[0][[*alike, "metric"]]).all(axis=1)
            name = f"{title(task)}, {after['model'].iloc[0]} ({WRITTEN.get(metric, metric)})"
            rows += _rows(after, table2[same], name)
    return rows


def _rows(after: pd.DataFrame, table2: pd.DataFrame, name: str) -> Rows:
    """Of one task, with what Table 2 has of DyLoRA and of a LoRA for each rank."""
    lacking = {DYLORA, ONE} - set(after["method"])
    before = table2[table2["method"].isin(lacking) & table2["seed"].isin(after["seed"])] if len(table2) else table2
    both = pd.concat([after, before.assign(seconds=float("nan"))])
    rows = []
    for row in at_every_rank(both, name, METHODS):
        of = both[both["method"] == row["method"]]
        rows.append(row | {"mean of 1, 2, 4, 8": mean_with_interval(of, POWERS), "CPU-seconds": _seconds(of)})
    return rows


def _seconds(rows: pd.DataFrame) -> str:
    """The time that a method took, a mean over seeds: for all ranks together, or for one after the other."""
    one_by_one = rows["method"].iloc[0] in BY_RANK
    by_seed = rows.groupby("seed")["seconds"].agg("sum" if one_by_one else "max")
    return MISSING if rows["seconds"].isna().any() else f"{by_seed.mean():.0f}"
