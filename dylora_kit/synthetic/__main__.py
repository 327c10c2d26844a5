"""Rebuilds `data/world/`: python -m dylora_kit.synthetic [--out folder]"""

import argparse
from pathlib import Path

from dylora_kit.synthetic.build import build

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m dylora_kit.synthetic", description=__doc__)
    parser.add_argument("--out", type=Path, help="default: data/world of the repository")
    print(build(parser.parse_args().out))
