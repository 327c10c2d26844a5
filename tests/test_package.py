"""The package as a whole: what importing it costs, and that its files depend on each other in one direction."""

import ast
import importlib
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dylora_kit as dk

ROOT = Path(dk.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
ORDER = [
    "progress",
    "storage",
    "pictures",
    "rank",
    "lowrank",
    "adapter",
    "layer",
    "sampling",
    "fused",
    "targets",
    "adapt",
    "objectives",
    "reached",
    "optim",
    "train",
    "evaluate",
    "ordering",
    "select",
    "cut",
    "nest",
    "exchange",
    "hf",
    "baselines",
    "tasks",
    "backbones",
    "cards",
    "dial",
    "views",
    "paper",
    "plots",
    "live",
    "guess",
    "explorer_checks",
    "widgets",
    "exercises",
    "lessons",
]
CORE = {"rank", "layer", "sampling", "adapt", "objectives", "optim"}
HEAVY = {"transformers", "pandas", "sklearn", "datasets", "seaborn", "matplotlib", "ipywidgets", "peft"}


def part(path: Path) -> str:
    """The name in `ORDER` of the module or package a file belongs to."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[str, ast.stmt]]:
    """Every import in a file, also inside functions, as full module names."""
    found: list[tuple[str, ast.stmt]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            inside = node.module == "dylora_kit"
            found += [(f"dylora_kit.{alias.name}" if inside else str(node.module), node) for alias in node.names]
    return found


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_imports_none_of_the_heavy_ones():
    loaded = set(run("import sys, dylora_kit; print(*sys.modules)").split())
    assert "dylora_kit.layer" in loaded
    assert {name for name in HEAVY if name in loaded} == set()


def test_importing_the_package_costs_little_more_than_torch():
    def seconds(code: str) -> float:
        start = time.perf_counter()
        run(code)
        return time.perf_counter() - start

    seconds("import dylora_kit")
    ratios = []
    for _ in range(3):
        torch_alone, ours = seconds("import torch"), seconds("import dylora_kit")
        ratios.append(ours / torch_alone)
    assert statistics.median(ratios) < 1.3


@pytest.mark.parametrize("name", dk.__all__)
def test_every_public_name_is_there(name):
    assert callable(getattr(dk, name))


def test_the_public_names_are_sorted_and_each_is_named_once():
    assert list(dk.__all__) == sorted(set(dk.__all__))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dylora_kit' has no attribute 'trainn'"):
        _ = dk.trainn


def test_public_functions_are_not_hidden_by_the_modules_they_come_from():
    code = (
        "import importlib, pkgutil, dylora_kit as dk\n"
        "for module in pkgutil.iter_modules(dk.__path__):\n"
        "    if module.name in ('train', 'evaluate', 'adapt'):\n"
        "        importlib.import_module('dylora_kit.' + module.name)\n"
        "print(*[name for name in dk.__all__ if not callable(getattr(dk, name))])\n"
    )
    assert run(code).split() == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_files_above_it(path):
    here = part(path)
    if here == "__init__":
        return
    assert here in ORDER, f"{here} has no place in the order"
    for name, node in imports(path):
        if not name.startswith("dylora_kit."):
            continue
        other = name.split(".")[1]
        allowed = ORDER.index(other) < ORDER.index(here) or (other == here and path.parent != ROOT)
        assert allowed, f"{path.name}:{node.lineno} imports {other}, which comes after {here}"


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_imports_nothing_but_torch_and_the_standard_library(name):
    for imported, node in imports(ROOT / f"{name}.py"):
        top = imported.split(".")[0]
        assert top in {"torch", "dylora_kit"} or top in sys.stdlib_module_names, f"{name}.py:{node.lineno}: {imported}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_or_executed_from_text(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"{path.name}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            written = ast.unparse(node)
            assert written not in {"torch.load", "torch.save", "np.load", "joblib.load"}, f"{path.name}:{node.lineno}"
    assert not {name.split(".")[0] for name, _ in imports(path)} & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_imported_first(path):
    name = ".".join(("dylora_kit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    assert importlib.import_module(name)


def test_the_readmes_example_runs_as_it_stands(tmp_path, monkeypatch):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    example, *_ = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert "steps=500" in example
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example.replace("steps=500", "steps=3"), "README.md", "exec"), names)
    assert names["frame"]["rank"].tolist() == list(range(1, 9))
    assert (tmp_path / "my-adapter").is_dir() and names["adapters"].merged
