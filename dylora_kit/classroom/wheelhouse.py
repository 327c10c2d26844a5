"""A folder with everything that pip needs to install the kit where there is no internet."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dylora_kit.storage.files import write_files

NOTE = "INSTALL.txt"  # written last: a folder without it is not finished
WANTED = "requirements.txt"  # in the folder: what was asked for
MADE_BY = "# what python -m dylora_kit class wheelhouse asked pip for"
TEXT = """\
To install the kit without internet, copy this folder and a clone of the repository to the machine, and run this in
the clone{where}:

{command}

Then start the first lesson:

{start}
"""


@dataclass(frozen=True)
class Machine:
    """What the wheels are for.

    Arguments:
        python: such as "3.12"; None is the Python that runs now.
        platform: as pip names it, such as "win_amd64" or "manylinux_2_28_x86_64"; None is this machine.
        index: another index beside PyPI, such as the one with builds of torch for the CPU.
    """

    python: str | None = None
    platform: str | None = None
    index: str | None = None


def wanted(root: Path) -> str:
    """What has to be downloaded: the requirements of a clone without the kit itself, and what builds it.

    Raises `FileNotFoundError` if it is no clone.
    """
    for name in ("requirements.txt", "pyproject.toml"):
        if not (root / name).is_file():
            raise FileNotFoundError(f"there is no {name} in {root}: expected a clone of the repository")
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line.strip() and not line.startswith(("#", "-e"))]
    build = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    return "\n".join([MADE_BY, *pinned, *build, ""])


def download_command(folder: Path, machine: Machine) -> list[str]:
    """The command that downloads the wheels into a folder which has `WANTED`.

    >>> download_command(Path("wheels"), Machine(python="3.12"))[-3:]
    ['--python-version', '3.12', '--only-binary=:all:']
    """
    command = [sys.executable, "-m", "pip", "download", "--dest", str(folder), "-r", str(folder / WANTED)]
    command += ["--extra-index-url", machine.index] if machine.index else []
    command += ["--platform", machine.platform] if machine.platform else []
    command += ["--python-version", machine.python] if machine.python else []
    elsewhere = machine.platform or machine.python  # nothing can be built for another machine
    return [*command, *(["--only-binary=:all:"] if elsewhere else [])]


def install_command(folder: str, *, windows: bool = False) -> str:
    """The one command that installs the kit from a folder of wheels, in a clone.

    >>> install_command("wheels").startswith("python3 -m venv .venv && .venv/bin/python -m pip install")
    True
    """
    python = r".venv\Scripts\python" if windows else ".venv/bin/python"
    quoted = f'"{folder}"'
    make = f"{'py' if windows else 'python3'} -m venv .venv"
    return f"{make} && {python} -m pip install -q --no-index --find-links {quoted} -r requirements.txt"


def fill(root: Path, folder: Path, machine: Machine, run: Callable[[Sequence[str]], int] = subprocess.call) -> str:
    """Downloads the wheels into a folder, and returns the command that installs from it.

    What is there already is not downloaded again, so an attempt that was stopped goes on. `INSTALL.txt` is written
    last.

    Arguments:
        root: a clone of the repository.
        run: runs a command, and returns its status.

    Raises `ValueError` for a folder with something else in it, and `OSError` if pip fails.
    """
    text = wanted(root)
    _check(folder)
    (folder / NOTE).unlink(missing_ok=True)
    write_files(folder, {WANTED: text.encode()})
    status = run(download_command(folder, machine))
    if status:
        raise OSError(
            f"pip ended with status {status}, so {folder} is not complete: see what it said above, and run the same "
            "command again, which goes on where it stopped"
        )
    windows = machine.platform.startswith("win") if machine.platform else sys.platform == "win32"
    command = install_command(str(folder.resolve()), windows=windows)
    python = r".venv\Scripts\python" if windows else ".venv/bin/python"
    start = f"{python} -m jupyterlab notebooks/00_start_here.ipynb"
    where = " (name the folder as it is called there)"
    write_files(folder, {NOTE: TEXT.format(where=where, command=command, start=start).encode()})
    return command


def _check(folder: Path) -> None:
    """Refuses a file, and a folder that holds anything but wheels which this command asked for."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the wheels, a new one or one to go on with")
    if not folder.is_dir():
        return
    request = folder / WANTED
    ours = request.is_file() and request.read_text(encoding="utf-8").startswith(MADE_BY)
    foreign = [path.name for path in sorted(folder.iterdir()) if not _belongs(path.name)]
    if foreign or (any(folder.iterdir()) and not ours):
        what = foreign[0] if foreign else "files"
        raise ValueError(f"{folder} has {what} in it, which is not of a wheelhouse: name a new folder")


def _belongs(name: str) -> bool:
    return name in (NOTE, WANTED) or re.search(r"\.(whl|tar\.gz|zip)$", name) is not None or name.startswith(".")
