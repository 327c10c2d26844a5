"""Tables 6 and 9: what models write at every rank, the paper's rows first, and then those of each results file."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dylora_kit.paper.compared_methods import DYLORA, FROZEN, HELD, LORA, ONE, SVD
from dylora_kit.paper.published import printed_table
from dylora_kit.paper.results_files import MISSING, Rows, cell
from dylora_kit.paper.runs import read_results

METHODS = (LORA, HELD, SVD, ONE, FROZEN, DYLORA)
PERCENT = ("bleu", "meteor", "rouge-l", "slot error rate")
TABLE6 = {"BLEU": "bleu", "NIST": "nist", "METEOR": "meteor", "ROUGE-L": "rouge-l", "CIDEr": "cider",
          "slot error rate": "slot error rate"}  # fmt: skip
TABLE9 = {"BLEU": "bleu", "METEOR": "meteor", "TER": "ter"}
NOT_RUN = "not run"


def table6(folder: Path) -> Rows:
    """E2E by GPT-2 medium in the paper, and what was measured here: `describe` by `world-gpt2`, E2E by any model."""
    paper = printed_table("table6").replace({"updated": {"only b": "DyLoRA, frozen", "1..b": "DyLoRA"}})
    paper = paper.assign(method=paper["updated"].fillna(paper["method"]))
    columns = {(name, "E2E"): name for name in TABLE6}
    rows = _printed("paper: E2E, GPT-2 medium", paper.assign(dataset="E2E"), columns)
    for task in ("world-describe", "e2e"):
        files = sorted(folder.glob(f"table6*-{task}.csv"))
        for path in files:
            rows += _measured(_title(path, task), {"E2E": read_results(path)}, columns, TABLE6)
        if not files:
            rows.append({"results": f"here: {task.removeprefix('world-')}", "method": NOT_RUN, "rank": MISSING}
                        | dict.fromkeys(columns.values(), NOT_RUN))  # fmt: skip
    return rows


def table9(folder: Path) -> Rows:
    """DART and WebNLG by GPT-2 medium in the paper, and by any model here."""
    columns = {(name, dataset): f"{dataset}: {name}" for dataset in ("DART", "WebNLG") for name in TABLE9}
    paper = printed_table("table9").replace({"method": {"DyLoRA (Frozen)": "DyLoRA, frozen"}})
    rows = _printed("paper: GPT-2 medium", paper, columns)
    stems = sorted(
        {path.stem.rpartition("-")[0] for task in ("dart", "webnlg") for path in folder.glob(f"table9*-{task}.csv")}
    )
    for stem in stems:
        frames = {dataset: read_results(folder / f"{stem}-{dataset.lower()}.csv") for dataset in ("DART", "WebNLG")}
        rows += _measured(_title(folder / f"{stem}-.csv", ""), frames, columns, TABLE9)
    if not stems:
        rows.append({"results": "here", "method": NOT_RUN, "rank": MISSING} | dict.fromkeys(columns.values(), NOT_RUN))
    return rows


def _printed(what: str, paper: pd.DataFrame, columns: Mapping[tuple[str, str], str]) -> Rows:
    """One row for each method and rank that the paper prints. Its LoRA is cut in a way that it does not tell."""
    cells = {
        (row["method"], str(row["rank"]), row["metric"], row["dataset"]): _printed_cell(row)
        for row in paper.to_dict("records")
    }
    lines = dict.fromkeys((method, rank) for method, rank, _, _ in cells)
    order = {method: number for number, method in enumerate(("LoRA", FROZEN, DYLORA, "Fine Tune*"))}
    return [
        {"results": what, "method": "full fine-tuning" if method == "Fine Tune*" else method, "rank": rank}
        | {column: cells.get((method, rank, *key), MISSING) for key, column in columns.items()}
        for method, rank in sorted(lines, key=lambda line: (order[line[0]], line[1]))
    ]


def _printed_cell(row: Mapping[str, float]) -> str:
    if pd.isna(row["mean"]):
        return MISSING
    return f"{row['mean']:.2f}" + ("" if pd.isna(row["std"]) else f" ± {row['std']:.2f}")


def _measured(
    what: str, frames: Mapping[str, pd.DataFrame], columns: Mapping[tuple[str, str], str], metrics: Mapping[str, str]
) -> Rows:
    """One row for each method and rank that was measured on one of the data sets; what was not run says so."""
    values = {
        (method, rank, metric, dataset): list(of)
        for dataset, frame in frames.items()
        if len(frame)
        for (method, rank, metric), of in frame.groupby(["method", "rank", "metric"])["value"]
    }
    seeds = max(frame["seed"].nunique() for frame in frames.values() if len(frame))
    rows: Rows = []
    for method in METHODS:
        for rank in sorted({key[1] for key in values if key[0] == method}):
            row = {"results": f"{what}, {seeds} seed{'s' * (seeds > 1)}", "method": method, "rank": str(rank)}
            for (name, dataset), column in columns.items():
                metric = metrics[name]
                of = values.get((method, rank, metric, dataset), [])
                row[column] = cell(of, seeds=seeds, percent=metric in PERCENT) if of else NOT_RUN
            rows.append(row)
    return rows


def _title(path: Path, task: str) -> str:
    """What a results file is about.

    >>> _title(Path("table6-r8-smollm2-e2e.csv"), "e2e"), _title(Path("table6-world-describe.csv"), "world-describe")
    ('here: e2e, smollm2, r = 8', 'here: describe, world-gpt2, r = 4')
    """
    model = path.stem.removesuffix(task).strip("-").partition("-")[2]
    wide = model == "r8" or model.startswith("r8-")
    model = model.removeprefix("r8").strip("-") or "world-gpt2"
    parts = [task.removeprefix("world-"), model, f"r = {8 if wide else 4}"]
    return "here: " + ", ".join(part for part in parts if part)
