"""The rank advisor, judged where the truth is known: the search trained a LoRA of its own for each rank, five times.

What is right is the smallest rank whose LoRAs are, as a mean over seeds, within the tolerance of the best. Three rules
choose a rank for each seed: the smallest within the tolerance on the curve of its DyLoRA, as the advisor does; the same
on the curve of its own LoRAs, as a search with one training for each rank does; and always the largest. The search's
files hold no outcomes of single examples, so how sure the advisor says it is cannot be judged from them.

`python -m dylora_kit.paper advisor` writes `advisor.csv` from `search-*.csv`.
"""

from pathlib import Path

import pandas as pd

from dylora_kit.evaluation.select_rank import smallest_rank
from dylora_kit.paper.compared_methods import DYLORA, ONE
from dylora_kit.paper.results_files import MISSING, Rows, results_of, with_metric
from dylora_kit.paper.runs import read_results
from dylora_kit.paper.settings import MEASURED, R
from dylora_kit.storage.files import write_files

FILE = "advisor.csv"
MAXIMA = (R, 32)  # of the DyLoRAs
TOLERANCES = (0.01, 0.02)
ADVISOR, SEARCH, LARGEST = "the advisor, from one DyLoRA", "a search, one LoRA for each rank", "always the largest rank"


def curves(folder: Path, task: str, r: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The values of DyLoRAs of maximum rank r, and of LoRAs of one rank, at the ranks up to r that both were measured.

    Arguments:
        folder: where the results files are.

    Returns two frames with a row for each seed and a column for each rank. Raises `ValueError` if there are no results.
    """
    frame = results_of(folder, "search", task)
    nested = frame[(frame["method"] == DYLORA) & (frame["r"] == r)]
    own = frame[(frame["method"] == ONE) & (frame["rank"] <= r)]
    dylora, loras = (of.pivot(index="seed", columns="rank", values="value") for of in (nested, own))
    ranks, seeds = loras.columns.intersection(dylora.columns), loras.index.intersection(dylora.index)
    if seeds.empty or ranks.empty:
        raise ValueError(f"{folder} has no search on {task} with DyLoRAs of r = {r}: measure table1 first")
    return dylora.loc[seeds, ranks], loras.loc[seeds, ranks]


def ahead(folder: Path) -> dict[tuple[str, int], dict[int, float]]:
    """By how many points a LoRA of one rank was better than the DyLoRA at it: (task, r) → {rank: mean over seeds}."""
    points = {}
    for task in MEASURED:
        for r in MAXIMA:
            dylora, loras = curves(folder, task, r)
            means = (100 * (loras - dylora).mean()).round(2)
            points[with_metric(task), r] = {int(rank): float(value) for rank, value in means.items()}
    return points


def judged(folder: Path) -> pd.DataFrame:
    """Each choice of each rule: task, r, tolerance, rule, seed, chosen, right, hit, and the regret in points.

    `lora_regret` is by how much the LoRAs of the chosen rank are worse than those of the best rank, means over seeds;
    `dylora_regret` by how much the DyLoRA of the seed, at the chosen rank, is.
    """
    rows = []
    for task in MEASURED:
        for r in MAXIMA:
            dylora, loras = curves(folder, task, r)
            means = loras.mean()
            for tolerance in TOLERANCES:
                right = _smallest(means, tolerance)
                for seed in loras.index:
                    chosen = {
                        ADVISOR: _smallest(dylora.loc[seed], tolerance),
                        SEARCH: _smallest(loras.loc[seed], tolerance),
                        LARGEST: int(loras.columns.max()),
                    }
                    rows += [
                        (task, r, tolerance, rule, seed, rank, right, rank == right, 100 * (means.max() - means[rank]),
                         100 * (means.max() - dylora.loc[seed, rank]))
                        for rule, rank in chosen.items()
                    ]  # fmt: skip
    columns = ["task", "r", "tolerance", "rule", "seed", "chosen", "right", "hit", "lora_regret", "dylora_regret"]
    return pd.DataFrame(rows, columns=columns).round({"lora_regret": 2, "dylora_regret": 2})


def write(folder: Path) -> Path:
    """Judges the advisor by the search's files in a folder, and writes what was found beside them."""
    write_files(folder, {FILE: judged(folder).to_csv(index=False).encode()})
    return folder / FILE


def table(folder: Path) -> Rows:
    """Hit rate and mean regret of each rule, of DyLoRAs with r = 8."""
    frame = read_results(folder / FILE)
    rows: Rows = []
    for task in MEASURED if len(frame) else ():
        for tolerance in TOLERANCES:
            part = frame[(frame["task"] == task) & (frame["r"] == R) & (frame["tolerance"] == tolerance)]
            for rule, of in part.groupby("rule", sort=False):
                ranks = sorted(of["chosen"])
                rows.append({
                    "task": with_metric(task), "tolerance, points": f"{100 * tolerance:g}", "rule": str(rule),
                    "right rank": str(of["right"].iloc[0]), "chosen": ", ".join(map(str, ranks)),
                    "hits": f"{of['hit'].sum()} of {len(of)}",
                    "regret of the LoRA": f"{of['lora_regret'].mean():.1f}",
                    "regret of the DyLoRA": MISSING if rule == SEARCH else f"{of['dylora_regret'].mean():.1f}",
                })  # fmt: skip
    return rows


def _smallest(values: "pd.Series[float]", tolerance: float) -> int:
    """The choice of the advisor, from values by rank."""
    frame = pd.DataFrame({"rank": values.index, "value": values.to_numpy(), "metric": "accuracy", "seed": 0})
    return smallest_rank(frame, tolerance=tolerance).rank
