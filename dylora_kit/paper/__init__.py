"""The paper's settings, and the runs behind the tables and the shipped adapters."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Table 8 lists 10, 42, 4242, 10, 1010: ten stands there twice, so a fifth one is added
SEEDS = (10, 42, 4242, 1010, 7)


def table(results: "pd.DataFrame", parts: list[str]) -> "pd.DataFrame":
    """Mean ± standard deviation over seeds, in percent: parts and methods down, ranks across.

    Arguments:
        results: frames of `sweep` one under another, with columns that say which part each row is of.
        parts: those columns, such as `["domain"]`.
    """
    groups = results.assign(value=100 * results["value"]).groupby([*parts, "method", "rank"], sort=False)["value"]
    cells = groups.agg(lambda values: f"{values.mean():.0f} ± {values.std():.0f}")
    return cells.unstack("rank").sort_index(axis=1).fillna("")


def check_settings(rows: "pd.DataFrame", settings: dict[str, Any], path: Path) -> None:
    """Raises `ValueError` if results of a task that a file holds were made with other settings than these."""
    for key, value in settings.items():
        others = set(rows.get(key, ["not told"] if len(rows) else [])) - {value}
        if others:
            task = rows["task"].iloc[0]
            raise ValueError(f"{path} has {task} with {key} = {others.pop()}, now it is {value}: pass --out")
