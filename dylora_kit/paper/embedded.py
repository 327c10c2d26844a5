"""The embedded tier: the model and the data of each task, what they were made of, and how a model is measured."""

from functools import partial
from typing import Any

import pandas as pd
from torch import nn

from dylora_kit import backbones
from dylora_kit.core.adapters import Adapters
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper.compared_methods import Build
from dylora_kit.storage.files import data_folder, fingerprint
from dylora_kit.tasks import Task, digits, world
from dylora_kit.tasks.describe import scores, write


def backbone_of(name: str) -> str:
    """The name of the embedded backbone that a task is for.

    >>> backbone_of("digits-turned"), backbone_of("world-describe"), backbone_of("world-sentiment")
    ('digits-vit', 'world-gpt2', 'world-roberta')
    """
    tier, _, part = name.partition("-")
    return "digits-vit" if tier == "digits" else "world-gpt2" if part == "describe" else "world-roberta"


def load(name: str) -> tuple[Build, Task]:
    """What builds a fresh model for a task, with an untrained head if it has one, and the task itself.

    Arguments:
        name: such as `"digits-turned"` or `"world-sentiment"`.
    """
    tier, _, part = name.partition("-")
    if tier == "digits":
        return partial(backbones.load, "digits-vit"), digits.load(part)
    head = {} if part == "describe" else {"num_labels": world.num_labels(part)}
    backbone = backbone_of(name)
    return partial(backbones.load, backbone, **head), world.load(part, backbones.tokenizer(backbone))


def made_of(name: str) -> dict[str, str]:
    """Which backbone and data a task's results are made of: the start of their files' checksums."""
    tier, _, part = name.partition("-")
    folder = data_folder()
    weights = {"backbone": fingerprint(folder / "backbones" / backbone_of(name) / "model.safetensors")}
    if tier == "digits":
        return weights
    return weights | {"data": fingerprint(*(folder / "world" / f"{part}-{split}.jsonl" for split in ("train", "test")))}


def measure(
    name: str, task: Task, model: nn.Module, adapters: Adapters, ranks: list[int] | None = None, *, split: str = "test"
) -> pd.DataFrame:
    """The task's metric on a split at every rank, or at some; of `world-describe`, the scores of what the model writes.

    Returns a frame with the columns rank, metric and value, and those of `sweep`.
    """
    if name != "world-describe":
        data = getattr(task, split)
        return sweep(model, adapters, data, metric=task.metric, ranks=ranks, collate=task.collate, progress=False)
    texts, tokenizer = world.texts("describe")[split], backbones.tokenizer(backbone_of(name))
    rows: list[dict[str, Any]] = []
    for rank in ranks or range(1, adapters.r + 1):
        with adapters.at(rank):
            by_metric = scores(write(model, tokenizer, texts), texts)
        rows += [{"rank": rank, "metric": metric, "value": value} for metric, value in by_metric.items()]
    return pd.DataFrame(rows)
