"""The oldest versions that pyproject.toml allows, and those of Colab: the lessons run with both.

By hand, since each test installs an environment of its own and runs lessons in it, which takes ten minutes or more:

    python -m pytest -n 0 -m by_hand tests/test_oldest_versions.py

torch is that of requirements.txt: an older one is a download of gigabytes, so its floor alone is not tried here.
"""

import os
import re
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dylora_kit.lessons.repository_address import in_notebook

ROOT = Path(__file__).parent.parent
TOOLS = ("torch", "pytest", "pytest-xdist", "nbval", "nbformat", "ipykernel")  # as in requirements.txt
COLAB = ["transformers==5.15.0", "ipywidgets==7.7.1", "pandas==2.2.3", "numpy==2.1.3", "peft==0.20.0"]  # August 2026
ON_COLAB = ("00_start_here", "03_dylora", "05_search_free", "06_generation", "07_your_model")


def needed() -> list[Requirement]:
    """What pyproject.toml names: the dependencies, and those of every extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(text) for texts in (project["dependencies"], *extras) for text in texts]


def floors() -> list[str]:
    """The oldest version of each package that pyproject.toml allows, except of torch."""
    found = []
    for requirement in needed():
        (limit,) = requirement.specifier
        assert limit.operator == ">=", f"{requirement} has no oldest version: expected one limit, as NAME>=1.0"
        if requirement.name != "torch":
            found.append(f"{requirement.name}=={limit.version}")
    return found


def pinned() -> dict[str, str]:
    """The versions that the kit is tested with, by name: the lines of requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {line.split("==")[0]: line for line in lines if "==" in line}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command printed; the test fails with it if the command does."""
    settings = {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def environment(folder: Path, packages: list[str]) -> Path:
    """The Python of a new environment that has these packages, and what runs notebooks."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", *(pinned()[name] for name in TOOLS), *packages)
    return python


def test_the_floors_are_those_of_pyproject() -> None:
    written = re.findall(r'"([\w-]+)>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert len(written) > 15 and {"torch", "setuptools"} < {name for name, _ in written}
    kits = [f"{name}=={version}" for name, version in written if name not in ("torch", "setuptools")]
    assert sorted(floors()) == sorted(kits)


def test_what_the_kit_is_tested_with_is_what_pyproject_allows() -> None:
    versions = {name: line.split("==")[1] for name, line in pinned().items()}
    for requirement in needed():
        assert requirement.name == "pycocoevalcap" or versions[requirement.name] in requirement.specifier


@pytest.mark.by_hand
def test_the_lessons_run_with_the_oldest_versions(tmp_path: Path) -> None:
    python = environment(tmp_path / "floors", floors())
    run(python, "-m", "pip", "install", "-q", "--no-deps", "-e", ROOT)
    said = run(python, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "notebooks")
    assert " passed" in said and "failed" not in said


@pytest.mark.by_hand
def test_on_colab_the_setup_cell_fetches_the_kit_and_the_lessons_run(tmp_path: Path) -> None:
    absent = {*(text.split("==")[0] for text in COLAB), "torch", "sacrebleu", "pycocoevalcap"}
    others = [pinned()[requirement.name] for requirement in needed() if requirement.name not in absent]
    python = environment(tmp_path / "colab", [*COLAB, *others])
    lessons = tmp_path / "content"
    lessons.mkdir()
    for name in ON_COLAB:
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        (lessons / f"{name}.ipynb").write_text(in_notebook(text, f"{name}.ipynb", f"file://{ROOT}"), encoding="utf-8")
    before = run(python, "-m", "pip", "freeze").splitlines()
    for name in ON_COLAB:
        how = ("--nbval-lax", "--nbval-cell-timeout=300", "--nbval-kernel-name=python3")
        run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *how, f"{name}.ipynb", cwd=lessons)
    after = run(python, "-m", "pip", "freeze").splitlines()
    assert set(before) < set(after)
    added = {line.split("==")[0].lower() for line in set(after) - set(before) if "==" in line}
    assert "sacrebleu" in added and len(added) < 8
