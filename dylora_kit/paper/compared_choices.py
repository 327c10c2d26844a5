"""Tables 3, 4, 5, 7 and 8 and Appendix A beside what was measured: pairs of dots, planes of cost, and settings."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from dylora_kit.paper.compared_at_ranks import (
    DIGITS,
    ENGLISH,
    NO_COMMAND,
    OTHER,
    PAPER,
    REAL_TEXT,
    absent,
    hours,
    measured_of,
    on_glue,
)
from dylora_kit.paper.compared_methods import ADALORA, DYLORA, FLOP, FROZEN, FULL, GATED, ONE
from dylora_kit.paper.published import TABLES, printed_table
from dylora_kit.paper.results_files import results_of, with_metric
from dylora_kit.paper.settings import ALPHA, DESCRIBE, GPT2, TABLE2, R
from dylora_kit.paper.tables_beside import SEARCH, best_runs
from dylora_kit.widgets.svg_cards.comparison import Comparison, Line, Measured, Side

MEASURED = {DIGITS: "digits-turned", ENGLISH: "world-acceptability"}  # what the search and the choices were run on
ROWS = (("rank 1, uniform", 1, "uniform"), ("rank 1, geometric", 1, "geometric 0.15"),
        ("rank 8, uniform", 8, "uniform"), ("rank 8, geometric", 8, "geometric 0.15"))  # fmt: skip


def table3(folder: Path) -> list[Comparison]:
    """Quality and what is stored for a task."""
    printed = printed_table("table3").fillna({"rank": ""})
    looks = {"Fine Tune*": ("full fine-tuning", 2, False), "FLOP*": ("FLOP", 3, True),
             "LoRA": ("LoRA, r = 1", 1, False), "DyLoRA (r_max=8)": ("DyLoRA at", 0, False)}  # fmt: skip

    def paper(task: str) -> Side:
        lines = []
        for row in printed[printed["task"] == task].to_dict("records"):
            name, colour, hollow = looks[row["model"]]
            own = printed[(printed["model"] == row["model"]) & (printed["rank"] == row["rank"])]
            size = 1e6 * float(own["trainable_params"].iloc[0].removesuffix("M"))
            name = f"{name} {row['rank']}" if colour == 0 else name
            lines.append(Line(name, {size: Measured(row["mean"], row["std"])}, colour, hollow))
        return Side(
            "The paper", f"RoBERTa-base, {'average of four tasks' if task == 'average' else task}", tuple(lines)
        )

    def kit(frame: pd.DataFrame) -> list[Line]:
        wanted = [(FULL, R, R, "full fine-tuning", 2, False), (FLOP, R, R, "FLOP", 3, True),
                  (GATED, R, R, "FLOP on a LoRA", 3, False), (ADALORA, R, R, "AdaLoRA", 2, True),
                  (ONE, 1, 1, "LoRA, r = 1", 1, False), (DYLORA, R, 1, "DyLoRA at 1", 0, False),
                  (DYLORA, R, R, f"DyLoRA at {R}", 0, False)]  # fmt: skip
        lines = []
        for method, r, rank, name, colour, hollow in wanted:
            rows = frame[(frame["method"] == method) & (frame["r"] == r) & (frame["rank"] == rank)]
            if len(rows):
                lines.append(Line(name, {float(rows["stored"].mean()): measured_of(rows["value"])}, colour, hollow))
        return lines

    tasks = ("average", "SST-2", "MRPC", "QNLI", "STS-B")
    beside = dict.fromkeys(MEASURED, "average")
    return _everywhere("table3", "plane", "parameters for a task", paper, kit, folder, "search", tasks, beside)


def table4(folder: Path) -> list[Comparison]:
    """How b is drawn, and which rows are updated."""
    printed = printed_table("table4").replace({"distribution": {"geometric(p=0.15)": "geometric 0.15"}})
    moved = (("rows 1 to b", "1..b", "", 0, False), ("row b alone", "only b", ", row b", 1, True))

    def paper(task: str) -> Side:
        cells = printed[printed["task"] == task].set_index(["rank", "distribution", "updated"])
        lines = tuple(
            Line(name, {at: Measured(float(cells["mean"][rank, drawn, key]), float(cells["std"][rank, drawn, key]), 5)
                        for at, (_, rank, drawn) in enumerate(ROWS)}, colour, hollow)
            for name, key, _, colour, hollow in moved
        )  # fmt: skip
        return Side(
            "The paper", f"RoBERTa-base, {'average of six tasks' if task == 'average' else task}, 5 seeds", lines
        )

    def kit(frame: pd.DataFrame) -> list[Line]:
        at = frame.groupby(["method", "rank"])["value"].apply(list).to_dict() if len(frame) else {}
        return [Line(name, {row: measured_of(at[drawn + ending, rank]) for row, (_, rank, drawn) in enumerate(ROWS)},
                     colour, hollow) for name, _, ending, colour, hollow in moved if at]  # fmt: skip

    tasks = ("average", "SST-2", "MRPC", "CoLA", "QNLI", "RTE", "STS-B")
    return _everywhere("table4", "pairs", "", paper, kit, folder, "table4", tasks, {DIGITS: "average", ENGLISH: "CoLA"},
                       tuple(name for name, *_ in ROWS))  # fmt: skip


def table5(folder: Path) -> list[Comparison]:
    """The best of a search and the best rank of one DyLoRA, with the time that each takes."""
    printed = printed_table("table5")
    look = {"LoRA (Search)": (1, False), "DyLoRA (Frozen)": (0, True)}

    def paper(task: str) -> Side:
        rows = printed[printed["task"] == task].to_dict("records")
        lines = []
        for row in rows:
            name = f"{'LoRA' if 'Search' in row['method'] else 'frozen'} to {row['r_max']}, at {row['best_rank']}"
            lines.append(Line(name, {float(row["relative_time"]): Measured(row["value"])}, *look[row["method"]]))
        return Side("The paper", f"RoBERTa-base, {task}, no seeds told", tuple(lines))

    def kit(frame: pd.DataFrame) -> list[Line]:
        lines = []
        for r_max, method, name, colour, hollow in ((64, SEARCH, "LoRA to 64", 1, False), (32, SEARCH, "LoRA to 32", 1,
                False), (32, FROZEN, "frozen to 32", 0, True), (32, DYLORA, "DyLoRA to 32", 0, False)):  # fmt: skip
            times, best = best_runs(frame, method, r_max) if len(frame) else (pd.Series(), pd.DataFrame())
            if len(best):
                low, high = int(best["rank"].min()), int(best["rank"].max())
                where = f"{low}" if low == high else f"{low}–{high}"
                lines.append(
                    Line(f"{name}, at {where}", {float(times.mean()): measured_of(best["value"])}, colour, hollow)
                )
        return lines

    return _everywhere("table5", "plane", "time, in trainings of one DyLoRA", paper, kit, folder, "search",
                       ("SST-2", "MRPC"), {DIGITS: "SST-2", ENGLISH: "MRPC"})  # fmt: skip


def table7(folder: Path) -> list[Comparison]:
    """Individual and summation loss: time, and the mean over the ranks."""
    printed = printed_table("table7")
    looks = {"individual": ("individual", 0, False), "summation": ("summation", 1, False),
             "one rank for each example": ("a rank for each text", 2, False)}  # fmt: skip

    def paper(task: str) -> Side:
        unit = printed["training_time_s"].iloc[0]
        lines = (Line(looks[row["loss"].split()[0]][0], {row["training_time_s"] / unit: Measured(
                 row["cola_mean_over_ranks"])}, *looks[row["loss"].split()[0]][1:])
                 for row in printed.to_dict("records"))  # fmt: skip
        return Side("The paper", "RoBERTa-base, CoLA, mean over ranks, no seeds told", tuple(lines))

    def kit(frame: pd.DataFrame) -> list[Line]:
        if frame.empty:
            return []
        seconds = frame.groupby("method")["cpu_seconds"].mean()
        means = frame.groupby(["method", "seed"])["value"].mean()
        return [Line(name, {float(seconds[loss] / seconds["individual"]): measured_of(means[loss])}, colour, hollow)
                for loss, (name, colour, hollow) in looks.items()]  # fmt: skip

    return _everywhere("table7", "plane", "time, in trainings by the individual loss", paper, kit, folder, "table7",
                       ("CoLA",), {DIGITS: "CoLA", ENGLISH: "CoLA"})  # fmt: skip


def table8(folder: Path) -> list[Comparison]:
    """The settings of the trainings."""
    printed = printed_table("table8").set_index(["model", "parameter"])["value"]
    rows = ("how long", "batch size", "learning rate", "weight decay", "r, α")

    def paper(model: str) -> Side:
        of = printed[model]
        values = (f"{of['epochs']} epochs", *(of[row] for row in rows[1:4]), f"{of['r']}, {of['alpha']}")
        return Side("The paper", model, instead=values)

    def kit(what: str, settings: dict[str, float], decay: float = 0, r: float = R, alpha: float = ALPHA) -> Side:
        values = (f"{settings['steps']} steps", f"{settings['batch_size']}", f"{settings['lr']:g}", f"{decay:g}",
                  f"{r}, {alpha}")  # fmt: skip
        return Side("This kit", what, instead=values)

    frame = on_glue(folder, "SST-2", "accuracy")
    sides = [(DIGITS, "turned digits", kit("turned digits, Table 2", TABLE2["digits-turned"]))]
    sides += [(ENGLISH, task.partition("-")[2], kit(f"{task.partition('-')[2]}, Table 2", settings))
              for task, settings in TABLE2.items() if task.startswith("world-")]  # fmt: skip
    describe = DESCRIBE | {"batch_size": GPT2["batch_size"]}
    describe_side = kit("describe, Table 6", describe, GPT2["weight_decay"], GPT2["r"], GPT2["lora_alpha"])
    sides.append((ENGLISH, "describe, as in Table 6", describe_side))
    if len(frame):
        sides.append((REAL_TEXT, "SST-2", kit("MiniLM, SST-2", frame.iloc[0].to_dict())))
    return [Comparison("Table 8", TABLES["table8"], tier, task, "words", "",
                       paper("GPT-2 medium" if "Table 6" in side.what else "RoBERTa-base"), side,
                       "The kit's rates were chosen anew: its models are smaller.", rows)
            for tier, task, side in sides]  # fmt: skip


def appendix_a(folder: Path) -> list[Comparison]:
    """Training times, in trainings of one DyLoRA."""
    printed = printed_table("appendix_a")["seconds"]
    rows = ("one DyLoRA", "LoRA of rank 8", "LoRAs of 1 to 8")

    def side(who: str, what: str, times: Sequence[float]) -> Side:
        values = {float(at): Measured(time) for at, time in enumerate(times)}
        return Side(who, what, (Line("training time; one DyLoRA is 1", values),))

    def kit(frame: pd.DataFrame) -> list[Line]:
        runs = frame.drop_duplicates(["method", "r", "seed"])
        seconds = runs.groupby(["method", "r"])["cpu_seconds"].mean() if len(runs) else {}
        own = [seconds[ONE, r] for r in range(1, R + 1) if (ONE, r) in seconds]
        if len(own) < R:
            return []
        unit = seconds[DYLORA, R]
        return list(side("", "", [1.0, own[-1] / unit, sum(own) / unit]).lines)

    def paper(task: str) -> Side:
        return side("The paper", f"RoBERTa-base, {task}", list(printed / printed.iloc[0]))

    beside = {DIGITS: "MRPC", ENGLISH: "MRPC"}
    return _everywhere("appendix_a", "pairs", "", paper, kit, folder, "search", ("MRPC",), beside, rows)


def _everywhere(
    name: str, kind: str, across: str, paper: Callable[[str], Side], kit: Callable[[pd.DataFrame], list[Line]],
    folder: Path, stem: str, tasks: Sequence[str], beside: dict[str, str], rows: tuple[str, ...] = (),
) -> list[Comparison]:  # fmt: skip
    """A table at every tier: measured at the embedded ones, nowhere else."""
    table = name.replace("table", "Table ") if name.startswith("table") else "Appendix A"
    shown = []
    for tier, task in MEASURED.items():
        frame = results_of(folder, stem, task)
        lines = tuple(kit(frame))
        seeds = f"{frame['seed'].nunique()} seeds" if len(frame) else "no seeds"
        half = Side("This kit", f"{with_metric(task)}, {seeds}", lines, () if lines else ("Not measured.",))
        shown.append((tier, with_metric(task), beside[tier], half, OTHER))
    shown.append(
        (
            REAL_TEXT,
            tasks[0],
            tasks[0],
            Side("This kit", "MiniLM", instead=NO_COMMAND),
            "It was not measured on real text.",
        )
    )
    for task in tasks:
        known = None if task == "average" else task
        shown.append((PAPER, task, task, absent(table, known), hours(table, known)))
    return [Comparison(table, TABLES[name], tier, task, kind, across, paper(printed), half, missing, rows)
            for tier, task, printed, half, missing in shown]  # fmt: skip
