"""What an exercise is: its cases, its solution and typical mistakes.

An answer is run, and its code is not looked at. Its outcomes on a few small cases are compared with those of the
solution, and then with those of each typical mistake: the first mistake with the same outcomes gives the hint.
"""

import copy
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

CORRECT = "correct"
NOT_DONE = "not done yet"
YOURS_RUNS = "yours runs here"
NO_GRADIENT = "no gradient comes through to A and B, so nothing would learn: leave out numpy(), detach() and no_grad()"
KITS_OWN_RUNS = "the kit's own runs here, until yours is right"


@dataclass(frozen=True)
class Exercise:
    """One exercise, whose answer is a function.

    Arguments:
        cases: a list of arguments to try a function on, made anew at each call.
        solution: the right answer.
        mistakes: `{hint: what this mistake computes}`.
        shapes: the hint when the answer stops because shapes do not fit.
        watch: the outcome of one call of an answer, `(function, arguments) → outcome`; default is what it returns.
        nothing: the message when every outcome is None.
        diagnose: a hint from the outcomes alone, for mistakes that can look in many ways; asked last.
        trained_through: whether the lesson trains through the answer, so that gradients have to come through.
    """

    cases: Callable[[], list[tuple[Any, ...]]]
    solution: Callable[..., Any]
    mistakes: Mapping[str, Callable[..., Any]]
    shapes: str
    watch: Callable[[Callable[..., Any], tuple[Any, ...]], Any] = lambda function, case: function(*case)
    nothing: str = "your function returns nothing"
    diagnose: Callable[[list[Any]], str | None] = lambda outcomes: None
    trained_through: bool = False

    def feedback(self, answer: Any) -> str:
        """One line for the student: not done yet, a hint, or correct. Whatever the answer does, this does not raise."""
        if answer is None or answer is Ellipsis:
            return NOT_DONE
        if not callable(answer):
            return f"expected a function, got {type(answer).__name__}: pass the function itself, without calling it"
        outcomes, expected = self._outcomes(answer), self._outcomes(self.solution)
        if isinstance(outcomes, Stopped) and outcomes.kind == "NotImplementedError":
            return NOT_DONE
        if isinstance(outcomes, list) and all(outcome is None for outcome in outcomes):
            return f"{NOT_DONE}: {self.nothing}"
        assert isinstance(expected, list), expected
        if _same(outcomes, expected):
            return CORRECT
        for hint, mistake in self.mistakes.items():
            if _same(outcomes, self._outcomes(mistake)):
                return f"hint: {hint}"
        if isinstance(outcomes, Stopped):
            return self._stopped(outcomes)
        hint_or_none = self.diagnose(outcomes)
        return f"hint: {hint_or_none}" if hint_or_none else _difference(outcomes, expected)

    def _outcomes(self, function: Callable[..., Any]) -> "list[Any] | Stopped":
        """The outcome of a function in each case, or the error it stops with."""
        try:
            return [_plain(self.watch(function, copy.deepcopy(case))) for case in self.cases()]
        except (Exception, SystemExit) as error:  # a student's code may raise anything, and the notebook has to run on
            return Stopped(type(error).__name__, _first_line(error))

    def _stopped(self, error: "Stopped") -> str:
        if "numpy() on Tensor that requires grad" in error.message:
            return f"hint: {NO_GRADIENT}"
        about_shapes = re.search(r"\b(shapes?|sizes?)\b", error.message)
        if error.kind in ("RuntimeError", "ValueError", "IndexError") and about_shapes:
            return f"hint: {self.shapes} ({error.message})"
        return f"your function stops with {error.kind}: {error.message}"


@dataclass(frozen=True)
class Stopped:
    """An answer that stops with an error: the name of its class, and the first line of its message."""

    kind: str
    message: str


def ready_for_the_lesson(answer: Callable[..., Any], trained_through: bool = False) -> Callable[..., Any]:
    """A right answer that the lesson can go on with, whatever it does to what it is given, and returns.

    It works on copies of the tensors, without their graph unless the lesson trains through it, and of dicts and lists.
    Arrays of NumPy become tensors, and floating point numbers take the precision of what was given; lists and tuples
    item by item. A function that is not given any tensor returns plain numbers, also where it computes them as tensors.
    """

    @functools.wraps(answer)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        def copied(one: Any) -> Any:
            if isinstance(one, dict | list):
                return type(one)(one)
            return (one if trained_through else one.detach()).clone() if isinstance(one, Tensor) else one

        result = answer(*map(copied, arguments), **{name: copied(one) for name, one in named.items()})
        given = [one.dtype for one in (*arguments, *named.values()) if isinstance(one, Tensor)]
        precision = next((dtype for dtype in given if dtype.is_floating_point), None)
        return _in_the_kind(result, precision) if given else _as_numbers(result)

    return wrapped


def _as_numbers(result: Any) -> Any:
    if isinstance(result, tuple | list):
        return type(result)(map(_as_numbers, result))
    return result.item() if isinstance(result, Tensor) and result.dim() == 0 else result


def _in_the_kind(result: Any, precision: torch.dtype | None) -> Any:
    if isinstance(result, tuple | list):
        return type(result)(_in_the_kind(item, precision) for item in result)
    if isinstance(result, np.ndarray):
        result = torch.as_tensor(result)
    if isinstance(result, Tensor) and result.is_floating_point() and precision is not None:
        return result.to(precision)
    return result


def is_same(first: Any, second: Any) -> bool:
    """Whether two answers are equal, up to the precision of the coarser one; of NumPy or of torch.

    >>> is_same(np.ones(2), torch.ones(2)), is_same(1.0, torch.ones(2))
    (True, False)
    """
    return _same(_plain(first), _plain(second))


def random(*shape: int, seed: int) -> Tensor:
    """Gaussian numbers of a shape, the same at each call with the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _first_line(error: BaseException) -> str:
    try:
        return next(iter(str(error).splitlines()), "")
    except Exception:  # an error class of the student, whose __str__ fails
        return "an error that cannot be printed"


def _plain(value: Any) -> Any:
    """Numbers as tensors, tensors without their graph; tuples and lists item by item."""
    if isinstance(value, np.ndarray | np.number):
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        if value.is_meta or value.is_complex() or value.layout != torch.strided:
            raise TypeError("expected an ordinary tensor of real numbers")
        return value.detach().cpu().clone()
    if isinstance(value, bool | int | float):
        return torch.tensor(float(value))
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _same(first: Any, second: Any) -> bool:
    """Whether two outcomes are equal, up to the precision of the coarser one."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        pair = (first, second)
        precision = max(torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0 for tensor in pair)
        close = max(1e-5, 4 * precision)  # a right answer in half precision is right
        return first.shape == second.shape and torch.allclose(
            first.double(), second.double(), rtol=10 * close, atol=close
        )
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_same(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, Stopped):
        return bool(first == second)
    return first is None and second is None


def _difference(outcomes: list[Any], expected: list[Any]) -> str:
    """What is different in the first case that differs."""
    for got, wanted in zip(outcomes, expected, strict=True):
        both_lists = isinstance(got, list) and isinstance(wanted, list)
        got_values, wanted_values = (got, wanted) if both_lists else ([got], [wanted])
        if not both_lists and isinstance(wanted, list):
            kind = "a tensor or an array" if isinstance(got, Tensor) else type(got).__name__
            return f"not right yet: expected {len(wanted)} values, as in a list, got {kind}"
        if len(got_values) != len(wanted_values):
            return f"not right yet: expected {len(wanted_values)} values to be returned, got {len(got_values)}"
        for value, target in zip(got_values, wanted_values, strict=True):
            if type(value) is not type(target):
                return f"not right yet: expected a tensor or a number, got {type(value).__name__}"
            if isinstance(value, list):  # lists in lists have no shape
                continue
            if value.shape != target.shape:
                return f"not right yet: expected the shape {tuple(target.shape)}, got {tuple(value.shape)}"
        if both_lists and not _same(got, wanted):
            first = next(at for at, pair in enumerate(zip(got, wanted, strict=True), 1) if not _same(*pair))
            return f"not right yet: of the {len(wanted)} values, number {first} is another one"
    single = all(not isinstance(wanted, Tensor) or wanted.dim() == 0 for wanted in expected)
    return f"not right yet: {'it returns another number' if single else 'the shape is right, the numbers are not'}"
