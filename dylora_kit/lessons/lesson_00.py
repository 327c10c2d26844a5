"""The exercise of lesson 00: what a cut costs, in points."""

from typing import Any

from dylora_kit.lessons.exercise import Exercise


def _curves() -> list[tuple[Any, ...]]:
    """Accuracy by rank, of which the best need not be that of the largest rank, and a rank."""
    eight = {1: 0.25, 2: 0.5, 4: 0.9, 8: 0.75}
    return [(eight, 1), (eight, 2), (eight, 4), (eight, 8), ({1: 0.5, 2: 0.625, 3: 0.75}, 2)]


def points_lost(values: dict[int, float], b: int) -> float:
    """How many points rank b loses against the largest rank."""
    return 100 * (values[max(values)] - values[b])


LOST = Exercise(
    cases=_curves,
    solution=points_lost,
    mistakes={
        "this is a share of 1: a point is one in a hundred, so multiply by 100": lambda values, b: (
            values[max(values)] - values[b]
        ),
        "the sign is wrong: what is lost is the value of the largest rank minus that of rank b": lambda values, b: (
            100 * (values[b] - values[max(values)])
        ),
        "the sign is wrong, and a point is one in a hundred: multiply by 100": lambda values, b: (
            values[b] - values[max(values)]
        ),
        "this is a share of what the largest rank has: points are a difference": lambda values, b: (
            100 * (1 - values[b] / values[max(values)])
        ),
        "you compare with the best rank: compare with the largest one, max(values)": lambda values, b: (
            100 * (max(values.values()) - values[b])
        ),
        "you compare with the best rank, and a point is one in a hundred": lambda values, b: (
            max(values.values()) - values[b]
        ),
        "the largest rank is not 8 in every curve: ask max(values)": lambda values, b: 100 * (values[8] - values[b]),
        "this is what rank b gets right: subtract it from what the largest rank gets right": lambda values, b: (
            100 * values[b]
        ),
        "this is what rank b gets wrong: compare with the largest rank, not with 100": lambda values, b: (
            100 * (1 - values[b])
        ),
        "you subtract the rank from the rank: look both up in values": lambda values, b: 100 * (max(values) - b),
    },
    shapes="values is a dict of numbers, and there are no shapes in it",
)
