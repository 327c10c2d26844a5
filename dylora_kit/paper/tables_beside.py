"""The paper's Tables 1, 3, 4, 5 and 7 and Appendix A, its cells beside what was measured.

What stands in a column that begins with "paper" was printed there, of RoBERTa-base on GLUE. A task that was not
measured has `–` in its cells.
"""

from itertools import product
from pathlib import Path

import pandas as pd

from dylora_kit.paper.compared_methods import ADALORA, DYLORA, FLOP, FROZEN, FULL, GATED, ONE
from dylora_kit.paper.published import printed_table
from dylora_kit.paper.results_files import MISSING, Rows, cell, results_of, title, with_metric
from dylora_kit.paper.settings import SHORT, R

POWERS = (1, 2, 4, 8, 16, 32, 64)  # the ranks of the paper's search
SEARCH = "LoRA, search"


def table1(folder: Path) -> Rows:
    """A LoRA of its own for each rank."""
    paper = printed_table("table1").pivot(index="rank", columns="task", values="value")
    paper = paper[list(dict.fromkeys(printed_table("table1")["task"]))]
    measured = {task: _rows(results_of(folder, "search", task), method=ONE) for task in SHORT}
    return [
        {"rank": str(rank)}
        | {f"paper: {task}": f"{value:.2f}" for task, value in values.items()}
        | {with_metric(task): cell(_rows(frame, r=rank)["value"]) for task, frame in measured.items()}
        for rank, values in paper.iterrows()
    ]


def table3(folder: Path) -> Rows:
    """Full fine-tuning, FLOP, LoRA and DyLoRA: quality and what has to be stored for each task."""
    average = printed_table("table3").query("task == 'average'").fillna({"rank": ""})
    paper = average.set_index(["model", "rank"])[["trainable_params", "mean"]]
    lines = [(FULL, R, "", ("Fine Tune*", "full")), (FLOP, R, "", ("FLOP*", "")), (GATED, R, "", None),
             (ADALORA, R, "", None), (ONE, 1, "1", ("LoRA", "1")), (DYLORA, R, "1", ("DyLoRA (r_max=8)", "1")),
             (DYLORA, R, "8", ("DyLoRA (r_max=8)", "8"))]  # fmt: skip
    rows = []
    for method, r, rank, key in lines:
        parameters, mean = (MISSING, MISSING) if key is None else paper.loc[key]
        row = {"method": method, "rank": rank, "paper: parameters": parameters}
        row["paper: average of four"] = mean if key is None else f"{mean:.2f}"
        for task in SHORT:
            frame = _rows(results_of(folder, "search", task), method=method, r=r, rank=int(rank or r))
            row[f"{title(task)}: stored"] = f"{frame['stored'].mean():,.0f}" if len(frame) else MISSING
            row[with_metric(task)] = cell(frame["value"])
        rows.append(row)
    return rows


def table4(folder: Path) -> Rows:
    """How b is drawn, and which rows are updated."""
    paper = printed_table("table4").query("task == 'average'").set_index(["rank", "distribution", "updated"])["mean"]
    drawn = {"uniform": "uniform", "geometric(p=0.15)": "geometric 0.15"}
    moved = {"1..b": ("rows 1 to b", ""), "only b": ("row b alone", ", row b")}
    measured = {task: results_of(folder, "table4", task) for task in SHORT}
    rows = []
    for rank, distribution, updated in product((1, R), drawn, moved):
        rows_moved, ending = moved[updated]
        row = {"rank": str(rank), "distribution": drawn[distribution], "updated": rows_moved}
        row["paper: average of six"] = f"{paper[rank, distribution, updated]:.2f}"
        for task, frame in measured.items():
            row[with_metric(task)] = cell(_rows(frame, method=drawn[distribution] + ending, rank=rank)["value"])
        rows.append(row)
    return rows


def table5(folder: Path) -> Rows:
    """The best of ranks 1, 2, 4, …, r_max, of as many LoRAs, and the best of all ranks of one DyLoRA; each seed alone.

    In the columns of time, one training of the DyLoRA is 1.
    """
    paper = printed_table("table5").set_index(["r_max", "method", "task"]).sort_index()
    printed = {SEARCH: "LoRA (Search)", FROZEN: "DyLoRA (Frozen)"}
    rows = []
    for r_max, method in ((64, SEARCH), (64, FROZEN), (32, SEARCH), (32, FROZEN), (32, DYLORA)):
        cells = paper.loc[(r_max, printed[method])] if method in printed else None
        row = {"r_max": str(r_max), "method": method}
        row["paper: time"] = MISSING if cells is None else f"{cells['relative_time'].iloc[0]:.0f}"
        for task in ("SST-2", "MRPC"):
            row[f"paper: {task}"] = (
                MISSING if cells is None else f"{cells['value'][task]:.2f} at {cells['best_rank'][task]:.0f}"
            )
        for task in SHORT:
            time, best = _best(results_of(folder, "search", task), method, r_max)
            row |= {f"{title(task)}: time": time, with_metric(task): best}
        rows.append(row)
    return rows


def _best(frame: pd.DataFrame, method: str, r_max: int) -> tuple[str, str]:
    times, best = best_runs(frame, method, r_max)
    if best.empty:
        return MISSING, MISSING
    least, most = int(best["rank"].min()), int(best["rank"].max())
    where = f"{least} to {most}" if most > least else f"{least}"
    return f"{times.mean():.1f}", f"{cell(best['value'])} at {where}"


def best_runs(frame: pd.DataFrame, method: str, r_max: int) -> tuple[pd.Series, pd.DataFrame]:
    """What a method's trainings took, in trainings of one DyLoRA, and its best run; both by seed, empty if not whole.

    Arguments:
        frame: rows of a search.
        method: `SEARCH`, `FROZEN` or `DYLORA`.
        r_max: the largest rank.
    """
    unit = _rows(frame, method=DYLORA, r=r_max).groupby("seed")["cpu_seconds"].first()
    ranks = [rank for rank in POWERS if rank <= r_max] if method == SEARCH else range(1, r_max + 1)
    runs = _rows(frame, method=ONE) if method == SEARCH else _rows(frame, method=method, r=r_max)
    runs = runs[runs["rank"].isin(ranks)]
    whole = runs.groupby("seed")["rank"].nunique().eq(len(ranks))
    runs = runs[runs["seed"].isin(whole[whole].index.intersection(unit.index))]  # seeds with every run
    spent = runs.drop_duplicates(["r", "seed"]).groupby("seed")["cpu_seconds"].sum()
    return spent / unit[spent.index], runs.loc[runs.groupby("seed")["value"].idxmax()]


def table7(folder: Path) -> Rows:
    """Individual and summation loss: time, and the mean over ranks."""
    paper = printed_table("table7").set_index("loss")
    printed = {"individual": "individual (Eq. 9)", "summation": "summation"}
    rows = []
    for name in ("individual", "summation", "summation, one batch", "one rank for each example"):
        cells = paper.loc[printed[name]] if name in printed else None
        row = {"loss": name, "paper: seconds": MISSING if cells is None else f"{cells['training_time_s']:.0f}"}
        row["paper: CoLA, mean over ranks"] = MISSING if cells is None else f"{cells['cola_mean_over_ranks']:.2f}"
        for task in SHORT:
            frame = _rows(results_of(folder, "table7", task), method=name)
            row[f"{title(task)}: seconds"] = f"{frame['cpu_seconds'].mean():.0f}" if len(frame) else MISSING
            row[with_metric(task)] = cell(frame.groupby("seed")["value"].mean() if len(frame) else [])
        rows.append(row)
    return rows


def appendix_a(folder: Path) -> Rows:
    """Training times of one DyLoRA, of a LoRA of rank 8, and of LoRAs for more than one rank."""
    paper = printed_table("appendix_a").set_index("what")["seconds"]
    trainings = {
        "DyLoRA, ranks 1 to 8": (DYLORA, [R], "MRPC, DyLoRA, all ranks"),
        "LoRA of rank 8": (ONE, [R], "MRPC, LoRA, rank 8 only"),
        "LoRAs of ranks 1, 2, 4 and 8": (ONE, [1, 2, 4, R], None),
        "LoRAs of ranks 1 to 8": (ONE, list(range(1, R + 1)), "MRPC, LoRA, eight ranks (8 times)"),
    }
    rows = []
    for name, (method, every, key) in trainings.items():
        row = {"trainings": name, "paper: MRPC, seconds": f"{paper[key]:.2f}" if key else MISSING}
        row["paper: in DyLoRAs"] = f"{paper[key] / paper.iloc[0]:.2f}" if key else MISSING
        for task in SHORT:
            runs = results_of(folder, "search", task).drop_duplicates(["method", "r", "seed"])
            seconds = runs.groupby(["method", "r"])["cpu_seconds"].mean() if len(runs) else {}
            there = (DYLORA, R) in seconds and all((method, r) in seconds for r in every)
            spent = sum(seconds[method, r] for r in every) if there else 0.0
            row[f"{title(task)}: seconds"] = f"{spent:.1f}" if there else MISSING
            row[f"{title(task)}: in DyLoRAs"] = f"{spent / seconds[DYLORA, R]:.2f}" if there else MISSING
        rows.append(row)
    return rows


def _rows(frame: pd.DataFrame, **columns: object) -> pd.DataFrame:
    for key, value in columns.items():
        frame = frame[frame[key] == value]
    return frame
