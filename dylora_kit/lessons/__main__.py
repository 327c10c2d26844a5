"""Commands for whoever publishes the lessons: python -m dylora_kit.lessons address --help, or openings --help"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dylora_kit.lessons.openings import drawn
from dylora_kit.lessons.repository_address import checked_address, read_address, write_address
from dylora_kit.storage.files import write_files

ROOT = Path(__file__).parents[2]
EXAMPLE = "example: python -m dylora_kit.lessons address https://github.com/you/your_repository"


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """Runs a command line on a clone of the repository; what cannot be done ends it with one sentence."""
    found = parser().parse_args(arguments)
    try:
        found.run(found, root)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    lessons = argparse.ArgumentParser(prog="python -m dylora_kit.lessons", description="Commands for the lessons.")
    commands = lessons.add_subparsers(required=True, metavar="command")
    address = commands.add_parser(
        "address",
        help="set the address of the repository",
        description="Writes the address of the repository into pyproject.toml, a Colab column of the README, and the "
        "badge and setup cell of each notebook. Colab then opens the notebooks of its branch main.",
        epilog=EXAMPLE,
    )
    which = address.add_mutually_exclusive_group(required=True)
    which.add_argument("address", nargs="?", metavar="ADDRESS", help="https://github.com/you/your_repository")
    which.add_argument("--remove", action="store_true", help="take out the address that is set")
    address.set_defaults(run=_address)
    openings = commands.add_parser(
        "openings",
        help="draw the picture that each lesson opens with",
        description="Draws the opening picture of each lesson, and writes it into notebooks/images as lesson_00.svg "
        "to lesson_08.svg.",
    )
    openings.set_defaults(run=_openings)
    return lessons


def _address(found: argparse.Namespace, root: Path) -> None:
    changed = write_address(root, None if found.remove else checked_address(found.address))
    now = read_address(root)
    print("no address is set" if now is None else f"the address is {now}", end="; ")
    print("changed: " + ", ".join(str(path.relative_to(root)) for path in changed) if changed else "nothing to change")


def _openings(_: argparse.Namespace, root: Path) -> None:
    folder = root / "notebooks" / "images"
    pictures = drawn()
    write_files(folder, pictures)
    print(f"wrote {', '.join(pictures)} into {folder}")


if __name__ == "__main__":
    main()
