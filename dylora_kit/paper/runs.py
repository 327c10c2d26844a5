"""Measurements that are kept: jobs of a results file, each done once, one after another or several at a time."""

import io
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dylora_kit.paper.jobs import Job
from dylora_kit.paper.run_folders import folder_of, run_in
from dylora_kit.paper.settings import SEEDS
from dylora_kit.storage.files import write_files

if TYPE_CHECKING:
    import pandas as pd

    from dylora_kit.core.adapters import Adapters

COMMON = ("steps", "batch_size", "backbone", "data")  # settings that all methods on a task have in common


def read_results(path: Path) -> "pd.DataFrame":
    """The rows of a results file; none if there is no such file."""
    import pandas as pd

    checksums = {"backbone": str, "data": str}  # one of digits alone is no number
    if not path.is_file():
        return pd.DataFrame()
    try:
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            raise ValueError(f"{path} ends in the middle of a line: delete that line, or pass --out")
        return pd.read_csv(io.StringIO(text), dtype=checksums)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{path} is empty: delete it, or pass --out") from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no file of results: delete it, or pass --out") from error


def rows_of(results: "pd.DataFrame", job: Job) -> "pd.DataFrame":
    """The rows that a job has already given; none unless it is done."""
    rows = _matching(results, job.part | {"seed": job.seed})
    return rows if job.makes is None or job.makes.is_dir() else rows.iloc[:0]


def collect(path: Path, jobs: Sequence[Job], *, n_jobs: int | None = 1) -> "pd.DataFrame":
    """All rows of a results file, after every job that it did not hold yet; it is written after each.

    Each leaves a folder beside the file, see `run_folders`.

    Arguments:
        n_jobs: how many jobs run at a time, each in a process of its own with one thread; -1 for one on each core.
            joblib spreads them, so that another backend of joblib's can take them to other machines, which share the
            folder: see `cluster` of the command, whose block takes None here.

    The rows are the same however many run at a time, and those of one call stand in the order of its jobs.

    Raises `ValueError`, before anything is run, if the file holds results of a part with other settings, or of another
    method on the same task with another budget, backbone or data, and while another process writes the same file. What
    a job raises ends the others; `ChildProcessError` if its process was killed. The file keeps what was done.
    """
    results, missing = _checked(path, jobs)
    if not missing:
        return results
    with _alone_with(path):
        start, missing = _checked(path, jobs)  # another run may just have ended
        done: dict[int, pd.DataFrame] = {}
        for number, new in _run(path, missing, n_jobs):
            done[number] = new
            results = start
            for at in sorted(done):
                results = _with_rows(results, missing[at], done[at])
            write_files(path.parent, {path.name: results.to_csv(index=False).encode()})
            job = missing[number]
            if job.scratch is not None:
                shutil.rmtree(job.scratch, ignore_errors=True)  # what is left costs disk alone
            print(f"{', '.join(map(str, job.part.values()))}, seed {job.seed}: done", flush=True)
    return results


def _run(path: Path, jobs: Sequence[Job], n_jobs: int | None) -> "Iterator[tuple[int, pd.DataFrame]]":
    """The number of each job and its rows, as they come."""
    from joblib import Parallel, delayed

    folders = [folder_of(path, job) for job in jobs]
    if n_jobs == 1:
        yield from enumerate(map(run_in, folders, jobs))
        return
    at_once = Parallel(n_jobs, return_as="generator_unordered", pre_dispatch="n_jobs")
    parent = None if n_jobs is None else os.getpid()
    try:
        calls = (delayed(_attempt)(number, folders[number], job, parent) for number, job in enumerate(jobs))
        for number, found in at_once(calls):
            if isinstance(found, Exception):
                raise found
            makes = jobs[number].makes
            if makes is not None and not makes.is_dir():
                raise FileNotFoundError(
                    f"there is no {makes} after its training: all machines have to share that folder"
                )
            yield number, found
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a training's process was killed, perhaps for want of memory: let fewer run at a time"
        ) from error


def _attempt(number: int, folder: Path, job: Job, parent: int | None) -> "tuple[int, pd.DataFrame | Exception]":
    """A job in a process of its own. What it raises is returned, so that rows that came before it are not lost."""
    torch.set_num_threads(1)
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        return number, run_in(folder, job)
    except Exception as error:
        if type(error).__module__ != "builtins" and not isinstance(error, torch.OutOfMemoryError):
            return number, ChildProcessError(f"{type(error).__name__}: {error}")  # itself it may not fit through a pipe
        return number, error


def _end_with(parent: int) -> None:
    """Ends this process when the command is gone, killed perhaps, which would begin the same training once more."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _with_rows(results: "pd.DataFrame", job: Job, new: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of a file, those of a job among them; what it gave before is replaced."""
    import pandas as pd

    results = results.drop(_matching(results, job.part | {"seed": job.seed}).index)
    new = new.round({"value": 6})
    lacking = {key: value for key, value in job.part.items() if key not in new}
    new = new.assign(**lacking, seed=job.seed, **job.settings, torch=torch.__version__)
    results = _without(results, new, [*job.part, "seed", "method", "rank", "metric"])
    return new if results.empty else pd.concat([results, new], ignore_index=True)


def _checked(path: Path, jobs: Sequence[Job]) -> "tuple[pd.DataFrame, list[Job]]":
    """The rows of a results file that fits the jobs, and the jobs that it does not hold yet."""
    results = read_results(path)
    check_columns(results, jobs, path)
    for job in jobs:
        _check_settings(results, job, path)
    return results, [job for job in jobs if not len(rows_of(results, job))]


def check_columns(results: "pd.DataFrame", jobs: Sequence[Job], path: Path) -> None:
    """Raises `ValueError` if a results file lacks a column that tells its jobs from each other."""
    needed = dict.fromkeys(key for job in jobs for key in (*job.part, "seed"))
    lacking = [key for key in needed if key not in results] if len(results) else []
    if lacking:
        raise ValueError(f"{path} has no column {lacking[0]!r}, so it is not a file of these results: pass --out")


@contextmanager
def _alone_with(path: Path) -> Iterator[None]:
    """A block in which no other process collects into the file; a lock falls with the process that held it."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"{path} is being written by another run: wait until it ends, or pass --out") from error
    try:
        yield
    finally:
        lock.release()


def expected_seconds(job: Job, measured: Sequence["pd.DataFrame"]) -> float:
    """About how much CPU time a job takes: what others of its part took, in the first of some results that has any."""
    for results in measured:
        rows = _matching(results, job.part)
        if len(rows) and "cpu_seconds" in rows:  # of a seed that was stopped on its way it is not known
            rows = rows.groupby("seed").filter(lambda of: of["cpu_seconds"].notna().all())
        if len(rows) and "cpu_seconds" in rows and rows["cpu_seconds"].max() > 0:
            trainings = rows.groupby(["seed", "method"])["cpu_seconds"].max()  # one is measured in several rows
            return float(trainings.groupby("seed").sum().mean())
    return job.seconds


def table(results: "pd.DataFrame", parts: Sequence[str]) -> "pd.DataFrame":
    """Mean ± standard deviation over seeds, in percent: parts and methods down, ranks across.

    Arguments:
        results: frames of `sweep` one under another, with columns that say which part each row is of.
        parts: those columns, such as `["domain"]`.
    """
    twice = results.duplicated([*parts, "method", "rank", "seed"])
    if twice.any():
        row = results[twice].iloc[0]
        raise ValueError(f"{row['method']!r} has rank {row['rank']} twice for seed {row['seed']}: name in `parts` the "
                         "column that tells the two apart")  # fmt: skip
    groups = results.assign(value=100 * results["value"]).groupby([*parts, "method", "rank"], sort=False)["value"]
    cells = groups.agg(lambda of: f"{of.mean():.0f}" + (f" ± {of.std():.0f}" if len(of) > 1 else ""))
    return cells.unstack("rank").sort_index(axis=1).fillna("")


def keep(adapters: "Adapters", folder: Path, what: str, command: str, settings: dict[str, Any], results: Path) -> None:
    """Saves adapters of the first seed into a folder, with a card that says what they are and how they were made."""
    adapters.save(folder)
    card = f"""# {folder.name}

{what}.

- Made by `{command}`. Seed {SEEDS[0]} is the first, not the best.
- Settings: `{json.dumps(settings)}`.
- How good they are, over all seeds: `data/results/{results.name}`. Licence: Apache-2.0.
"""
    write_files(folder, {"README.md": card.encode()})


def _matching(results: "pd.DataFrame", columns: dict[str, Any]) -> "pd.DataFrame":
    for key, value in columns.items():
        results = results[results[key] == value] if len(results) else results
    return results


def _without(results: "pd.DataFrame", new: "pd.DataFrame", columns: Sequence[str]) -> "pd.DataFrame":
    """The results that new ones do not replace: a job also gives rows of other methods than its own."""
    import pandas as pd

    shared = [column for column in dict.fromkeys(columns) if column in results and column in new]
    if results.empty or not shared:
        return results
    return results[~pd.MultiIndex.from_frame(results[shared]).isin(pd.MultiIndex.from_frame(new[shared]))]


def _check_settings(results: "pd.DataFrame", job: Job, path: Path) -> None:
    rows = _matching(results, job.part)
    task = {key: value for key, value in job.part.items() if key in ("task", "domain")}
    for key, value in job.settings.items():
        if key == "weight_decay":  # files that do not tell it had none
            rows = rows.assign(weight_decay=rows[key].fillna(0.0) if key in rows else 0.0)
        if key == "backbone" and (key not in rows or rows[key].isna().all()):
            continue  # older files of real text do not tell it
        others = {"not told"} if len(rows) and key not in rows else set(rows.get(key, ())) - {value}
        _raise_if(others, job.part, key, value, path)
        if key in COMMON and task and key in results:
            _raise_if(set(_matching(results, task)[key].dropna()) - {value}, task, key, value, path)


def _raise_if(others: set[Any], part: dict[str, Any], key: str, value: Any, path: Path) -> None:
    if others:
        other = others.pop()
        shown = f"{other:g}" if isinstance(other, float) else other  # whole numbers beside an empty cell are floats
        what = ", ".join(map(str, part.values()))
        raise ValueError(f"{path} has {what} with {key} = {shown}, now it is {value}: pass --out")
