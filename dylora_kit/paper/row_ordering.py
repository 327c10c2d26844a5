"""How well the rows of trained adapters are ordered by singular value, on altered digits.

The adapters are those of Table 2, trained again: a DyLoRA with α/b, one with α/r, and a plain LoRA.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from dylora_kit.evaluation.ordering import ordering
from dylora_kit.paper.compared_methods import DYLORA, DYLORA_HELD, LORA
from dylora_kit.paper.embedded import made_of
from dylora_kit.paper.every_rank import on_digits
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.settings import SEEDS, TABLE2, seconds_per_step


def run(task: str, method: str, seed: int, **settings: Any) -> pd.DataFrame:
    """One training, and the frame of `ordering` at the end of it."""
    _, adapters = on_digits(method, task, seed, **settings)
    return ordering(adapters, method=method)


def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """The three trainings on a domain of digits."""
    settings, domain, made = TABLE2[task], task.removeprefix("digits-"), made_of(task)
    seconds = seconds_per_step(task) * settings["steps"]
    return [
        Job(
            {"domain": domain, "method": method},
            seed,
            settings | made,
            partial(run, task, method, seed, **settings),
            seconds,
        )
        for method in (DYLORA, DYLORA_HELD, LORA)
    ]


STUDY = Study(
    stem="ordering",
    tasks=tuple(task for task in TABLE2 if task.startswith("digits-")),
    default=("digits-turned",),
    seeds=lambda task: SEEDS,
    jobs=jobs,
    parts=("domain",),
    shown=lambda results: (
        results.groupby(["domain", "method", "rank", "seed"], sort=False)["score"].mean().rename("value").reset_index()
    ),
)
