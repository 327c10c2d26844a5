"""Tables 1, 2, 6 and 9 beside what was measured: curves over the ranks."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from dylora_kit.paper import generation
from dylora_kit.paper.compared_methods import DYLORA, FROZEN, HELD, LORA, ONE, SVD
from dylora_kit.paper.gpu_hours import EIGHT, in_hours, not_run
from dylora_kit.paper.published import TABLES, printed_table
from dylora_kit.paper.results_files import WRITTEN, results_of, with_metric
from dylora_kit.paper.runs import read_results
from dylora_kit.paper.settings import SEEDS
from dylora_kit.paper.tables_at_every_rank import GLUE, REAL
from dylora_kit.widgets.svg_cards.comparison import Comparison, Line, Measured, Side

PAPER, REAL_TEXT, DIGITS, ENGLISH = "the paper's own", "real text", "embedded digits", "embedded English"
LOOKS = {DYLORA: ("DyLoRA", 0, False), FROZEN: ("DyLoRA, frozen", 0, True), LORA: ("LoRA cut, α/b", 1, False),
         HELD: ("LoRA cut, α/r", 1, True), SVD: ("LoRA cut by SVD", 2, False),
         ONE: ("LoRA, one each", 3, False)}  # fmt: skip
PRINTED = {"DyLoRA": LOOKS[DYLORA], "DyLoRA (Frozen)": LOOKS[FROZEN], "LoRA": ("LoRA cut (how?)", 1, False)}
MODELS = {DIGITS: "vision transformer, 0.15M weights", ENGLISH: "mini RoBERTa, 1.0M weights",
          REAL_TEXT: "MiniLM, 22M weights", "describe": "mini GPT-2, 1.0M weights"}  # fmt: skip
# a task of the small English world → the task of the paper that is most like it
SISTERS = {"sentiment": "SST-2", "entailment": "MNLI", "paraphrase": "MRPC", "acceptability": "CoLA",
           "similarity": "STS-B"}  # fmt: skip
OTHER = "Another model and other data than the paper's: compare the shapes, and not the heights."
NO_COMMAND = ("Not measured.", "The kit has no command for this table here yet.")


def table1(folder: Path) -> list[Comparison]:
    """A LoRA of its own for each rank."""
    printed = printed_table("table1")

    def of(tier: str, task: str, paper: str, kit: Side, missing: str) -> Comparison:
        side = Side("The paper", f"RoBERTa-base, {paper}, one seed", (_line(ONE, printed[printed["task"] == paper]),))
        return _curves("table1", tier, task, side, kit, missing)

    shown = []
    for tier, stem, paper in ((DIGITS, "digits-turned", "SST-2"), (ENGLISH, "world-acceptability", "CoLA")):
        frame = results_of(folder, "search", stem)
        kit = kit_side(MODELS[tier], stem.partition("-")[2], frame[frame["method"] == ONE].assign(rank=frame["r"]),
                       (ONE,))  # fmt: skip
        shown.append(of(tier, with_metric(stem), paper, kit, f"{OTHER} The paper prints one seed and no spread."))
    for name, metric in (("SST-2", "accuracy"), ("MRPC", "accuracy")):
        frame = on_glue(folder, name, metric)
        missing = f"{_budget(frame)} Ranks 2, 8, 16 and 32 were not trained alone."
        shown.append(of(REAL_TEXT, f"{name} ({metric})", name, kit_side(MODELS[REAL_TEXT], name, frame, (ONE,)),
                        missing))  # fmt: skip
    return shown + [of(PAPER, task, task, absent("Table 1", task), hours("Table 1", task)) for task in EIGHT
                    if task in set(printed["task"])]  # fmt: skip


def table2(folder: Path) -> list[Comparison]:
    """Every method at every rank."""
    methods = (DYLORA, FROZEN, LORA, HELD, SVD, ONE)

    def of(tier: str, task: str, paper: str, kit: Side, missing: str) -> Comparison:
        side = printed_side("table2", paper, "average of eight tasks" if paper == "average" else paper)
        return _curves("table2", tier, task, side, kit, f"{missing} {_unread('table2', paper)}".strip())

    frame = results_of(folder, "table2", "digits-turned")
    kit = kit_side(MODELS[DIGITS], "turned digits", frame, methods)
    shown = [of(DIGITS, with_metric("digits-turned"), "average", kit, OTHER)]
    for task, sister in SISTERS.items():
        frame = results_of(folder, "table2", f"world-{task}")
        missing = f"{OTHER} {_seeds(frame)} {_not_measured(frame, methods)}"
        kit = kit_side(MODELS[ENGLISH], task, frame, methods)
        shown.append(of(ENGLISH, with_metric(f"world-{task}"), sister, kit, " ".join(missing.split())))
    for name, metrics in GLUE.values():
        frame = on_glue(folder, name, metrics[0])
        missing = f"{_budget(frame)} {_seeds(frame)} {_not_measured(frame, methods)}"
        kit = kit_side(MODELS[REAL_TEXT], name, frame, methods)
        shown.append(of(REAL_TEXT, f"{name} ({WRITTEN.get(metrics[0], metrics[0])})", name, kit, missing))
    shown.append(of(PAPER, "average", "average", absent("Table 2"), hours("Table 2")))
    return shown + [of(PAPER, task, task, absent("Table 2", task), hours("Table 2", task)) for task in EIGHT]


def table6(folder: Path) -> list[Comparison]:
    """E2E, and the descriptions of the small English world."""
    methods = (DYLORA, FROZEN, LORA, HELD, SVD)
    measured = read_results(folder / "table6-world-describe.csv")
    missing = OTHER
    if measured.empty:
        measured = read_results(folder / "table2-world-describe.csv")
        jobs = generation.embedded_study("table6").jobs_of("world-describe", None, folder)
        hours_left = in_hours(sum(job.seconds for job in jobs) / 3600)
        missing += f" With r = 4, as in the paper, it was not run: about {hours_left} hours of one core."
    frame = measured[measured["metric"] == "bleu"] if len(measured) else measured
    shown = [_curves("table6", ENGLISH, "describe (BLEU)", printed_side("table6", "BLEU", "GPT-2 medium, E2E, BLEU"),
                     kit_side(MODELS["describe"], "describe", frame, methods), missing)]  # fmt: skip
    return shown + _texts("table6", folder, {"E2E": ("BLEU", "NIST", "METEOR", "ROUGE-L", "CIDEr")})


def table9(folder: Path) -> list[Comparison]:
    """DART and WebNLG."""
    return _texts("table9", folder, dict.fromkeys(("DART", "WebNLG"), ("BLEU", "TER")))


def _texts(name: str, folder: Path, metrics: Mapping[str, Sequence[str]]) -> list[Comparison]:
    """Tables of generation on the data of the paper: by any model whose results are there, and at the paper's size."""
    shown, table = [], name.replace("table", "Table ")
    for tier, (data, every) in ((tier, pair) for tier in (REAL_TEXT, PAPER) for pair in metrics.items()):
        files = sorted(folder.glob(f"{name}-*-{data.lower()}.csv")) if tier == REAL_TEXT else []
        results = read_results(files[0]) if files else pd.DataFrame()
        for metric in every:
            key = data if name == "table9" else metric
            paper = printed_side(name, key, f"GPT-2 medium, {data}, {metric}", metric)
            frame = results[results["metric"] == metric.lower()] if len(results) else results
            if len(frame):
                model = files[0].stem.removeprefix(f"{name}-").removesuffix(f"-{data.lower()}")
                kit, missing = kit_side(model, data, frame, tuple(LOOKS)), _seeds(frame, 3)
            elif tier == REAL_TEXT:
                how = ("Not run. To run it with a model that you have:", f"python -m dylora_kit.paper {name}",
                       "    --tier real --model MODEL")  # fmt: skip
                kit = Side("This kit", f"a smaller model, {data}", instead=how)
                missing = "No model was run on this data yet."
            else:
                kit, missing = absent(table, data), hours(table, data)
            shown.append(_curves(name, tier, f"{data} ({metric})", paper, kit, missing))
    return shown


def _curves(name: str, tier: str, task: str, paper: Side, kit: Side, missing: str) -> Comparison:
    table = name.replace("table", "Table ")
    return Comparison(table, TABLES[name], tier, task, "curves", "rank b", paper, kit, missing)


def printed_side(name: str, key: str, what: str, metric: str | None = None) -> Side:
    """The paper's half of a table that has LoRA and DyLoRA at every rank.

    Arguments:
        name: `"table2"`, `"table6"` or `"table9"`.
        key: the task, or for Table 6 the metric, whose cells are taken.
        what: what the card says of them.
        metric: of Table 9.
    """
    table = printed_table(name)
    table = table[table[{"table2": "task", "table6": "metric", "table9": "dataset"}[name]] == key]
    if name == "table9":
        table = table[table["metric"] == metric]
    if name == "table6":
        table = table.assign(method=table["method"] + table["updated"].map({"only b": " (Frozen)"}).fillna(""))
    seeds = len(SEEDS) if name == "table2" else 3
    lines = []
    for method, look in PRINTED.items():
        rows = table[(table["method"] == method) & table["mean"].notna()]
        counts = seeds if name == "table2" or method != "LoRA" else 1
        values = {float(row["rank"]): Measured(row["mean"], row["std"], counts) for row in rows.to_dict("records")}
        lines.append(Line(look[0], values, look[1], look[2]))
    prefix = f"RoBERTa-base, {what}" if name == "table2" else what
    return Side("The paper", f"{prefix}, {seeds} seeds", tuple(lines))


def kit_side(model: str, task: str, frame: pd.DataFrame, methods: Sequence[str]) -> Side:
    """The kit's half: the methods that were measured, in percent.

    Arguments:
        frame: rows with method, rank, seed and value.
        methods: in this order; what the frame lacks is left out.
    """
    if frame.empty:
        return Side("This kit", f"{model}, {task}", instead=("Not measured.",))
    lines = tuple(_line(method, frame[frame["method"] == method]) for method in methods
                  if (frame["method"] == method).any())  # fmt: skip
    return Side("This kit", f"{model}, {task}, {frame['seed'].nunique()} seeds", lines)


def measured_of(values: Iterable[float], percent: bool = True) -> Measured:
    """Mean and standard deviation over seeds.

    >>> print(measured_of([0.5, 0.6]))
    55.0 ± 7.1
    """
    column = (100 if percent else 1) * pd.Series(list(values), dtype=float)
    return Measured(float(column.mean()), float(column.std()) if len(column) > 1 else math.nan, len(column))


def _line(method: str, frame: pd.DataFrame) -> Line:
    name, colour, hollow = LOOKS[method]
    percent = "seed" in frame  # the paper's cells are percent already
    values = {float(rank): measured_of(of, percent) for rank, of in frame.groupby("rank")["value"]}
    return Line(name, values, colour, hollow)


def on_glue(folder: Path, name: str, metric: str) -> pd.DataFrame:
    """The rows of one GLUE task that were measured with MiniLM."""
    frame = results_of(folder, "table2", REAL, metric)
    if frame.empty:
        return frame
    return frame[frame["task"] == next(task for task, (known, _) in GLUE.items() if known == name)]


def absent(table: str, task: str | None = None) -> Side:
    """The kit's half where nothing was run at the paper's size."""
    sentence = not_run(table, task)
    return Side("This kit", "the paper's model and data", instead=(sentence[0].upper() + sentence[1:] + ".",
                "Worked out from the time in Appendix A."))  # fmt: skip


def hours(table: str, task: str | None = None) -> str:
    """A sentence on what was not run at the paper's size."""
    return f"At the paper's size {table} was {not_run(table, task)}."


def _seeds(frame: pd.DataFrame, most: int = len(SEEDS)) -> str:
    seeds = frame["seed"].nunique() if len(frame) else 0
    return f"{seeds} seeds, the paper has {most}." if 0 < seeds < most else ""


def _not_measured(frame: pd.DataFrame, methods: Sequence[str]) -> str:
    lacking = [LOOKS[method][0] for method in methods if len(frame) and not (frame["method"] == method).any()]
    return f"Not measured: {'; '.join(lacking)}." if lacking else ""


def _budget(frame: pd.DataFrame) -> str:
    if frame.empty:
        return ""
    row = frame.iloc[0]
    epochs = row["steps"] * row["batch_size"] / row["examples"]
    printed = printed_table("table8").set_index(["model", "parameter"])["value"]["RoBERTa-base", "epochs"]
    return f"Each text was seen {epochs:.1f} times, in the paper {printed} times."


def _unread(name: str, task: str) -> str:
    table = printed_table(name)
    cells = table[table["task"] == task]["mean"]
    return f"{cells.isna().sum()} of the paper's cells cannot be read." if cells.isna().any() else ""
