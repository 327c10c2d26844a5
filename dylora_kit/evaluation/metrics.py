"""Metrics by name: functions of a model's outputs and the labels.

A whole-number label of −100 does not count, as in transformers' losses: it marks padding, and tokens without an answer.
Outputs and labels may be of any number of tokens: logits (n, tokens, classes) go with labels (n, tokens).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dylora_kit.training.batches import IGNORED, counts

Metric = Callable[[np.ndarray, np.ndarray], float]
LOWER_IS_BETTER = ("error", "loss", "slot error rate", "perplexity", "mse", "ter")


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of `outputs`, shape (n, classes), whose largest entry is the label; NaN if no label counts.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]]), np.array([1, 1, -100]))
    0.5
    """
    predicted, expected = classes("accuracy", outputs, labels)
    return float((predicted == expected).mean()) if len(expected) else float("nan")


def error(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of the variance that reconstructions (n, d) leave of centred data (n, d): 0 is perfect.

    >>> error(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]]))
    0.5
    """
    left, whole = squares(*reconstructions(outputs, labels))
    return float(left / whole)


def f1(outputs: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1, from logits (n, 2) and labels (n,): the harmonic mean of precision and recall.

    >>> f1(np.array([[0.1, 0.9], [0.8, 0.2], [0.1, 0.9]]), np.array([1, 0, -100]))
    1.0
    """
    return f1_of(*classes("f1", outputs, labels))


def matthews(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation, −1 to 1, of the classes predicted by logits (n, classes) with the labels (n,)."""
    return matthews_of(*classes("matthews", outputs, labels))


def pearson(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's correlation, −1 to 1, of scores (n, 1) with the labels (n,); 0 where all scores are the same."""
    return pearson_of(*scores("pearson", outputs, labels))


def f1_of(predicted: np.ndarray, expected: np.ndarray) -> float:
    """F1 of class 1, from classes (n,) that are 0 or 1; NaN if there are none."""
    from sklearn.metrics import f1_score

    if len(expected) and max(predicted.max(), expected.max()) > 1:
        raise ValueError("f1 is that of class 1 against class 0, but there are more classes: the metric is 'accuracy'")
    return float(f1_score(expected, predicted, zero_division=0)) if len(expected) else float("nan")


def matthews_of(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Matthews' correlation of classes (n,) with the right ones (n,); NaN if there are none."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(expected, predicted)) if len(expected) else float("nan")


def pearson_of(scores: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's correlation of scores (n,) with labels (n,); 0 where all scores are the same, NaN if there are none."""
    from scipy.stats import pearsonr

    if not len(labels):
        return float("nan")
    return 0.0 if np.ptp(scores) == 0 else float(pearsonr(scores, labels).statistic)


# What of outputs and labels a metric needs. Arrays of numpy or of torch alike.


def classes(metric: str, outputs: Any, labels: Any) -> tuple[Any, Any]:
    """The predicted class and the label, both (n,), of each row of logits (…, classes) whose label counts."""
    if tuple(outputs.shape[:-1]) != tuple(labels.shape):
        raise ValueError(
            f"{metric} needs logits (n, classes) and labels (n,): got {tuple(outputs.shape)} and "
            f"{tuple(labels.shape)}; for reconstructions the metric is 'error'"
        )
    if outputs.shape[-1] < 2:
        raise ValueError(
            f"the model has {outputs.shape[-1]} output, so it names no class: its metric is 'pearson' in sweep, and a "
            "RankExplorer, which shows accuracy, is not for it"
        )
    mask = labels != IGNORED
    expected = labels[mask]
    if (expected < 0).any():
        raise ValueError(
            f"the label {int(expected.min())} is no class: labels count from 0, and −100 is for those that do not "
            "count, so leave out examples without an answer, such as GLUE's test split, whose labels are -1"
        )
    return outputs.argmax(-1)[mask], expected


def scores(metric: str, outputs: Any, labels: Any) -> tuple[Any, Any]:
    """The score and the label, both (n,), of each output (n, 1) whose label counts."""
    if tuple(outputs.shape) not in (tuple(labels.shape), (*labels.shape, 1)):
        raise ValueError(
            f"{metric} needs scores (n, 1) and labels (n,): got {tuple(outputs.shape)} and {tuple(labels.shape)}"
        )
    outputs, mask = outputs.reshape(labels.shape), counts(labels)
    return (outputs.reshape(-1), labels.reshape(-1)) if mask is None else (outputs[mask], labels[mask])


def reconstructions(outputs: Any, labels: Any) -> tuple[Any, Any]:
    """Outputs and labels of one shape, where the labels count."""
    if outputs.shape != labels.shape:
        raise ValueError(
            f"an error needs outputs of the labels' shape: got {tuple(outputs.shape)} and {tuple(labels.shape)}"
        )
    mask = counts(labels)
    return (outputs, labels) if mask is None else (outputs[mask], labels[mask])


def squares(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.floating, np.floating]:
    """The sums of (output − label)² and of label², in float64."""
    outputs, labels = outputs.astype(np.float64), labels.astype(np.float64)
    return ((outputs - labels) ** 2).sum(), (labels**2).sum()


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "error": error,
}


def metric_named(name: str, alternative: str = "") -> Metric:
    """The metric of this name; `ValueError` that lists the names, and ends with the alternative, if there is none.

    >>> metric_named("accuracy").__name__
    'accuracy'
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}: expected one of {', '.join(map(repr, METRICS))}{alternative}")
    return METRICS[name]
