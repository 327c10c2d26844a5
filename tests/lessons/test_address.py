"""The address of the repository: one command writes it everywhere, and takes it out again."""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from dylora_kit.lessons import installed
from dylora_kit.lessons.__main__ import main
from dylora_kit.lessons.repository_address import checked_address, read_address, write_address

ROOT = Path(__file__).parents[2]
ADDRESS = "https://github.com/you/your_repository"
COLAB = "https://colab.research.google.com/github/you/your_repository/blob/main/notebooks/"
RAW = "https://raw.githubusercontent.com/you/your_repository/main/notebooks/"  # Colab shows no image by a relative path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the files that name the address, with none set."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, tmp_path / "notebooks")
    write_address(tmp_path, None)
    return tmp_path


def files(clone: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(clone.rglob("*")) if path.is_file()}


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]


def test_the_command_writes_the_address_into_pyproject_readme_badges_and_setup_cells(clone: Path) -> None:
    shutil.copytree(ROOT / "dylora_kit", clone / "dylora_kit", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "dylora_kit.lessons", "address", f"{ADDRESS}.git"]
    said = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"the address is {ADDRESS}; changed: pyproject.toml, README.md, ")
    assert tomllib.loads((clone / "pyproject.toml").read_text())["project"]["urls"] == {"Repository": ADDRESS}
    readme = (clone / "README.md").read_text()
    assert "| notebook | what you do | minutes | Colab |\n| --- | --- | --- | --- |\n" in readme
    for path in (clone / "notebooks").glob("*.ipynb"):
        badge = f"images/open_in_colab.svg)]({COLAB}{path.name})"
        title, _, badge_line, *_ = sources(path)[0].split("\n")
        assert title.startswith("# ") and badge_line == f"[![Open in Colab]({RAW}{badge}"
        assert f"| [![Open in Colab](notebooks/{badge} |\n" in readme
        setup = sources(path)[3]
        assert f'address = "{ADDRESS}"' in setup and len(setup.splitlines()) < 15
        compile(setup, path.name, "exec")


def test_running_it_twice_changes_nothing(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["address", ADDRESS], clone)
    before = files(clone)
    capsys.readouterr()
    main(["address", f"{ADDRESS}/"], clone)
    assert files(clone) == before
    assert capsys.readouterr().out == f"the address is {ADDRESS}; nothing to change\n"


def test_another_address_takes_the_place_of_the_first(clone: Path) -> None:
    write_address(clone, ADDRESS)
    direct = files(clone)
    write_address(clone, "https://github.com/they/theirs")
    assert not any(b"your_repository" in content for content in files(clone).values())
    write_address(clone, ADDRESS)
    assert files(clone) == direct


def test_removing_it_gives_back_every_byte(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(clone)
    main(["address", ADDRESS], clone)
    assert all(files(clone)[path] != content for path, content in before.items())
    capsys.readouterr()
    main(["address", "--remove"], clone)
    assert files(clone) == before and read_address(clone) is None
    assert capsys.readouterr().out.startswith("no address is set; changed: pyproject.toml, ")


def test_outputs_and_other_cells_stay_as_they_are(clone: Path) -> None:
    paths = sorted((clone / "notebooks").glob("*.ipynb"))
    before = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    write_address(clone, ADDRESS)
    for path, old in zip(paths, before, strict=True):
        new = json.loads(path.read_text(encoding="utf-8"))
        changed = [number for number, cells in enumerate(zip(old["cells"], new["cells"], strict=True))
                   if cells[0] != cells[1]]  # fmt: skip
        assert changed == [0, 2, 3]
        for number in changed:
            old["cells"][number].pop("source"), new["cells"][number].pop("source")
        assert new == old


def test_other_addresses_of_a_project_stay(clone: Path) -> None:
    path = clone / "pyproject.toml"
    path.write_text(path.read_text() + '\n[project.urls]\nDocumentation = "https://example.org"\n')
    before = path.read_text()
    write_address(clone, ADDRESS)
    urls = tomllib.loads(path.read_text())["project"]["urls"]
    assert urls == {"Repository": ADDRESS, "Documentation": "https://example.org"}
    write_address(clone, None)
    assert path.read_text() == before


@pytest.mark.parametrize(
    "text",
    ["http://github.com/you/it", "https://gitlab.com/you/it", "https://github.com/you", "github.com/you/it",
     "git@github.com:you/it.git", "https://github.com/you/it/tree/main", 'https://github.com/you/i"t',
     "https://github.com/you/..", "https://github.com/you/it\n", ""],
)  # fmt: skip
def test_what_is_no_https_address_of_a_github_repository_is_refused(text: str, clone: Path) -> None:
    before = files(clone)
    with pytest.raises(SystemExit) as stopped:
        main(["address", text], clone)
    assert stopped.value.code == (
        f"{text!r} is no https address of a GitHub repository: expected one like https://github.com/you/your_repository"
    )
    assert files(clone) == before


@pytest.mark.parametrize("text", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git", f"{ADDRESS}.git/"])
def test_a_slash_or_git_at_the_end_is_left_out(text: str) -> None:
    assert checked_address(text) == ADDRESS


def test_a_folder_that_is_no_clone_is_refused_and_left_alone(clone: Path) -> None:
    (clone / "README.md").unlink()
    before = files(clone)
    with pytest.raises(SystemExit, match=r"there is no README\.md in .*: run this in a clone of the repository"):
        main(["address", ADDRESS], clone)
    assert files(clone) == before


def test_a_notebook_without_a_setup_cell_is_refused_before_anything_is_written(clone: Path) -> None:
    path = clone / "notebooks" / "99_new.ipynb"
    path.write_text('{"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# New"]}]}')
    before = files(clone)
    with pytest.raises(SystemExit, match=r"99_new\.ipynb has no setup cell: expected one cell, after title and note"):
        main(["address", ADDRESS], clone)
    assert files(clone) == before


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["address", "--help"])
    assert f"python -m dylora_kit.lessons address {ADDRESS}" in " ".join(capsys.readouterr().out.split())


def test_without_the_kit_a_setup_cell_says_what_to_do(clone: Path) -> None:
    for path in (clone / "notebooks").glob("*.ipynb"):
        setup = sources(path)[3].replace("dylora_kit", "dylora_kit_that_is_not_there", 1)
        with pytest.raises(ModuleNotFoundError, match="start this notebook in a clone of its repository"):
            exec(setup, {})
        exec(sources(path)[3], {})


GIT = """#!/bin/sh
echo "git $*" >> "$SAID"
test -z "$UNREACHABLE" || { echo "fatal: unable to access '$5/': Could not resolve host: github.com" >&2; exit 128; }
mkdir kit
"""
PYTHON = """#!/bin/sh
echo "python $*" >> "$SAID"
test -z "$OLD" || { echo "ERROR: Package 'dylora-kit' requires a different Python: 3.10.2 not in '>=3.11'"; exit 1; }
"""


@pytest.fixture
def colab(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Runs a setup cell where the kit is not found, with a git and a Python that write down what they are told."""
    write_address(clone, ADDRESS)
    setup = sources(clone / "notebooks" / "00_start_here.ipynb")[3]
    tools, work, said = tmp_path / "the tools", tmp_path / "content", tmp_path / "said"
    tools.mkdir(), work.mkdir()
    for name, script in (("git", GIT), ("python", PYTHON)):
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("SAID", str(said))
    monkeypatch.setattr(sys, "executable", str(tools / "python"))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def told(add: bool) -> None:
        said.open("a").write(f"ready(add={add})\n")

    monkeypatch.setattr(installed, "ready", told)

    def run() -> list[str]:
        said.write_text("")
        try:
            exec(setup.replace('"dylora_kit"', '"dylora_kit_that_is_not_there"'), {})
        except RuntimeError as error:
            return [*said.read_text().splitlines(), str(error)]
        return said.read_text().splitlines()

    return run


INSTALL = "python -m pip install -q --no-deps -e kit"


def test_on_colab_the_setup_cell_fetches_the_kit_and_adds_what_is_missing(colab: Callable[[], list[str]]) -> None:
    assert colab() == [f"git clone -q --depth 1 {ADDRESS} kit", INSTALL, "ready(add=True)"]
    assert sys.path[0] == "kit"
    assert colab() == [INSTALL, "ready(add=True)"], "what was fetched is not fetched again"


def test_an_address_that_cannot_be_reached_is_told_in_a_sentence(
    colab: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNREACHABLE", "yes")
    reason = f"fatal: unable to access '{ADDRESS}/': Could not resolve host: github.com"
    assert colab()[1:] == [f"the kit could not be fetched from {ADDRESS}: {reason}"]


def test_an_old_python_on_colab_is_told_in_a_sentence(
    colab: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLD", "yes")
    reason = "ERROR: Package 'dylora-kit' requires a different Python: 3.10.2 not in '>=3.11'"
    assert colab()[2:] == [f"the kit could not be fetched from {ADDRESS}: {reason}"]


def test_where_the_kit_is_installed_the_setup_cell_only_checks(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(installed, "ready", lambda add=False: asked.append(add))
    for address in (ADDRESS, None):
        write_address(clone, address)
        for path in (clone / "notebooks").glob("*.ipynb"):
            exec(sources(path)[3], {})
    assert asked and not any(asked)
