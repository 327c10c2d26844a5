"""Lesson 00 in other front ends than the tests', in a real Chromium: does the slider turn the live model?

Run by hand. A front end is installed from PyPI into a new environment, with the ipywidgets and the anywidget of the
kernel; the kernel is this Python, or another one that has the kit:

    PYTHONPATH=.:tests python tests/try_front_ends.py notebook-7 classic-6.5 voila
    PYTHONPATH=.:tests python tests/try_front_ends.py classic-6.5 --kernel /path/to/bin/python --keep environments
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from chromium import CHROMIUM_FLAGS, find_browser
from playwright.sync_api import Error, Locator, Page, expect, sync_playwright

LESSON = Path(__file__).parents[1] / "notebooks" / "00_start_here.ipynb"
VERSION = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
SERVER = ("--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.token=", "--expose-app-in-browser", "--allow-root")
CLASSIC = ("--no-browser", "--ip=127.0.0.1", "--NotebookApp.token=", "--allow-root")


class FrontEnd(NamedTuple):
    """How a front end is installed and opened.

    Attributes:
        package, wanted: the package whose version is told, and what pip is asked for.
        command: its module and arguments; PORT stands for the port.
        page: the path of the lesson's page; "" for Voilà, which runs the lesson by itself.
        run_all: JavaScript that runs all cells, or starts them.
        done: JavaScript that is true once all have run.
    """

    package: str
    wanted: str
    command: tuple[str, ...]
    page: str
    run_all: str = ""
    done: str = "document.querySelector('.dk-explorer-box')"


_JUPYTERLAB = {
    "run_all": """async () => {
        const lab = window.jupyterapp || window.jupyterlab, panel = lab.shell.currentWidget;
        await panel.sessionContext.ready;
        await panel.sessionContext.session.kernel.info;
        await lab.commands.execute('notebook:run-all-cells');
    }""",
}
_CLASSIC = {
    "run_all": "() => Jupyter.notebook.execute_all_cells()",
    "done": """Jupyter.notebook.get_cells().filter(cell => cell.cell_type === 'code')
        .every(cell => Number.isInteger(cell.input_prompt_number))""",
}
FRONT_ENDS = {
    "lab-4": FrontEnd("jupyterlab", "jupyterlab==4.*", ("jupyterlab", *SERVER, "--port=PORT"),
                      "lab/tree/lesson.ipynb?reset", **_JUPYTERLAB),
    "lab-3.6": FrontEnd("jupyterlab", "jupyterlab==3.6.*", ("jupyterlab", *SERVER, "--port=PORT"),
                        "lab/tree/lesson.ipynb?reset", **_JUPYTERLAB),
    "notebook-7": FrontEnd("notebook", "notebook==7.*", ("notebook", *SERVER, "--port=PORT"),
                           "notebooks/lesson.ipynb", **_JUPYTERLAB),
    "classic-6.5": FrontEnd("notebook", "notebook==6.5.*", ("notebook", *CLASSIC, "--port=PORT"),
                            "notebooks/lesson.ipynb", **_CLASSIC),
    "voila": FrontEnd("voila", "voila", ("voila", "lesson.ipynb", "--no-browser", "--port=PORT"), ""),
}  # fmt: skip
_READY = {"lab": "(window.jupyterapp || window.jupyterlab)?.shell?.currentWidget?.sessionContext?.session?.kernel",
          "classic": "window.Jupyter?.notebook?.kernel?.is_connected()"}  # fmt: skip


def main() -> None:
    """Tries the front ends that are named, and prints a line of findings for each."""
    parser = argparse.ArgumentParser(description="Lesson 00 in other front ends.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FRONT_ENDS)}; default: all")
    parser.add_argument("--kernel", default=sys.executable, metavar="PYTHON", help="runs the lesson; it has the kit")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keeps the environments for the next time")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="where to put a picture of each page")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(FRONT_ENDS)):
        parser.error(f"there is no front end {unknown[0]!r}: expected some of {', '.join(FRONT_ENDS)}")
    widgets, anywidget = (_output(given.kernel, "-c", VERSION, name) for name in ("ipywidgets", "anywidget"))
    for name in given.names or FRONT_ENDS:
        front_end = FRONT_ENDS[name]
        with tempfile.TemporaryDirectory() as folder:
            place = given.keep / f"{name}-{widgets}" if given.keep else Path(folder, "environment")
            python = _installed(place, [front_end.wanted, f"ipywidgets=={widgets}", f"anywidget=={anywidget}"])
            version = _output(python, "-c", VERSION, front_end.package)
            with served(Path(folder), python, front_end, given.kernel) as address:
                found = _tried(address, front_end, given.pictures and given.pictures / f"{name}-{widgets}.png")
        print(f"{front_end.package} {version}, ipywidgets {widgets}: {found}", flush=True)


def _output(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.strip()


def _installed(folder: Path, packages: list[str]) -> Path:
    python = folder.resolve() / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        _output(python, "-m", "pip", "install", "-q", *packages)
    return python


@contextmanager
def served(folder: Path, python: Path, front_end: FrontEnd, kernel: str) -> Iterator[str]:
    """The address at which the front end has a copy of the lesson, whose kernel is another Python."""
    (folder / "work").mkdir()
    shutil.copy(LESSON, folder / "work" / "lesson.ipynb")
    kernels = folder / "share" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    start = [kernel, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(json.dumps({"argv": start, "display_name": "Python 3", "language": "python"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    settings |= {"JUPYTER_PATH": str(folder / "share"), "TQDM_DISABLE": "1", "IPYTHONDIR": str(folder / "ipython")}
    command = [str(python), "-m", *(part.replace("PORT", str(port)) for part in front_end.command)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | settings, cwd=folder / "work", stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/{'' if not front_end.page else 'api'}", server, folder / "log")
        yield f"http://127.0.0.1:{port}/{front_end.page}"
    finally:
        server.terminate()
        server.wait(30)


def _wait(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(480):
        try:
            urllib.request.urlopen(address, timeout=120)
            return
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None:
                break
            time.sleep(0.25)
    sys.exit(log.read_text())


def _tried(address: str, front_end: FrontEnd, picture: Path | None) -> str:
    """What works in the page, in words."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address, timeout=300_000)
        if front_end.run_all:
            kind = "classic" if "Jupyter.notebook" in front_end.run_all else "lab"
            page.wait_for_function(_READY[kind], timeout=120_000)
            page.evaluate(front_end.run_all)
        try:
            page.wait_for_function(front_end.done, timeout=300_000)
            page.wait_for_selector(".dk-explorer-box .dk-picture [role=img]", timeout=60_000)
        except Error as error:
            found = [f"no explorer: {error.message.splitlines()[0]}"]
        else:
            box = page.locator(".dk-explorer-box").first
            box.scroll_into_view_if_needed()
            found = [f"{check.__name__} {works(check, page, box)}" for check in CHECKS]
        if picture:
            picture.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=picture)
        browser.close()
    return "; ".join([*found, f"{len(errors)} errors in the console" + (f": {errors[0][:200]}" if errors else "")])


def works(check: Callable[[Page, Locator], None], page: Page, box: Locator) -> str:
    try:
        check(page, box)
    except (AssertionError, Error) as error:
        return f"NO ({str(error).splitlines()[0][:120]})"
    return "yes"


def _at(box: Locator, rank: int) -> None:
    expect(box.locator(".dk-picture [role=img]")).to_have_attribute("data-rank", str(rank), timeout=20_000)


def _handle(box: Locator) -> Locator:
    return box.locator(".dk-slider").locator(".noUi-handle, .ui-slider-handle").first


def keys(page: Page, box: Locator) -> None:
    """The keyboard turns the rank, and the numbers follow."""
    _handle(box).focus()
    page.keyboard.press("Home")
    _at(box, 1)
    low = box.locator(".dk-value").all_text_contents()
    page.keyboard.press("ArrowRight")
    _at(box, 2)
    assert low and box.locator(".dk-value").all_text_contents() != low, "the numbers stand still"


def drag(page: Page, box: Locator) -> None:
    """So does the mouse."""
    _handle(box).hover()
    track = box.locator(".dk-slider").locator(".noUi-base, .ui-slider").first.bounding_box()
    assert track is not None
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * 5 / 7, track["y"] + track["height"] / 2, steps=12)
    page.mouse.up()
    _at(box, 6)


def number(page: Page, box: Locator) -> None:
    """So does the box for the number."""
    field = box.locator(".dk-number input")
    field.fill("5")
    field.press("Enter")
    _at(box, 5)


def guess(page: Page, box: Locator) -> None:
    """A guess is typed and answered."""
    field = page.locator(".dk-guess input").first
    field.scroll_into_view_if_needed()
    field.fill("42")
    field.press("Enter")
    expect(page.get_by_text("you said 42 %").first).to_be_visible(timeout=20_000)


def names(page: Page, box: Locator) -> None:
    """A screen reader can say what the slider is."""
    name = _handle(box).get_attribute("aria-label", timeout=5_000)
    assert name == "Inference rank", f"the handle is called {name!r}"


CHECKS: tuple[Callable[[Page, Locator], None], ...] = (keys, drag, number, guess, names)

if __name__ == "__main__":
    main()
