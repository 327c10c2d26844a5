"""What several tests of explorers start from."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.baselines.autoencoder import Autoencoder, pca
from dylora_kit.evaluation.sweep import sweep_and_predict
from dylora_kit.tasks import Task, digits, world
from dylora_kit.widgets import live_model
from dylora_kit.widgets.rank_explorer import RankExplorer


@pytest.fixture(scope="module")
def data() -> digits.Digits:
    test = digits.load("turned").test
    return digits.Digits(test.pixel_values[:100], test.labels[:100])


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """The ranks of every evaluation that an explorer makes."""
    asked: list[list[int]] = []

    def evaluate(*args: Any, ranks: Any, **kwargs: Any) -> Any:
        asked.append(list(ranks))
        return sweep_and_predict(*args, ranks=ranks, **kwargs)

    monkeypatch.setattr(live_model, "sweep_and_predict", evaluate)
    yield asked


@pytest.fixture(scope="module")
def pixels() -> digits.Pixels:
    test = digits.load_pixels("upright").test
    return digits.Pixels(test.pixel_values[:50] + test.mean, test.mean)


@pytest.fixture
def autoencoder() -> Autoencoder:
    return Autoencoder(64, 4)


@pytest.fixture
def with_pca(autoencoder: Autoencoder, pixels: digits.Pixels) -> RankExplorer:
    return RankExplorer(
        autoencoder,
        autoencoder.code,
        pixels,
        views=["error", "reconstructions"],
        name="nested dropout",
        rivals={"PCA": pca(pixels, 4).code},
        training={
            "train_data": pixels,
            "sampler": dk.RankSampler(dk.Uniform(1, 4), seed=0),
            "optimizer": torch.optim.Adam(autoencoder.parameters(), lr=0.01),
        },
    )


@pytest.fixture(scope="module")
def reviews() -> tuple[dk.Adapters, Task, list[str]]:
    """A language model with adapters that say something, on a few reviews."""
    task = world.load("sentiment", backbones.tokenizer("world-roberta"), limit=8)
    first = [row["first"] for row in world.texts("sentiment")["test"]][:12]
    adapters = dk.attach(backbones.load("world-roberta", num_labels=2), r=4, target_modules="attention")
    for seed, layer in enumerate(adapters.layers.values()):
        torch.nn.init.normal_(layer.lora_B, generator=torch.Generator().manual_seed(seed))
    return adapters, replace(task, test=task.test.select(range(12))), first
