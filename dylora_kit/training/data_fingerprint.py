"""What a checkpoint remembers of the training data: enough to notice that a run goes on with other data."""

import hashlib
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

SAMPLE = 64  # examples


def data_fingerprint(data: Any) -> str | None:
    """A hash of examples from all over a map-style dataset; None if they differ each time they are read.

    Up to `SAMPLE` are read, the first and the last among them. Reading leaves the global random states of Python, NumPy
    and torch as they were.

    >>> data_fingerprint([{"x": 1}, {"x": 2}]) == data_fingerprint([{"x": 1}, {"x": 3}])
    False
    """
    if len(data) == 0:
        return None
    last = len(data) - 1
    chosen = sorted({round(index * last / (SAMPLE - 1)) for index in range(SAMPLE)})
    python, numpy = random.getstate(), sys.modules.get("numpy")
    of_numpy = numpy.random.get_state() if numpy else None
    with torch.random.fork_rng([]):
        first, again = (hash_of([data[index] for index in chosen]) for _ in range(2))
    random.setstate(python)
    if numpy:
        numpy.random.set_state(of_numpy)
    return first if first == again else None


def hash_of(value: Any) -> str:
    """The first 12 hexadecimal digits of a hash of a value, whatever it is made of."""
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()[:12]


def _add(digest: Any, value: Any) -> None:
    """Puts a value and its type into a hash; of an object that is neither number, text nor array its type alone."""
    digest.update(type(value).__name__.encode())
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        digest.update(str((value.dtype, tuple(value.shape))).encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    elif hasattr(value, "tobytes"):  # an array of NumPy, a picture of PIL
        digest.update(str([getattr(value, key, None) for key in ("dtype", "shape", "mode", "size")]).encode())
        digest.update(value.tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _add(digest, key)
            _add(digest, value[key])
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for element in value:
            _add(digest, element)
    elif isinstance(value, str | bytes | int | float | bool | None):
        digest.update(repr(value).encode("utf-8", "surrogatepass"))
