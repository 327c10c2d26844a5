"""A rank for each layer, beside one rank for all with as many parameters (after the paper's search over ranks).

    python -m dylora_kit.paper.layers            # into data/results/; goes on where it stopped

A DyLoRA draws one rank for all layers, so a cut with a rank for each layer is a model that was never trained. Beside it
stands a DyLoRA that in half of its steps draws a rank for each layer. Both are cut on the validation part, and measured
on the test split.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from dylora_kit import backbones
from dylora_kit.core.adapters import attach
from dylora_kit.core.modes import evaluating
from dylora_kit.core.rank import Rank
from dylora_kit.evaluation.rank_per_layer import ranks_per_layer
from dylora_kit.paper import SEEDS, Job, collect, command, table
from dylora_kit.paper.compared_methods import DYLORA, R, trained
from dylora_kit.paper.design import SETTINGS, load, made_of
from dylora_kit.training.objectives import Objective
from dylora_kit.training.sampling import RankSampler

ONE, EACH = "drawn for all layers", "in half of the steps drawn for each layer"
SURE = (0.0, 1.0, 2.0)  # standard errors by which a step of the cut has to lower the loss
BUDGETS = (2, 3, 4, 5, 6)  # as many parameters as these ranks in all layers


def layerwise(layers: list[str]) -> Objective:
    """A rank of its own for each layer in about half of the steps, one for all in the others.

    >>> from dylora_kit.training.sampling import Uniform
    >>> sampler = RankSampler(Uniform(1, 8), seed=0)
    >>> steps = [layerwise(["query", "value"])(3, sampler, 32)[0][1] for _ in range(4)]
    >>> [one if one == 3 else list(one) for one in steps]
    [3, 3, 3, ['query', 'value']]
    """

    def objective(b: int, sampler: RankSampler, batch_size: int) -> list[tuple[float, Rank]]:
        coin, *ranks = sampler.draw_many(1 + len(layers)).tolist()
        return [(1.0, dict(zip(layers, ranks, strict=True)) if coin % 2 else b)]

    return objective


def run(name: str, method: str, seed: int, **settings: Any) -> pd.DataFrame:
    """One training, its cuts at each budget, and how good they are on the test split."""
    build, task = load(name)
    options: dict[str, Any] = {}
    if method == EACH:
        options["objective"] = layerwise(list(attach(build(), r=R, target_modules="attention").layers))
    model, adapters = trained(build, task, DYLORA, seed, **options, **settings)
    test = (task.collate or _stacked)([task.test[index] for index in range(len(task.test))])
    rows = []
    for b in BUDGETS:
        budget = adapters.num_parameters(b)
        cuts: dict[str, Any] = {"one rank for all": b}
        for standard_errors in SURE:
            cut = ranks_per_layer(
                model, adapters, task.validation, budget=budget, standard_errors=standard_errors, collate=task.collate
            )
            cuts[f"each layer, sure by {standard_errors:g}"] = cut.ranks
        for how, ranks in cuts.items():
            with adapters.at(ranks), evaluating(model):
                found = model(**test)
                right = (found.logits.argmax(-1) == test["labels"]).float().mean()
                used = adapters.num_parameters()
            rows += [(b, how, "accuracy", float(right), used), (b, how, "loss", float(found.loss), used)]
    return pd.DataFrame(rows, columns=["rank", "cut", "metric", "value", "parameters"])


def _stacked(examples: list[Any]) -> dict[str, Any]:
    from torch.utils.data import default_collate

    batch: dict[str, Any] = default_collate(examples)
    return batch


def _main(arguments: argparse.Namespace) -> None:
    folder, found = arguments.out or backbones.data_folder() / "results", []
    for name in arguments.tasks:
        settings = SETTINGS[name] | made_of(name)
        jobs = [
            Job({"task": name, "method": method}, seed, settings, partial(run, name, method, seed, **SETTINGS[name]))
            for seed in SEEDS
            for method in (ONE, EACH)
        ]
        found.append(collect(folder / f"layers-{name}.csv", jobs))
    print(table(pd.concat(found).query("metric == 'accuracy'"), ["task", "cut"]).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare a rank for each layer with one rank for all.")
    parser.add_argument("--tasks", nargs="+", choices=list(SETTINGS), default=["digits-turned"])
    parser.add_argument("--out", type=Path, help="another folder than data/results")
    command(parser, _main)
