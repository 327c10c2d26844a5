"""What a module hands to its children, read from the source of its forward."""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

FACTS = ("shape", "size", "dtype", "device")  # what is read of a tensor and is not its values


@dataclass(frozen=True)
class Argument:
    """What a call hands over for one parameter.

    Attributes:
        sources: the names of the caller's parameters and attributes that it is made of; none for a constant.
        name: the caller's own parameter, where it is handed on as it came.
    """

    sources: frozenset[str]
    name: str | None = None


def parameters_of(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of a module's forward that can be named, in order; none where it cannot be told.

    >>> list(parameters_of(nn.Bilinear(2, 3, 4)))
    ['input1', 'input2']
    """
    try:
        parameters = inspect.signature(type(module).forward).parameters
    except (TypeError, ValueError):
        return {}
    named = [p for p in parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: p for p in named[1:]}  # without self


def calls_of(caller: nn.Module, child: str, index: int | None, callee: nn.Module) -> list[dict[str, Argument]] | None:
    """What `caller` hands to one of its children in each call, by the names of the child's parameters.

    Arguments:
        child: the child's name; of the list that it is in, if there is an index.
        callee: the child.

    Returns None where the source is not to be had, or where no call of that child is found in it.
    """
    kind: Any = type(caller)
    function = source_of(kind)
    if function is None or not function.args.args:
        return None
    walk = _Walk(caller, child, index, list(parameters_of(callee)), function)
    walk.block(function.body)
    return walk.calls or None


@cache
def source_of(kind: Any, method: str = "forward") -> ast.FunctionDef | None:
    """The syntax tree of a method of a class; None where its source is not to be had."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(getattr(kind, method)))))
    except (OSError, TypeError, SyntaxError, AttributeError):
        return None
    return next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)


def flag_of(module: nn.Module, own: str, test: ast.expr) -> bool | None:
    """The value of a test such as `self.is_decoder` in a module's method; None where it depends on more.

    Arguments:
        own: what the method calls the module.
    """
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        value = flag_of(module, own, test.operand)
        return None if value is None else not value
    if isinstance(test, ast.BoolOp):
        values = [flag_of(module, own, part) for part in test.values]
        decisive = isinstance(test.op, ast.Or)
        return decisive if decisive in values else (None if None in values else not decisive)
    if isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id == "hasattr":
        holder, name = getattr(module, attribute_of(own, test.args[0]) or "", None), _constant(test.args[1])
        return hasattr(holder, name) if holder is not None and isinstance(name, str) else None
    name = attribute_of(own, test)
    value = getattr(module, name or "", None)
    return value if isinstance(value, bool) and name != "training" else None


def attribute_of(own: str, node: ast.AST) -> str | None:
    """x of `self.x`, where the method calls its module `own`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == own:
        return node.attr
    return None


class _Walk:
    """Goes through a forward from top to bottom, and notes what variables are made of and what calls hand over."""

    def __init__(
        self,
        caller: nn.Module,
        child: str,
        index: int | None,
        parameters: list[str],
        function: ast.FunctionDef,
    ) -> None:
        self.caller, self.child, self.index, self.parameters = caller, child, index, parameters
        self.own, *known = (argument.arg for argument in [*function.args.args, *function.args.kwonlyargs])
        self.known = set(known)  # the caller's parameters
        self.variables: dict[str, frozenset[str]] = {}
        self.calls: list[dict[str, Argument]] = []

    def block(self, statements: list[ast.stmt]) -> None:
        """Statements in order; of an `if self.…` the branch that this module takes."""
        for statement in statements:
            inner = [getattr(statement, key, []) for key in ("body", "orelse", "finalbody")]
            if isinstance(statement, ast.If) and (chosen := self._flag(statement.test)) is not None:
                inner = [statement.body if chosen else statement.orelse]
            nested = {id(node) for block in inner for node in block}
            for node in ast.iter_child_nodes(statement):
                if id(node) not in nested and not isinstance(node, ast.stmt):
                    self._note_calls(node)
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                sources = self._sources(statement.value)
                for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                    for name in (node.id for node in ast.walk(target) if isinstance(node, ast.Name)):
                        self.variables[name] = sources
            for block in inner:
                self.block(block)

    def _note_calls(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call) and self._is_child(node.func):
            given = dict(zip(self.parameters, node.args, strict=False))
            given |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
            self.calls.append({name: self._argument(value) for name, value in given.items()})
        taken = self._taken(node)
        for inner in ast.iter_child_nodes(node) if taken is node else [taken]:
            self._note_calls(inner)

    def _is_child(self, function: ast.expr) -> bool:
        if self.index is not None:
            if not isinstance(function, ast.Subscript):
                return False
            index = _constant(function.slice)
            here = self.caller.get_submodule(self.child)
            if not isinstance(index, int) or index % len(here) != self.index:  # type: ignore[arg-type]
                return False
            function = function.value
        return self._attribute(function) == self.child

    def _taken(self, node: Any) -> Any:
        """Of `… if self.… else …` what this module takes; any other node as it is."""
        while isinstance(node, ast.IfExp) and (chosen := self._flag(node.test)) is not None:
            node = node.body if chosen else node.orelse
        return node

    def _argument(self, value: ast.expr) -> Argument:
        value = self._taken(value)
        name = value.id if isinstance(value, ast.Name) else None
        return Argument(self._sources(value), name if name in self.known - self.variables.keys() else None)

    def _sources(self, value: ast.AST) -> frozenset[str]:
        """The parameters and tensors that a value is made of; of what a submodule returns, those of its first input."""
        if isinstance(value, ast.Name):
            return self.variables.get(value.id, frozenset([value.id] if value.id in self.known else []))
        if isinstance(value, ast.Attribute):
            if (own := self._attribute(value)) is not None:
                tensor = isinstance(getattr(self.caller, own, None), Tensor)
                return frozenset([f"self.{own}"] if tensor else [])
            return frozenset() if value.attr in FACTS else self._sources(value.value)
        inner = ast.iter_child_nodes(value)
        if isinstance(value, ast.Call) and isinstance(self._child_of(value.func), nn.Module):
            inner = iter([*value.args, *(keyword.value for keyword in value.keywords)][:1])
        return frozenset().union(*map(self._sources, inner))

    def _child_of(self, function: ast.expr) -> object:
        """What is called in `self.child(…)` and `self.children[…](…)`."""
        if isinstance(function, ast.Subscript):
            function = function.value
        return getattr(self.caller, self._attribute(function) or "", None)

    def _flag(self, test: ast.expr) -> bool | None:
        return flag_of(self.caller, self.own, test)

    def _attribute(self, node: ast.expr) -> str | None:
        return attribute_of(self.own, node)


def _constant(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
