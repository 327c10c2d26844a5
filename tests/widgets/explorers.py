"""Explorers for tests, and what can be read off their cards."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor
from toys import R, adapted, examples, state_of, toy

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.tasks import digits
from dylora_kit.widgets.rank_explorer import RankExplorer

SVG = "{http://www.w3.org/2000/svg}"
DATA, STEPS = examples(60, seed=9), 20
EVERY = STEPS // 5  # the explorer keeps a moment after so many steps


def shipped(name: str) -> dk.Adapters:
    """Shipped adapters on turned digits, on a backbone of their own."""
    return dk.load(backbones.load("digits-vit"), backbones.data_folder() / "adapters" / f"digits-turned-{name}")


def training(adapters: dk.Adapters, **changed: Any) -> dict[str, Any]:
    """What an explorer of toy adapters trains with."""
    return {
        "train_data": examples(40, seed=1),
        "sampler": dk.RankSampler(dk.Uniform(1, R), seed=0),
        "optimizer": dk.NestedAdamW(adapters, lr=0.05),
        "batch_size": 8,
        **changed,
    }


def explorer_of(adapters: dk.Adapters, **options: Any) -> RankExplorer:
    """An explorer of toy adapters that shows their accuracy and can train them."""
    settings = {"views": ["accuracy"], "training": training(adapters)} | options
    return RankExplorer(adapters.model, adapters, DATA, **settings)


def accuracy(adapters: dk.Adapters, data: digits.Digits, rank: int) -> float:
    """Computed without the kit's evaluation."""
    with torch.no_grad(), adapters.at(rank):
        logits = adapters.model(pixel_values=data.pixel_values).logits
    return float((logits.argmax(-1) == data.labels).double().mean())


def measured(adapters: Any, data: Any = DATA, metric: str = "accuracy") -> dict[int, float]:
    """The metric by rank, from `sweep`."""
    frame = dk.sweep(adapters.model, adapters, data, metric=metric, progress=False)
    return dict(zip(frame["rank"], frame["value"], strict=True))


def twin_run(rounds: int = 1) -> tuple[dk.Adapters, list[dict[str, Tensor]]]:
    """The same training without an explorer, and the weights at every moment that the explorer keeps."""
    adapters = adapted(toy(), lora_dropout=0.3)
    states, settings = [state_of(adapters.model)], training(adapters)

    def keep(step: int) -> None:
        if step % EVERY == 0:
            states.append(state_of(adapters.model))

    for number in range(rounds):
        dk.train(
            adapters.model,
            adapters,
            steps=STEPS,
            schedule="constant",
            seed=number * STEPS,
            on_step=keep,
            progress=False,
            **settings,
        )
    return adapters, states


def svg(explorer: RankExplorer) -> ElementTree.Element:
    """The cards on show, parsed."""
    cards = re.search(r'<div class="dk-cards".*</svg></div>', explorer.picture.value, re.DOTALL)
    assert cards is not None
    return ElementTree.fromstring(cards.group())


def words(explorer: RankExplorer, kind: str) -> list[str]:
    """The texts of one CSS class on the cards."""
    return [text.text or "" for text in svg(explorer).iter() if kind in text.get("class", "").split(" ")]


def big_numbers(explorer: RankExplorer) -> list[str]:
    """What each method achieves at the slider's rank."""
    return words(explorer, "dk-value")


def strips(explorer: RankExplorer) -> list[np.ndarray]:
    """The rows of pictures on the card, values 0 to 1, a row of seven is (8, 62)."""
    hrefs = [image.get("href", "") for image in svg(explorer).iter(f"{SVG}image")]
    return [plt.imread(io.BytesIO(base64.b64decode(href.split(",")[1])))[:, :, 0] for href in hrefs]


def as_strip(pixels: digits.Pixels, rows: Tensor) -> np.ndarray:
    """Rows (n, 64) side by side with a clear line between them, from −1…1 to 0…1."""
    pictures = (rows + pixels.mean).reshape(-1, 8, 8).clamp(-1, 1).numpy()
    return np.concatenate([np.pad((picture + 1) / 2, ((0, 0), (0, 1))) for picture in pictures], axis=1)[:, :-1]
