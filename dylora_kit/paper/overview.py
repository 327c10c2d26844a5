"""Every table of the paper in a few lines: what is measured on each tier, and what the rest would take."""

from pathlib import Path

from dylora_kit.paper.gpu_hours import TRAININGS, not_run
from dylora_kit.paper.runs import read_results
from dylora_kit.paper.tables_at_every_rank import GLUE

ALSO = {  # what no command measures by itself
    "Table 8": "the settings: python -m dylora_kit.paper report puts them beside those that were used",
    "Appendix A": "measured with table1: its times are in search-TASK.csv",
}
ON_REAL_TEXT = {
    "Table 2": ("table2", "glue"),
    "Table 6": ("table6", "e2e"),
    "Table 9": ("table9", "dart", "webnlg"),
}


def lines(folder: Path) -> list[str]:
    """The lines, below those of the embedded tier.

    Arguments:
        folder: where the results files are.

    >>> from dylora_kit.storage.files import data_folder
    >>> lines(data_folder() / "results")[-1]
    "Appendix A, the paper's own size: not run: about 1.0 GPU-hours"
    """
    out = [f"{table}: {words}" for table, words in ALSO.items()]
    for table, (stem, *data) in ON_REAL_TEXT.items():
        out += [f"{table}, real text, {name}: {_measured(folder, stem, name)}" for name in data]
    return out + [f"{table}, the paper's own size: {not_run(table)}" for table in TRAININGS]


def _measured(folder: Path, stem: str, data: str) -> str:
    """What the results files of real text have, or what would fill one."""
    paths = sorted({*folder.glob(f"{stem}-*{data}.csv"), *folder.glob(f"{stem}-{data}-*.csv")})
    found = []
    for path in paths:
        results = read_results(path)
        for task, rows in results.groupby("task") if "task" in results else [(data, results)]:
            name = GLUE[task][0] if task in GLUE else task
            found.append(f"{name} with {rows['seed'].nunique()} seeds in {path.name}")
    how = f"python -m dylora_kit.paper {stem} --tier real --model MODEL"
    return "; ".join(found) if found else f"not measured: {how} --list says how long it takes"
