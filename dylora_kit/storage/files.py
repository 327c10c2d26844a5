"""Files that are whole or not there: safetensors and JSON, written beside their place and then moved into it."""

import hashlib
import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from dylora_kit.storage.temporary_files import TemporaryFile, clear_left_over

RECORD = "dylora_kit"  # the key of a safetensors header under which checksum and metadata stand
MOST_NESTED = 100  # levels of a JSON object: far below where Python's recursion ends
RECORD_WITHOUT_CHECKSUM = "metadata"  # where files of before the checksum have their metadata
CHUNK = 1 << 20  # bytes of a file that are read at a time


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
    clear_left_over(folder, list(contents))
    temporary_files: list[TemporaryFile] = []
    try:
        for name, content in contents.items():
            temporary_files.append(TemporaryFile(folder / name))
            temporary_files[-1].write(content)
        for file in temporary_files:
            if file.place.is_dir():
                raise IsADirectoryError(f"cannot write the file {file.place}: there is a folder of that name")
        with _interrupts_held_back():
            for file in temporary_files:
                file.path.replace(file.place)
    finally:
        for file in temporary_files:
            file.close()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A block that Ctrl-C does not interrupt: `KeyboardInterrupt` comes after it."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets it
        yield
        return
    waiting: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
    if waiting and callable(before):
        before(*waiting[0])


def check_new_folder(path: str | os.PathLike[str]) -> None:
    """Raises `ValueError` for a folder to be written that is there already and not empty, or that cannot be written.

    So what takes long can be told beforehand that its result has no place. Nothing of the check remains.
    """
    if not str(path):
        raise ValueError("the folder to be written has no name: name a new folder")
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        kind = "a folder that is not empty" if folder.is_dir() else "a file"
        raise ValueError(f"{folder} is {kind}, which would be written over: name a new folder")
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}): name a new folder elsewhere") from error
    finally:
        for one in new:
            if one.is_dir():
                one.rmdir()


def tensors_as_bytes(
    tensors: Mapping[str, Tensor], metadata: Any = None, texts: Mapping[str, str] | None = None
) -> bytes:
    """A safetensors file with a checksum of its tensors; `metadata` is any JSON value, kept in its header.

    Arguments:
        texts: what else goes into the header, as other software writes it there.
    """
    on_cpu = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    header, data = _split(save(on_cpu))
    beside = {"format": "pt", **(texts or {})}
    record = {"sha256": _checksum([header, beside, metadata], [data]), "metadata": metadata}
    # safetensors would write the keys of the metadata in any order, and equal contents are to give equal bytes
    text = json.dumps({"__metadata__": {**beside, RECORD: json.dumps(record)}, **header}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a safetensors file and the metadata `tensors_as_bytes` put there (else None).

    A file of other software, or of an older version of this kit, has no checksum, and is read without.

    Raises `FileNotFoundError`, or `ValueError` for a file that is damaged or holds a value that is not finite.
    """
    if not path.is_file():
        raise _missing(path)
    with _told_as_damage(path):
        content = path.read_bytes()
        views = load(content)
        header, data = _split(content)
        metadata, _ = _checked_metadata(header, [data])
        tensors = {name: views[name].clone() for name in header}
    for name, tensor in tensors.items():
        _check_finite(tensor, name, path)
    return tensors, metadata


class TensorFile:
    """A safetensors file that is read one tensor at a time, so that no more than one is in memory.

    Attributes:
        shapes: the shape of each tensor, by name.
        metadata: what `tensors_as_bytes` put into the header as `metadata`, else None.
        texts: what other software put there, by key.

    A file with a checksum is read through once, to compare it. Raises `FileNotFoundError`, or `ValueError` for a file
    that is damaged.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise _missing(path)
        self.path = path
        with _told_as_damage(path), path.open("rb") as file:
            self._file = safe_open(path, framework="pt")
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            self.metadata, self.texts = _checked_metadata(header, iter(lambda: file.read(CHUNK), b""))
            self.shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}

    def read(self, name: str) -> Tensor:
        """One tensor. Raises `ValueError` for values that are not finite."""
        with _told_as_damage(self.path):
            tensor: Tensor = self._file.get_tensor(name)
        _check_finite(tensor, name, self.path)
        return tensor


def _checked_metadata(header: dict[str, Any], data: Iterable[bytes]) -> tuple[Any, dict[str, str]]:
    """The metadata in a header, of this kit and of others, which is taken out of it; `ValueError` if damaged."""
    written = header.pop("__metadata__", {})
    ours = next((key for key, text in written.items() if key == RECORD or text.startswith('{"sha256"')), None)
    if ours is not None:  # also where the key is damaged
        record = json.loads(written.pop(ours))
        metadata = record["metadata"]
        if ours != RECORD or record["sha256"] != _checksum([header, written, metadata], data):
            raise ValueError("its checksum is not that of its contents")
    else:
        metadata = json.loads(written.get(RECORD_WITHOUT_CHECKSUM, "null"))
    if _is_deep(metadata):
        raise ValueError("its metadata is nested too deeply")
    return metadata, written


@contextmanager
def _told_as_damage(path: Path) -> Iterator[None]:
    """Turns whatever reading a safetensors file raises into a `ValueError` that says that it is damaged."""
    try:
        yield
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        unreadable = isinstance(error, TypeError | KeyError | RecursionError)
        problem = "its metadata is not what this kit writes" if unreadable else str(error)
        raise ValueError(f"{path} is damaged or no safetensors file: {problem}") from None


def _check_finite(tensor: Tensor, name: str, path: Path) -> None:
    if not is_finite(tensor):
        raise ValueError(f"{path.name} holds values that are not finite in {name!r}: the file cannot be used")


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite, in any type of number, also of eight bits.

    >>> is_finite(torch.tensor([1.0, float("nan")]))
    False
    """
    small = tensor.is_floating_point() and tensor.itemsize < 2  # torch has no isfinite for these
    return bool(torch.isfinite(tensor.float() if small else tensor).all())


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file and the bytes after it."""
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def _checksum(header: list[Any], data: Iterable[bytes]) -> str:
    """The SHA-256 of all that stands in a header, names, types and shapes of tensors among it, and of the data."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for part in data:
        digest.update(part)
    return digest.hexdigest()


def _missing(path: Path) -> FileNotFoundError:
    """The error for a file that is not there, or whose folder is not there."""
    if path.parent.is_file():
        return FileNotFoundError(f"{path.parent} is a file: pass the folder that it is in")
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
        deep = _is_deep(content)
    except RecursionError:
        content, deep = None, True
    except ValueError as error:  # also of bytes that are no text, and of a number with thousands of digits
        raise ValueError(f"{path} is damaged or no JSON file: {error}") from None
    if deep:
        raise ValueError(f"{path} is damaged or no JSON file: it is nested too deeply")
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: expected a JSON object")
    return content


def _is_deep(content: Any) -> bool:
    """Whether JSON is nested so deeply that what looks at it later may fail."""
    level = [content]
    for _ in range(MOST_NESTED):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return bool(level)


def fingerprint(*paths: Path) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of files one after another: tells their versions apart."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]
