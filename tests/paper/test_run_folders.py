"""Each measurement leaves a folder: what was run, with which versions, how it went, and its rows."""

import io
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from dylora_kit.paper import __main__ as command
from dylora_kit.paper import run_folders
from dylora_kit.paper.jobs import Job
from dylora_kit.paper.run_folders import commit, folder_of
from dylora_kit.paper.runs import collect


def says(seed: int) -> pd.DataFrame:
    print(f"a line of seed {seed}")
    print("and a warning", file=sys.stderr)
    print("\r 10 %", end="", file=sys.stderr)
    return pd.DataFrame({"rank": [1, 2], "metric": "f1", "value": [0.25 + seed / 1000, 0.5]})


def of(seed: int, run: object = says) -> Job:
    return Job({"task": "toy", "method": "LoRA, cut to b"}, seed, {"steps": 3}, partial(run, seed), 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_measurement_leaves_its_settings_versions_log_and_rows(tmp_path: Path, n_jobs: int) -> None:
    collect(tmp_path / "mine.csv", [of(10), of(42)], n_jobs=n_jobs)
    (folder,) = (tmp_path / "runs" / "mine").glob("toy-lora-cut-to-b-????-seed-42")
    assert {path.name for path in folder.iterdir()} == {"run.json", "log.txt", "metrics.csv"}
    told = json.loads((folder / "run.json").read_text())
    assert (told["part"], told["seed"]) == ({"task": "toy", "method": "LoRA, cut to b"}, 42)
    assert (
        told["settings"] == {"steps": 3} and told["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    )
    assert told["threads"] >= 1 and (torch.cuda.is_available() or told["device"].startswith("CPU, "))
    first, *between, last = (folder / "log.txt").read_text().splitlines()
    assert " UTC: started, commit " in first and last.endswith(" s of CPU time")
    assert between == ["a line of seed 42", "and a warning"]
    assert pd.read_csv(folder / "metrics.csv")["value"].tolist() == [0.292, 0.5]


def test_what_is_printed_is_still_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect(tmp_path / "mine.csv", [of(10)])
    seen = capsys.readouterr()
    assert seen.out.startswith("a line of seed 10\n") and seen.err == "and a warning\n\r 10 %"


def test_a_measurement_that_fails_says_so_in_its_log_and_has_no_rows(tmp_path: Path) -> None:
    def fails(seed: int) -> pd.DataFrame:
        print("step 1")
        raise FloatingPointError("the loss is nan")

    path = tmp_path / "mine.csv"
    with pytest.raises(FloatingPointError):
        collect(path, [of(10, fails)])
    folder = folder_of(path, of(10))
    assert not (folder / "metrics.csv").exists()
    log = (folder / "log.txt").read_text()
    assert log.endswith(": stopped by FloatingPointError: the loss is nan\n")
    collect(path, [of(10)])  # again, and now it ends
    assert (folder / "log.txt").read_text().startswith(log) and (folder / "metrics.csv").is_file()


def test_what_is_done_already_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    collect(path, [of(10)])
    shutil.rmtree(tmp_path / "runs")
    collect(path, [of(10)])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", command.STUDIES)
def test_no_two_measurements_of_a_study_have_one_folder(name: str, tmp_path: Path) -> None:
    study = command.STUDIES[name]
    jobs = [(study.path(task, tmp_path), job) for task in study.default for job in study.jobs_of(task, None, tmp_path)]
    assert len({folder_of(path, job) for path, job in jobs}) == len(jobs) > 0


def copied_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> Path:
    """A folder that stands for a clone, with the kit somewhere in it and one commit."""
    clone = tmp_path / "clone"
    code = clone / place / "paper" / "run_folders.py"
    code.parent.mkdir(parents=True)
    code.write_text("")
    author = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "first")):
        subprocess.run(["git", "-C", clone, *words], check=True)
    monkeypatch.setattr(run_folders, "__file__", str(code))
    return clone


def test_the_commit_is_told_and_whether_the_code_differs_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = copied_kit(tmp_path, monkeypatch, "dylora_kit")
    head = subprocess.run(["git", "-C", clone, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    (clone / "results.csv").write_text("not code")
    assert commit() == {"commit": head.stdout.strip(), "changed": False}
    (clone / "dylora_kit" / "paper" / "run_folders.py").write_text("changed = True")
    assert commit()["changed"] is True


def test_outside_a_clone_of_the_kit_no_commit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied_kit(tmp_path, monkeypatch, "lib/site-packages/dylora_kit")  # within a repository of somebody else
    assert commit() == {"commit": None, "changed": None}
    code = tmp_path / "dylora_kit" / "paper" / "run_folders.py"
    monkeypatch.setattr(run_folders, "__file__", str(code))
    assert commit() == {"commit": None, "changed": None}
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert commit() == {"commit": None, "changed": None}


def test_rows_are_not_lost_for_a_folder_that_cannot_be_written_and_old_ones_do_not_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.csv"
    folder = folder_of(path, of(10))

    def blocks(seed: int) -> pd.DataFrame:
        assert not (folder / "metrics.csv").exists()  # that of an earlier run is gone
        (folder / "metrics.csv").mkdir()
        return says(seed)

    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("of other settings")
    assert len(collect(path, [of(10, blocks)])) == 2
    assert "metrics.csv could not be written" in capsys.readouterr().err


def test_what_a_library_keeps_of_the_stream_goes_on_after_the_log_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, errors = [], io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(errors, errors="backslashreplace", write_through=True))

    def keeps(seed: int) -> pd.DataFrame:
        kept.append(sys.stderr)
        sys.stderr.write("not encodable: \udce9, and a line\r\n")
        return says(seed)

    collect(tmp_path / "mine.csv", [of(10, keeps)])
    print("a warning afterwards", file=kept[0])
    assert errors.getvalue().endswith(b"a warning afterwards\n")
    log = (folder_of(tmp_path / "mine.csv", of(10)) / "log.txt").read_text()
    assert "not encodable: \\udce9, and a line" in log and "afterwards" not in log
