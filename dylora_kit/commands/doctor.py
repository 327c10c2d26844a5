"""python -m dylora_kit doctor: whether the lessons will work here, in plain words."""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from dylora_kit.lessons.installed import packages_taken

EXAMPLE = """examples:
  python -m dylora_kit doctor
  python -m dylora_kit doctor --quiet"""
WIDGETS = Path("labextensions", "@jupyter-widgets", "jupyterlab-manager")
OWN_WIDGETS = Path("labextensions", "anywidget")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "firefox", "microsoft-edge", "safari")
FREE = 2e9  # bytes of memory that the lessons take, with room


class Finding(NamedTuple):
    """One line for the reader.

    Attributes:
        works: False if a lesson will not run; None if only something beside the lessons is missing.
        text: what was found, and what to do if it does not work.
    """

    works: bool | None
    text: str

    def __str__(self) -> str:
        return f"{'✓' if self.works else '·' if self.works is None else '✗'} {self.text}"


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of a command line."""
    command = commands.add_parser(
        "doctor",
        help="say whether the lessons will work on this machine",
        description="Looks at Python, the packages and their versions, memory, the kit's own files, JupyterLab and the "
        "browser, runs a small model, and says in plain words what works (✓), what does not and what to do (✗), and "
        "what only matters beside the lessons (·). Ends with status 1 if a lesson will not run.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--quiet", action="store_true", help="say only what does not work")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the findings; ends with status 1 if a lesson will not run."""
    broken = 0
    for check in CHECKS:
        for finding in _found(check):
            broken += finding.works is False
            if not arguments.quiet or finding.works is False:
                print(finding, flush=True)
    if broken:
        print(f"{broken} thing{'s' * (broken > 1)} to mend: see ✗ above.")
        sys.exit(1)
    print("The lessons will run here.")


def _found(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds; if it stops, that is what was found."""
    try:
        yield from check()
    except Exception as error:  # whatever is wrong here is what the reader wants to know
        yield Finding(False, f"{check.__name__.replace('_', ' ')}: {type(error).__name__}: {error}")


def python() -> Iterator[Finding]:
    """The version of Python, beside the oldest one that the kit takes."""
    from packaging.specifiers import SpecifierSet

    needed = metadata.metadata("dylora_kit")["Requires-Python"]
    found = ".".join(map(str, sys.version_info[:3]))
    fits = found in SpecifierSet(needed)
    yield Finding(fits, f"Python {found}" + ("" if fits else f": the kit takes {needed}; install such a Python"))


def packages() -> Iterator[Finding]:
    """Each package that the kit takes, and its version; what METEOR or a class takes stands beside them."""
    taken = packages_taken()
    for package in taken:
        if not package.fits:
            advice = f"{package.lack}: python -m pip install '{package.wanted}'"
            yield Finding(False if package.for_lessons else None, advice)
    yield Finding(True, ", ".join(f"{package.name} {package.found}" for package in taken if package.fits))


def machine() -> Iterator[Finding]:
    """The device that the models run on, and the memory."""
    import torch

    if torch.cuda.is_available():
        yield Finding(True, f"GPU: {torch.cuda.get_device_name()}; the lessons need none")
    yield Finding(True, f"{torch.get_num_threads()} CPU threads; a lesson takes one to two minutes on two")
    try:
        import psutil
    except ModuleNotFoundError:
        return
    free = psutil.virtual_memory().available
    enough = free >= FREE
    advice = "" if enough else ": close other programs, the lessons take up to 2"
    yield Finding(enough, f"{free / 1e9:.1f} GB of free memory{advice}")


def own_files() -> Iterator[Finding]:
    """The kit's data: a shipped model is opened, adapted, and run at two ranks."""
    from dylora_kit import backbones
    from dylora_kit.core.adapters import load
    from dylora_kit.evaluation.sweep import sweep
    from dylora_kit.tasks import digits

    model = backbones.load("digits-vit")
    adapters = load(model, backbones.data_folder() / "adapters" / "digits-turned-dylora")
    start = time.perf_counter()
    frame = sweep(model, adapters, digits.load("turned").test, ranks=[1, 8], progress=False)
    low, high = (f"{100 * value:.0f} %" for value in frame["value"])
    seconds = (time.perf_counter() - start) / 2
    yield Finding(True, f"a model reads turned digits: {low} right at rank 1, {high} at rank 8; {seconds:.1f} s a rank")


def jupyter() -> Iterator[Finding]:
    """JupyterLab, and the parts of ipywidgets and anywidget that draw live views in it."""
    try:
        found = metadata.version("jupyterlab")
        from jupyter_core.paths import jupyter_path
    except (metadata.PackageNotFoundError, ModuleNotFoundError):
        yield Finding(False, "JupyterLab is not installed: python -m pip install jupyterlab")
        return
    yield Finding(True, f"JupyterLab {found}")
    for part, what, package in ((WIDGETS, "sliders", "jupyterlab_widgets"), (OWN_WIDGETS, "grids", "anywidget")):
        drawn = any((Path(folder) / part).is_dir() for folder in jupyter_path())
        missing = f"JupyterLab cannot draw {what}: python -m pip install {package}, and start JupyterLab again"
        yield Finding(drawn, f"JupyterLab can draw {what}" if drawn else missing)


def browser() -> Iterator[Finding]:
    """A browser on this machine; one elsewhere does as well."""
    found = next((name for name in BROWSERS if shutil.which(name)), None)
    elsewhere = "no browser found by its name: open the address that JupyterLab prints in the one that you use"
    yield Finding(True if found else None, f"a browser: {found}" if found else elsewhere)


def beside() -> Iterator[Finding]:
    """What METEOR needs, which no lesson does."""
    if shutil.which("java") is None:
        yield Finding(None, "no Java, so the metric METEOR is left out where texts are scored; no lesson needs it")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (python, packages, machine, own_files, jupyter, browser, beside)
