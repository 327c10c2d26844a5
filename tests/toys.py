"""Small models and data that several test files use."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import dylora_kit as dk
from dylora_kit.tasks import Task

R, WIDTHS, CLASSES = 4, (6, 10, 7), 3
TARGETS = ["up", "down"]


class Toy(nn.Module):
    """Two linear layers to adapt (6 → 10 → 7), dropout between them, and a classifier; called as BERT is."""

    def __init__(self, dropout: float = 0.2, norm: bool = False, checkpointing: bool = False) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 7)
        self.norm = nn.BatchNorm1d(10) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(7, CLASSES)
        self.checkpointing = checkpointing

    def body(self, x: Tensor) -> Tensor:
        return torch.tanh(self.down(self.dropout(self.norm(torch.tanh(self.up(x))))))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
        h = checkpoint(self.body, x, use_reentrant=False) if self.checkpointing and self.training else self.body(x)
        logits = self.classifier(h)
        return SimpleNamespace(logits=logits, loss=None if labels is None else F.cross_entropy(logits, labels))


def toy(seed: int = 0, **options: Any) -> Toy:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return Toy(**options)


def adapted(model: nn.Module, *, seed: int = 0, **options: Any) -> dk.Adapters:
    """Adapters with r = 4 on a toy, its classifier trained along, lora_B filled so that every rank differs."""
    settings = {"r": R, "lora_alpha": 8, "target_modules": TARGETS, "modules_to_save": ["classifier"]} | options
    adapters = dk.attach(model, seed=seed, **settings)
    generator = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.copy_(0.3 * torch.randn(layer.lora_B.shape, generator=generator))
    return adapters


def examples(n: int = 20, seed: int = 0) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    return [{"x": row, "labels": label} for row, label in zip(x, labels, strict=True)]


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Equal bit for bit, through dicts, lists and tensors; NaN equals NaN."""
    if isinstance(first, Tensor):
        assert isinstance(second, Tensor), where
        assert first.dtype == second.dtype, where
        assert first.shape == second.shape, where
        assert torch.equal(first.nan_to_num(), second.nan_to_num()), where
        assert torch.equal(first.isnan(), second.isnan()), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{where}/{index}")
    else:
        assert first == second, where


class Texts(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Rows of seven tokens, and whether the first is above 27."""

    def __init__(self, n: int, seed: int) -> None:
        self.ids = torch.randint(5, 50, (n, 7), generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[index], "labels": (self.ids[index, 0] > 27).long()}


TEXTS = Task("glue-toy", Texts(64, 1), Texts(20, 2), Texts(30, 3), metric="f1", also=("accuracy",))
