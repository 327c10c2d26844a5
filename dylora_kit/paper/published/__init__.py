"""The numbers that the paper prints, cell by cell, to stand beside what the kit measures."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

TABLES = {
    "table1": "LoRA of several ranks on four GLUE tasks",
    "table2": "LoRA and DyLoRA at every rank on GLUE, with r = 8",
    "table2_best": "the best rank of each method in Table 2",
    "table3": "full fine-tuning, FLOP, LoRA and DyLoRA on four GLUE tasks",
    "table4": "how b is drawn, and which rows are updated",
    "table5": "DyLoRA beside a search over ranks, with the relative time",
    "table6": "E2E, generation",
    "table7": "individual and summation loss",
    "table8": "the settings of the trainings",
    "table9": "DART and WebNLG, generation",
    "appendix_a": "training times",
}


def printed_table(name: str) -> "pd.DataFrame":
    """A table of the paper (arXiv 2210.07558v2), as a frame with one row for each printed cell or line.

    A cell that is damaged in print is missing here. Values are percent for GLUE; a method marked * was taken by the
    paper from another one. Raises `ValueError` for a table that is not here.

    >>> table = printed_table("table7")
    >>> table[["loss", "training_time_s"]].values.tolist()
    [['individual (Eq. 9)', 645.82], ['summation', 1175.69]]
    """
    import pandas as pd

    if name not in TABLES:
        raise ValueError(f"no table {name!r} of the paper here: expected one of {', '.join(map(repr, TABLES))}")
    return pd.read_csv(Path(__file__).parent / f"{name}.csv")
