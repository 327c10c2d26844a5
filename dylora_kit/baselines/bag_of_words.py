"""What words alone tell of a task: TF-IDF of words and pairs of words, and a linear model on it, by scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dylora_kit.evaluation.metrics import METRICS


def score(train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]], metric: str) -> float:
    """The test score of logistic regression, or of ridge regression where the metric is `"pearson"`.

    Arguments:
        train, test: rows with a `"first"` text, perhaps a `"second"` (with columns of its own), and a `"label"`.
        metric: `"accuracy"`, `"f1"`, `"matthews"` or `"pearson"`.

    >>> rows = [{"first": "good soup", "label": 1}, {"first": "bad soup", "label": 0}]
    >>> score(rows, rows, "accuracy")
    1.0
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}: expected one of {', '.join(map(repr, METRICS))}")
    columns = [key for key in ("first", "second") if key in train[0]]
    features = []
    for key in columns:
        words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
        known = words.fit_transform([row[key] for row in train])
        features.append((known, words.transform([row[key] for row in test])))
    seen, unseen = (hstack(parts).tocsr() for parts in zip(*features, strict=True))
    labels, wanted = (np.array([row["label"] for row in rows]) for rows in (train, test))
    if metric == "pearson":
        outputs = Ridge().fit(seen, labels).predict(unseen)[:, None]
    else:
        model = LogisticRegression(max_iter=1000).fit(seen, labels)
        outputs = model.predict(unseen)[:, None] == model.classes_[None, :]
    return METRICS[metric](outputs.astype(float), wanted)
