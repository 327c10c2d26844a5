"""What an exercise is: its solution, and what typical mistakes look like from outside.

An answer is never read, it is run. What it does on a few small cases is compared with what the solution does, and with
what each typical mistake does; a mistake that does the same gets its hint.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
    """

    cases: Callable[[], list[tuple[Any, ...]]]
    solution: Callable[..., Any]
    mistakes: Mapping[str, Callable[..., Any]]
    shapes: str
    watch: Callable[[Callable[..., Any], tuple[Any, ...]], Any] = lambda function, case: function(*case)

    def feedback(self, answer: Any) -> str:
        """One line for the student: not done yet, a hint, or correct. Whatever the answer does, this does not raise."""
        if answer is None or answer is Ellipsis:
            return NOT_DONE
        if not callable(answer):
            return f"expected a function, got {type(answer).__name__}: pass the function itself, without calling it"
        said, right = self._outcome(answer), self._outcome(self.solution)
        if isinstance(said, NotImplementedError):
            return NOT_DONE
        if isinstance(said, list) and all(one is None for one in said):
            return f"{NOT_DONE}: your function returns nothing"
        assert isinstance(right, list), right
        if _same(said, right):
            return CORRECT
        for hint, mistake in self.mistakes.items():
            if _same(said, self._outcome(mistake)):
                return f"hint: {hint}"
        return self._stopped(said) if isinstance(said, Exception) else _difference(said, right)

    def _outcome(self, function: Callable[..., Any]) -> list[Any] | Exception:
        """What a function comes to in each case, or the error it stops with."""
        try:
            return [_plain(self.watch(function, case)) for case in copy.deepcopy(self.cases())]
        except Exception as error:  # a student's code may raise anything, and the notebook has to run on
            return error

    def _stopped(self, error: Exception) -> str:
        first_line = next(iter(str(error).splitlines()), "")
        if "shape" in first_line or "size" in first_line:
            return f"hint: {self.shapes} ({first_line})"
        return f"your function stops with {type(error).__name__}: {first_line}"


def random(*shape: int, seed: int) -> Tensor:
    """Numbers for a case, the same ones at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _plain(value: Any) -> Any:
    """Numbers as tensors, tensors without their graph; tuples and lists piece by piece."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, bool | int | float):
        return torch.tensor(float(value))
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and torch.allclose(first.double(), second.double(), rtol=1e-4, atol=1e-5)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, Exception):
        return type(first) is type(second) and str(first) == str(second)
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
