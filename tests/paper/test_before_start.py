"""Before a study starts it says how long it takes on this machine, and whether it fits on the disk."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from architectures import build
from toys import TEXTS

from dylora_kit.paper import before_start
from dylora_kit.paper.before_start import check_room, seconds_here, tell
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.runs import collect
from dylora_kit.paper.short_timing import slowness, timed

NONE = pd.DataFrame()


def job(seed: int = 10, seconds: float = 60.0, disk: int = 7_000_000) -> Job:
    frame = pd.DataFrame({"rank": [1], "metric": "f1", "value": [0.5], "cpu_seconds": 240.0})
    return Job({"task": "mrpc", "method": "a"}, seed, {}, lambda: frame, seconds, disk=disk)


def study(*jobs: Job) -> Study:
    return Study("toy", ("mrpc",), ("mrpc",), lambda task: (10,), lambda task, seed, _: list(jobs))


def test_what_was_measured_here_counts_more_than_a_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before_start, "slowness", lambda kind: 3.0)
    rows = pd.DataFrame({"task": ["mrpc"], "method": "a", "seed": 42, "rank": 1, "cpu_seconds": 240.0})
    assert seconds_here(job(), "mrpc", rows, NONE) == 240.0
    assert seconds_here(job(), "mrpc", NONE, rows) == 60.0  # the job was timed here, the shipped rows were not
    assert seconds_here(job(), "digits-turned", NONE, rows) == 3 * 240.0
    assert seconds_here(job(), "world-sentiment", NONE, NONE) == 3 * 60.0
    assert seconds_here(job(), "digits-turned", rows.assign(cpu_seconds=90.0), rows) == 90.0


def test_a_file_of_something_else_is_told_before_it_is_counted(tmp_path: Path) -> None:
    path = study().path("mrpc", tmp_path)
    path.parent.mkdir()
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"toy-mrpc.csv has no column '.*', so it is not a file of these results"):
        tell("toy", study(job()), ["mrpc"], None, tmp_path)


def test_time_and_disk_of_what_is_missing_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = study(job(), job(seed=42))
    tell("toy", both, ["mrpc"], None, tmp_path)
    collect(both.path("mrpc", tmp_path), [job()])
    tell("toy", both, ["mrpc"], None, tmp_path)
    first, _, second = capsys.readouterr().out.splitlines()
    core = "the GPU" if torch.cuda.is_available() else "one core"
    assert first == "toy, mrpc: 0 of 2 measurements are done in toy-mrpc.csv, the others take about 2 minutes of " + (
        f"{core} and 14 MB of disk"
    )
    assert second.endswith(f"toy-mrpc.csv, the others take about 4 minutes of {core} and 7 MB of disk")


def test_a_disk_that_is_too_full_for_all_tasks_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    full = SimpleNamespace(free=13_000_000)
    monkeypatch.setattr(before_start.shutil, "disk_usage", lambda at: looked.append(at) or full)
    needed = tell("toy", study(job()), ["mrpc", "rte"], None, tmp_path / "new")
    assert needed == 14_000_000
    with pytest.raises(ValueError, match=r"new has 13 MB free, and about 14 MB are needed: make room, or pass --out"):
        check_room(needed, tmp_path / "new")
    assert looked == [tmp_path] and not (tmp_path / "new").exists()
    check_room(12_000_000, tmp_path / "new")


def test_a_short_timing_leaves_the_random_state_and_tells_the_size_of_a_checkpoint(tmp_path: Path) -> None:
    from dylora_kit.paper.compared_methods import LORA, trained

    before = torch.get_rng_state()
    per_step, per_example, disk = timed(lambda: build("roberta"), TEXTS, 4)
    assert torch.equal(torch.get_rng_state(), before) and 0 < per_example < per_step < 10
    trained(lambda: build("roberta"), TEXTS, LORA, 10, steps=1, checkpoint=tmp_path)
    written = (tmp_path / "training.safetensors").stat().st_size
    assert disk < written < disk + 40_000  # a header with names and settings comes on top


def test_the_machine_is_timed_with_both_kinds_of_the_embedded_tier() -> None:
    assert all(0.02 < slowness(kind) < 50 for kind in ("digits", "world"))
