"""Exercises of lesson 04: how b is drawn, and which rows a step moves."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dylora_kit.lessons.exercise import Exercise, random


def _draws() -> list[tuple[Any, ...]]:
    """p, which leaves some ranks out, and a row."""
    p = {1: 0.4, 2: 0.3, 4: 0.2, 5: 0.1}
    return [(p, row) for row in (6, 1, 2, 3, 4, 5)]


def update_share(p: dict[int, float], row: int) -> float:
    """P(b ≥ row): the share of steps that update a row."""
    return float(sum(share for b, share in p.items() if b >= row))


SHARE = Exercise(
    cases=_draws,
    solution=update_share,
    mistakes={
        "you leave out b = row: rank b uses rows 1 to b, so row i is used when b = i too": lambda p, row: sum(
            share for b, share in p.items() if b > row
        ),
        "you add up the ranks below: a small b is the one that leaves row i out": lambda p, row: sum(
            share for b, share in p.items() if b <= row
        ),
        "you add up the ranks that leave the row out: the others use it": lambda p, row: sum(
            share for b, share in p.items() if b < row
        ),
        "this is how often b is exactly the row: rows 1 to b are used, not row b alone": lambda p, row: p.get(row, 0.0),
        "p may leave a rank out: go through what p has, or ask p.get(b, 0)": lambda p, row: sum(
            p[b] for b in range(row, max(p) + 1)
        ),
        "p[row] is how often b is exactly the row, and p may leave it out: go through p, and add up": (
            lambda p, row: p[row]
        ),
        "you count ranks: add up their probabilities": lambda p, row: len([b for b in p if b >= row]),
        "you count ranks as if all were as likely: add up their probabilities": lambda p, row: (
            len([b for b in p if b >= row]) / len(p)
        ),
    },
    shapes="p is a dict of numbers, and there are no shapes in it",
)


def _movements() -> list[tuple[Any, ...]]:
    """How far each of 3 rows moved in each of 6 steps, (6, 3), which b was drawn, and a row."""
    return [(random(6, 3, seed=row).abs(), torch.tensor([1, 3, 2, 2, 1, 2]), row) for row in (1, 2, 3)]


def drift(moved: Tensor, drawn: Tensor, row: int) -> Tensor:
    """The share of a row's movement that was made in steps which did not draw it."""
    movement = moved[:, row - 1]
    return movement[drawn != row].sum() / movement.sum()


def _with(rule: Callable[[Tensor, Tensor], Tensor], column: int = -1) -> Callable[[Tensor, Tensor, int], Tensor]:
    """An answer that applies a rule to the row's movement and to which steps did not draw the row."""

    def answer(moved: Tensor, drawn: Tensor, row: int) -> Tensor:
        return rule(moved[:, row + column], drawn != row)

    return answer


DRIFT = Exercise(
    cases=_movements,
    solution=drift,
    mistakes={
        "this is the share while the row is drawn: the question is about the other steps": _with(
            lambda movement, undrawn: movement[~undrawn].sum() / movement.sum()
        ),
        "this is a distance: divide by all of the row's movement to get a share": _with(
            lambda movement, undrawn: movement[undrawn].sum()
        ),
        "this is a share of steps: add up how far the row moved in them": _with(
            lambda movement, undrawn: undrawn.float().mean()
        ),
        "you compare the mean steps: add up, since the row is not drawn in most steps": _with(
            lambda movement, undrawn: movement[undrawn].mean() / movement.mean()
        ),
        "you divide by the movement while it is drawn: divide by all of it": _with(
            lambda movement, undrawn: movement[undrawn].sum() / movement[~undrawn].sum()
        ),
        "you look at the wrong column: rows count from 1, columns of a tensor from 0": _with(
            lambda movement, undrawn: movement[undrawn].sum() / movement.sum(), column=0
        ),
        "you add up all rows: take the column of the row": lambda moved, drawn, row: (
            moved[drawn != row].sum() / moved.sum()
        ),
        "you divide by the movement of all rows: divide by that of the row": lambda moved, drawn, row: (
            moved[drawn != row, row - 1].sum() / moved.sum()
        ),
    },
    shapes="the shapes do not fit: moved is (steps, r), and drawn has one number for each step",
)


def _frequencies() -> list[tuple[Any, ...]]:
    """How often each row is updated, as a share of the steps."""
    return [([1.0, 0.75, 0.5, 0.25],), ([0.125] * 3,)]


def factors(frequencies: list[float]) -> list[float]:
    """1/√f for each row."""
    return [frequency**-0.5 for frequency in frequencies]


def _for_each_row(rule: Callable[[float], float]) -> Callable[[list[float]], list[float]]:
    return lambda frequencies: [rule(frequency) for frequency in frequencies]


def _as_list(answer: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    """A tensor or an array of factors is as good as a list."""
    returned = answer(*case)
    return returned.tolist() if hasattr(returned, "tolist") else returned


FACTORS = Exercise(
    cases=_frequencies,
    solution=factors,
    mistakes={
        "this is 1/f, which is too much: here it is 1/√f": _for_each_row(lambda f: 1 / f),
        "f ** 1/2 is f divided by 2: write f ** 0.5, or f ** (1/2)": _for_each_row(lambda f: 1 / f**1 / 2),
        "frequencies is a list: go through it, and make one factor of each": lambda f: 1 / f**0.5,
        "this is √f: rows that move seldom get a larger rate, so divide": _for_each_row(lambda f: f**0.5),
        "these are the frequencies: each row's factor is 1/√f": _for_each_row(lambda f: f),
        "you divide the first row's rate by the others': each row's factor is 1/√f of its own f": lambda f: [
            (f[0] / frequency) ** 0.5 for frequency in f
        ],
        "return one factor for each row, not their mean": lambda f: sum(factors(f)) / len(f),
        "return one factor for each row, not the first alone": lambda f: factors(f)[0],
        "you scale the factors so that they add up to 1: leave them as they are": lambda f: [
            factor / sum(factors(f)) for factor in factors(f)
        ],
    },
    shapes="return one number for each frequency",
    watch=_as_list,
)
