"""What it takes to find a rank (the paper's Tables 1, 3 and 5 and Appendix A): a LoRA for every rank, or one DyLoRA.

Beside them: full fine-tuning, and three methods that find one size per run: FLOP on the weights, the same gates on a
LoRA, and AdaLoRA. Each run has the same steps and batches; what trains the whole model has a smaller learning rate, and
gates have one of their own. Measured with the quality: the seconds of the training, the floating-point operations of
the matrix products in its mean step (without those inside attention, which are not counted on a CPU), the parameters
that are trained, and those that have to be stored for the task.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dylora_kit.baselines.adalora import adalora
from dylora_kit.baselines.flop import Gates, flop, flop_lora
from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper.compared_methods import (
    ADALORA,
    DYLORA,
    FLOP,
    FROZEN,
    FULL,
    GATED,
    LORA,
    ONE,
    Build,
    built,
    head_of,
    trained,
)
from dylora_kit.paper.embedded import load, made_of
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.settings import MEASURED, SEARCH_LR, SEEDS, SHORT, R, seconds_per_step
from dylora_kit.tasks import Task
from dylora_kit.training.loop import train
from dylora_kit.training.sampling import Fixed, RankSampler

SEARCHED = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)
KEPT = {FLOP: 0.64, GATED: 0.5, ADALORA: 0.5}  # shares of the size: of Table 3's 80 of 125 million, and of r = 8
TRAININGS = [(FULL, R), (DYLORA, R), (FROZEN, R), (FLOP, R), (GATED, R), (ADALORA, R), *((ONE, r) for r in SEARCHED),
        (DYLORA, SEARCHED[-1]), (FROZEN, SEARCHED[-1])]  # fmt: skip


def self_sized(
    build: Build, task: Task, method: str, seed: int, *, steps: int, lr: float, batch_size: int
) -> RankHandle:
    """A model trained by a method that finds its size by itself, as the handle on it."""
    model = built(build, seed)
    head = head_of(model)
    options: dict[str, Any] = {}
    if method == ADALORA:
        budget = round(KEPT[method] * R)
        handle: Any = adalora(model, "attention", steps=steps, r=budget, modules_to_save=head, seed=seed)
        optimizer = handle.optimizer(lr)
    else:
        if method == FLOP:
            base = str(model.base_model_prefix)
            linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
            handle = flop(model, [name for name in linear if name.startswith(f"{base}.")])
        else:
            handle = flop_lora(model, "attention", r=R, modules_to_save=head, seed=seed)
        optimizer = torch.optim.AdamW(handle.groups(lr), weight_decay=0.0)
        options = dict(zip(("loss", "on_step"), handle.controller(KEPT[method], steps=steps), strict=True))
    sampler = RankSampler(Fixed(1), seed=seed)
    train(handle.model, handle, task.train, sampler=sampler, optimizer=optimizer, steps=steps, batch_size=batch_size,
          seed=seed, collate=task.collate, max_grad_norm=1.0, progress=False, **options)  # fmt: skip
    return handle


def operations(model: nn.Module, handle: RankHandle, batch: dict[str, Any], ranks: list[int]) -> float:
    """Floating-point operations of a training step, forward and backward, the mean over ranks."""
    counts = []
    for rank in ranks:
        with handle.at(rank), FlopCounterMode(display=False) as counter:
            model(**batch).loss.backward()
        counts.append(counter.get_total_flops())
    model.zero_grad()
    return sum(counts) / len(counts)


def run(name: str, method: str, r: int, seed: int, **settings: Any) -> pd.DataFrame:
    """One training, its quality on the test split, and what it took."""
    build, task = load(name)
    bare = built(build, seed)  # before the clock starts: what it imports counts for nobody
    start = time.process_time()
    handle: RankHandle
    if method in KEPT:
        handle = self_sized(build, task, method, seed, **settings)
        model = handle.model
    else:
        model, handle = trained(build, task, LORA if method == ONE else method, seed, r=r, **settings)
    seconds = round(time.process_time() - start, 1)
    nested = method in (DYLORA, FROZEN)
    every = list(range(1, handle.r + 1)) if nested else [handle.r]
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frame = sweep(model, handle, task.test, metric=task.metric, ranks=every, collate=task.collate, progress=False)
    batch = (task.collate or torch.utils.data.default_collate)([task.train[i] for i in range(settings["batch_size"])])
    stored = [_stored(bare, handle, method, rank) for rank in every]
    if method == FULL:
        model = bare  # without the adapters, which are zero here
    return frame.drop(columns="method").assign(
        rank=every if isinstance(handle, Adapters) else R,
        cpu_seconds=seconds,
        step_flops=operations(model.train(), handle, batch, every),
        trained=learned,
        stored=stored,
    )


def _stored(bare: nn.Module, handle: RankHandle, method: str, rank: int) -> int:
    """The parameters that a method adds to the shared backbone for this task, or has of its own."""
    whole, used = sum(p.numel() for p in bare.parameters()), handle.num_parameters(rank)
    if method == FULL:
        return whole
    if isinstance(handle, Gates) and method == FLOP:
        return whole - handle.whole + used
    return used + sum(p.numel() for name in head_of(bare) for p in bare.get_submodule(name).parameters())


def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """The trainings on a task with a seed."""
    made, trainings = made_of(task), []
    for method, r in TRAININGS:
        settings = SHORT[task] | ({"lr": SEARCH_LR} if method in (FULL, FLOP) else {})
        run_it = partial(run, task, method, r, seed, **settings)
        seconds = seconds_per_step(task) * settings["steps"]
        trainings.append(Job({"task": task, "method": method, "r": r}, seed, settings | made, run_it, seconds))
    return trainings


STUDY = Study(
    stem="search",
    tasks=tuple(SHORT),
    default=MEASURED,
    seeds=lambda task: SEEDS,
    jobs=jobs,
    parts=("task", "metric", "r"),
)
