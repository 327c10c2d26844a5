"""A wheelhouse is whole or says that it is not, and no folder of somebody else is filled with wheels."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from dylora_kit.classroom import wheelhouse
from dylora_kit.classroom.wheelhouse import Machine, download_command, fill, wanted

ROOT = Path(__file__).parents[2]


def downloads(folder: Path, status: int = 0) -> object:
    """A pip that only puts one wheel there."""

    def run(command: Sequence[str]) -> int:
        assert command[1:4] == ["-m", "pip", "download"]
        (folder / "torch-2.13.0.whl").write_text("a wheel")
        return status

    return run


def test_everything_that_requirements_name_is_asked_for_and_what_builds_the_kit(clone: Path) -> None:
    lines = wanted(clone).splitlines()
    assert lines[1:] == ["torch==2.13.0", "numpy==2.4.6", "setuptools>=77"]
    ours = wanted(ROOT).splitlines()
    pins = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert len(pins) > 20 and set(pins) < set(ours) and not [line for line in ours if line.startswith("-e")]


def test_a_whole_wheelhouse_names_the_one_command(clone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    command = fill(clone, folder, Machine(), downloads(folder))
    assert "--no-index --find-links" in command and str(folder.resolve()) in command
    assert command in (folder / wheelhouse.NOTE).read_text()


def test_where_pip_fails_there_is_no_command_and_the_next_attempt_goes_on(clone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    fill(clone, folder, Machine(), downloads(folder))
    with pytest.raises(OSError, match=r"pip ended with status 1, so .* is not complete"):
        fill(clone, folder, Machine(), downloads(folder, status=1))
    assert not (folder / wheelhouse.NOTE).exists() and (folder / "torch-2.13.0.whl").exists()
    fill(clone, folder, Machine(), downloads(folder))
    assert (folder / wheelhouse.NOTE).exists()


@pytest.mark.parametrize("name", ["thesis.tex", "other.whl"])
def test_a_folder_with_something_else_in_it_is_left_alone(clone: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / name).write_text("mine")
    with pytest.raises(ValueError, match="which is not of a wheelhouse: name a new folder"):
        fill(clone, tmp_path / "wheels", Machine(), downloads(tmp_path / "wheels"))
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [name]


def test_a_file_in_the_folders_place_is_refused(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").write_text("mine")
    with pytest.raises(ValueError, match="wheels is a file: name a folder"):
        fill(clone, tmp_path / "wheels", Machine(), downloads(tmp_path / "wheels"))


def test_other_machines_and_indexes_are_passed_on_to_pip(clone: Path, tmp_path: Path) -> None:
    machine = Machine(python="3.12", platform="win_amd64", index="https://example.org/cpu")
    words = download_command(tmp_path, machine)
    assert words[words.index("--platform") + 1] == "win_amd64" and "--only-binary=:all:" in words
    assert words[words.index("--extra-index-url") + 1] == "https://example.org/cpu"
    assert "--only-binary=:all:" not in download_command(tmp_path, Machine())
    folder = tmp_path / "wheels"
    assert fill(clone, folder, machine, downloads(folder)).startswith(r"py -m venv .venv && .venv\Scripts\python")


def test_a_place_that_is_no_clone_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no requirements\.txt in .*: expected a clone"):
        wanted(tmp_path)
