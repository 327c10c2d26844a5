"""What an exercise is: its solution, and what typical mistakes look like from outside.

An answer is never read, it is run. What it does on a few small cases is compared with what the solution does, and with
what each typical mistake does; a mistake that does the same gets its hint.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

CORRECT = "correct"
NOT_DONE = "not done yet"


@dataclass(frozen=True)
class Exercise:
    """One exercise, whose answer is a function.

    Arguments:
        cases: a list of arguments to try a function on, made anew at each call.
        solution: the right answer.
        mistakes: `{hint: what this mistake computes}`.
        shapes: what to say when the answer stops because shapes do not fit.
        watch: what one call of an answer comes to, `(function, arguments) → outcome`; default is what it returns.
        nothing: what to say when that is nothing.
        diagnose: a hint from the outcome alone, for mistakes that can look in many ways; asked last.
    """

    cases: Callable[[], list[tuple[Any, ...]]]
    solution: Callable[..., Any]
    mistakes: Mapping[str, Callable[..., Any]]
    shapes: str
    watch: Callable[[Callable[..., Any], tuple[Any, ...]], Any] = lambda function, case: function(*case)
    nothing: str = "your function returns nothing"
    diagnose: Callable[[list[Any]], str | None] = lambda outcome: None

    def feedback(self, answer: Any) -> str:
        """One line for the student: not done yet, a hint, or correct. Whatever the answer does, this does not raise."""
        if answer is None or answer is Ellipsis:
            return NOT_DONE
        if not callable(answer):
            return f"expected a function, got {type(answer).__name__}: pass the function itself, without calling it"
        said, right = self._outcome(answer), self._outcome(self.solution)
        if isinstance(said, Stopped) and said.kind == "NotImplementedError":
            return NOT_DONE
        if isinstance(said, list) and all(one is None for one in said):
            return f"{NOT_DONE}: {self.nothing}"
        assert isinstance(right, list), right
        if _same(said, right):
            return CORRECT
        for hint, mistake in self.mistakes.items():
            if _same(said, self._outcome(mistake)):
                return f"hint: {hint}"
        if isinstance(said, Stopped):
            return self._stopped(said)
        hint_or_none = self.diagnose(said)
        return f"hint: {hint_or_none}" if hint_or_none else _difference(said, right)

    def _outcome(self, function: Callable[..., Any]) -> "list[Any] | Stopped":
        """What a function comes to in each case, or the error it stops with."""
        try:
            return [_plain(self.watch(function, case)) for case in copy.deepcopy(self.cases())]
        except (Exception, SystemExit) as error:  # a student's code may raise anything, and the notebook has to run on
            return Stopped(type(error).__name__, _words(error))

    def _stopped(self, error: "Stopped") -> str:
        if error.kind in ("RuntimeError", "ValueError", "IndexError") and re.search(
            r"\b(shapes?|sizes?)\b", error.words
        ):
            return f"hint: {self.shapes} ({error.words})"
        return f"your function stops with {error.kind}: {error.words}"


@dataclass(frozen=True)
class Stopped:
    """An answer that stops with an error: its kind, and the first line of what it says."""

    kind: str
    words: str


def random(*shape: int, seed: int) -> Tensor:
    """Numbers for a case, the same ones at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _words(error: BaseException) -> str:
    try:
        return next(iter(str(error).splitlines()), "")
    except Exception:  # an error of the student's own, whose __str__ fails
        return "an error that cannot be printed"


def _plain(value: Any) -> Any:
    """Numbers as tensors, tensors without their graph; tuples and lists piece by piece."""
    if isinstance(value, np.ndarray | np.number):
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        if value.is_meta or value.is_complex() or value.layout != torch.strided:
            raise TypeError("expected an ordinary tensor of real numbers")
        return value.detach().cpu().clone()
    if isinstance(value, bool | int | float):
        return torch.tensor(float(value))
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        coarse = max(torch.finfo(one.dtype).eps if one.is_floating_point() else 0.0 for one in (first, second))
        close = max(1e-5, 4 * coarse)  # a right answer in half precision is right
        return first.shape == second.shape and torch.allclose(
            first.double(), second.double(), rtol=10 * close, atol=close
        )
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, Stopped):
        return bool(first == second)
    return first is None and second is None


def _difference(said: list[Any], right: Any) -> str:
    """What is different in the first case that differs."""
    for one, other in zip(said, right, strict=True):
        got, wanted = (one, other) if isinstance(one, list) and isinstance(other, list) else ([one], [other])
        if len(got) != len(wanted):
            return f"not right yet: expected {len(wanted)} values to be returned, got {len(got)}"
        for mine, theirs in zip(got, wanted, strict=True):
            if type(mine) is not type(theirs):
                wanted_kind = "several values" if isinstance(theirs, list) else "a tensor or a number"
                return f"not right yet: expected {wanted_kind}, got {type(mine).__name__}"
            if mine.shape != theirs.shape:
                return f"not right yet: expected the shape {tuple(theirs.shape)}, got {tuple(mine.shape)}"
    return "not right yet: the shape is right, the numbers are not"
