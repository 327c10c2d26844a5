"""What a study tells before it starts: what is done, how long the rest takes here, and how much it writes."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.runs import check_columns, expected_seconds, read_results, rows_of
from dylora_kit.paper.short_timing import TIMED, slowness
from dylora_kit.storage.files import data_folder


def tell(name: str, study: Study, tasks: Sequence[str], seeds: Sequence[int] | None, out: Path) -> int:
    """Prints, for each task, how many measurements are done, and about what the others take.

    Returns the bytes that they take on the disk.
    """
    total = 0
    for task in tasks:
        path = study.path(task, out)
        results, shipped = read_results(path), read_results(study.path(task, data_folder()))
        jobs = study.jobs_of(task, seeds, out)
        check_columns(results, jobs, path)
        missing = [job for job in jobs if not len(rows_of(results, job))]
        done = f"{name}, {task}: {len(jobs) - len(missing)} of {len(jobs)} measurements are done in {path.name}"
        if not missing:
            print(done)
            continue
        measured_here = results if out != data_folder() else pd.DataFrame()
        minutes = sum(seconds_here(job, task, measured_here, shipped) for job in missing) / 60
        needed = sum(job.disk for job in missing)
        total += needed
        core = "the GPU" if torch.cuda.is_available() else "one core"
        print(f"{done}, the others take about {max(round(minutes), 1)} minutes of {core} and {_size(needed)} of disk")
    return total


def check_room(needed: int, out: Path) -> None:
    """Raises `ValueError` if so many bytes do not fit on the disk."""
    free = _free(out)
    if needed > free:
        raise ValueError(
            f"{out} has {_size(free)} free, and about {_size(needed)} are needed: make room, or pass --out"
        )


def seconds_here(job: Job, task: str, measured: pd.DataFrame, shipped: pd.DataFrame) -> float:
    """About how long a measurement takes on this machine.

    What others of its part took here, where there are any. Else, on the embedded tier, what they took where the shipped
    results come from, by how much slower a step is here; on other tiers the job itself was timed, or its time guessed.
    """
    kind = task.partition("-")[0]
    if kind in TIMED:
        job = replace(job, seconds=slowness(kind) * expected_seconds(job, [shipped]))
    return expected_seconds(job, [measured])


def _free(folder: Path) -> int:
    """How many bytes are free where a folder is, or will be."""
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _size(numbers: float) -> str:
    """Bytes in words.

    >>> _size(20_000), _size(3_400_000), _size(41_000_000_000)
    ('1 MB', '3 MB', '41 GB')
    """
    return f"{numbers / 1e9:.0f} GB" if numbers >= 1e9 else f"{max(numbers / 1e6, 1):.0f} MB"
