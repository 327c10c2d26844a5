"""Layers whose weight a module reads instead of calling them, so that an adapter on them would not run."""

import ast
import inspect
from typing import Any

from torch import nn

from dylora_kit.core.calls import attribute_of, flag_of, source_of
from dylora_kit.core.names import submodule

# what is read of a weight and is not its values
FACTS = ("dtype", "device", "shape", "size", "ndim", "dim", "requires_grad", "is_cuda", "data_ptr")
TESTS = ("isinstance", "hasattr")  # functions that read no values


def is_read(model: nn.Module, name: str) -> bool | None:
    """Whether the weight of a layer is read by the module around it, which never calls the layer.

    None if it does one or the other, depending on more than is known before a forward, such as whether it trains. The
    source of its forward, and of its own methods that the forward uses, says it; where that is not to be had, and for
    modules further out, no reading is seen.

    >>> is_read(nn.MultiheadAttention(4, 2), "out_proj"), is_read(nn.Sequential(nn.Linear(6, 5)), "0")
    (True, False)
    """
    outer, _, child = name.rpartition(".")
    parent = submodule(model, outer)
    if isinstance(parent, nn.TransformerEncoderLayer):  # see `torch_layers`
        return False
    uses = _Uses(parent, child)
    uses.go_through("forward")
    if not uses.read:
        return False
    return None if uses.called else True


class _Uses(ast.NodeVisitor):
    """Goes through a module's forward, and the methods it uses, and notes what is done with one of its children."""

    def __init__(self, module: nn.Module, child: str) -> None:
        self.module, self.child = module, child
        self.read = self.called = False
        self.seen: set[str] = set()
        self.own = ""

    def go_through(self, method: str) -> None:
        """Notes the uses in a method, each once."""
        kind: Any = type(self.module)
        function = None if method in self.seen else source_of(kind, method)
        self.seen.add(method)
        if function is None or not function.args.args:
            return
        before, self.own = self.own, function.args.args[0].arg
        for statement in function.body:
            self.visit(statement)
        self.own = before

    def visit_If(self, node: ast.If) -> None:
        chosen = flag_of(self.module, self.own, node.test)
        if chosen is None:
            self.generic_visit(node)
        for statement in [] if chosen is None else node.body if chosen else node.orelse:
            self.visit(statement)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        chosen = flag_of(self.module, self.own, node.test)
        if chosen is None:
            self.generic_visit(node)
        else:
            self.visit(node.body if chosen else node.orelse)

    def visit_Call(self, node: ast.Call) -> None:
        if not (isinstance(node.func, ast.Name) and node.func.id in TESTS):
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        inner = node.value
        if node.attr in FACTS and isinstance(inner, ast.Attribute) and self._is_child(inner.value):
            return
        if self._is_child(inner):
            self.read |= node.attr == "weight" and isinstance(node.ctx, ast.Load)
            self.called |= node.attr == "forward"
        elif self._is_child(node):
            self.called = True
        elif (name := attribute_of(self.own, node)) is not None:
            if inspect.isfunction(getattr(type(self.module), name, None)):
                self.go_through(name)
        else:
            self.generic_visit(node)

    def _is_child(self, node: ast.AST) -> bool:
        return attribute_of(self.own, node) == self.child
