"""No small change of a solution counts as right: another operator, a bound that is one off, a line left out."""

import ast
import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

import dylora_kit as dk
from dylora_kit.lessons import EXERCISES
from dylora_kit.lessons.exercise import CORRECT

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
OPERATORS: dict[type[ast.AST], list[type[ast.AST]]] = {
    ast.Add: [ast.Sub, ast.Mult], ast.Sub: [ast.Add], ast.Mult: [ast.Add, ast.Div], ast.Div: [ast.Mult],
    ast.Pow: [ast.Mult], ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE], ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.In: [ast.NotIn],
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "sum": "max", "all": "any", "any": "all", "stdev": "pstdev", "mean": "sum"}
AS_RIGHT = {
    "torch.linalg.svd(delta)": "02.3: what follows takes the first vectors",
    "A[:b] -= lr * (grad_A[:b] + decay * A[:b])": "03.3: without its first line it works in place",
}


def changes(node: ast.AST) -> Iterator[Callable[[Any], Any]]:
    """What can be done to a node of a tree, each as a function that does it to a copy."""
    if isinstance(node, ast.BinOp):
        for operator in OPERATORS.get(type(node.op), []):
            yield lambda it, operator=operator: setattr(it, "op", operator())
        yield lambda it: setattr(it, "left", it.right)
        yield lambda it: setattr(it, "right", it.left)
    if isinstance(node, ast.Compare):
        for operator in OPERATORS.get(type(node.ops[0]), []):
            yield lambda it, operator=operator: it.ops.__setitem__(0, operator())
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield lambda it: setattr(it, "value", it.value + 1)
        yield lambda it: setattr(it, "value", it.value - 1)
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield lambda it: setattr(it, "id", NAMES[it.id])
    if isinstance(node, ast.comprehension) and node.ifs:
        yield lambda it: it.ifs.clear()
    if isinstance(node, ast.Call) and node.keywords:
        yield lambda it: it.keywords.pop()
    if isinstance(node, ast.FunctionDef | ast.For | ast.If | ast.With) and len(node.body) > 1:
        for line in range(len(node.body)):
            yield lambda it, line=line: it.body.pop(line)
    if isinstance(node, ast.Slice):
        yield lambda it: (setattr(it, "upper", None), setattr(it, "lower", None))


def changed(code: str) -> list[str]:
    """The code of a function with one small change each."""
    tree = ast.parse(code)
    results = set()
    for place, node in enumerate(ast.walk(tree)):
        for change in changes(node):
            other = copy.deepcopy(tree)
            change(list(ast.walk(other))[place])
            results.add(ast.unparse(ast.fix_missing_locations(other)))
    return sorted(results - {ast.unparse(tree)})


def solution(number: str) -> str:
    """The code of the solution that a lesson shows for an exercise."""
    (path,) = NOTEBOOKS.glob(f"{number[:2]}_*.ipynb")
    cells = [cell.source for cell in nbformat.read(path, 4).cells]
    start = next(index for index, text in enumerate(cells) if f"**Exercise {number}.**" in text)
    shown = next(text for text in cells[start:] if "<summary>Solution</summary>" in text)
    return shown.split("<summary>Solution</summary>")[1].split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("number", EXERCISES)
def test_no_small_change_of_a_solution_counts_as_right(number: str) -> None:
    code = solution(number)
    name = next(node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef))
    variants = changed(code)
    assert variants
    accepted = []
    for variant in variants:
        defined: dict[str, Any] = {"torch": torch, "dk": dk, "math": math}
        exec(variant, defined)
        if EXERCISES[number].feedback(defined[name]) == CORRECT:
            accepted.append(variant)
    assert [variant for variant in accepted if not any(right in variant for right in AS_RIGHT)] == []
