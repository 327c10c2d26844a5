"""What there is to measure: a job is one training and what is measured of it, a study is many of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Job:
    """One measurement with one seed, for a results file.

    Attributes:
        part: what tells it, beside the seed, from others in the file: columns and their values.
        seed: the seed.
        settings: what all its results of a part must have in common.
        run: gives the rows, as `sweep` does; those of other methods that the same training gives may be among them.
        seconds: about how much CPU time it takes.
        makes: a folder that `run` writes beside the rows; without it the job is not done.
        disk: about how many bytes it writes beside the rows.
        scratch: a folder of checkpoints, which goes once the rows are in the file.
    """

    part: dict[str, Any]
    seed: int
    settings: dict[str, Any]
    run: Callable[[], "pd.DataFrame"]
    seconds: float
    makes: Path | None = None
    disk: int = 100_000
    scratch: Path | None = None


@dataclass(frozen=True)
class Study:
    """A kind of comparison: on which tasks, with which seeds, and the measurements it consists of.

    Attributes:
        stem: how its results files begin; a task's is `{stem}-{task}.csv`.
        tasks: the tasks it can be run on.
        default: those it is run on if none are named.
        seeds: the seeds of a task, `task → seeds`.
        jobs: its measurements on a task with a seed, `(task, seed, folder) → jobs`; the folder is for adapters.
        parts: the columns that tell the rows of its table apart, beside method, rank and seed.
        shown: what of the results its table shows.
        one_file: whether all tasks go into one file, `{stem}.csv`.
    """

    stem: str
    tasks: tuple[str, ...]
    default: tuple[str, ...]
    seeds: Callable[[str], Sequence[int]]
    jobs: Callable[[str, int, Path], list[Job]]
    parts: tuple[str, ...] = ("task", "metric")
    shown: Callable[["pd.DataFrame"], "pd.DataFrame"] = lambda results: results
    one_file: bool = False

    def path(self, task: str, out: Path) -> Path:
        """The results file of a task."""
        return out / "results" / (f"{self.stem}.csv" if self.one_file else f"{self.stem}-{task}.csv")

    def jobs_of(self, task: str, seeds: Sequence[int] | None, out: Path) -> list[Job]:
        """All its measurements on a task, seed after seed."""
        return [job for seed in seeds or self.seeds(task) for job in self.jobs(task, seed, out / "adapters")]
