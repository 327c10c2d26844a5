"""Tables of what was measured at every rank, a method in each row: Table 2, and what belongs to Tables 4, 5 and 7."""

from pathlib import Path

import pandas as pd

from dylora_kit.paper.compared_methods import (
    BAG,
    DYLORA,
    DYLORA_HELD,
    FROZEN,
    FULL,
    HEAD,
    HELD,
    LORA,
    NEW_HEAD,
    ONE,
    SVD,
)
from dylora_kit.paper.published import printed_table
from dylora_kit.paper.results_files import MISSING, RANKS, WRITTEN, Rows, at_every_rank, cell, results_of, with_metric
from dylora_kit.paper.runs import read_results
from dylora_kit.paper.settings import SEEDS, SHORT, TABLE2, R

ON_DIGITS = (DYLORA, DYLORA_HELD, FROZEN, LORA, HELD, SVD, NEW_HEAD, ONE)
IN_WORDS = (DYLORA, FROZEN, LORA, HELD, SVD)
REAL, ON_REAL = "glue-all-MiniLM-L6-v2", (DYLORA, LORA, HELD, SVD, ONE)
GLUE = {"glue-sst2": ("SST-2", ("accuracy",)), "glue-mrpc": ("MRPC", ("f1", "accuracy")),
        "glue-rte": ("RTE", ("accuracy",))}  # fmt: skip
PRINTED = {LORA: "LoRA", FROZEN: "DyLoRA (Frozen)", DYLORA: "DyLoRA"}
CUTS = {"one rank for all": "one rank for all", "each layer, sure by 0": "a rank for each layer",
        "each layer, sure by 1": "a rank for each layer, sure by 1 standard error",
        "each layer, sure by 2": "a rank for each layer, sure by 2 standard errors"}  # fmt: skip


def table2(folder: Path) -> Rows:
    """LoRA cut, DyLoRA frozen and DyLoRA: the paper's average, and every task of the embedded tier."""
    return on_digits(folder) + in_words(folder)


def on_digits(folder: Path) -> Rows:
    """The paper's average over eight tasks, and altered digits."""
    rows = _printed("average", "paper: average of eight", (DYLORA, FROZEN, LORA))
    for task in (task for task in TABLE2 if task.startswith("digits-")):
        rows += at_every_rank(results_of(folder, "table2", task), with_metric(task), ON_DIGITS)
    return rows


def in_words(folder: Path) -> Rows:
    """The tasks of the small English world; of `describe` also the slot error rate, where lower is better."""
    rows: Rows = []
    for task in (task for task in TABLE2 if task.startswith("world-")):
        for metric in (None, "slot error rate") if task == "world-describe" else (None,):
            rows += at_every_rank(results_of(folder, "table2", task, metric), with_metric(task, metric), IN_WORDS)
    return rows


def on_real_text(folder: Path) -> Rows:
    """MiniLM on three tasks of GLUE, under what the paper has of RoBERTa-base on each."""
    rows: Rows = []
    for task, (name, metrics) in GLUE.items():
        for metric in metrics:
            label = f"{name} ({WRITTEN.get(metric, metric)})"
            rows += _printed(name, f"paper: {label}", (DYLORA, LORA), metric)
            frame = results_of(folder, "table2", REAL, metric)
            rows += at_every_rank(frame[frame["task"] == task] if len(frame) else frame, label, ON_REAL)
    return rows


def _printed(task: str, what: str, methods: tuple[str, ...], metric: str = "mean of the eight") -> Rows:
    table = printed_table("table2")
    table = table[(table["task"] == task) & (table["metric"] == metric)].set_index(["method", "rank"])[["mean", "std"]]
    rows = []
    for method in methods if len(table) else ():
        row = {"task": what, "method": method}
        for column, b in RANKS.items():
            mean, deviation = table.loc[(PRINTED[method], b)]
            spread = "" if pd.isna(deviation) else f" ± {deviation:.2f}"
            row[column] = MISSING if pd.isna(mean) else f"{mean:.2f}{spread}"
        rows.append(row)
    return rows


def at_8(folder: Path) -> Rows:
    """A bag of words, the head alone, full fine-tuning, LoRA and DyLoRA at rank 8, on every task of Table 2."""
    best = printed_table("table2_best").query("task == 'average'").set_index("method")["best"]
    row = {row["method"]: row["8"] for row in _printed("average", "", (LORA, DYLORA))}
    names = {BAG: BAG, HEAD: HEAD, FULL: FULL, LORA: "LoRA, r = 8", DYLORA: "DyLoRA at 8"}
    rows = [{"task": "paper: average of eight", BAG: MISSING, HEAD: MISSING, FULL: f"{best['Fine Tune*']:.2f}"}]
    rows[0] |= {names[method]: row[method] for method in (LORA, DYLORA)}
    for task in TABLE2:
        for metric in (None, "slot error rate") if task == "world-describe" else (None,):
            frame = results_of(folder, "table2", task, metric)
            frame = frame[frame["rank"] == R]
            if len(frame):
                values = frame.groupby("method")["value"].apply(list).to_dict()
                cells = {name: cell(values.get(method, ())) for method, name in names.items()}
                rows.append({"task": with_metric(task, metric)} | cells)
    return rows


def choices(folder: Path, stem: str) -> Rows:
    """Every choice of one kind, on each task that it was measured on.

    Arguments:
        stem: `"table4"` (how b is drawn), `"table7"` (what is minimised) or `"updates"` (which rows move).
    """
    rows: Rows = []
    for task in SHORT:
        frame = results_of(folder, stem, task)
        rows += at_every_rank(frame, with_metric(task), list(frame["method"].unique()))
    return rows


def own_loras(folder: Path) -> Rows:
    """A LoRA of its own for each rank beside one DyLoRA, with fewer steps than in Table 2."""
    rows: Rows = []
    for task in SHORT:
        frame = results_of(folder, "search", task)
        frame = frame[(frame["method"] == ONE) | (frame["method"] == DYLORA) & (frame["r"] == R)]
        rows += at_every_rank(frame, with_metric(task), (DYLORA, ONE))
    return rows


def layer_ranks(folder: Path) -> Rows:
    """A rank for each layer, with no more parameters than one rank for all has."""
    rows: Rows = []
    for task in SHORT:
        frame = results_of(folder, "layers", task, "accuracy")
        for (training, cut), of in frame.groupby(["method", "cut"], sort=False):
            values = of.groupby("rank")["value"].apply(list).to_dict()
            row = {"task": with_metric(task, "accuracy"), "ranks in training": training, "cut": CUTS[cut]}
            rows.append(row | {f"as rank {b}": cell(values[b]) for b in sorted(values)})
    return rows


def row_ordering(folder: Path) -> Rows:
    """The ordering score, its mean over the layers, beside the accuracy of the same methods."""
    methods, task = (DYLORA, DYLORA_HELD, LORA), "digits-turned"
    frame = results_of(folder, "ordering", task)
    scores = frame.groupby(["method", "rank", "seed"])["score"].mean().rename("value").reset_index()
    accuracy = results_of(folder, "table2", task)
    rows = at_every_rank(scores, "turned digits (score)", methods, percent=False)
    return rows + at_every_rank(accuracy, with_metric(task), methods)


def settings_of(folder: Path) -> Rows:
    """Steps, batches and learning rates, as the results files have them; the paper's in the first row."""
    printed = printed_table("table8").query("model == 'RoBERTa-base'").set_index("parameter")["value"]
    rows = [{"results": "paper", "steps": f"{printed['epochs']} epochs", "batch size": printed["batch size"],
             "learning rate": printed["learning rate"], "others": MISSING, "seeds": str(len(SEEDS))}]  # fmt: skip
    for path in sorted(folder.glob("*.csv")):
        results = read_results(path)
        if "lr" not in results:
            continue
        trained = results.dropna(subset="lr")
        for (task, steps), frame in trained.groupby(["task" if "task" in trained else "domain", "steps"], sort=False):
            common, rates = frame["lr"].mode()[0], frame.groupby("method", sort=False)["lr"].first()
            others = [f"{method}: {lr:g}" for method, lr in rates.items() if lr != common]
            name = path.stem if trained["steps"].nunique() == 1 else f"{path.stem}, {task}"
            rows.append({"results": name, "steps": f"{steps:.0f}", "batch size": f"{frame['batch_size'].iloc[0]:.0f}",
                         "learning rate": f"{common:g}", "others": "; ".join(others) or MISSING,
                         "seeds": str(frame["seed"].nunique())})  # fmt: skip
    return rows
