"""Table 2 with a model of your own on GLUE: DyLoRA, a LoRA cut to every rank, and one LoRA per rank.

Every method has the same steps, batches, learning rate and head. The dev split is only reported on; choose the learning
rate with `--choose`, which trains one DyLoRA for each candidate and looks at the validation part of train.
"""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.adapters import Adapters
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper.compared_methods import DYLORA, HELD, LORA, ONE, SVD, Build, begun, trained
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.run_folders import slug
from dylora_kit.paper.settings import SEEDS, R
from dylora_kit.paper.short_timing import Timing, timed
from dylora_kit.storage.files import tensors_as_bytes
from dylora_kit.tasks import Task, glue

OWN = (1, 4)  # the ranks for which a LoRA of its own is trained
CANDIDATES = (3e-4, 1e-3, 3e-3)


def run(
    build: Build, task: Task, seed: int, *, keep: Path | None = None, checkpoints: Path | None = None, **settings: Any
) -> pd.DataFrame:
    """Every method on one task with one seed, the task's metrics on its dev split.

    `cpu_seconds` is the time of the training, all threads together; 0 where nothing more is trained, and missing for a
    training that was stopped on its way. The DyLoRA is saved to `keep`, where that is given.

    Arguments:
        checkpoints: a folder, from which trainings that were stopped go on.
    """
    frames = []
    by_length = sorted(range(len(task.test)), key=lambda index: len(task.test[index]["input_ids"]))
    test = torch.utils.data.Subset(task.test, by_length)  # batches with little padding

    def learn(method: str, **own: Any) -> tuple[tuple[nn.Module, Adapters], float]:
        checkpoint = checkpoints and checkpoints / slug("-".join(map(str, (method, *own.values()))))
        stopped, start = begun(checkpoint), time.process_time()
        pair = trained(build, task, method, seed, checkpoint=checkpoint, **own, **settings)
        return pair, math.nan if stopped else round(time.process_time() - start)

    def measure(method: str, pair: tuple[nn.Module, Adapters], seconds: float, ranks: list[int] | None = None) -> None:
        frame = sweep(*pair, test, metric=(task.metric, *task.also), ranks=ranks, method=method, seed=seed,
                      collate=task.collate, batch_size=64, progress=False)  # fmt: skip
        frames.append(frame.assign(cpu_seconds=seconds))

    build()  # so that what it imports counts for nobody
    for method in (DYLORA, LORA):
        pair, seconds = learn(method)
        measure(method, pair, seconds)
        if method == DYLORA and keep is not None:
            pair[1].save(keep)
    measure(SVD, svd_cut(pair[1]), 0)
    pair[1].scaling = "alpha/r"
    measure(HELD, pair, 0)
    for r in OWN:
        pair, seconds = learn(LORA, r=r)
        measure(ONE, pair, seconds, [r])
    return pd.concat(frames)


def choose(build: Build, task: Task, **settings: Any) -> dict[float, float]:
    """The mean over ranks of a DyLoRA on the validation part, at each candidate learning rate."""
    values = {}
    for lr in CANDIDATES:
        model, adapters = trained(build, task, DYLORA, SEEDS[0], lr=lr, **settings)
        frame = sweep(model, adapters, task.validation, metric=task.metric, collate=task.collate, progress=False)
        values[lr] = float(frame["value"].mean(skipna=False))
    return values


def best(values: dict[float, float]) -> float:
    """The learning rate of the largest value; one at which a rank diverged is not chosen.

    >>> best({1e-3: 0.8, 3e-3: float("nan")})
    0.001
    """
    return max(values, key=lambda lr: -math.inf if math.isnan(values[lr]) else values[lr])


def steps_of(examples: int, batch_size: int, epochs: int) -> int:
    """How many steps see every example so often.

    >>> steps_of(3302, 32, epochs=1), steps_of(3302, 32, epochs=30)
    (104, 3120)
    """
    return math.ceil(examples / batch_size) * epochs


class RealText:
    """GLUE tasks and a classifier on them, from the hub or from local folders.

    Arguments:
        model: a model of the hub, or a local folder.
        max_length: texts are cut to so many tokens.
        epochs: how often each training sees every text; without it `steps` is among the settings.
        settings: steps, lr, batch_size and weight_decay of every training.
    """

    def __init__(self, model: str, *, max_length: int, epochs: int | None = None, **settings: Any) -> None:
        from transformers import AutoTokenizer

        self.model, self.name, self.max_length = model, Path(model).name, max_length
        self.epochs, self.settings = epochs, settings
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self._tasks: dict[str, Task] = {}
        self._timings: dict[str, Timing] = {}
        self._fingerprint: str | None = None

    def build(self, task: str) -> nn.Module:
        """A fresh model for a task."""
        from transformers import AutoModelForSequenceClassification

        fresh: nn.Module = AutoModelForSequenceClassification.from_pretrained(
            self.model, num_labels=glue.num_labels(task), pad_token_id=self.tokenizer.pad_token_id
        )
        return fresh.to("cuda" if torch.cuda.is_available() else "cpu")

    def load(self, task: str) -> Task:
        """A task, tokenised for the model."""
        if task not in self._tasks:
            self._tasks[task] = glue.load(task, self.tokenizer, max_length=self.max_length)
        return self._tasks[task]

    def jobs(self, task: str, seed: int, adapters: Path) -> list[Job]:
        """The one job of a task with a seed: every method."""
        data = self.load(task)
        part = task + ("-subset" if "subset" in data.name else "")
        keep = adapters / f"glue-{self.name}-{part}" if seed == SEEDS[0] else None
        recorded = self.recorded(task)
        checkpoints = self.checkpoints(f"table2-glue-{self.name}", part, seed, adapters, recorded)
        run_it = partial(run, partial(self.build, task), data, seed, keep=keep, checkpoints=checkpoints,
                         **self.settings_of(task))  # fmt: skip
        (seconds, per_rank, disk), trainings = self.takes(task), 2 + len(OWN)
        seconds = trainings * seconds + (4 * R + len(OWN)) * per_rank
        return [Job({"task": data.name}, seed, recorded, run_it, seconds, disk=trainings * disk, scratch=checkpoints)]

    def checkpoints(self, study: str, part: str, seed: int, adapters: Path, settings: dict[str, Any]) -> Path:
        """Where trainings of a study with these settings go on that were stopped, beside the folder for adapters."""
        own = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        return adapters.parent / "checkpoints" / study / f"{slug(part)}-seed-{seed}-{own}"

    def settings_of(self, task: str) -> dict[str, Any]:
        """What every training of a task has in common, its number of steps among it."""
        if self.epochs is None:
            return self.settings
        return {"steps": steps_of(len(self.load(task).train), self.settings["batch_size"], self.epochs)} | self.settings

    def recorded(self, task: str) -> dict[str, Any]:
        """What all results of a task have in common."""
        examples = len(self.load(task).train)
        settings = {"weight_decay": 0.0} | self.settings_of(task)
        told = {"model": self.name, "backbone": self.fingerprint(task)}
        return {**told, **settings, "max_length": self.max_length, "examples": examples}

    def fingerprint(self, task: str) -> str:
        """The start of a checksum of the pretrained weights, which tells models of one name apart."""
        if self._fingerprint is None:
            model = self.build(task)
            base = getattr(model, str(model.base_model_prefix)).state_dict()
            self._fingerprint = hashlib.sha256(tensors_as_bytes(dict(sorted(base.items())))).hexdigest()[:12]
        return self._fingerprint

    def study(self, tasks: Sequence[str], seeds: int = 3) -> Study:
        """The study of these tasks; all of them go into one results file."""
        return Study(
            stem=f"table2-glue-{self.name}",
            tasks=tuple(glue.SPECS),
            default=tuple(tasks),
            seeds=lambda task: SEEDS[:seeds],
            jobs=self.jobs,
            one_file=True,
        )

    def takes(self, task: str) -> tuple[float, float, int]:
        """About how long a training takes on this machine, and the dev split at a rank; the bytes of a checkpoint."""
        settings = self.settings_of(task)
        if task not in self._timings:
            self._timings[task] = timed(partial(self.build, task), self.load(task), settings["batch_size"])
        per_step, per_example, disk = self._timings[task]
        return settings["steps"] * per_step, len(self.load(task).test) * per_example, disk
