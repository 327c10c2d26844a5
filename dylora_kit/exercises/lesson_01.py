"""Exercises of lesson 01: nested dropout."""

from typing import Any

import torch

from dylora_kit.exercises.exercise import Exercise, random


def _codes() -> list[tuple[Any, ...]]:
    return [(random(5, 6, seed=b), b) for b in (1, 3, 4)]  # 5 examples, 6 units


TRUNCATE = Exercise(
    cases=_codes,
    solution=lambda code, b: code[:, :b],
    mistakes={
        "you keep one unit too few: ranks count from 1, so b = 1 keeps one unit": lambda code, b: code[:, : b - 1],
        "you keep one unit too many: a Python slice [:b] already stops before index b": lambda code, b: code[
            :, : b + 1
        ],
        "you keep the last b units: nested dropout keeps the first ones": lambda code, b: code[:, -b:],
        "you drop the first b units and keep the others": lambda code, b: code[:, b:],
        "you keep unit b alone: nested dropout keeps every unit up to b": lambda code, b: code[:, b - 1 : b],
        "you cut examples away: a code has the shape (n, K), and the units are its second axis": lambda code, b: code[
            :b
        ],
        "the right units stay, and the others are zero: leave them out, so that the decoder has less to do": (
            lambda code, b: torch.cat([code[:, :b], torch.zeros_like(code[:, b:])], dim=1)
        ),
    },
    shapes="the shapes do not fit: a code has the shape (n, K), and you keep b of its K columns",
)


def _errors() -> list[tuple[Any, ...]]:
    return [
        ({1: 0.9, 2: 0.4, 3: 0.1}, {1: 0.5, 2: 0.3, 3: 0.2}),
        ({1: 2.0, 2: 1.5, 3: 1.2, 4: 0.3}, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}),
        ({1: 1.0, 2: 0.5, 3: 0.25, 4: 0.2}, {2: 0.5, 4: 0.5}),
    ]


SUMMATION = Exercise(
    cases=_errors,
    solution=lambda errors, p: sum(p[b] * errors[b] for b in p),
    mistakes={
        "you add the errors up without their probabilities: each counts p(b) times": lambda errors, p: sum(
            errors[b] for b in p
        ),
        "you average the errors: each counts p(b) times, and p need not be uniform": lambda errors, p: (
            sum(errors[b] for b in p) / len(p)
        ),
        "you average over every rank: sum over the ranks that p names, each counts p(b) times": lambda errors, p: (
            sum(errors.values()) / len(errors)
        ),
        "you divide by the number of ranks: the probabilities add up to 1 already": lambda errors, p: (
            sum(p[b] * errors[b] for b in p) / len(p)
        ),
        "you take every rank: sum over the ranks that p names": lambda errors, p: sum(
            p.get(b, 1 / len(errors)) * errors[b] for b in errors
        ),
        "p and the errors are off by one: errors[b] belongs to p[b]": lambda errors, p: sum(
            p[b] * errors[b + 1] for b in p if b + 1 in errors
        ),
    },
    shapes="both arguments are dicts with ranks as keys: errors[b] and p[b] are plain numbers",
)
