"""A folder that an export fills, and may fill again: what somebody else put there or changed is not written over."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from dylora_kit.storage.files import read_json, write_files

RECORD = "export.json"  # in the folder: what was written there, and the SHA-256 of each file


def write_export(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Writes files into a folder and its subfolders, and a record of them; returns where they are.

    A file of an earlier export is replaced, and one that is no longer exported is left.

    Arguments:
        folder: made if it is not there.
        contents: by their path in the folder, such as `student/hints.md`.

    Raises `ValueError`, before anything is written, if the folder is a file, or if a file is in the way that no export
    wrote, or that was changed since.
    """
    before = _written_before(folder)
    in_the_way = [
        name
        for name, content in contents.items()
        if (folder / name).exists() and not _is_one_of(folder / name, before.get(name, ""), _digest(content))
    ]
    if in_the_way:
        changed = in_the_way[0] in before
        what = "was changed since it was exported" if changed else "is there already, and no export wrote it"
        raise ValueError(f"{folder / in_the_way[0]} {what}: name another folder, or move that file away")
    for parent in {parent for name in contents for parent in (folder / name).parents}:
        if parent.is_file():
            raise ValueError(
                f"{parent} is a file where a folder has to be: name another folder, or move that file away"
            )
    by_folder: dict[Path, dict[str, bytes]] = {}
    for name, content in contents.items():
        by_folder.setdefault((folder / name).parent, {})[Path(name).name] = content
    record = before | {name: _digest(content) for name, content in contents.items()}
    for place, files in by_folder.items():
        write_files(place, files)
    described = {"written by": "python -m dylora_kit class export", "files": record}
    write_files(folder, {RECORD: json.dumps(described, indent=1).encode()})
    return [folder / name for name in contents]


def _written_before(folder: Path) -> dict[str, str]:
    """The record of earlier exports into a folder: the SHA-256 of each file, by its path."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder, a new one or one that an export wrote")
    if not (folder / RECORD).is_file():
        return {}
    files = read_json(folder / RECORD).get("files")
    if not isinstance(files, dict):
        raise ValueError(f"{folder / RECORD} is not what an export wrote: name another folder, or move that file away")
    return {str(name): str(digest) for name, digest in files.items()}


def _is_one_of(path: Path, *digests: str) -> bool:
    return path.is_file() and _digest(path.read_bytes()) in digests


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
