"""Slides that open in a browser: what nbconvert is told, and reveal.js beside them."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dylora_kit.classroom.cells import Notebook

REVEAL = "5.2.1"
CARRIER = "sphinx-revealjs==3.2.1"  # a package of PyPI that carries it
ONLINE = f"https://unpkg.com/reveal.js@{REVEAL}"
BESIDE = "reveal.js"  # the folder with the local copy
GET = f"pip install --no-deps --target reveal {CARRIER}"
PARTS = (
    "LICENSE",
    "dist/reset.css",
    "dist/reveal.css",
    "dist/reveal.js",
    "dist/theme/white.css",
    "plugin/notes/notes.js",
    "plugin/notes/speaker-view.html",
)
NEEDED = ("dist/reveal.css", "dist/reveal.js", "dist/theme/white.css", "plugin/notes/notes.js")
LOADER = Path(__file__).with_name("load.js")
CONFIG_NAME = "nbconvert.json"
NOTHING = "data:text/javascript,"  # a script that does nothing


def nbconvert_config(*, offline: bool) -> dict[str, Any]:
    """What `jupyter nbconvert --to slides --config nbconvert.json` is told.

    Arguments:
        offline: whether reveal.js lies beside the slides; else it comes from a server.

    >>> nbconvert_config(offline=True)["SlidesExporter"]["reveal_url_prefix"]
    'reveal.js'
    """
    return {
        "SlidesExporter": {
            "reveal_url_prefix": BESIDE if offline else ONLINE,
            "reveal_theme": "white",
            "reveal_transition": "none",
            "reveal_number": "c/t",
            "reveal_width": "1920",
            "reveal_height": "1080",
            "exclude_input_prompt": True,
            "exclude_output_prompt": True,
            "require_js_url": LOADER.name,
            "jquery_url": NOTHING,
            "mathjax_url": NOTHING,
        }
    }


def deck(notebook: Notebook, name: str, *, offline: bool) -> str | None:
    """The slides as HTML, as nbconvert makes them; None where nbconvert is not installed.

    Arguments:
        notebook: as `for_slides` makes it.
        name: what the window is called.
        offline: as in `nbconvert_config`.
    """
    if find_spec("nbconvert") is None:
        return None
    import nbformat
    from nbconvert.exporters import SlidesExporter
    from traitlets.config import Config

    exporter = SlidesExporter(config=Config(nbconvert_config(offline=offline)))
    exporter.mermaid_js_url = f"{NOTHING}export default {{ initialize() {{}} }}"  # which no configuration sets
    content = nbformat.reads(json.dumps(notebook), as_version=4)
    page, _ = exporter.from_notebook_node(content, resources={"metadata": {"name": name}})
    return str(page)


def reveal_files(folder: Path) -> dict[str, bytes]:
    """The parts of a local reveal.js that the slides need, by their path beside the slides.

    Arguments:
        folder: one that has it, at any depth, such as `node_modules` or where pip put a package that carries it.

    Raises `FileNotFoundError` if it is not one.
    """
    found = sorted(place.parents[1] for place in folder.rglob("dist/reveal.js"))
    folder = found[0] if found else folder
    missing = [part for part in NEEDED if not (folder / part).is_file()]
    if missing:
        raise FileNotFoundError(f"there is no {missing[0]} in {folder}: expected reveal.js, as `{GET}` puts it there")
    parts = {part: (folder / part).read_bytes() for part in PARTS if (folder / part).is_file()}
    # the theme's own font is a megabyte, and the slides have another
    parts["dist/theme/white.css"] = re.sub(rb"@import url\([^)]*\);", b"", parts["dist/theme/white.css"])
    return {f"{BESIDE}/{part}": content for part, content in parts.items()}
