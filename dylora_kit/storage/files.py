"""Files that are whole or not there: safetensors and JSON, written beside their place and then moved into it."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


def data_folder() -> Path:
    """Where the kit's files are: `data/` of the repository, or of the folder that `DYLORA_KIT_HOME` names.

    Raises `FileNotFoundError` if neither has it.
    """
    home = Path(os.environ.get("DYLORA_KIT_HOME") or Path(__file__).parents[2])
    if not (home / "data").is_dir():
        raise FileNotFoundError(f"there is no data folder in {home}: set DYLORA_KIT_HOME to a clone of the repository")
    return home / "data"


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes files into a folder, all or none: after an error (a full disk) the previous ones are still there.

    Arguments:
        folder: made if it is not there.
        contents: `{name: bytes}`.

    Raises `OSError` if that fails, also if a file's name is that of a folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary_files: dict[Path, Path] = {}  # {where a file goes: where it is written first}
    try:
        for name, content in contents.items():
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
            temporary_files[folder / name] = Path(temporary)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp lets the owner alone read; the umask can only be read by setting it
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)
        for place in temporary_files:
            if place.is_dir():
                raise IsADirectoryError(f"cannot write the file {place}: there is a folder of that name")
        for place, temporary_file in temporary_files.items():
            temporary_file.replace(place)
    finally:
        for temporary_file in temporary_files.values():
            temporary_file.unlink(missing_ok=True)


def tensors_as_bytes(tensors: Mapping[str, Tensor], metadata: Any = None) -> bytes:
    """A safetensors file; `metadata` is any JSON value, kept in its header."""
    on_cpu = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    # one key: safetensors writes several in any order, and equal contents are to give equal bytes
    header = {"format": "pt"} if metadata is None else {"metadata": json.dumps(metadata)}
    return save(on_cpu, header)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a safetensors file and the metadata `tensors_as_bytes` put there (else None).

    Raises `FileNotFoundError`, or `ValueError` for a file that is damaged or holds a value that is not finite.
    """
    if not path.is_file():
        raise _missing(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata = json.loads((file.metadata() or {}).get("metadata", "null"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path.name} holds values that are not finite in {name!r}: the file cannot be used")
    return tensors, metadata


def _missing(path: Path) -> FileNotFoundError:
    """The error for a file that is not there, or whose folder is not there."""
    if path.parent.is_dir():
        return FileNotFoundError(f"there is no {path.name} in {path.parent}")
    return FileNotFoundError(
        f"there is no folder {path.parent}: if that is a name on the hub, fetch it with "
        "huggingface_hub.snapshot_download first"
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `FileNotFoundError`, or `ValueError` if the file holds anything else."""
    if not path.is_file():
        raise _missing(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged or no JSON file: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: expected a JSON object")
    return content


def fingerprint(*paths: Path) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of files one after another: tells their versions apart."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]
