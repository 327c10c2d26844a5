"""Lesson 00 with VS Code's renderer of widgets, in a real Chromium: does the slider turn the live model?

Run by hand; needs npm. The renderer is the one that VS Code's Jupyter extension ships, from its npm package; the
notebook around it is `vscode_page.html`, which asks a Jupyter server for a kernel, as the extension does:

    PYTHONPATH=.:tests python tests/try_vscode.py --picture vscode.png
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from chromium import CHROMIUM_FLAGS, find_browser
from playwright.sync_api import Page, Route, sync_playwright
from try_front_ends import CHECKS, FRONT_ENDS, LESSON, served, works

PACKAGES = ("@vscode/jupyter-ipywidgets8", "@jupyterlab/services", "requirejs", "esbuild")
SERVICES = 'export { KernelManager, ServerConnection } from "@jupyterlab/services";'
KINDS = {".html": "text/html", ".js": "text/javascript"}


def main() -> None:
    """Prints a line of findings."""
    parser = argparse.ArgumentParser(description="Lesson 00 with VS Code's renderer of widgets.")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where to put a picture of the page")
    given = parser.parse_args()
    front_end = FRONT_ENDS["lab-4"]
    front_end = front_end._replace(command=(*front_end.command, "--ServerApp.disable_check_xsrf=True"))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as server:
        site = _site(Path(folder))
        with served(Path(server), Path(sys.executable), front_end, sys.executable) as address:
            print(f"VS Code's renderer: {_tried(address.partition('/lab/')[0], site, given.picture)}")


def _site(folder: Path) -> Path:
    """The files of the page, the kernel's connection bundled for a browser."""
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", *PACKAGES]
    subprocess.run(npm, cwd=folder, check=True)
    (folder / "services_entry.js").write_text(SERVICES)
    bundle = ["node_modules/.bin/esbuild", "services_entry.js", "--bundle", "--global-name=services",
              "--define:global=window", "--outfile=site/services.js", "--log-level=error"]  # fmt: skip
    subprocess.run(bundle, cwd=folder, check=True)
    modules, site = folder / "node_modules", folder / "site"
    shutil.copy(modules / "@vscode/jupyter-ipywidgets8/dist/ipywidgets.js", site)
    shutil.copy(modules / "requirejs/require.js", site)
    shutil.copy(Path(sys.prefix) / "share/jupyter/nbextensions/anywidget/index.js", site / "anywidget.js")
    shutil.copy(Path(__file__).with_name("vscode_page.html"), site)
    return site


def _tried(server: str, site: Path, picture: Path | None) -> str:
    """What works in the page, in words."""
    errors: list[str] = []

    def answer(route: Route) -> None:
        path = site / Path(route.request.url.partition("?")[0]).name
        route.fulfill(body=path.read_bytes(), content_type=KINDS[path.suffix])

    with sync_playwright() as playwright:
        # the page comes from no server, and Chromium asks before such a page may speak to one at home
        flags = [*CHROMIUM_FLAGS, "--disable-features=LocalNetworkAccessChecks"]
        browser = playwright.chromium.launch(executable_path=find_browser(), args=flags)
        page = browser.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.route("**/vscode/**", answer)
        page.goto(f"{server}/vscode/vscode_page.html")
        _run_lesson(page)
        box = page.locator(".dk-explorer-box").first
        found = [f"{check.__name__} {works(check, page, box)}" for check in CHECKS]
        if picture:
            page.screenshot(path=picture, full_page=True)
        browser.close()
    return "; ".join([*found, f"{len(errors)} errors in the console" + (f": {errors[0][:200]}" if errors else "")])


def _run_lesson(page: Page) -> None:
    """Runs all cells, and waits for the last one."""
    cells = [cell.source for cell in nbformat.read(LESSON, 4).cells if cell.cell_type == "code"]
    page.wait_for_function("Boolean(window.runAll)", timeout=60_000)
    page.evaluate("cells => { window.runAll(cells) }", cells)
    page.wait_for_function("window.allDone", timeout=300_000)
    page.wait_for_selector(".dk-explorer-box .dk-picture [role=img]", timeout=60_000)


if __name__ == "__main__":
    main()
