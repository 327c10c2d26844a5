"""Whether the packages that the kit takes are installed, and what to do if not: what a notebook's setup cell asks."""

import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

_BESIDE_LESSONS = ("meteor", "class", "cluster")  # extras that no lesson takes
_NEVER_ADDED = ("torch", "numpy")  # too large, or too much rests on it


class Package(NamedTuple):
    """A package that the kit takes.

    Attributes:
        name: the package.
        needed: the versions that the kit takes, as `>=5.9`.
        found: the version that is installed, or `""`.
        fits: whether that is one of them.
        for_lessons: False for what only METEOR or an instructor needs.
    """

    name: str
    needed: str
    found: str
    fits: bool
    for_lessons: bool

    @property
    def wanted(self) -> str:
        """What to ask pip for."""
        return self.name + self.needed

    @property
    def lack(self) -> str:
        """What is wrong with a package that does not fit."""
        return f"{self.name} {self.found} is not {self.needed}" if self.found else f"{self.name} is not installed"


class NotReadyError(ImportError):
    """A package is missing or too old; a notebook shows the sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]  # IPython asks for it, instead of the way to the error


def packages_taken() -> list[Package]:
    """Every package that the kit takes, beside what is installed; none where the kit itself is not installed."""
    from packaging.requirements import Requirement

    taken = []
    for text in _requirements():
        needed = Requirement(text)
        try:
            found = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            found = ""
        fits = bool(found) and needed.specifier.contains(found, prereleases=True)
        for_lessons = not any(f'extra == "{extra}"' in text for extra in _BESIDE_LESSONS)
        taken.append(Package(needed.name, str(needed.specifier), found, fits, for_lessons))
    return taken


def ready(*, add: bool = False) -> None:
    """Looks whether the packages that the lessons take are there, and has torch compute with one thread.

    A model as small as the lessons' is as fast with one. With two, it can be fifty times as slow on a machine that a
    class shares: each of its many short steps waits until both threads have had a core.

    Arguments:
        add: first installs what is missing, for Colab. No package that is there changes, and torch and numpy are
            never installed.

    Raises `NotReadyError` where a package is missing or too old.
    """
    lacking = _lacking()
    missing = [package for package in lacking if not package.found and package.name not in _NEVER_ADDED]
    if add and missing:
        _add(missing)
        lacking = _lacking()
    if lacking:
        wanted = " ".join(f"'{package.wanted}'" for package in lacking)
        raise NotReadyError(
            f"{_listed([package.lack for package in lacking])}: run %pip install {wanted} in a cell of its own, "
            "restart the kernel, and begin again with this cell"
        )
    import torch

    torch.set_num_threads(1)


def _requirements() -> list[str]:
    try:
        return metadata.requires("dylora_kit") or []
    except metadata.PackageNotFoundError:
        return []


def _lacking() -> list[Package]:
    return [package for package in packages_taken() if package.for_lessons and not package.fits]


def _add(packages: Sequence[Package]) -> None:
    """Installs packages beside all that is installed, which pip is told to leave as it is."""
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder, "held.txt")
        held.write_text("\n".join(_as_it_is()), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(held)]
        done = subprocess.run([*command, *(package.wanted for package in packages)], capture_output=True, text=True)
    importlib.invalidate_caches()
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotReadyError(
            f"{_listed([package.lack for package in packages])}, and pip cannot add it: {''.join(said) or 'no reason'}"
        )


def _as_it_is() -> list[str]:
    """Each installed package at its version, as pip's constraints: the one that is imported, where there are two."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    held: dict[str, str] = {}
    for found in metadata.distributions():
        name = found.metadata["Name"]
        try:
            if name:
                held.setdefault(canonicalize_name(name), str(Version(found.version)))
        except (InvalidVersion, TypeError):  # pip cannot name such a version either
            continue
    return [f"{name}=={version}" for name, version in held.items()]


def _listed(texts: Sequence[str]) -> str:
    """Texts as one clause: a, b and c."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
