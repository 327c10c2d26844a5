"""The paper's settings, and the runs behind the tables and the shipped adapters.

In reading order:

- `compared_methods`: the methods, and how each is trained
- `published`: the paper's printed numbers
- `digits`, `glue`, `world`: every method at every rank
- `design`: how b is drawn, what is minimised, which rows move
- `layers`: a rank for each layer
- `search`: what it takes to find a rank
- `tables`: the tables beside the paper's
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dylora_kit.storage.files import write_files

if TYPE_CHECKING:
    import pandas as pd

    from dylora_kit.core.adapters import Adapters

# Table 8 lists 10, 42, 4242, 10, 1010: ten stands there twice, so a fifth one is added
SEEDS = (10, 42, 4242, 1010, 7)
COMMON = ("steps", "batch_size", "backbone", "data")  # settings that all methods on a task have in common


def table(results: "pd.DataFrame", parts: list[str]) -> "pd.DataFrame":
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


@dataclass(frozen=True)
class Job:
    """One measurement with one seed, for a results file.

    Attributes:
        part: what tells it, beside the seed, from others in the file: columns and their values.
        seed: the seed.
        settings: what all its results of a part must have in common.
        run: gives the rows, as `sweep` does; those of other methods that the same training gives may be among them.
        makes: a folder that `run` writes beside the rows; without it the job is not done.
    """

    part: dict[str, Any]
    seed: int
    settings: dict[str, Any]
    run: Callable[[], "pd.DataFrame"]
    makes: Path | None = None


def keep(adapters: "Adapters", folder: Path, what: str, made_by: str, settings: dict[str, Any], results: str) -> None:
    """Saves adapters of the first seed into a folder, with a card that says what they are and how they were made."""
    adapters.save(folder)
    card = f"""# {folder.name}

{what}.

- Made by `{made_by}`. Seed {SEEDS[0]} is the first, not the best.
- Settings: `{json.dumps(settings)}`.
- How good they are, over all seeds: `data/results/{results}`. Licence: Apache-2.0.
"""
    write_files(folder, {"README.md": card.encode()})


def command(parser: ArgumentParser, main: Callable[[Namespace], None]) -> None:
    """Runs a command line on one thread: the fastest for small matrices, and the same sums on every machine size.

    What cannot be done ends it with one sentence.
    """
    import torch

    torch.set_num_threads(1)
    try:
        main(parser.parse_args())
    except (ValueError, OSError, FloatingPointError) as error:
        parser.exit(1, f"{error}\n")


def collect(path: Path, jobs: Sequence[Job]) -> "pd.DataFrame":
    """All rows of a results file, after every job that it did not hold yet; it is written after each.

    Raises `ValueError`, before anything is run, if the file holds results of a part with other settings, or of another
    method on the same task with another budget, backbone or data.
    """
    import pandas as pd
    import torch

    checksums = {"backbone": str, "data": str}  # one of digits alone is no number
    results = pd.read_csv(path, dtype=checksums) if path.is_file() else pd.DataFrame()
    for job in jobs:
        _check_columns(results, [*job.part, "seed"], path)
        _check_settings(results, job, path)
    for job in jobs:
        known = _of(results, job.part | {"seed": job.seed}).index
        if len(known) and (job.makes is None or job.makes.is_dir()):
            continue
        results = results.drop(known)
        new = job.run().round({"value": 6})
        lacking = {key: value for key, value in job.part.items() if key not in new}
        new = new.assign(**lacking, seed=job.seed, **job.settings, torch=torch.__version__)
        results = new if results.empty else pd.concat([results, new], ignore_index=True)
        write_files(path.parent, {path.name: results.to_csv(index=False).encode()})
        print(f"{', '.join(map(str, job.part.values()))}, seed {job.seed}: done", flush=True)
    return results


def _of(results: "pd.DataFrame", columns: dict[str, Any]) -> "pd.DataFrame":
    for key, value in columns.items():
        results = results[results[key] == value] if len(results) else results
    return results


def _check_columns(results: "pd.DataFrame", columns: list[str], path: Path) -> None:
    lacking = [key for key in columns if len(results) and key not in results]
    if lacking:
        raise ValueError(f"{path} has no column {lacking[0]!r}, so it is not a file of these results: pass --out")


def _check_settings(results: "pd.DataFrame", job: Job, path: Path) -> None:
    own, task = _of(results, job.part), {key: value for key, value in job.part.items() if key == "task"}
    for key, value in job.settings.items():
        found = {"not told"} if len(own) and key not in own else set(own.get(key, ())) - {value}
        _raise_if(found, job.part, key, value, path)
        if key in COMMON and task and key in results:
            _raise_if(set(_of(results, task)[key].dropna()) - {value}, task, key, value, path)


def _raise_if(others: set[Any], part: dict[str, Any], key: str, value: Any, path: Path) -> None:
    if others:
        other = others.pop()
        said = f"{other:g}" if isinstance(other, float) else other  # whole numbers beside an empty cell are floats
        what = ", ".join(map(str, part.values()))
        raise ValueError(f"{path} has {what} with {key} = {said}, now it is {value}: pass --out")
