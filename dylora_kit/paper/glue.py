"""The paper's Table 2 with a model of your own on GLUE: DyLoRA, a LoRA cut to every rank, and one LoRA per rank.

    python -m dylora_kit.paper.glue sentence-transformers/all-MiniLM-L6-v2 --tasks sst2 mrpc rte --steps 500

Results go to data/results/glue-<model>.csv, one task and seed after another, and each task's DyLoRA of the first seed
to data/adapters/glue-<model>-<task>; the same command goes on where it stopped. Every method has the same steps,
batches, learning rate and head. The dev split is only reported on; choose the learning rate with `--choose`, which
trains one DyLoRA for each candidate and looks at the validation part of train.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from dylora_kit import backbones
from dylora_kit.adapt import Adapters, attach
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.evaluate import sweep
from dylora_kit.files import write_files
from dylora_kit.optim import NestedAdamW
from dylora_kit.paper import SEEDS
from dylora_kit.paper.digits import DYLORA, LORA, ONE, SVD
from dylora_kit.sampling import Fixed, RankSampler, Uniform
from dylora_kit.tasks import Task, glue
from dylora_kit.train import train

R, OWN = 8, (1, 4)  # the maximum rank, and those for which a LoRA of its own is trained
CANDIDATES = (3e-4, 1e-3, 3e-3)

Build = Callable[[], nn.Module]


def trained(
    build: Build,
    task: Task,
    method: str,
    seed: int,
    *,
    r: int = R,
    steps: int = 500,
    lr: float = 1e-3,
    batch_size: int = 32,
) -> tuple[nn.Module, Adapters]:
    """A fresh model with adapters on query and value, its head trained along. `DYLORA` draws b uniformly from 1 … r."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)  # the start of the head
        model = build()
    head = [name for name in ("classifier", "pre_classifier", "score") if hasattr(model, name)]
    adapters = attach(model, r=r, lora_alpha=16, target_modules="attention", modules_to_save=head, seed=seed)
    sampler = RankSampler(Uniform(1, r) if method == DYLORA else Fixed(r), seed=seed)
    optimizer = NestedAdamW(adapters, lr=lr)
    train(model, adapters, task.train, sampler=sampler, optimizer=optimizer, steps=steps, batch_size=batch_size,
          seed=seed, collate=task.collate, max_grad_norm=1.0, progress=False)  # fmt: skip
    return model, adapters


def run(build: Build, task: Task, seed: int, *, keep: Path | None = None, **settings: Any) -> pd.DataFrame:
    """Every method on one task with one seed, the task's metrics on its dev split.

    `cpu_seconds` is the time of the training, all threads together. The DyLoRA is saved to `keep`, where that is given.
    """
    frames = []

    def measure(method: str, pair: tuple[nn.Module, Adapters], start: float, ranks: list[int] | None = None) -> None:
        seconds = time.process_time() - start
        frame = sweep(*pair, task.test, metric=(task.metric, *task.also), ranks=ranks, method=method, seed=seed,
                      collate=task.collate, batch_size=64, progress=False)  # fmt: skip
        frames.append(frame.assign(cpu_seconds=round(seconds)))

    for method in (DYLORA, LORA):
        start = time.process_time()
        pair = trained(build, task, method, seed, **settings)
        measure(method, pair, start)
        if method == DYLORA and keep is not None:
            pair[1].save(keep)
    measure(SVD, svd_cut(pair[1]), start)
    for r in OWN:
        start = time.process_time()
        measure(ONE, trained(build, task, LORA, seed, r=r, **settings), start, [r])
    return pd.concat(frames).assign(task=task.name)


def choose(build: Build, task: Task, **settings: Any) -> float:
    """The candidate learning rate whose DyLoRA has the best mean over ranks on the validation part."""
    scores = {}
    for lr in CANDIDATES:
        model, adapters = trained(build, task, DYLORA, SEEDS[0], lr=lr, **settings)
        frame = sweep(model, adapters, task.validation, metric=task.metric, collate=task.collate, progress=False)
        scores[lr] = frame["value"].mean()
        print(f"{task.name}, lr {lr:g}: {scores[lr]:.4f} on validation", flush=True)
    return max(scores, key=lambda lr: scores[lr])


def _main(arguments: argparse.Namespace) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    name = Path(arguments.model).name
    out = arguments.out or backbones.data_folder()
    path = out / "results" / f"glue-{name}.csv"
    results = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["task", "seed"])
    settings = {"steps": arguments.steps, "lr": arguments.lr, "batch_size": arguments.batch_size}
    said = settings | {"max_length": arguments.max_length}
    for key in arguments.tasks:
        task = glue.load(key, tokenizer, max_length=arguments.max_length)
        here = results[results["task"] == task.name]
        for what, value in said.items():
            if what in here and (here[what] != value).any():
                was = here[what].iloc[0]
                raise SystemExit(f"{path} has {key} with {what} = {was}, now it is {value}: pass another --out")

        def build(key: str = key) -> nn.Module:
            labels = glue.num_labels(key)
            return AutoModelForSequenceClassification.from_pretrained(arguments.model, num_labels=labels)

        if arguments.choose:
            best = choose(build, task, steps=arguments.steps, batch_size=arguments.batch_size)
            print(f"{task.name}: best learning rate {best:g}")
            continue
        for seed in SEEDS[: arguments.seeds]:
            if ((results["task"] == task.name) & (results["seed"] == seed)).any():
                continue
            keep = out / "adapters" / f"glue-{name}-{key}" if seed == SEEDS[0] else None
            new = run(build, task, seed, keep=keep, **settings)
            new = new.assign(model=name, **said, torch=torch.__version__)
            results = new if results.empty else pd.concat([results, new])
            write_files(path.parent, {path.name: results.to_csv(index=False, float_format="%.6g").encode()})
            print(f"{task.name}, seed {seed}: done", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train and compare on GLUE.")
    parser.add_argument("model", help="a model of the hub, or a local folder")
    parser.add_argument("--tasks", nargs="+", choices=list(glue.SPECS), default=["sst2", "mrpc", "rte"])
    parser.add_argument("--seeds", type=int, default=3, help="how many of the paper's seeds")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--choose", action="store_true", help="choose the learning rate on validation, and stop")
    parser.add_argument("--out", type=Path, help="another folder than data/ to write to")
    _main(parser.parse_args())
