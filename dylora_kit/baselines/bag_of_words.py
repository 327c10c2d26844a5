"""A baseline that sees words alone: TF-IDF of words and pairs of words, and a linear model, by scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dylora_kit.evaluation.metrics import metric_named


def score(train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]], metric: str) -> float:
    """The test score of logistic regression, or of ridge regression where the metric is `"pearson"`.

    Arguments:
        train, test: rows with a `"first"` text, perhaps a `"second"` (with columns of its own), and a `"label"`.
        metric: `"accuracy"`, `"f1"`, `"matthews"` or `"pearson"`.

    Raises `ValueError` for an unknown metric.

    >>> rows = [{"first": "good soup", "label": 1}, {"first": "bad soup", "label": 0}]
    >>> score(rows, rows, "accuracy")
    1.0
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    measure = metric_named(metric)
    columns = [key for key in ("first", "second") if key in train[0]]
    features = []
    for key in columns:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
        of_train = vectorizer.fit_transform([row[key] for row in train])
        features.append((of_train, vectorizer.transform([row[key] for row in test])))
    train_features, test_features = (hstack(parts).tocsr() for parts in zip(*features, strict=True))
    train_labels, test_labels = (np.array([row["label"] for row in rows]) for rows in (train, test))
    if metric == "pearson":
        outputs = Ridge().fit(train_features, train_labels).predict(test_features)[:, None]
    else:
        model = LogisticRegression(max_iter=1000).fit(train_features, train_labels)
        outputs = model.predict(test_features)[:, None] == model.classes_[None, :]
    return measure(outputs.astype(float), test_labels)
