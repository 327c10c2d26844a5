"""The base model that a command line names."""

from pathlib import Path
from typing import Any


def opened(kind: Any, name: str, **options: Any) -> Any:
    """What a class of transformers reads from a folder or from the hub, without a report of what is new in it.

    Arguments:
        kind: such as `AutoTokenizer`.
        name: a folder, or a name on the hub.
        options: of its `from_pretrained`.

    Raises `OSError` that names what was looked for.
    """
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return kind.from_pretrained(name, **options)
    except OSError as error:
        if Path(name).is_dir():
            raise
        raise OSError(f"there is no folder {name!r} here, and it cannot be fetched from the hub: {error}") from error
    finally:
        logging.set_verbosity(before)
