"""Rebuilds `data/world/`: python -m dylora_kit.tasks.world [--out folder]"""

import argparse
from pathlib import Path

from dylora_kit.tasks import world

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m dylora_kit.tasks.world", description=__doc__)
    parser.add_argument("--out", type=Path, help="default: data/world of the repository")
    print(world.build(parser.parse_args().out))
