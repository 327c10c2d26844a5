"""An adapter by the name of its file, of its folder, or of its repository on the hub."""

import re
from os import PathLike
from pathlib import Path

from dylora_kit.resizing.adapter_file import AdapterFile
from dylora_kit.resizing.kohya_file import KohyaFile
from dylora_kit.resizing.peft_folder import PeftFolder
from dylora_kit.storage.adapter_files import CONFIG, WEIGHTS

ON_THE_HUB = re.compile(r"[\w.-]+/[\w.-]+")


def open_adapter(source: str | PathLike[str]) -> AdapterFile:
    """Opens a LoRA; of its tensors none is read yet.

    Arguments:
        source: a folder of PEFT or of this kit, a `.safetensors` file of kohya's scripts, or the name of a folder of
            PEFT on the hub, such as `"org/adapter"`, which is fetched.

    Raises `FileNotFoundError` if there is nothing of that name, `ConnectionError` if it cannot be fetched, and
    `ValueError` for files that are damaged, or that hold another kind of adapter.
    """
    path = Path(source)
    if path.is_dir():
        return PeftFolder(path)
    if path.is_file():
        return KohyaFile(path)
    if not ON_THE_HUB.fullmatch(str(source)):
        raise FileNotFoundError(f"there is no file or folder {source}")
    return PeftFolder(_fetched(str(source)))


def _fetched(name: str) -> Path:
    """The folder in which the hub's copy of an adapter lies."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # whatever went wrong, the user needs to know what was looked for
        raise ConnectionError(
            f"there is no folder {name}, and it cannot be fetched from the hub ({type(error).__name__}): pass a folder "
            "that is there"
        ) from error
