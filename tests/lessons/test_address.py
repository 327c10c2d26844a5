"""The address of the repository: one command writes it everywhere, and takes it out again."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dylora_kit.lessons.__main__ import main
from dylora_kit.lessons.repository_address import checked_address, read_address, write_address

ROOT = Path(__file__).parents[2]
ADDRESS = "https://github.com/you/your_repository"
COLAB = "https://colab.research.google.com/github/you/your_repository/blob/main/notebooks/"


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
        assert title.startswith("# ") and badge_line == f"[![Open in Colab]({badge}"
        assert f"| [![Open in Colab](notebooks/{badge} |\n" in readme
        (setup,) = (source for source in sources(path) if "git" in source and "subprocess" in source)
        assert f'address = "{ADDRESS}"' in setup
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
