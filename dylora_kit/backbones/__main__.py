"""python -m dylora_kit.backbones <name>: pretrains an embedded backbone."""

import argparse
import json
import sys
from pathlib import Path

from dylora_kit import backbones

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pretrain an embedded backbone.")
    parser.add_argument("name", choices=backbones.NAMES)
    parser.add_argument("--out", type=Path, help="another folder to write to")
    arguments = parser.parse_args()
    print(json.dumps(backbones.pretrain(arguments.name, arguments.out, progress=sys.stdout.isatty())))
