"""Data to adapt to. Each module has `load(…)`, which returns a `Task`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """One task: three map-style datasets of dicts, how to make a batch of a list of examples, and its metric.

    Choose settings on `validation`. Report on `test`, and only report.
    """

    name: str
    train: Any
    validation: Any
    test: Any
    metric: str
    collate: Callable[[list[Any]], dict[str, Any]] | None = None
    also: tuple[str, ...] = ()  # metrics that are reported beside it
