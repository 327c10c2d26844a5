"""The paper's Table 2 with a model of your own on GLUE: DyLoRA, a LoRA cut to every rank, and one LoRA per rank.

    python -m dylora_kit.paper.glue sentence-transformers/all-MiniLM-L6-v2 --tasks sst2 mrpc rte --steps 500

Results go to data/results/table2-glue-<model>.csv, one task and seed after another, and each task's DyLoRA of the first
seed to data/adapters/glue-<model>-<task>; the same command goes on where it stopped. Every method has the same steps,
batches, learning rate and head. The dev split is only reported on; choose the learning rate with `--choose`, which
trains one DyLoRA for each candidate and looks at the validation part of train.
"""

import argparse
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from dylora_kit import backbones
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.adapters import Adapters
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper import SEEDS, Job, collect, table
from dylora_kit.paper.compared_methods import DYLORA, HELD, LORA, ONE, SVD, Build, trained
from dylora_kit.tasks import Task, glue

OWN = (1, 4)  # the ranks for which a LoRA of its own is trained
CANDIDATES = (3e-4, 1e-3, 3e-3)


def run(build: Build, task: Task, seed: int, *, keep: Path | None = None, **settings: Any) -> pd.DataFrame:
    """Every method on one task with one seed, the task's metrics on its dev split.

    `cpu_seconds` is the time of the training, all threads together; 0 where nothing more is trained. The DyLoRA is
    saved to `keep`, where that is given.
    """
    frames = []
    by_length = sorted(range(len(task.test)), key=lambda index: len(task.test[index]["input_ids"]))
    test = torch.utils.data.Subset(task.test, by_length)  # batches with little padding

    def measure(method: str, pair: tuple[nn.Module, Adapters], seconds: float, ranks: list[int] | None = None) -> None:
        frame = sweep(*pair, test, metric=(task.metric, *task.also), ranks=ranks, method=method, seed=seed,
                      collate=task.collate, batch_size=64, progress=False)  # fmt: skip
        frames.append(frame.assign(cpu_seconds=round(seconds)))

    build()  # so that what it imports counts for nobody
    for method in (DYLORA, LORA):
        start = time.process_time()
        pair = trained(build, task, method, seed, **settings)
        measure(method, pair, time.process_time() - start)
        if method == DYLORA and keep is not None:
            pair[1].save(keep)
    measure(SVD, svd_cut(pair[1]), 0)
    pair[1].scaling = "alpha/r"
    measure(HELD, pair, 0)
    for r in OWN:
        start = time.process_time()
        pair = trained(build, task, LORA, seed, r=r, **settings)
        measure(ONE, pair, time.process_time() - start, [r])
    return pd.concat(frames)


def choose(build: Build, task: Task, **settings: Any) -> float:
    """The candidate learning rate whose DyLoRA has the best mean over ranks on the validation part."""
    scores = {}
    for lr in CANDIDATES:
        model, adapters = trained(build, task, DYLORA, SEEDS[0], lr=lr, **settings)
        frame = sweep(model, adapters, task.validation, metric=task.metric, collate=task.collate, progress=False)
        scores[lr] = frame["value"].mean(skipna=False)
        print(f"{task.name}, lr {lr:g}: {scores[lr]:.4f} on validation", flush=True)
    return max(scores, key=lambda lr: -math.inf if math.isnan(scores[lr]) else scores[lr])


def _main(arguments: argparse.Namespace) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    name = Path(arguments.model).name
    out = arguments.out or backbones.data_folder()
    path = out / "results" / f"table2-glue-{name}.csv"
    settings = {"steps": arguments.steps, "lr": arguments.lr, "batch_size": arguments.batch_size}
    tasks = {key: glue.load(key, tokenizer, max_length=arguments.max_length) for key in arguments.tasks}

    def build(key: str) -> nn.Module:
        return AutoModelForSequenceClassification.from_pretrained(
            arguments.model, num_labels=glue.num_labels(key), pad_token_id=tokenizer.pad_token_id
        )

    if arguments.choose:
        for key, task in tasks.items():
            best = choose(partial(build, key), task, steps=arguments.steps, batch_size=arguments.batch_size)
            print(f"{task.name}: best learning rate {best:g}")
        return
    jobs = []
    for key, task in tasks.items():
        said = {"model": name, **settings, "max_length": arguments.max_length, "examples": len(task.train)}
        for seed in SEEDS[: arguments.seeds]:
            part = key + ("-subset" if "subset" in task.name else "")
            keep = out / "adapters" / f"glue-{name}-{part}" if seed == SEEDS[0] else None
            job = partial(run, partial(build, key), task, seed, keep=keep, **settings)
            jobs.append(Job({"task": task.name}, seed, said, job))
    print(table(collect(path, jobs), ["task", "metric"]).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train and compare on GLUE.")
    parser.add_argument("model", help="a model of the hub, or a local folder")
    parser.add_argument("--tasks", nargs="+", choices=list(glue.SPECS), default=["sst2", "mrpc", "rte"])
    seeds = range(1, len(SEEDS) + 1)
    parser.add_argument("--seeds", type=int, default=3, choices=seeds, help="how many of the paper's seeds")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--choose", action="store_true", help="choose the learning rate on validation, and stop")
    parser.add_argument("--out", type=Path, help="another folder than data/ to write to")
    try:
        _main(parser.parse_args())
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")
