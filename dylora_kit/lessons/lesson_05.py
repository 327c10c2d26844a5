"""Exercises of lesson 05: choosing a rank without a search."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from dylora_kit.lessons.exercise import Exercise


def _curves() -> list[tuple[Any, ...]]:
    """Accuracies by rank, not always rising and in any order, and a tolerance."""
    return [
        ({1: 0.40, 2: 0.75, 3: 0.85, 4: 0.90, 5: 0.88}, 0.06),
        ({4: 0.62, 2: 0.61, 1: 0.50, 3: 0.58}, 0.02),
        ({1: 0.80, 2: 0.90, 3: 0.70}, 0.05),
        ({1: 0.50, 2: 0.75}, 0.25),
        ({1: 0.30, 2: 0.36, 3: 0.40}, 0.05),
        ({1: 0.80, 2: 0.84, 3: 0.88, 4: 0.92}, 0.05),
        ({1: 0.90, 2: 0.80, 3: 0.91}, 0.02),
    ]


def smallest(values: dict[int, float], tolerance: float) -> int:
    """The smallest rank that is at most `tolerance` worse than the best."""
    return min(rank for rank, value in values.items() if value >= max(values.values()) - tolerance)


def _last(values: dict[int, float], tolerance: float) -> int:
    return min(rank for rank, value in values.items() if value >= values[max(values)] - tolerance)


def _largest(values: dict[int, float], tolerance: float) -> int:
    return max(rank for rank, value in values.items() if value >= max(values.values()) - tolerance)


def _relative(values: dict[int, float], tolerance: float) -> int:
    return min(rank for rank, value in values.items() if value >= max(values.values()) * (1 - tolerance))


def _strict(values: dict[int, float], tolerance: float) -> int:
    return min(rank for rank, value in values.items() if value > max(values.values()) - tolerance)


def _unsorted(values: dict[int, float], tolerance: float) -> int:
    return next(rank for rank, value in values.items() if value >= max(values.values()) - tolerance)


def _neighbours(values: dict[int, float], tolerance: float) -> int:
    gains = ((rank, values[after] - values[rank]) for rank, after in pairwise(sorted(values)))
    return next((rank for rank, gain in gains if gain <= tolerance), max(values))


def _unbroken(values: dict[int, float], tolerance: float) -> int:
    chosen = max(values, key=lambda rank: values[rank])
    while values.get(chosen - 1, 0.0) >= max(values.values()) - tolerance:
        chosen -= 1
    return chosen


SMALLEST = Exercise(
    cases=_curves,
    solution=smallest,
    mistakes={
        "this is the best rank: a smaller one may be nearly as good": lambda values, tolerance: max(
            values, key=lambda rank: values[rank]
        ),
        "max(values) is the largest rank: the accuracies are in values.values()": lambda values, tolerance: min(
            rank for rank in values if values[rank] >= max(values) - tolerance
        ),
        "return the rank, not its accuracy": lambda values, tolerance: values[smallest(values, tolerance)],
        "you compare with the largest rank: it need not be the best": _last,
        "you take the largest rank that is good enough": _largest,
        "you multiply: the tolerance is a difference, so subtract it from the best": _relative,
        "a rank that is exactly at the limit is good enough: use >= and not >": _strict,
        "you compare neighbours: compare each rank with the best": _neighbours,
        "you stop at the first rank that is not good enough: a smaller one may be": _unbroken,
        "the dictionary's order need not be that of the ranks: take the smallest of those that fit": _unsorted,
        "this is the smallest rank of all: it also has to be good enough": lambda values, tolerance: min(values),
    },
    shapes="values is a dict of numbers, and there are no shapes in it",
)


def _layers() -> list[tuple[Any, ...]]:
    """The sizes of two layers (d_in, d_out) with d_in ≠ d_out, and a rank for each."""
    sizes = {"query": (6, 4), "value": (6, 5)}
    return [(sizes, {"query": 1, "value": 3}), (sizes, {"value": 2, "query": 4})]


def parameters(sizes: dict[str, tuple[int, int]], ranks: dict[str, int]) -> int:
    """Σ over layers of b · (d_in + d_out)."""
    return sum(ranks[name] * (d_in + d_out) for name, (d_in, d_out) in sizes.items())


def _summed(rule: Callable[[int, int, int], float]) -> Callable[..., float]:
    return lambda sizes, ranks: sum(rule(ranks[name], d_in, d_out) for name, (d_in, d_out) in sizes.items())


PARAMETERS = Exercise(
    cases=_layers,
    solution=parameters,
    mistakes={
        "this is the size of ΔW: only its two factors are stored, b · d_in and d_out · b numbers": _summed(
            lambda b, d_in, d_out: d_in * d_out
        ),
        "you multiply the factors' sizes: add b · d_in and d_out · b": _summed(lambda b, d_in, d_out: b * d_in * d_out),
        "b counts for both: put d_in + d_out in brackets": _summed(lambda b, d_in, d_out: b * d_in + d_out),
        "lora_B is missing: it has d_out · b numbers": _summed(lambda b, d_in, d_out: b * d_in),
        "lora_A is missing: it has b · d_in numbers": _summed(lambda b, d_in, d_out: b * d_out),
        "you count twice the inputs: lora_B has d_out · b numbers": _summed(lambda b, d_in, d_out: 2 * b * d_in),
        "the ranks are missing: each layer has b rows and b columns": _summed(lambda b, d_in, d_out: d_in + d_out),
        "you take the largest rank for all: each layer has its own": lambda sizes, ranks: parameters(
            sizes, dict.fromkeys(sizes, max(ranks.values()))
        ),
        "you pair layers by their place: take sizes[name] and ranks[name] of the same name": lambda sizes, ranks: sum(
            b * sum(pair) for b, pair in zip(ranks.values(), sizes.values(), strict=True)
        ),
        "this is one layer: add up all of them": lambda sizes, ranks: next(
            ranks[name] * sum(pair) for name, pair in sizes.items()
        ),
    },
    shapes="sizes and ranks are dicts of numbers, and there are no shapes in them",
)


def _steps() -> list[tuple[Any, ...]]:
    """Ranks of three layers, the largest, and the loss of any ranks: each layer helps, or harms, by another amount."""
    gains = {"a": (0.0, 0.30, 0.35, 0.36), "b": (0.0, 0.05, 0.30, 0.55), "c": (0.0, 0.10, 0.18, 0.24)}

    def loss(ranks: dict[str, int], sign: float = -1.0) -> float:
        if min(ranks.values()) < 1:
            raise ValueError("a rank is at least 1")
        return 2.0 + sign * sum(gains[name][b - 1] for name, b in ranks.items())

    starts: list[dict[str, int]] = [{"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1, "c": 2}, {"a": 4, "b": 3, "c": 4},
                                    {"a": 4, "b": 1, "c": 1}]  # fmt: skip
    return [*((ranks, 4, loss) for ranks in starts), (starts[1], 4, partial(loss, sign=1.0))]


def best_raise(ranks: dict[str, int], r: int, loss: Callable[[dict[str, int]], float]) -> str:
    """The layer whose next rank lowers the loss most."""
    return min((name for name in ranks if ranks[name] < r), key=lambda name: loss(ranks | {name: ranks[name] + 1}))


def _worst(ranks: dict[str, int], r: int, loss: Callable[[dict[str, int]], float]) -> str:
    return max((name for name in ranks if ranks[name] < r), key=lambda name: loss(ranks | {name: ranks[name] + 1}))


def _beyond(ranks: dict[str, int], r: int, loss: Callable[[dict[str, int]], float]) -> str:
    return min(ranks, key=lambda name: loss(ranks | {name: ranks[name] + 1}))


def _to_the_top(ranks: dict[str, int], r: int, loss: Callable[[dict[str, int]], float]) -> str:
    return min((name for name in ranks if ranks[name] < r), key=lambda name: loss(ranks | {name: r}))


def _spoiling(ranks: dict[str, int], r: int, loss: Callable[[dict[str, int]], float]) -> str:
    losses = {}
    for name in ranks:
        if ranks[name] < r:
            ranks[name] += 1
            losses[name] = loss(ranks)
    return min(losses, key=lambda name: losses[name])


def _lower(ranks: dict[str, int], r: int, loss: Callable[[dict[str, int]], float]) -> str:
    return min(ranks, key=lambda name: loss(ranks | {name: ranks[name] - 1}))


def _loss_itself(ranks: dict[str, int], r: int, loss: Callable[[dict[str, int]], float]) -> float:
    name = best_raise(ranks, r, loss)
    return loss(ranks | {name: ranks[name] + 1})


_CHANGED, _NO_NAME = [0.0], [-1.0]  # no name has such letters


def _chosen(answer: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    """A name as the numbers of its letters, since outcomes are compared as numbers."""
    before = dict(case[0])
    name = answer(*case)
    if case[0] != before:
        return _CHANGED
    if name is None:
        return None
    return [float(ord(letter)) for letter in name] if isinstance(name, str) else _NO_NAME


def _about_names(outcomes: list[Any]) -> str:
    if any(outcome is None for outcome in outcomes):
        return "return a name in every case: if every raise makes the loss worse, the least bad one"
    if _CHANGED in outcomes:
        return "your function changes ranks: try each raise on a copy, ranks | {name: …}"
    if _NO_NAME in outcomes:
        return "return the layer's name, such as 'a'"
    return "another layer's next rank gives a lower loss"


GREEDY = Exercise(
    cases=_steps,
    solution=best_raise,
    mistakes={
        "you take the layer with the highest loss: the lowest is the best": _worst,
        "a layer at rank r cannot rise: leave it out": _beyond,
        "you raise each layer to r: the question is what one more rank brings": _to_the_top,
        "your function changes ranks: try each raise on a copy, ranks | {name: …}": _spoiling,
        "you lower the rank: the question is which layer should rise": _lower,
        "return the layer's name, such as 'a', and nothing else": _loss_itself,
    },
    shapes="ranks is a dict of numbers, and there are no shapes in it",
    watch=_chosen,
    diagnose=_about_names,
)
