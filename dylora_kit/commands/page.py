"""python -m dylora_kit page: the rank slider as a page that needs no kernel."""

import argparse
from pathlib import Path
from typing import Any

from dylora_kit.page.build import page
from dylora_kit.storage.files import write_files

EXAMPLE = """example:
  python -m dylora_kit page my-page"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of a command line."""
    command = commands.add_parser(
        "page",
        help="write a page with the rank slider, which needs no kernel",
        description="Writes FOLDER/index.html: one file in which the digits model and its two adapters run at every "
        "rank, in any browser, from a disk or from any web server. Nothing is fetched.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", metavar="FOLDER", help="made if it is not there; an index.html in it is replaced")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Writes the page, and prints where. Raises `ValueError` if there is a file of the folder's name."""
    folder = Path(arguments.folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the page, a new one or one that is there")
    content = page().encode()
    write_files(folder, {"index.html": content})
    print(f"written: {folder / 'index.html'}, {len(content) / 1e6:.1f} MB; open it in a browser")
