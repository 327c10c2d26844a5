"""The metrics by name, added up batch by batch: what is kept is small, whatever the size of the logits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dylora_kit.evaluation import metrics

NAN = float("nan")


class Running:
    """One metric of one model at one rank. `add` each batch, then read `value`."""

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        """Takes in the outputs of a batch (n, …) and its labels (n, …)."""
        raise NotImplementedError

    def value(self, original: np.ndarray) -> float:
        """The metric over all batches; NaN if an output that counts was not finite, or no label counts.

        Arguments:
            original: where each example of the data is in the order in which the batches came.
        """
        raise NotImplementedError


class RunningAccuracy(Running):
    """Keeps two numbers."""

    def __init__(self) -> None:
        self.right, self.counted, self.finite = 0, 0, True

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        predicted, expected = metrics.classes("accuracy", outputs, labels)
        self.finite &= _finite_where_counted(outputs, labels)
        self.right += int((predicted == expected).sum())
        self.counted += len(expected)

    def value(self, original: np.ndarray) -> float:
        return self.right / self.counted if self.finite and self.counted else NAN


class RunningClasses(Running):
    """Keeps the predicted classes and the labels."""

    def __init__(self, name: str, measure: Callable[[np.ndarray, np.ndarray], float]) -> None:
        self.name, self.measure, self.finite = name, measure, True
        self.parts: list[tuple[Tensor, Tensor]] = []

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        predicted, expected = metrics.classes(self.name, outputs, labels)
        self.finite &= _finite_where_counted(outputs, labels)
        self.parts.append((predicted.cpu(), expected.cpu()))

    def value(self, original: np.ndarray) -> float:
        return self.measure(*map(_joined, zip(*self.parts, strict=True))) if self.finite else NAN


class RunningPearson(Running):
    """Keeps the scores and the labels."""

    def __init__(self) -> None:
        self.finite = True
        self.parts: list[tuple[Tensor, Tensor]] = []

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        scores, expected = metrics.scores("pearson", outputs, labels)
        self.finite &= bool(torch.isfinite(scores).all())
        self.parts.append((scores.float().cpu(), expected.cpu()))

    def value(self, original: np.ndarray) -> float:
        if not self.finite:
            return NAN
        scores, expected = map(_joined, zip(*self.parts, strict=True))
        if len(scores) == len(original):  # one for each example: float32 adds up in the order of the data
            scores, expected = scores[original], expected[original]
        return metrics.pearson_of(scores, expected)


class RunningError(Running):
    """Keeps two sums."""

    def __init__(self) -> None:
        self.sums = np.zeros(2)
        self.finite = True

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        outputs, labels = metrics.reconstructions(outputs, labels)
        self.finite &= bool(torch.isfinite(outputs).all())
        self.sums += metrics.squares(outputs.float().cpu().numpy(), labels.cpu().numpy())

    def value(self, original: np.ndarray) -> float:
        return float(self.sums[0] / self.sums[1]) if self.finite else NAN


class RunningLoss(Running):
    """Keeps two sums: of the losses of the batches, weighted by how many labels each counts, and of the weights."""

    def __init__(self, perplexity: bool = False) -> None:
        self.perplexity, self.total, self.counted = perplexity, 0.0, 0

    def add_loss(self, loss: Tensor, counted: int) -> None:
        """Takes in the mean loss of a batch, and over how many labels it is the mean."""
        if counted:
            self.total += float(loss.cpu().double().mean()) * counted
            self.counted += counted

    def value(self, original: np.ndarray) -> float:
        if not self.counted or not np.isfinite(self.total):
            return NAN
        loss = self.total / self.counted
        with np.errstate(over="ignore"):
            return float(np.exp(loss)) if self.perplexity else loss


RUNNING: dict[str, Callable[[], Running]] = {
    "accuracy": RunningAccuracy,
    "f1": lambda: RunningClasses("f1", metrics.f1_of),
    "matthews": lambda: RunningClasses("matthews", metrics.matthews_of),
    "pearson": RunningPearson,
    "error": RunningError,
    "loss": RunningLoss,
    "perplexity": lambda: RunningLoss(perplexity=True),
}


def running(name: str) -> Running:
    """The metric of this name, with nothing added yet; `ValueError` that lists the names if there is none."""
    if name not in RUNNING:
        known = ", ".join(map(repr, RUNNING))
        raise ValueError(f"unknown metric {name!r}: expected one of {known}, or a function")
    return RUNNING[name]()


def _finite_where_counted(outputs: Tensor, labels: Tensor) -> bool:
    """Whether all logits are finite in the rows whose label counts."""
    rows = torch.isfinite(outputs).all(-1)
    return bool((rows | (labels == metrics.IGNORED)).all())


def _joined(parts: Any) -> np.ndarray:
    joined: np.ndarray = torch.cat(parts).numpy()
    return joined
