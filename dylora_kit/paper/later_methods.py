"""Methods that came after the paper, beside DyLoRA: how good they are over all ranks, and what they cost."""

from pathlib import Path

import pandas as pd

from dylora_kit.evaluation.aurac import area
from dylora_kit.paper.runs import read_results


def areas(path: Path) -> pd.DataFrame:
    """The area under each method's curve over the ranks (AURAC, as MatryoshkaLoRA has it), and its CPU-seconds.

    Arguments:
        path: a results file such as `arena-digits-turned.csv`, with method, rank, seed, metric, value and cpu_seconds.

    One row for each method and seed: method, seed, cost and value. Of several metrics the first counts. Empty if there
    is no such file.
    """
    results = read_results(path)
    if results.empty:
        return pd.DataFrame(columns=["method", "seed", "cost", "value"])
    rows = []
    for (method, seed), frame in results[results["metric"] == results["metric"].iloc[0]].groupby(["method", "seed"]):
        by_rank = frame.groupby("rank")["value"].mean().to_dict()
        if len(by_rank) > 1:
            rows.append({"method": method, "seed": seed, "cost": frame["cpu_seconds"].max(), "value": area(by_rank)})
    return pd.DataFrame(rows, columns=["method", "seed", "cost", "value"])
