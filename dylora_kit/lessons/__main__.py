"""Commands for whoever publishes the lessons: python -m dylora_kit.lessons address --help"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dylora_kit.lessons.repository_address import checked_address, read_address, write_address

ROOT = Path(__file__).parents[2]
EXAMPLE = "example: python -m dylora_kit.lessons address https://github.com/you/your_repository"


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """Runs a command line on a clone of the repository; what cannot be done ends it with one sentence."""
    parser = argparse.ArgumentParser(prog="python -m dylora_kit.lessons", description="Commands for the lessons.")
    commands = parser.add_subparsers(required=True, metavar="command")
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
    found = parser.parse_args(arguments)
    try:
        changed = write_address(root, None if found.remove else checked_address(found.address))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    now = read_address(root)
    print("no address is set" if now is None else f"the address is {now}", end="; ")
    print("changed: " + ", ".join(str(path.relative_to(root)) for path in changed) if changed else "nothing to change")


if __name__ == "__main__":
    main()
