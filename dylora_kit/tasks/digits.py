"""Real handwritten digits: scikit-learn's 1,797 scans of 8 × 8 pixels, upright and in three altered domains.

A backbone learns the upright digits. The altered domains are what an adapter has to learn.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998 (CC BY 4.0).
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dylora_kit.tasks import Task

DOMAINS = ("upright", "turned", "permuted", "inverted")
NOISE = 0.25  # standard deviation of the noise on inverted digits, whose pixels go from −1 to 1


class Digits(Dataset[dict[str, Tensor]]):
    """Scans and labels: `pixel_values` (n, 1, 8, 8) from −1 to 1, `labels` (n,) from 0 to 9."""

    def __init__(self, pixel_values: Tensor, labels: Tensor) -> None:
        self.pixel_values, self.labels = pixel_values, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixel_values[index], "labels": self.labels[index]}


class Pixels(Digits):
    """Scans as rows of pixels with their mean taken off, to reconstruct: `labels` are the `pixel_values` (n, 64)."""

    def __init__(self, rows: Tensor, mean: Tensor) -> None:
        super().__init__(rows - mean, rows - mean)
        self.mean = mean

    def pictures(self, rows: Tensor | np.ndarray) -> Tensor:
        """Rows (n, 64) as pictures (n, 8, 8), the mean added back."""
        return (torch.as_tensor(rows) + self.mean).reshape(-1, 8, 8)


def load(domain: str = "turned") -> Task:
    """The digits of one domain: 1,000 to train on, 200 to validate, 597 to test.

    The split is stratified and always the same, and the same scans are in it in every domain.

    Arguments:
        domain: `"upright"`, as they were written; `"turned"` by 90°; `"permuted"`, with their pixels in another, fixed
            order; or `"inverted"`, dark and light exchanged, with noise.

    Raises `ValueError` for an unknown domain.

    >>> task = load("turned")
    >>> len(task.train), len(task.validation), len(task.test)
    (1000, 200, 597)
    >>> task.test[0]["pixel_values"].shape
    torch.Size([1, 8, 8])
    """
    if domain not in DOMAINS:
        raise ValueError(f"unknown domain {domain!r}: expected one of {', '.join(map(repr, DOMAINS))}")
    images, labels = _scans()
    pixels = torch.from_numpy(_alter(images, domain)).unsqueeze(1)
    targets = torch.from_numpy(labels)
    train, validation, test = (Digits(pixels[index], targets[index]) for index in _split(labels))
    return Task(f"digits-{domain}", train, validation, test, metric="accuracy")


def load_pixels(domain: str = "upright") -> Task:
    """The digits of one domain as rows of 64 numbers to reconstruct: `labels` are the `pixel_values` themselves.

    The mean of the training digits is taken off all three parts.

    >>> load_pixels("upright").train[0]["labels"].shape
    torch.Size([64])
    """
    task = load(domain)
    mean = task.train.pixel_values.flatten(1).mean(0)
    parts = (task.train, task.validation, task.test)
    train, validation, test = (Pixels(part.pixel_values.flatten(1), mean) for part in parts)
    return Task(f"{task.name}-pixels", train, validation, test, metric="error")


@cache
def _scans() -> tuple[np.ndarray, np.ndarray]:
    """All scans (1797, 8, 8), from −1 to 1, and their labels."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    return (scans.images / 8 - 1).astype(np.float32), scans.target.astype(np.int64)


def _split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which scans are in train, in validation and in test."""
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(np.arange(len(labels)), test_size=597, random_state=0, stratify=labels)
    train, validation = train_test_split(rest, test_size=200, random_state=0, stratify=labels[rest])
    return train, validation, test


def _alter(images: np.ndarray, domain: str) -> np.ndarray:
    """Images (n, 8, 8) as they look in a domain."""
    if domain == "turned":
        return np.rot90(images, axes=(1, 2)).copy()
    if domain == "permuted":
        order = np.random.default_rng(0).permutation(64)
        return images.reshape(-1, 64)[:, order].reshape(-1, 8, 8)
    if domain == "inverted":
        noise = np.random.default_rng(0).normal(0, NOISE, images.shape)
        return np.clip(noise - images, -1, 1).astype(np.float32)
    return images
