"""Data to adapt to: `load(…)` of each module returns a `Task`.

In reading order:

- `digits`: real handwritten digits, upright and in three altered domains
- `glue`: the eight tasks of the paper's Table 2
- `world`: the six tasks of the small English world, read from `data/world/`
- `describe`: what a causal model writes of the world's facts, and how good it is
"""

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
