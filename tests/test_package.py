"""The package as a whole: what importing it costs, and that its files depend on each other in one direction."""

import ast
import importlib
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import dylora_kit as dk

ROOT = Path(dk.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
WINGS_WITH_TORCH_ALONE = ("core", "training")
HEAVY = {"transformers", "pandas", "sklearn", "datasets", "seaborn", "matplotlib", "ipywidgets", "anywidget", "peft"}


def reading_order(folder: Path) -> list[str]:
    """The names of what is in a folder, in the order in which its face tells of them."""
    face = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    lines = re.findall(r"^- (`[^:]*`):", face, re.MULTILINE)
    return [name for line in lines for name in re.findall(r"`(\w+)`", line)]


def module_of(path: Path) -> str:
    return ".".join(("dylora_kit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported_modules(path: Path) -> dict[str, int]:
    """The modules of the package that a file imports, each with its line."""
    found = {}
    for name, node in imports(path):
        while name.startswith("dylora_kit") and name not in MODULES:
            name = name.rpartition(".")[0]  # a name in a module
        if name in MODULES and name != module_of(path):
            found[name] = node.lineno
    return found


def place(name: str, other: str) -> tuple[int, int]:
    """Where two modules stand in the reading order of the folder that both are in."""
    first, second = name.split("."), other.split(".")
    depth = next((index for index, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if depth is None:  # one is the face of the other's folder: above its files, unless it imports them itself
        face = min(name, other, key=len)
        after = any(module.startswith(f"{face}.") for module in imported_modules(MODULES[face]))
        return (0, 1) if (name == face) == (not after) else (1, 0)
    folder = ROOT.joinpath(*first[1:depth])
    order = [*reading_order(folder), "__main__"]
    return order.index(first[depth]), order.index(second[depth])


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
    assert "dylora_kit.core.layer" in loaded
    assert {name for name in HEAVY if name in loaded} == set()


def test_importing_the_package_costs_little_more_than_torch():
    def seconds(code: str) -> float:
        """CPU time, which other processes do not lengthen."""
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(code)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime

    seconds("import dylora_kit")
    rounds = [(seconds("import torch"), seconds("import dylora_kit")) for _ in range(5)]
    torch_alone, ours = (min(times) for times in zip(*rounds, strict=True))  # a busy machine only adds to a time
    assert ours / torch_alone < 1.3


@pytest.mark.parametrize("name", dk.__all__)
def test_every_public_name_is_there(name):
    assert callable(getattr(dk, name))


def test_the_public_names_are_sorted_and_each_is_named_once():
    assert list(dk.__all__) == sorted(set(dk.__all__))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dylora_kit' has no attribute 'trainn'"):
        _ = dk.trainn


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda folder: folder.name)
def test_the_face_of_a_folder_tells_of_everything_in_it(folder):
    inside = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    order = reading_order(folder)
    assert sorted(order) == sorted(inside - {"__init__", "__main__"})


def test_nothing_stands_at_the_root_but_the_wings_the_progress_bar_and_the_command_line():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "progress.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_files_above_it(path):
    here = module_of(path)
    if here == "dylora_kit":
        return
    for name, line in imported_modules(path).items():
        if name != "dylora_kit":
            theirs, ours = place(name, here)
            assert theirs < ours, f"{here}, line {line}, imports {name}, which comes after it"


def test_no_two_files_import_each_other_by_any_way_round():
    graph = {name: set(imported_modules(path)) - {"dylora_kit"} for name, path in MODULES.items()}
    graph.pop("dylora_kit")
    while leaves := [name for name, needed in graph.items() if not needed & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"these import each other in a circle: {sorted(graph)}"


def test_no_module_is_hidden_by_a_function_of_its_name():
    for name in MODULES:
        parent, _, own = name.rpartition(".")
        if parent and own != "__main__":
            importlib.import_module(name)
            assert getattr(sys.modules[parent], own) is sys.modules[name], f"{name} is hidden by a name in {parent}"


PLAIN = [path for path in FILES if path.relative_to(ROOT).parts[0] in WINGS_WITH_TORCH_ALONE]


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: str(path.relative_to(ROOT)))
def test_core_and_training_import_nothing_but_torch_and_the_standard_library(path):
    for imported, node in imports(path):
        top = imported.split(".")[0]
        allowed = top in {"torch", "dylora_kit"} or top in sys.stdlib_module_names
        # the history of a training is a frame, which is imported when there is one
        assert allowed or (top == "pandas" and node.col_offset > 0), f"{path.name}:{node.lineno}: {imported}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_or_executed_from_text(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"{path.name}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            written = ast.unparse(node)
            assert written not in {"torch.load", "torch.save", "np.load", "joblib.load"}, f"{path.name}:{node.lineno}"
    assert not {name.split(".")[0] for name, _ in imports(path)} & {"pickle", "dill", "cloudpickle", "shelve"}
    of_joblib = {alias.name for name, node in imports(path) if name == "joblib" for alias in node.names}
    assert of_joblib <= {"Parallel", "delayed", "parallel_config"}, "joblib is for processes, and not for files"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_imported_first(path):
    assert importlib.import_module(module_of(path))


def test_the_readmes_example_runs_as_it_stands(tmp_path, monkeypatch):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    example, *_ = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert "steps=500" in example
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(example.replace("steps=500", "steps=3"), "README.md", "exec"), names)
    assert names["frame"]["rank"].tolist() == list(range(1, 9))
    assert (tmp_path / "my-adapter").is_dir() and names["adapters"].merged
