"""python -m dylora_kit class: what an instructor takes to a class."""

import argparse
from pathlib import Path
from typing import Any

from dylora_kit.classroom.clone import clone_folder
from dylora_kit.classroom.export import Wishes, made
from dylora_kit.classroom.exported_folder import write_export
from dylora_kit.classroom.wheelhouse import Machine, fill

EXPORT_EXAMPLE = """examples:
  python -m dylora_kit class export my-class
  python -m dylora_kit class export my-class --lessons 00 03 --nbgrader --page https://example.org/slider/"""
WHEELHOUSE_EXAMPLE = """examples:
  python -m dylora_kit class wheelhouse my-wheels
  python -m dylora_kit class wheelhouse my-wheels --extra-index https://download.pytorch.org/whl/cpu
  python -m dylora_kit class wheelhouse my-wheels --platform win_amd64 --python 3.12"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of a command line."""
    command = commands.add_parser(
        "class",
        help="write what an instructor takes to a class",
        description="Lessons for students and for teachers, slides and hand-outs; and what a room without internet "
        "needs.",
    )
    parts = command.add_subparsers(required=True, metavar="part")
    _add_export(parts)
    _add_wheelhouse(parts)


def _add_export(parts: Any) -> None:
    export = parts.add_parser(
        "export",
        help="write the lessons for students and for teachers, slides, a hand-out and a glossary",
        description="Writes into FOLDER, from the notebooks of the clone: student/ without hints and solutions, "
        "teacher/ with all of them and the notes for instructors, slides/ with speaker notes, and two pages for paper. "
        "Written again, it replaces what it wrote, and stops before a file that someone else wrote or changed.",
        epilog=EXPORT_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("folder", metavar="FOLDER", help="made if it is not there")
    export.add_argument("--lessons", nargs="+", metavar="NUMBER", help="which, such as 00 03; default is all")
    export.add_argument("--nbgrader", action="store_true", help="write a course for nbgrader, too")
    export.add_argument("--no-slides", action="store_true", help="leave the slides out, which take the longest")
    export.add_argument("--page", metavar="URL", help="where the page with the slider is, for the QR code")
    export.add_argument("--reveal", metavar="FOLDER", help="a local reveal.js, for slides that need no internet")
    export.set_defaults(run=run_export)


def _add_wheelhouse(parts: Any) -> None:
    wheelhouse = parts.add_parser(
        "wheelhouse",
        help="download what a room without internet needs to install the kit",
        description="Downloads the packages of requirements.txt into FOLDER, and writes the one command that installs "
        "them there, without internet, into FOLDER/INSTALL.txt. With torch for CUDA that takes several gigabytes.",
        epilog=WHEELHOUSE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    wheelhouse.add_argument("folder", metavar="FOLDER", help="made if it is not there, or gone on with")
    wheelhouse.add_argument("--python", metavar="VERSION", help="of the machines there; default is this one")
    wheelhouse.add_argument("--platform", metavar="NAME", help="of the machines there, as pip names it")
    wheelhouse.add_argument("--extra-index", metavar="URL", help="beside PyPI, such as the one with torch for the CPU")
    wheelhouse.set_defaults(run=run_wheelhouse)


def run_export(arguments: argparse.Namespace) -> None:
    """Writes the class folder, and says what is in it."""
    folder = Path(arguments.folder)
    wishes = Wishes(
        lessons=arguments.lessons,
        slides=not arguments.no_slides,
        nbgrader=arguments.nbgrader,
        page=arguments.page,
        reveal=None if arguments.reveal is None else Path(arguments.reveal),
    )
    result = made(clone_folder(), wishes)
    paths = write_export(folder, result.contents)
    print(f"written: {len(paths)} files in {folder}; begin with {folder / 'README.md'}")
    for remark in result.remarks:
        print(remark)


def run_wheelhouse(arguments: argparse.Namespace) -> None:
    """Downloads the wheels, and prints the command that installs them."""
    folder = Path(arguments.folder)
    machine = Machine(python=arguments.python, platform=arguments.platform, index=arguments.extra_index)
    command = fill(clone_folder(), folder, machine)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e9
    print(f"written: {folder}, {size:.1f} GB. In a clone of the repository, without internet:\n{command}")
