"""How long what was not run would take: the paper's trainings on its GPU, and a longer one on a processor core.

The paper prints one time that can be counted with: a LoRA of RoBERTa-base on MRPC, in Appendix A. All others follow
from it by the number of texts and of weights, so they are rough; evaluation and the writing of texts are not in them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dylora_kit.paper.published import printed_table
from dylora_kit.paper.settings import GPT2, SEEDS
from dylora_kit.tasks import glue

if TYPE_CHECKING:
    import pandas as pd

TEXTS = {spec.folder: spec.train for spec in glue.SPECS.values()} | {"E2E": 42061, "DART": 62659, "WebNLG": 18025}
EIGHT = ("MNLI", "SST-2", "MRPC", "CoLA", "QNLI", "QQP", "RTE", "STS-B")
GPT2_TIMES = 354 / 125  # as many weights as RoBERTa-base has, and so about as many times as long for a text
NESTED_SEEDS, OWN_RANKS = 3, 7  # GPT-2's seeds; the ranks of Table 5's search
# new trainings for each task: what an earlier table has trained already is not counted again
TRAININGS: dict[str, Mapping[str, int]] = {
    "Table 1": dict.fromkeys(("QQP", "SST-2", "MRPC", "CoLA"), 6),
    "Table 2": dict.fromkeys(EIGHT, 3 * len(SEEDS)),
    "Table 3": dict.fromkeys(("SST-2", "MRPC", "QNLI", "STS-B"), 1),
    "Table 4": dict.fromkeys(("SST-2", "MRPC", "CoLA", "QNLI", "RTE", "STS-B"), 2 * len(SEEDS)),
    "Table 5": dict.fromkeys(("SST-2", "MRPC"), OWN_RANKS + 2),
    "Table 6": {"E2E": 1 + 2 * NESTED_SEEDS},
    "Table 7": {"CoLA": 1 + 8},  # a step of the summation loss has eight passes
    "Table 9": dict.fromkeys(("DART", "WebNLG"), 1 + 2 * NESTED_SEEDS),
    "Appendix A": {"MRPC": 1 + 8},
}


def gpu_hours(table: str, task: str | None = None) -> float:
    """About how many hours the trainings of a table take on one GPU like the paper's, a V100.

    Arguments:
        table: a key of `TRAININGS`.
        task: one of its tasks; default is all.

    Raises `ValueError` for a table or a task that there is not.

    >>> round(gpu_hours("Appendix A"), 1), round(gpu_hours("Table 6"), 1)
    (1.0, 4.2)
    """
    if table not in TRAININGS:
        raise ValueError(f"no trainings are known for {table!r}: expected one of {', '.join(TRAININGS)}")
    counts = TRAININGS[table]
    if task is not None and task not in counts:
        raise ValueError(f"{table} has no task {task!r}: expected one of {', '.join(counts)}")
    return sum(count * _training(name) for name, count in counts.items() if task in (None, name))


def _training(task: str) -> float:
    """Hours of one training."""
    printed = printed_table("appendix_a").set_index("what")["seconds"]["MRPC, LoRA, rank 8 only"]
    settings = printed_table("table8").set_index(["model", "parameter"])["value"]
    epochs = float(settings["RoBERTa-base", "epochs"])
    one_text = printed / (TEXTS["MRPC"] * epochs)
    if task in ("E2E", "DART", "WebNLG"):
        epochs, one_text = float(GPT2["epochs"]), one_text * GPT2_TIMES
    return float(one_text * TEXTS[task] * epochs / 3600)


def not_run(table: str, task: str | None = None) -> str:
    """What the kit says in place of numbers at the paper's own size.

    >>> not_run("Table 7")
    'not run: about 2.3 GPU-hours'
    """
    return f"not run: about {in_hours(gpu_hours(table, task))} GPU-hours"


def in_hours(hours: float) -> str:
    """Hours with as many digits as an estimate is good for.

    >>> in_hours(0.456), in_hours(2.33), in_hours(1234)
    ('0.5', '2.3', '1,230')
    """
    if hours < 10:
        return f"{hours:.1f}"
    return f"{round(hours, -1) if hours > 100 else round(hours):,.0f}"


def core_hours(measured: "pd.DataFrame", epochs: float, trainings: int) -> float:
    """About how many hours of one processor core longer trainings take, by those that were measured.

    Arguments:
        measured: rows of one task, with `cpu_seconds` of a training (0 where nothing was trained), `steps`,
            `batch_size` and `examples`.
        epochs: how often each training is to see every text.
        trainings: how many there are.

    >>> import pandas as pd
    >>> core_hours(pd.DataFrame([{"cpu_seconds": 36, "steps": 10, "batch_size": 4, "examples": 80}]), 5, 2)
    0.2
    """
    trained = measured[measured["cpu_seconds"] > 0]
    one_text = (trained["cpu_seconds"] / (trained["steps"] * trained["batch_size"])).mean()
    return float(round(one_text * trained["examples"].iloc[0] * epochs * trainings / 3600, 6))
