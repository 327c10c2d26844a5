"""Data to adapt to: `load(…)` of `digits`, `glue`, `world`, `e2e`, `dart`, `webnlg` and `own_data` returns a `Task`.

In reading order:

- `digits`: real handwritten digits, upright and in three altered domains
- `glue_sources`: the rows of GLUE tasks, from files or from the hub
- `glue`: the eight tasks of the paper's Table 2
- `generation`: a text from facts, what the three tasks below have in common
- `e2e`: restaurants, the paper's Table 6
- `slots`: which facts of E2E a text says, lacks, changes or makes up
- `dart`: triples of tables, Table 9
- `webnlg`: triples of DBpedia, Table 9
- `world`: the six tasks of the small English world, read from `data/world/`
- `own_data`: texts and labels of your own, from a file or a table
- `describe`: scores the descriptions that a causal model writes of the world's facts
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """One task: three map-style datasets of dicts, its metric, and what makes a batch of a list of examples.

    Choose settings on `validation`. Use `test` only for the results that are reported.
    """

    name: str
    train: Any
    validation: Any
    test: Any
    metric: str
    collate: Callable[[list[Any]], dict[str, Any]] | None = None
    also: tuple[str, ...] = ()  # further metrics to report
