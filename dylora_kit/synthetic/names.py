"""What the six tasks are called, their metrics and their labels, for those who read the files and make none."""

from typing import Any

Row = dict[str, Any]  # one example as it stands in a file
TRAIN, TEST = 5000, 500  # how many examples a split has
NAMES = ("sentiment", "entailment", "paraphrase", "acceptability", "similarity", "describe")
METRICS = {
    "sentiment": "accuracy",
    "entailment": "accuracy",
    "paraphrase": "f1",
    "acceptability": "matthews",
    "similarity": "pearson",
    "describe": "bleu",
}
LABELS = {"sentiment": 2, "entailment": 3, "paraphrase": 2, "acceptability": 2, "similarity": 1}  # 1: a score
