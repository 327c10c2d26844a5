"""Exercises of lesson 01: nested dropout."""

from typing import Any

import torch

from dylora_kit.lessons.exercise import Exercise, random


def _codes() -> list[tuple[Any, ...]]:
    """A code of 5 examples, (5, 6), and how many of its 6 units are kept."""
    return [(random(5, 6, seed=b), b) for b in (1, 3, 4)]


TRUNCATE = Exercise(
    cases=_codes,
    solution=lambda code, b: code[:, :b],
    mistakes={
        "you keep one unit too few: units count from 1, so b = 1 keeps one unit": lambda code, b: code[:, : b - 1],
        "you keep one unit too many: a Python slice [:b] already stops before index b": lambda code, b: code[
            :, : b + 1
        ],
        "you keep the last b units: nested dropout keeps the first ones": lambda code, b: code[:, -b:],
        "you drop the first b units and keep the others": lambda code, b: code[:, b:],
        "you leave unit 1 out: units count from 1, and a Python slice from 0": lambda code, b: code[:, 1 : b + 1],
        "you leave unit 1 out, and unit b is the last: a slice [:b] keeps units 1 to b": lambda code, b: code[:, 1:b],
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
    """The error of each length, and the probabilities of some lengths."""
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
        "you average over every length: sum over the lengths that p names, each counts p(b) times": lambda errors, p: (
            sum(errors.values()) / len(errors)
        ),
        "you divide by the number of lengths: the probabilities add up to 1 already": lambda errors, p: (
            sum(p[b] * errors[b] for b in p) / len(p)
        ),
        "you take every length: sum over the lengths that p names": lambda errors, p: sum(
            p.get(b, 1 / len(errors)) * errors[b] for b in errors
        ),
        "p may leave lengths out: loop over the keys of p": lambda errors, p: sum(p[b] * errors[b] for b in errors),
        "you add up every error: each counts p(b) times, and p may leave lengths out": lambda errors, p: sum(
            errors.values()
        ),
        "you pair values by their place: errors[b] belongs to p[b], and p may leave lengths out": lambda errors, p: sum(
            error * q for error, q in zip(errors.values(), p.values(), strict=False)
        ),
        "you stop at the first length: return after the loop": lambda errors, p: next(p[b] * errors[b] for b in p),
        "p and the errors are off by one: errors[b] belongs to p[b]": lambda errors, p: sum(
            p[b] * errors[b + 1] for b in p if b + 1 in errors
        ),
    },
    shapes="both arguments are dicts with lengths as keys: errors[b] and p[b] are plain numbers",
)
