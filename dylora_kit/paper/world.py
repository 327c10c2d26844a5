"""The paper's Table 2 on the small English world: every method on six tasks, with the embedded language models.

    python -m dylora_kit.paper.world             # a file for each task in data/results, the first seed's DyLoRAs in
                                                 # data/adapters; goes on where it stopped
    python -m dylora_kit.paper.world --choose    # compares learning rates on the validation part, and stops

Every method has the same steps and batches on a task, and all adapters have the same learning rate. The rates were
compared on validation parts, with one seed, batches of 32, longer texts of similarity and paraphrase and an earlier
training of `world-roberta`: for adapters 3e-3 was as good as 1e-2 on entailment and better on acceptability and
similarity, on `describe` 1e-2 was better than 3e-3 and as good as 3e-2; for full fine-tuning 1e-3 was as good as 3e-4.
A bag of words is reported beside the methods.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from dylora_kit import backbones
from dylora_kit.baselines import bag_of_words
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.adapters import Adapters
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper import SEEDS, Job, collect, command, keep, table
from dylora_kit.paper.compared_methods import DYLORA, FROZEN, FULL, HEAD, HELD, LORA, SVD, R, trained
from dylora_kit.storage.files import fingerprint
from dylora_kit.tasks import Task, world
from dylora_kit.tasks.describe import scores, write

TRAINED = (HEAD, FULL, LORA, DYLORA, FROZEN)  # the LoRA is then also cut by SVD, and cut with its scale held
SETTINGS: dict[str, dict[str, Any]] = {  # as many steps as train a DyLoRA in less than 40 s on two cores
    "sentiment": {"steps": 300, "batch_size": 32},
    "entailment": {"steps": 300, "batch_size": 32},
    "paraphrase": {"steps": 200, "batch_size": 32},
    "acceptability": {"steps": 400, "batch_size": 32},
    "similarity": {"steps": 250, "batch_size": 32},
    "describe": {"steps": 400, "batch_size": 16},
}
FULL_RATE, RATES = 1e-3, {"describe": 1e-2}  # of full fine-tuning; of adapters and heads, where it is not 3e-3
CANDIDATES = (3e-4, 1e-3, 3e-3, 1e-2)
REPEATS = {"sentiment": 5, "entailment": 5}  # how many seeds; three for the others
BAG = "bag of words"


def rate(name: str, method: str) -> float:
    """The learning rate of a method on a task."""
    return FULL_RATE if method == FULL else RATES.get(name, 3e-3)


def model_of(name: str) -> str:
    """The name of the embedded model that a task is for."""
    return "world-gpt2" if name == "describe" else "world-roberta"


def backbone(name: str) -> nn.Module:
    """The embedded model that a task is for, with an untrained head if it has one."""
    return backbones.load(model_of(name), **({} if name == "describe" else {"num_labels": world.num_labels(name)}))


def measure(
    name: str, task: Task, data: Any, model: nn.Module, adapters: Adapters, ranks: list[int] | None = None
) -> pd.DataFrame:
    """The task's metrics on a split at every rank; of `describe`, of what the model writes."""
    if name != "describe":
        return sweep(model, adapters, data, metric=task.metric, ranks=ranks, collate=task.collate, progress=False)
    rows = []
    for rank in ranks or range(1, adapters.r + 1):
        with adapters.at(rank):
            found = scores(write(model, backbones.tokenizer(model_of(name)), data), data)
        rows += [{"rank": rank, "metric": metric, "value": value} for metric, value in found.items()]
    return pd.DataFrame(rows)


def run(name: str, method: str, seed: int, *, kept: Path | None = None, **settings: Any) -> pd.DataFrame:
    """One training, and what it gives on the test split at every rank. A LoRA is cut in every way.

    The adapters are saved to `kept`, where that is given.
    """
    task, frames = load(name), []
    test = world.texts(name)["test"] if name == "describe" else task.test
    backbone(name)  # so that what it imports counts for nobody
    start = time.process_time()
    model, adapters = trained(partial(backbone, name), task, method, seed, **settings)
    seconds = round(time.process_time() - start)
    if kept is not None:
        what = f"DyLoRA, ranks 1 to {R}, for the backbone `{model_of(name)}`, trained on the world's task `{name}`"
        made_by = f"python -m dylora_kit.paper.world --tasks {name}"
        keep(adapters, kept, what, made_by, settings | {"seed": seed}, f"table2-world-{name}.csv")
    ranks = [R] if method in (HEAD, FULL) else None  # their adapters are zero: every rank is the same
    frames.append(measure(name, task, test, model, adapters, ranks).assign(method=method, cpu_seconds=seconds))
    if method == LORA:
        frames.append(measure(name, task, test, *svd_cut(adapters)).assign(method=SVD, cpu_seconds=0))
        adapters.scaling = "alpha/r"
        frames.append(measure(name, task, test, model, adapters).assign(method=HELD, cpu_seconds=0))
    return pd.concat(frames)


def choose(name: str, method: str, **settings: Any) -> dict[float, float]:
    """The value on the validation part at each candidate learning rate, one seed; of DyLoRA the mean over ranks."""
    task, found = load(name), {}
    data = world.texts(name)["validation"] if name == "describe" else task.validation
    nested = method in (DYLORA, FROZEN)
    for lr in CANDIDATES:
        model, adapters = trained(partial(backbone, name), task, method, SEEDS[0], lr=lr, **settings)
        frame = measure(name, task, data, model, adapters, None if nested else [R])
        found[lr] = float(frame[frame["metric"] == task.metric]["value"].mean(skipna=False))
    return found


def load(name: str) -> Task:
    """A task with the tokenizer of the model that it is for."""
    return world.load(name, backbones.tokenizer(model_of(name)))


def _main(arguments: argparse.Namespace) -> None:
    if arguments.choose:
        for name in arguments.tasks:
            for method in arguments.methods:
                rates = choose(name, method, **SETTINGS[name])
                said = ", ".join(f"{lr:g}: {value:.4f}" for lr, value in rates.items())
                print(f"{name}, {method}: {said} on validation", flush=True)
        return
    out = arguments.out or backbones.data_folder()
    found = [
        collect(out / "results" / f"table2-world-{name}.csv", _jobs(name, arguments.methods, out / "adapters"))
        for name in arguments.tasks
    ]
    print(table(pd.concat(found), ["task", "metric"]).to_string())


def made_of(name: str) -> dict[str, str]:
    """Which backbone and data a task's results are made of: the start of their files' checksums."""
    folder = backbones.data_folder()
    return {
        "backbone": fingerprint(folder / "backbones" / model_of(name) / "model.safetensors"),
        "data": fingerprint(*(folder / "world" / f"{name}-{split}.jsonl" for split in ("train", "test"))),
    }


def _jobs(name: str, methods: list[str], adapters: Path) -> list[Job]:
    made, found = made_of(name), []
    if name != "describe":
        found.append(Job({"task": name, "method": BAG}, SEEDS[0], made, partial(_bag, name)))
    for seed in SEEDS[: REPEATS.get(name, 3)]:
        for method in methods:
            settings = SETTINGS[name] | {"lr": rate(name, method)}
            kept = adapters / f"world-{name}-dylora" if method == DYLORA and seed == SEEDS[0] else None
            job = partial(run, name, method, seed, kept=kept, **settings)
            found.append(Job({"task": name, "method": method}, seed, settings | made, job, makes=kept))
    return found


def _bag(name: str) -> pd.DataFrame:
    texts, metric = world.texts(name), world.METRICS[name]
    value = bag_of_words.score(texts["train"], texts["test"], metric)
    return pd.DataFrame([{"rank": R, "metric": metric, "value": value}])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train and compare on the small English world.")
    parser.add_argument("--tasks", nargs="+", choices=world.NAMES, default=list(world.NAMES))
    parser.add_argument("--methods", nargs="+", choices=TRAINED, default=list(TRAINED))
    parser.add_argument("--choose", action="store_true", help="compare learning rates on validation, and stop")
    parser.add_argument("--out", type=Path, help="another folder than data/ to write to")
    command(parser, _main)
