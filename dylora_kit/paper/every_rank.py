"""Table 2: every method at every rank, on turned digits and on the six tasks of the small English world.

Every method has the same steps, batches, learning rate and head. On digits gradients are not clipped, and where a head
is trained anew, it has 500 steps more. On the world's tasks a bag of words is reported beside the methods, and
`describe` is measured by what the model writes. Of the first seed, the DyLoRAs and the LoRAs of turned digits and of
`describe` are kept.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from dylora_kit.baselines import bag_of_words
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.adapters import Adapters, attach
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper.compared_methods import (
    BAG,
    DYLORA,
    DYLORA_HELD,
    FROZEN,
    FULL,
    HEAD,
    HELD,
    LORA,
    NEW_HEAD,
    NO_ADAPTER,
    ONE,
    SVD,
    trained,
    with_new_head,
)
from dylora_kit.paper.embedded import backbone_of, load, made_of, measure
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.runs import keep
from dylora_kit.paper.settings import CANDIDATES, FULL_LR, HEAD_RATES, SEEDS, SEEDS_OF, TABLE2, R, seconds_per_step
from dylora_kit.tasks import world

SMALLER = (1, 2, 4)  # the ranks for which a LoRA of its own is trained on digits; one of rank 8 is there anyway
ON_DIGITS = (DYLORA, DYLORA_HELD, LORA, NO_ADAPTER, *((ONE, r) for r in SMALLER), FROZEN, FULL, HEAD)
IN_WORDS = (HEAD, FULL, LORA, DYLORA, FROZEN)
REFITTING = 500  # steps of a new head


def digits_jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """The measurements on altered digits with a seed."""
    settings, domain, jobs = TABLE2[task], task.removeprefix("digits-"), []
    per_step = seconds_per_step(task)
    for entry in ON_DIGITS:
        method, r = entry if isinstance(entry, tuple) else (entry, R)
        part: dict[str, Any] = {"domain": domain, "method": method} | ({"rank": r} if method == ONE else {})
        kept = {DYLORA: f"{task}-dylora", LORA: f"{task}-lora"}.get(method)
        makes = adapters / kept if kept and seed == SEEDS[0] and task == "digits-turned" else None
        refits = {LORA: R, NO_ADAPTER: 1}.get(method, 0)
        spent = per_step * (settings["steps"] * (method != NO_ADAPTER) + REFITTING * 0.5 * len(HEAD_RATES) * refits)
        run = partial(run_digits, task, method, seed, r=r, kept=makes, **settings)
        jobs.append(Job(part, seed, settings | made_of(task), run, spent, makes))
    return jobs


def run_digits(
    task: str, method: str, seed: int, *, r: int = R, kept: Path | None = None, **settings: Any
) -> pd.DataFrame:
    """One training on digits, and the accuracy on the test images. A LoRA is cut in every way.

    Arguments:
        kept: a folder for the adapters.
    """
    build, data = load(task)
    frames: list[pd.DataFrame] = []

    def measured(name: str, model: nn.Module, adapters: Adapters, ranks: list[int] | None = None) -> pd.DataFrame:
        frames.append(sweep(model, adapters, data.test, ranks=ranks, method=name, seed=seed, progress=False))
        return frames[-1]

    if method == NO_ADAPTER:
        bare = attach(build(), r=R, target_modules="attention", modules_to_save=["classifier"])  # its ΔW is zero
        pair, lr = with_new_head(bare, data, 1, seed, steps=REFITTING)
        measured(method, *pair, ranks=[1])["chosen_lr"] = lr
        return frames[0].assign(domain=task.removeprefix("digits-"))
    model, adapters = on_digits(method, task, seed, r, **settings)
    if kept is not None:
        keep_trained(adapters, kept, task, method, "digits turned by 90°", settings | {"seed": seed})
    ranks = [r] if method == ONE else [R] if method in (FULL, HEAD) else None  # FULL, HEAD: every rank is the same
    at_its_ranks = measured(method, model, adapters, ranks)
    if method == LORA:
        frames.append(at_its_ranks[at_its_ranks["rank"] == R].assign(method=ONE))  # cut to its own rank it is whole
        closest = svd_cut(adapters)
        measured(SVD, *closest)
        for rank in range(1, R + 1):
            pair, lr = with_new_head(closest[1], data, rank, seed, steps=REFITTING)
            measured(NEW_HEAD, *pair, ranks=[rank])["chosen_lr"] = lr
        adapters.scaling = "alpha/r"
        measured(HELD, model, adapters)
    return pd.concat(frames).assign(domain=task.removeprefix("digits-"))


def on_digits(method: str, task: str, seed: int, r: int = R, **settings: Any) -> tuple[nn.Module, Adapters]:
    """The mini ViT, trained on altered digits by a method."""
    held = method == DYLORA_HELD
    return trained(
        *load(task),
        DYLORA if held else method,
        seed,
        r=r,
        scaling="alpha/r" if held else "alpha/b",
        max_grad_norm=None,
        **settings,
    )


def world_jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """The measurements on a task of the world with a seed."""
    name, made, jobs = task.removeprefix("world-"), made_of(task), []
    if name != "describe" and seed == SEEDS[0]:
        jobs.append(Job({"task": name, "method": BAG}, seed, made, partial(run_bag_of_words, name), 1.0))
    for method in IN_WORDS:
        settings = TABLE2[task] | ({"lr": FULL_LR} if method == FULL else {})
        kept = {DYLORA: f"{task}-dylora", LORA: f"{task}-lora" if name == "describe" else None}.get(method)
        makes = adapters / kept if kept and seed == SEEDS[0] else None
        run = partial(run_words, task, method, seed, kept=makes, **settings)
        seconds = seconds_per_step(task) * settings["steps"]
        jobs.append(Job({"task": name, "method": method}, seed, settings | made, run, seconds, makes))
    return jobs


def run_words(task: str, method: str, seed: int, *, kept: Path | None = None, **settings: Any) -> pd.DataFrame:
    """One training on a task of the world, and its metric on the test split at every rank. A LoRA is cut in every way.

    `cpu_seconds` is the time of the training, all threads together; 0 where nothing more is trained.

    Arguments:
        kept: a folder for the adapters.
    """
    build, data = load(task)
    build()  # so that what it imports counts for nobody
    start = time.process_time()
    model, adapters = trained(build, data, method, seed, **settings)
    seconds = round(time.process_time() - start)
    if kept is not None:
        what = f"the world's task `{task.removeprefix('world-')}`"
        keep_trained(adapters, kept, task, method, what, settings | {"seed": seed})
    ranks = [R] if method in (HEAD, FULL) else None  # their adapters are zero: every rank is the same
    frames = [measure(task, data, model, adapters, ranks).assign(method=method, cpu_seconds=seconds)]
    if method == LORA:
        frames.append(measure(task, data, *svd_cut(adapters)).assign(method=SVD, cpu_seconds=0))
        adapters.scaling = "alpha/r"
        frames.append(measure(task, data, model, adapters).assign(method=HELD, cpu_seconds=0))
    return pd.concat(frames)


def keep_trained(
    adapters: Adapters, folder: Path, task: str, method: str, trained_on: str, settings: dict[str, Any]
) -> None:
    """Saves adapters into a folder, with a card that says what they were trained on, and how."""
    kind = f"DyLoRA, ranks 1 to {R}" if method == DYLORA else f"Plain LoRA of rank {R}"
    what = f"{kind}, for the backbone `{backbone_of(task)}`, trained on {trained_on}"
    keep(
        adapters, folder, what, f"python -m dylora_kit.paper table2 --tasks {task}", settings, STUDY.path(task, Path())
    )


def run_bag_of_words(name: str) -> pd.DataFrame:
    """The bag of words on a task of the world."""
    texts, metric = world.texts(name), world.METRICS[name]
    value = bag_of_words.score(texts["train"], texts["test"], metric)
    return pd.DataFrame([{"rank": R, "metric": metric, "value": value}])


def choose(task: str, method: str) -> dict[float, float]:
    """The value on the validation part at each candidate learning rate, one seed; of DyLoRA the mean over ranks."""
    build, data = load(task)
    values, settings = {}, {key: value for key, value in TABLE2[task].items() if key != "lr"}
    for lr in CANDIDATES:
        model, adapters = trained(build, data, method, SEEDS[0], lr=lr, **settings)
        ranks = None if method in (DYLORA, FROZEN) else [R]
        frame = measure(task, data, model, adapters, ranks, split="validation")
        values[lr] = float(frame[frame["metric"] == data.metric]["value"].mean(skipna=False))
    return values


def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """The measurements on a task with a seed."""
    return (digits_jobs if task.startswith("digits-") else world_jobs)(task, seed, adapters)


STUDY = Study(
    stem="table2",
    tasks=tuple(TABLE2),
    default=("digits-turned", *(f"world-{name}" for name in world.NAMES)),
    seeds=lambda task: SEEDS[: SEEDS_OF.get(task, len(SEEDS))],
    jobs=jobs,
    parts=("task", "metric"),
    shown=lambda results: results if "task" in results else results.assign(task="digits-" + results["domain"]),
)
