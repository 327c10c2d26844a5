"""Lesson 07: what the closest cut loses, a rank that is enough in most draws, and how long a step takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dylora_kit.core.adapters import attach
from dylora_kit.lessons.exercise import Exercise
from dylora_kit.lessons.threads import timed
from dylora_kit.tasks import world

if TYPE_CHECKING:
    import pandas as pd


def sentences(folder: Path) -> tuple[Path, dict[str, "pd.DataFrame"]]:
    """A file as anyone has one: 3,000 sentences of `world-acceptability`, in the columns `text` and `label`.

    Returns the file, which is written into the folder, and frames of 250 sentences to choose on and of 250 to test on,
    in which the names are new.
    """
    import pandas as pd

    def rows(part: str) -> pd.DataFrame:
        data = pd.DataFrame(world.texts("acceptability")[part])
        return pd.DataFrame({"text": data["first"], "label": data["label"].map({0: "ungrammatical", 1: "grammatical"})})

    file, others = folder / "sentences.csv", rows("test")
    rows("train")[:3000].to_csv(file, index=False)
    return file, {"validation": others[:250], "test": others[250:]}


def step_seconds(
    model: nn.Module,
    batch: dict[str, Any],
    target_modules: Any,
    modules_to_save: list[str],
    most_threads: int | None = 1,
) -> float:
    """About how long a training step of a LoRA takes, without its update: one batch, the second time it is run.

    The model gets adapters by it, so give one that is not needed afterwards.

    Arguments:
        most_threads: the step is tried with one thread and with as many, and what is faster is kept; None: all cores.
    """
    attach(model, r=8, target_modules=target_modules, modules_to_save=modules_to_save)

    def step() -> None:
        loss = model(**batch).loss
        loss.backward()
        loss.item()  # a GPU is waited for

    return timed(step, most=most_threads)


def _values() -> list[tuple[Any, ...]]:
    """Singular values, the largest first, and a rank."""
    return [(torch.tensor([4.0, 2.0, 1.0, 0.5]), 1), (torch.tensor([3.0, 2.0, 1.0]), 2), (torch.tensor([5.0, 4.0]), 2)]


def lost(values: Tensor, b: int) -> Tensor:
    """How large the closest cut's error is, as a share of the size of ΔW, both by the Frobenius norm."""
    return (values[b:].square().sum() / values.square().sum()).sqrt()


LOST = Exercise(
    cases=_values,
    solution=lost,
    mistakes={
        "take the square root: this is the share of the squares": lambda values, b: (
            values[b:].square().sum() / values.square().sum()
        ),
        "this is what the cut keeps: take the values beyond b": lambda values, b: (
            values[:b].square().sum() / values.square().sum()
        ).sqrt(),
        "this is what the cut keeps, and without the square root": lambda values, b: (
            values[:b].square().sum() / values.square().sum()
        ),
        "take squares: the size of a matrix is the root of the sum of squares": lambda values, b: (
            values[b:].sum() / values.sum()
        ),
        "one value too many: values[b:] begins after the first b": lambda values, b: (
            values[b - 1 :].square().sum() / values.square().sum()
        ).sqrt(),
        "one value too few: values[b:] begins after the first b": lambda values, b: (
            values[b + 1 :].square().sum() / values.square().sum()
        ).sqrt(),
        "this is the error itself: divide by the size of ΔW": lambda values, b: values[b:].square().sum().sqrt(),
        "this is the next value alone: all values beyond b count": lambda values, b: (
            values[b : b + 1].sum() / values.square().sum().sqrt()
        ),
        "1 − … holds for the squares: subtract first, and take the root then": lambda values, b: (
            1 - (values[:b].square().sum() / values.square().sum()).sqrt()
        ),
        "the root belongs to both sums": lambda values, b: values[b:].square().sum() / values.square().sum().sqrt(),
        "the size of ΔW is the root of the sum of squares, not the sum": lambda values, b: (
            values[b:].norm() / values.sum()
        ),
        "take squares before you add up": lambda values, b: (values[b:].sum() / values.sum()).sqrt(),
        "a share is at most 1: leave the 100 out": lambda values, b: (
            100 * (values[b:].square().sum() / values.square().sum()).sqrt()
        ),
        "divide by all values, not by those that are kept": lambda values, b: (
            values[b:].square().sum() / values[:b].square().sum()
        ).sqrt(),
    },
    shapes="values is a vector with one number for each row, and b is how many of them a cut keeps",
)


def _shares() -> list[tuple[Any, ...]]:
    """Which share of the draws chooses each rank, and how sure the choice is to be."""
    return [
        ({1: 0.125, 2: 0.5, 3: 0.25, 6: 0.125}, 0.75),
        ({2: 0.25, 5: 0.75}, 0.25),
        ({1: 0.5, 4: 0.375, 8: 0.125}, 0.9375),
        ({8: 0.125, 3: 0.375, 1: 0.5}, 0.75),
    ]


def enough(shares: dict[int, float], sure: float) -> int:
    """The smallest rank that is enough in so many of the draws."""
    return min(b for b in shares if sum(share for rank, share in shares.items() if rank <= b) >= sure)


ENOUGH = Exercise(
    cases=_shares,
    solution=enough,
    mistakes={
        "this is the rank that most draws choose: it is too small for the draws that choose a larger one": (
            lambda shares, sure: max(shares, key=shares.__getitem__)
        ),
        "this is the largest rank: a smaller one may be enough in so many draws": lambda shares, sure: max(shares),
        "this is the smallest rank: count in how many draws it is enough": lambda shares, sure: min(shares),
        "exactly as sure as asked for is sure enough: use >=": lambda shares, sure: min(
            (b for b in shares if sum(share for rank, share in shares.items() if rank <= b) > sure), default=None
        ),
        "a rank is also enough in the draws that choose a smaller one: add their shares": lambda shares, sure: next(
            (b for b in sorted(shares) if shares[b] >= sure), None
        ),
        "in one of the cases you find no rank: add up the shares of all ranks up to b, and of b itself": (
            lambda shares, sure: min(b for b in shares if shares[b] >= sure)
        ),
        "this is the share of the draws: return the rank": lambda shares, sure: min(
            (total for total in _totals(shares) if total >= sure), default=None
        ),
        "this is the mean rank: it is too small for many draws": lambda shares, sure: round(
            sum(rank * share for rank, share in shares.items())
        ),
        "the nearest share may be too small: it has to be at least as large": lambda shares, sure: min(
            shares, key=lambda b: abs(sum(share for rank, share in shares.items() if rank <= b) - sure)
        ),
        "the ranks need not come in order: sort them": lambda shares, sure: _running(shares, sure),
        "you leave out the draws that choose the rank itself": lambda shares, sure: min(
            (b for b in shares if sum(share for rank, share in shares.items() if rank < b) >= sure), default=None
        ),
    },
    shapes="shares is a dictionary {rank: share}, and there are no shapes in it",
)


def _running(shares: dict[int, float], sure: float) -> int | None:
    """The same, in whatever order the ranks come."""
    total = 0.0
    for rank, share in shares.items():
        total += share
        if total >= sure:
            return rank
    return None


def _totals(shares: dict[int, float]) -> list[float]:
    """In which share of the draws each rank is enough."""
    return [sum(share for rank, share in shares.items() if rank <= b) for b in sorted(shares)]
