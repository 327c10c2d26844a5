"""Writes the rows of the six tasks into `data/world/`."""

import hashlib
import json
from pathlib import Path

from dylora_kit.storage.files import data_folder, write_files
from dylora_kit.synthetic.examples import rows
from dylora_kit.synthetic.names import NAMES, TEST, TRAIN


def build(folder: Path | None = None, *, train: int = TRAIN, test: int = TEST, seed: int = 0) -> Path:
    """Writes the rows of every task and a manifest with their checksums into a folder, which is returned."""
    folder = folder or data_folder() / "world"
    files = {
        f"{name}-{split}.jsonl": "".join(
            json.dumps(row, ensure_ascii=False) + "\n" for row in rows(name, split, size, seed)
        ).encode()
        for name in NAMES
        for split, size in (("train", train), ("test", test))
    }
    manifest = {
        "seed": seed,
        "sha256": {file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())},
    }
    write_files(folder, files | {"manifest.json": (json.dumps(manifest, indent=2) + "\n").encode()})
    return folder
