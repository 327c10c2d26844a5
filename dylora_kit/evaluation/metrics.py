"""Metrics by name: functions of a model's outputs and the labels."""

from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]
LOWER_IS_BETTER = ("error", "loss", "slot error rate", "perplexity", "mse", "ter")


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of `outputs`, shape (n, classes), whose largest entry is the label.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    if outputs.shape[:-1] != labels.shape:
        raise ValueError(
            f"accuracy needs logits (n, classes) and labels (n,): got {outputs.shape} and {labels.shape}; "
            "for reconstructions the metric is 'error'"
        )
    return float((_classes(outputs) == labels).mean())


def error(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of the variance that reconstructions (n, d) leave of centred data (n, d): 0 is perfect.

    >>> error(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]]))
    0.5
    """
    if outputs.shape != labels.shape:
        raise ValueError(f"an error needs outputs of the labels' shape: got {outputs.shape} and {labels.shape}")
    return float(((outputs - labels) ** 2).sum() / (labels**2).sum())


def f1(outputs: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1, from logits (n, 2) and labels (n,): the harmonic mean of precision and recall.

    >>> f1(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 0]))
    1.0
    """
    from sklearn.metrics import f1_score

    return float(f1_score(labels, _classes(outputs), zero_division=0))


def matthews(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation, −1 to 1, of the classes predicted by logits (n, classes) with the labels (n,).

    >>> matthews(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 0]))
    1.0
    """
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, _classes(outputs)))


def pearson(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's correlation, −1 to 1, of scores (n, 1) with the labels (n,); 0 where all scores are the same.

    >>> round(pearson(np.array([[1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 4.0])), 2)
    0.98
    """
    from scipy.stats import pearsonr

    scores = outputs.reshape(len(labels))
    return 0.0 if np.ptp(scores) == 0 else float(pearsonr(scores, labels).statistic)


def _classes(outputs: np.ndarray) -> np.ndarray:
    """The predicted class of each row of logits (n, classes)."""
    if outputs.shape[-1] < 2:
        raise ValueError(f"the model has {outputs.shape[-1]} output, so it names no class: its metric is 'pearson'")
    return outputs.argmax(-1)


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
