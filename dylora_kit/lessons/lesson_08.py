"""Exercises of lesson 08: a difference between two methods and its error, and budgets that are not the same."""

import math
import statistics
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dylora_kit.lessons.exercise import Exercise

Values = dict[int, float]  # what a method achieved, by seed


def _trainings() -> list[tuple[Any, ...]]:
    """Two methods by seed: the seeds in another order, and some that only one of them has."""
    return [
        ({10: 0.90, 42: 0.70, 7: 0.83}, {42: 0.66, 7: 0.77, 10: 0.88}),
        ({1: 0.50, 2: 0.625, 3: 0.75, 4: 0.55}, {2: 0.5, 3: 0.6875, 4: 0.6, 9: 0.95}),
        ({5: 0.2, 6: 0.6}, {6: 0.5, 5: 0.4}),
    ]


def difference(ours: Values, theirs: Values) -> tuple[float, float]:
    """The mean of the differences within each seed that both have, and its standard error."""
    ahead = _ahead(ours, theirs)
    return statistics.mean(ahead), statistics.stdev(ahead) / math.sqrt(len(ahead))


def _ahead(ours: Values, theirs: Values) -> list[float]:
    return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


def _by_place(ours: Values, theirs: Values) -> tuple[float, float]:
    pairs = zip(ours.values(), theirs.values(), strict=False)
    ahead = [own - other for own, other in pairs]
    return statistics.mean(ahead), statistics.stdev(ahead) / math.sqrt(len(ahead))


def _unpaired(ours: Values, theirs: Values) -> tuple[float, float]:
    both = [seed for seed in ours if seed in theirs]
    spreads = [statistics.variance([values[seed] for seed in both]) / len(both) for values in (ours, theirs)]
    return difference(ours, theirs)[0], math.sqrt(sum(spreads))


def _summed(ours: Values, theirs: Values) -> tuple[float, float]:
    both = [seed for seed in ours if seed in theirs]
    spreads = [statistics.stdev([values[seed] for seed in both]) for values in (ours, theirs)]
    return difference(ours, theirs)[0], sum(spreads)


def _all_seeds(ours: Values, theirs: Values) -> tuple[float, float]:
    ahead = [statistics.mean(values.values()) for values in (ours, theirs)]
    return ahead[0] - ahead[1], difference(ours, theirs)[1]


def _with_error(rule: Callable[[list[float]], float]) -> Callable[[Values, Values], tuple[float, float]]:
    return lambda ours, theirs: (difference(ours, theirs)[0], rule(_ahead(ours, theirs)))


DIFFERENCE = Exercise(
    cases=_trainings,
    solution=difference,
    mistakes={
        "it is the other way round: how far ours is ahead, ours − theirs": lambda ours, theirs: (
            -difference(ours, theirs)[0],
            difference(ours, theirs)[1],
        ),
        "you pair by place: take ours[seed] and theirs[seed] of the same seed": _by_place,
        "you treat the two as unrelated: take the difference within each seed first, and then its deviation": _unpaired,
        "you add up two deviations: take the difference within each seed first, and then its deviation": _summed,
        "this is the deviation of the differences: the error of their mean is √n times smaller": _with_error(
            statistics.stdev
        ),
        "divide by √n, and not by n": _with_error(lambda ahead: statistics.stdev(ahead) / len(ahead)),
        "this is the deviation of all there is: for a sample divide by n − 1 (statistics.stdev)": _with_error(
            lambda ahead: statistics.pstdev(ahead) / math.sqrt(len(ahead))
        ),
        "n counts the seeds that both have, not all of ours": lambda ours, theirs: (
            difference(ours, theirs)[0],
            statistics.stdev(_ahead(ours, theirs)) / math.sqrt(len(ours)),
        ),
        "this is the variance: take its square root": _with_error(
            lambda ahead: statistics.variance(ahead) / len(ahead)
        ),
        "only seeds that both have count: the others compare nothing": _all_seeds,
        "theirs lacks a seed that ours has: take those that both have": lambda ours, theirs: [
            ours[seed] - theirs[seed] for seed in ours
        ],
        "the mean comes first, and its error second": lambda ours, theirs: difference(ours, theirs)[::-1],
    },
    shapes="ours and theirs are dicts of numbers, and there are no shapes in them",
)


def _budgets() -> list[tuple[Any, ...]]:
    """Runs, the first of which the others are compared with."""

    def run(method: str, steps: int, batch_size: int, passes: int) -> dict[str, Any]:
        return {"method": method, "steps": steps, "batch_size": batch_size, "passes": passes}

    first = [run("A", 1000, 32, 1), run("B", 1000, 32, 8), run("C", 2000, 16, 1), run("D", 1000, 16, 1),
             run("E", 500, 32, 1), run("F", 125, 32, 8), run("G", 1000, 32, 1)]  # fmt: skip
    return [(first,), ([run("A", 300, 16, 2), run("B", 600, 8, 2), run("C", 300, 8, 2), run("D", 150, 16, 4),
                        run("E", 316, 1, 1)],)]  # fmt: skip


def budget(run: dict[str, Any]) -> int:
    """How many examples pass through the model in a training."""
    return int(run["steps"] * run["batch_size"] * run["passes"])


def unequal(runs: list[dict[str, Any]]) -> list[str]:
    """The methods whose budget is not that of the first run."""
    return [run["method"] for run in runs if budget(run) != budget(runs[0])]


def _where(rule: Callable[[dict[str, Any], dict[str, Any]], bool]) -> Callable[[list[dict[str, Any]]], list[str]]:
    """The methods for which a rule holds between a run and the first one."""
    return lambda runs: [run["method"] for run in runs if rule(run, runs[0])]


def _neighbours(runs: list[dict[str, Any]]) -> list[str]:
    pairs = zip(runs[1:], runs, strict=False)
    return [run["method"] for run, before in pairs if budget(run) != budget(before)]


def _names(answer: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    """Names in the order of the alphabet, as the numbers of their letters, since outcomes are compared as numbers."""
    names = answer(*case)
    names = names.tolist() if hasattr(names, "tolist") else names
    if isinstance(names, list | tuple | set) and all(isinstance(name, str) for name in names):
        return [[float(ord(letter)) for letter in name] for name in sorted(names)]
    return names


def _hint(outcomes: list[Any]) -> str:
    def is_name(one: Any) -> bool:  # see _names
        return isinstance(one, list) and all(isinstance(letter, Tensor) for letter in one)

    if all(isinstance(names, list) and all(map(is_name, names)) for names in outcomes):
        return "other methods have another budget than the first run"
    return 'return the names of the methods: a list of run["method"]'


UNEQUAL = Exercise(
    cases=_budgets,
    solution=unequal,
    mistakes={
        "steps alone are no budget: a larger batch, or more passes in a step, are more work": _where(
            lambda run, first: run["steps"] != first["steps"]
        ),
        "the passes are missing: a step of the summation loss runs its batch eight times": _where(
            lambda run, first: run["steps"] * run["batch_size"] != first["steps"] * first["batch_size"]
        ),
        "the batch is missing: half as many examples in a step are half the work": _where(
            lambda run, first: run["steps"] * run["passes"] != first["steps"] * first["passes"]
        ),
        "these have the same budget: return the others": _where(lambda run, first: budget(run) == budget(first)),
        "a smaller budget is unequal too": _where(lambda run, first: budget(run) > budget(first)),
        "a larger budget is unequal too": _where(lambda run, first: budget(run) < budget(first)),
        "multiply: each step has a batch, and each batch its passes": _where(
            lambda run, first: sum(list(run.values())[1:]) != sum(list(first.values())[1:])
        ),
        "two different settings can be the same work: compare the products": _where(
            lambda run, first: list(run.values())[1:] != list(first.values())[1:]
        ),
        "compare with the first run, and not with the one before": _neighbours,
        "compare with the first run, and not with the largest budget": lambda runs: [
            run["method"] for run in runs if budget(run) != max(map(budget, runs))
        ],
    },
    shapes="runs is a list of dicts, and there are no shapes in it",
    watch=_names,
    diagnose=_hint,
)
