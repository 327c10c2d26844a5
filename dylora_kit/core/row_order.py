"""Whether a module keeps its examples in order on the way to its children, read from the source of its methods."""

import ast
import inspect
import re
from functools import cache
from typing import Any

from torch import Tensor, nn

from dylora_kit.core.calls import attribute_of, flag_of, parameters_of, source_of

# functions that give indices, or truth values, of rows
CHOOSE = "nonzero where argsort sort topk argmax argmin randperm unique bool eq ne gt lt ge le logical_and logical_or"
COPIES = "to clone detach contiguous"  # functions that give the same rows
SAME = "to long int cpu cuda view reshape squeeze flatten clone detach contiguous"  # … that give the same indices
# functions that give rows in another order, or some of them; the first three along an axis that they are told
MOVE = "flip roll index_select masked_select pack_padded_sequence"
PUT = "index_copy index_add index_put index_fill scatter scatter_add masked_scatter masked_fill"
INDEX = re.compile(r"(^|_)(mask|idx|index|indices|order|perm|permutation|selected)(_|$)")
# how modules put parts of one input at places of another, such as images in a text, and what they call such inputs
PLACED = re.compile(
    r"masked_scatter|index_put|inputs_merger"
    r"|\w\[(?!:)[^\]\n\"']*(mask|token|select|image)[^\]\n\"']*\]\s*=\s*(?!self\.|None|True|False|torch\.)[A-Za-z_]"
)
PARTS = re.compile(r"(pixel|image|video|audio|speech|input_features)\w*")


def keeps_order(module: nn.Module, child: str) -> bool:
    """Whether a child gets the rows of its inputs as its module got them, as far as the source tells.

    It does not if the module calls it with rows that are chosen by an index, a mask or a sort, or if the module puts
    what it makes of images or sounds, of which an example may have any number, at their places in a text. Neither does
    a layer that is called with a table, such as a weight or the embeddings of positions, whose rows are no examples.

    >>> keeps_order(nn.Sequential(nn.Linear(6, 5)), "0")
    True
    """
    return not (_gets_parts(module, child) or _gets_chosen(module, child))


def _gets_parts(module: nn.Module, child: str) -> bool:
    """Whether a child works on the images, or the like, that its module puts in a text."""
    kind: Any = type(module)
    if not any(map(PARTS.fullmatch, parameters_of(module))) or not PLACED.search(_text_of(kind)):
        return False
    inner = module._modules.get(child)
    return inner is None or not {"inputs_embeds", "attention_mask"} <= parameters_of(inner).keys()


@cache
def _text_of(kind: Any) -> str:
    """The source of a class, and of those that it takes a forward from."""
    texts = []
    for base in kind.__mro__:
        if "forward" in base.__dict__ and base is not nn.Module:
            try:
                texts.append(inspect.getsource(base))
            except (OSError, TypeError):
                continue
    return "\n".join(texts)


def _gets_chosen(module: nn.Module, child: str) -> bool:
    """Whether a child is called with chosen rows, in the module's forward or a method that it uses."""
    kind: Any = type(module)
    seen, methods = set(), ["forward"]
    while methods:
        method = methods.pop()
        seen.add(method)
        function = source_of(kind, method)
        if function is None or not function.args.args:
            continue
        walk = _Rows(module, child, function.args.args[0].arg)
        for statement in function.body:
            walk.visit(statement)
        if walk.chosen:
            return True
        methods += [name for name in walk.methods if name not in seen]
    return False


class _Rows(ast.NodeVisitor):
    """Goes through a method from top to bottom, and notes which variables hold chosen rows."""

    def __init__(self, module: nn.Module, child: str, own: str) -> None:
        self.module, self.child, self.own = module, child, own
        self.rows: set[str] = set()  # variables with chosen rows
        self.indices: set[str] = set()  # variables that choose rows
        self.numbers: set[str] = set()  # variables that are numbers, items of lists, or all rows in order
        self.aliases: set[str] = set()  # variables that are the child, or one of its layers
        self.tables: set[str] = set()  # variables that hold tables, whose rows are no examples
        self.positions: set[str] = set()  # variables that count the rows of such a table
        inner: Any = module._modules.get(child)
        self.is_layer = inner is not None and ("base_layer" in inner._modules or not inner._modules)
        self.methods: set[str] = set()
        self.chosen = False

    def visit_If(self, node: ast.If) -> None:
        flag = flag_of(self.module, self.own, node.test)
        self.visit(node.test)
        for statement in node.body if flag else node.orelse if flag is False else [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        names = _names(node.target)
        self.numbers |= names
        if any(attribute_of(self.own, part) == self.child for part in ast.walk(node.iter)):
            self.aliases |= names
        for statement in [*node.body, *node.body]:  # the second time with what the first has left
            self.visit(statement)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.numbers |= _names(node.target)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name | ast.Tuple):
                names = _names(target)
                for known, fits in (
                    (self.rows, self._is_chosen(node.value)),
                    (self.indices, self._chooses(node.value)),
                    (self.aliases, self._is_child(node.value)),
                    (self.numbers, _is_plain_index(node.value)),
                    (self.tables, self._is_table(node.value)),
                    (self.positions, self._is_positions(node.value)),
                ):
                    known |= names if fits else set()
                    known -= set() if fits else names

    def visit_Call(self, node: ast.Call) -> None:
        given = node.args or [keyword.value for keyword in node.keywords]
        if self._is_child(node.func):
            table = self.is_layer and bool(given) and self._is_table(given[0])
            self.chosen |= table or any(map(self._is_chosen, given))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = attribute_of(self.own, node)
        if name is not None and inspect.isfunction(getattr(type(self.module), name, None)):
            self.methods.add(name)
        self.generic_visit(node)

    def _is_child(self, node: ast.AST) -> bool:
        node = node.value if isinstance(node, ast.Subscript) else node
        return attribute_of(self.own, node) == self.child or (isinstance(node, ast.Name) and node.id in self.aliases)

    def _is_table(self, node: Any) -> bool:
        """Whether a value is a weight or buffer of the module, or an embedding of positions that all examples share."""
        if isinstance(node, ast.Name):
            return node.id in self.tables
        if isinstance(node, ast.Attribute):
            if (name := attribute_of(self.own, node)) is not None:
                return isinstance(getattr(self.module, name, None), Tensor)
            return node.attr == "weight" and self._embedding(node.value)
        if isinstance(node, ast.Call) and _called(node) in COPIES.split() and isinstance(node.func, ast.Attribute):
            return self._is_table(node.func.value)
        return isinstance(node, ast.Call) and self._embedding(node.func) and any(map(self._is_positions, node.args))

    def _embedding(self, node: ast.AST) -> bool:
        return isinstance(self.module._modules.get(attribute_of(self.own, node) or ""), nn.Embedding)

    def _is_positions(self, node: Any) -> bool:
        """Whether a value counts rows, without an axis for the examples."""
        if isinstance(node, ast.Name):
            return node.id in self.positions
        return isinstance(node, ast.Call) and _called(node) == "arange"

    def _is_chosen(self, node: Any) -> bool:
        """Whether a value has rows that were chosen from others."""
        if isinstance(node, ast.Name):
            return node.id in self.rows
        if isinstance(node, ast.Subscript):
            first = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
            return self._is_chosen(node.value) or self._chooses(first)
        if isinstance(node, ast.Call):
            name = _called(node)
            if name in PUT.split() and isinstance(node.func, ast.Attribute):
                return self._is_chosen(node.func.value)
            if name in ("view", "reshape") and node.args and _is_length(node.args[0]):
                return False  # as many rows of each example, such as its last word
            numbers = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            if name in MOVE.split() and (0 in numbers or not any(isinstance(number, int) for number in numbers)):
                return True
            of = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            return any(map(self._is_chosen, [*of, *node.args]))
        return any(map(self._is_chosen, ast.iter_child_nodes(node)))

    def _chooses(self, node: ast.AST) -> bool:
        """Whether a value, as an index, chooses rows."""
        if isinstance(node, ast.Name):
            known = node.id in self.numbers - self.indices
            return node.id in self.indices or (not known and bool(INDEX.search(node.id)))
        if isinstance(node, ast.Compare) or isinstance(getattr(node, "op", None), ast.Invert | ast.BitAnd | ast.BitOr):
            return True
        if isinstance(node, ast.Call):
            name = _called(node)
            of = node.func.value if isinstance(node.func, ast.Attribute) and name in SAME.split() else None
            return (
                name in CHOOSE.split()
                or (name == "arange" and len(node.args) > 1)
                or (of is not None and self._chooses(of))
            )
        if isinstance(node, ast.Attribute):
            name = attribute_of(self.own, node)
            return isinstance(getattr(self.module, name or "", None), Tensor)
        return isinstance(node, ast.Subscript) and self._chooses(node.value)


def _names(target: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def _is_plain_index(node: ast.AST) -> bool:
    """Whether a value is a number, or the numbers of all rows in order."""
    constant = isinstance(node, ast.Constant) and isinstance(node.value, int)
    return constant or (isinstance(node, ast.Call) and _called(node) == "arange" and len(node.args) == 1)


def _called(node: ast.Call) -> str | None:
    """The last part of the name of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", None))


def _is_length(node: ast.AST) -> bool:
    """Whether a size is that of a batch: `x.size(0)`, `x.shape[0]` or a variable that is called so."""
    return ast.unparse(node).endswith((".size(0)", ".shape[0]", "batch_size", "bsz"))
