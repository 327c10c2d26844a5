"""Commands for LoRA adapters on disk, and for a class: python -m dylora_kit --help"""

import argparse
import io
import sys
from collections.abc import Sequence

from dylora_kit.commands import advise, classroom, doctor, inspect, nest, page, resize


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    whole = argparse.ArgumentParser(
        prog="python -m dylora_kit", description="Commands for adapters on disk, and for a class."
    )
    commands = whole.add_subparsers(required=True, metavar="command")
    for command in (resize, inspect, nest, advise, doctor, page, classroom):
        command.add_to(commands)
    return whole


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; what cannot be done ends it with one sentence."""
    given = parser().parse_args(arguments)
    try:
        given.run(given)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file on Windows may have no bars and no arrows
        sys.stdout.reconfigure(errors="replace")
    main()
