"""Files beside their place, until they are moved into it; those that a killed process left are cleared away."""

import os
import tempfile
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".dylora-part"
OLD = 24 * 60 * 60  # seconds after which a file is left over for certain, where it cannot be locked


class TemporaryFile:
    """A new file in a folder that no other writer clears away until `close`; `place` is where it is to go.

    It is locked where the system can lock files. Raises `OSError` if it cannot be made.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        while True:
            handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.", suffix=SUFFIX)
            self.path, self._file = Path(name), os.fdopen(handle, "wb")
            _lock(handle)
            if self.path.exists():  # else another writer has cleared it away before it was locked
                return
            self._file.close()

    def write(self, content: bytes) -> None:
        """Puts the content on the disk, with the permissions that the umask gives."""
        self._file.write(content)
        self._file.flush()
        os.fsync(self._file.fileno())
        # mkstemp lets the owner alone read; the umask can only be read by setting it
        umask = os.umask(0)
        os.umask(umask)
        self.path.chmod(0o666 & ~umask)
        if fcntl is None:  # an open file cannot be moved on Windows
            self._file.close()

    def close(self) -> None:
        """Gives the file free, and removes it unless it was moved."""
        self.path.unlink(missing_ok=True)
        self._file.close()


def clear_left_over(folder: Path, names: list[str]) -> None:
    """Removes the temporary files for these names that a killed process left in a folder."""
    for name in names:
        for path in folder.glob(f".{_escaped(name)}.*{SUFFIX}"):
            try:
                _remove_if_left_over(path)
            except OSError:  # another writer was faster, or it is not ours to remove
                continue


def _remove_if_left_over(path: Path) -> None:
    """Removes a temporary file that no process holds: its lock is free or, where there are no locks, it is a day old.

    The lock is kept until the file is gone, so that its writer, who may only have made it yet, cannot take it between.
    """
    old = time.time() - path.stat().st_mtime > OLD
    if fcntl is None:
        if old:
            path.unlink(missing_ok=True)
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:  # a file system without locks
            if not old:
                return
        path.unlink(missing_ok=True)


def _lock(handle: int) -> None:
    """Locks an open file for this process, where the system can."""
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            return


def _escaped(name: str) -> str:
    """A name as a pattern that matches it alone.

    >>> _escaped("a[1].json")
    'a[[]1].json'
    """
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
