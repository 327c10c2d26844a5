"""A rank for each layer, beside one rank for all with as many parameters (after the paper's search over ranks).

A DyLoRA draws one rank for all layers, so a cut with a rank for each layer is a model that was never trained. Beside it
stands a DyLoRA that in half of its steps draws a rank for each layer. Both are cut on the validation part, and measured
on the test split.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch.utils.data import default_collate

from dylora_kit.core.adapters import attach
from dylora_kit.core.modes import evaluating
from dylora_kit.core.rank import Rank
from dylora_kit.evaluation.rank_per_layer import ranks_per_layer
from dylora_kit.paper.compared_methods import DYLORA, trained
from dylora_kit.paper.embedded import load, made_of
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.settings import MEASURED, SEEDS, SHORT, R, seconds_per_step
from dylora_kit.training.objectives import Objective
from dylora_kit.training.sampling import RankSampler

FOR_ALL, FOR_EACH = "drawn for all layers", "in half of the steps drawn for each layer"
STANDARD_ERRORS = (0.0, 1.0, 2.0)  # by how many a step of the cut has to lower the loss
BUDGETS = (2, 3, 4, 5, 6)  # as many parameters as these ranks in all layers


def layerwise(layers: list[str]) -> Objective:
    """A rank of its own for each layer in about half of the steps, one for all in the others.

    >>> from dylora_kit.training.sampling import Uniform
    >>> sampler = RankSampler(Uniform(1, 8), seed=0)
    >>> steps = [layerwise(["query", "value"])(3, sampler, 32)[0][1] for _ in range(4)]
    >>> [rank if rank == 3 else list(rank) for rank in steps]
    [3, 3, 3, ['query', 'value']]
    """

    def objective(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
        coin, *ranks = sampler.draw_many(1 + len(layers)).tolist()
        return [(1.0, dict(zip(layers, ranks, strict=True)) if coin % 2 else b)]

    return objective


def run(task: str, method: str, seed: int, **settings: Any) -> pd.DataFrame:
    """One training, its cuts at each budget, and how good they are on the test split."""
    build, data = load(task)
    options: dict[str, Any] = {}
    if method == FOR_EACH:
        options["objective"] = layerwise(list(attach(build(), r=R, target_modules="attention").layers))
    model, adapters = trained(build, data, DYLORA, seed, **options, **settings)
    test = (data.collate or default_collate)([data.test[index] for index in range(len(data.test))])
    rows = []
    for b in BUDGETS:
        budget = adapters.num_parameters(b)
        cuts: dict[str, Any] = {"one rank for all": b}
        for errors in STANDARD_ERRORS:
            cut = ranks_per_layer(
                model, adapters, data.validation, budget=budget, standard_errors=errors, collate=data.collate
            )
            cuts[f"each layer, sure by {errors:g}"] = cut.ranks
        for how, ranks in cuts.items():
            with adapters.at(ranks), evaluating(model):
                output = model(**test)
                correct = (output.logits.argmax(-1) == test["labels"]).float().mean()
                used = adapters.num_parameters()
            rows += [(b, how, "accuracy", float(correct), used), (b, how, "loss", float(output.loss), used)]
    return pd.DataFrame(rows, columns=["rank", "cut", "metric", "value", "parameters"])


def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
    """Both trainings on a task with a seed."""
    settings = SHORT[task] | made_of(task)
    seconds = 3 * seconds_per_step(task) * SHORT[task]["steps"]  # to cut takes longer than to train
    return [
        Job({"task": task, "method": method}, seed, settings, partial(run, task, method, seed, **SHORT[task]), seconds)
        for method in (FOR_ALL, FOR_EACH)
    ]


STUDY = Study(
    stem="layers",
    tasks=tuple(SHORT),
    default=MEASURED,
    seeds=lambda task: SEEDS,
    jobs=jobs,
    parts=("task", "cut"),
    shown=lambda results: results.query("metric == 'accuracy'"),
)
