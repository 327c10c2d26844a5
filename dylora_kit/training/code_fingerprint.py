"""What a checkpoint remembers of a function: enough to notice that a run goes on with another one."""

import functools
from collections.abc import Callable
from types import CodeType
from typing import Any

from torch import nn

from dylora_kit.training.data_fingerprint import hash_of


def code_fingerprint(function: Callable[..., Any]) -> str | None:
    """A hash of a function's code, constants and default values; None for one that is not written in Python.

    Of an object that is called it is the code of its class, and of a dataclass, such as transformers' collators, also
    its numbers and texts. What a function takes from outside of itself, such as other functions, and what other objects
    keep, does not enter it.

    >>> code_fingerprint(lambda x: x + 1) == code_fingerprint(lambda x: x + 2)
    False
    """
    if isinstance(function, functools.partial):
        return hash_of([code_fingerprint(function.func), function.args, function.keywords])
    called: Any = function
    if not hasattr(called, "__code__"):
        called = type(function).forward if isinstance(function, nn.Module) else type(function).__call__
    fields: Any = getattr(type(function), "__dataclass_fields__", ())
    parts: list[Any] = [[field, getattr(function, field, None)] for field in fields]
    while called is not None:  # a function that wraps another one, and then that one
        if not hasattr(called, "__code__"):
            return None
        parts.append([_parts(called.__code__, called.__doc__), called.__defaults__, called.__kwdefaults__])
        called = getattr(called, "__wrapped__", None)
    return hash_of(parts)


def _parts(constant: Any, described: str | None = None) -> Any:
    """A constant of a function, as what `hash_of` looks into; of code without its text for readers."""
    if isinstance(constant, CodeType):
        constants = [_parts(inner) for inner in constant.co_consts if described is None or inner != described]
        return [constant.co_code, constant.co_names, constant.co_argcount, constants]
    if isinstance(constant, frozenset):  # in an order that does not change from process to process
        return ["set", *sorted(map(repr, constant))]
    return [_parts(inner) for inner in constant] if isinstance(constant, tuple) else repr(constant)
