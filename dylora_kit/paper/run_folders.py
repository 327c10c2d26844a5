"""What a measurement leaves beside its rows: a folder that says what was run, with which versions, and how it went.

results/runs/table4-digits-turned/digits-turned-uniform-3a46-seed-10/
    run.json       part, seed and settings; versions of the packages, the kit's commit, device and threads
    log.txt        what it printed and warned, and of each start when, with which commit and torch, and how it ended
    metrics.csv    its rows at every rank, once it is done
"""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch

from dylora_kit.storage.files import write_files

if TYPE_CHECKING:
    import pandas as pd

    from dylora_kit.paper.jobs import Job

PACKAGES = ("dylora_kit", "torch", "transformers", "datasets", "numpy", "pandas", "scikit-learn", "sacrebleu")


def folder_of(results: Path, job: "Job") -> Path:
    """Where a measurement of a results file leaves its folder."""
    parts = "-".join(slug(str(value)) for value in job.part.values())
    own = hashlib.sha256(json.dumps(job.part).encode()).hexdigest()[:4]  # names that differ in a sign have one slug
    return results.parent / "runs" / results.stem / f"{parts}-{own}-seed-{job.seed}"


def run_in(folder: Path, job: "Job") -> "pd.DataFrame":
    """The rows of a measurement, which leaves its folder. What an earlier attempt logged stays in front.

    What it raises goes on, and into the log.
    """
    (folder / "metrics.csv").unlink(missing_ok=True)  # of an earlier run, perhaps with other settings
    config = {"part": job.part, "seed": job.seed, "settings": job.settings}
    code, packages = commit(), versions()
    record = config | {"versions": packages, **code, "device": device(), "threads": torch.get_num_threads()}
    write_files(folder, {"run.json": (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()})
    with _logged(folder / "log.txt", f"commit {code['commit']}, torch {packages['torch']}"):
        rows = job.run()
    try:
        write_files(folder, {"metrics.csv": rows.to_csv(index=False).encode()})
    except OSError as error:  # the rows themselves must not be lost for it
        print(f"{folder / 'metrics.csv'} could not be written: {error}", file=sys.stderr)
    return rows


def slug(words: str) -> str:
    """A method's name in the name of a file.

    >>> slug("LoRA, cut, scale α/r")
    'lora-cut-scale-α-r'
    """
    return re.sub(r"\W+", "-", words.lower()).strip("-")


def versions() -> dict[str, str | None]:
    """The versions of Python and of what results depend on; None for a package that is not installed as one."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def commit() -> dict[str, Any]:
    """The kit's commit, and whether its code is changed since; both None outside a clone."""
    code = Path(__file__).parents[1]

    here = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*words: str) -> str:  # a clone may belong to another user, as in a container
        command = ["git", "-c", "safe.directory=*", "-C", str(code), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=here).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != code.parent.resolve():
            return {"commit": None, "changed": None}  # the kit is installed within another repository
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}


def device() -> str:
    """What is trained on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"


class _Both:
    """A stream that is also a log, as long as that is open: a library's logger may keep it."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self._stream, self._log = stream, log

    def write(self, text: str) -> int:
        """Writes to both. A progress bar, which draws over itself, is not logged."""
        if not self._log.closed and not text.startswith("\r"):
            self._log.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _logged(path: Path, what: str) -> Iterator[None]:
    """A block whose output also goes to a log, with the times."""
    with path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as log:
        log.write(f"{_now()}: started, {what}\n")
        start = time.process_time()
        try:
            with redirect_stdout(_Both(sys.stdout, log)), redirect_stderr(_Both(sys.stderr, log)):
                yield
        except BaseException as error:
            log.write(f"{_now()}: stopped by {type(error).__name__}: {error}\n")
            raise
        log.write(f"{_now()}: done after {time.process_time() - start:.1f} s of CPU time\n")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
