"""How did the paper cut its LoRA? What each way of cutting keeps here, beside what the paper's LoRA keeps.

The paper prints the numbers of a LoRA at every rank, and not how its matrices were cut. Three ways are measured here:
the first rows with the scale of the smaller rank (α/b), the same rows with the scale that they were trained with (α/r),
and the closest matrix, by singular values. Pairs of tasks that are alike are compared by what is kept of the full rank.
"""

from pathlib import Path

import pandas as pd

from dylora_kit.paper.compared_at_ranks import on_glue
from dylora_kit.paper.compared_methods import HELD, LORA, SVD
from dylora_kit.paper.published import printed_table
from dylora_kit.paper.results_files import results_of, title
from dylora_kit.paper.runs import read_results

SUSPECTS = {LORA: "α/b", HELD: "α/r", SVD: "SVD"}
PAPER = "the paper's LoRA"


def kept(folder: Path) -> pd.DataFrame:
    """The share of the full rank's value that is kept at each rank, by the paper's LoRA and by each suspect.

    Arguments:
        folder: where the results files are.

    A tidy frame: task, method, rank, seed, value and metric. The tasks are `"SST-2"`, theirs and ours; `"describe"`,
    beside their E2E, both with four rows; `"E2E"`, theirs and that of the first real model that was measured, if there
    is one; and those that were measured after thirty epochs with Table 8's settings, such as `"CoLA"`.
    """
    table2, table6 = printed_table("table2"), printed_table("table6")
    classified = table2[(table2["task"] == "SST-2") & (table2["method"] == "LoRA")].rename(columns={"mean": "value"})
    written = table6[(table6["method"] == "LoRA") & (table6["metric"] == "BLEU")].rename(columns={"mean": "value"})
    written = written.assign(rank=written["rank"].astype(int))
    pairs = {
        "SST-2": (classified, on_glue(folder, "SST-2", "accuracy")),
        "describe": (written, results_of(folder, "table6", "world-describe", "bleu")),
    }
    for file in sorted(folder.glob("table6-*-e2e.csv"))[:1]:
        pairs["E2E"] = written, read_results(file).query("metric == 'bleu'")
    for file in sorted(folder.glob("epochs-glue-*.csv")):
        measured = read_results(file).query("epochs == 30")
        measured = measured[measured["metric"] == measured["metric"].iloc[0]]  # the task's own comes first
        printed = table2[(table2["task"] == title(measured["task"].iloc[0])) & (table2["method"] == "LoRA")]
        if len(printed):  # a part of a task has none
            pairs[printed["task"].iloc[0]] = printed.rename(columns={"mean": "value"}), measured
    frames = []
    for task, (printed, rows) in pairs.items():
        frames.append(printed.assign(task=task, method=PAPER, seed=0))
        frames.append(rows[rows["method"].isin(SUSPECTS)].assign(task=task).replace({"method": SUSPECTS}))
    frame = pd.concat(frames, ignore_index=True).dropna(subset="value").astype({"rank": int})
    frame = frame[["task", "method", "rank", "seed", "value"]]
    whole = frame.sort_values("rank").groupby(["task", "method", "seed"])["value"].transform("last")
    return frame.assign(value=frame["value"] / whole, metric="of the full rank kept")


def distances(frame: pd.DataFrame) -> pd.DataFrame:
    """How far each suspect is from the paper's LoRA, in points, as a mean over the ranks below the full one.

    Arguments:
        frame: what `kept` returns.
    """
    below = frame[frame["rank"] < frame.groupby("task")["rank"].transform("max")]
    means = below.pivot_table(index=["task", "rank"], columns="method", values="value")
    there = means.dropna(subset=PAPER)
    gaps = there.drop(columns=PAPER).sub(there[PAPER], axis=0).abs()
    return 100 * gaps.groupby("task").mean()
