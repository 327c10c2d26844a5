"""A results file: one measurement after another, each once, and nothing of other settings."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from dask.distributed import LocalCluster

from dylora_kit.paper.cluster import cluster
from dylora_kit.paper.jobs import Job
from dylora_kit.paper.runs import collect, expected_seconds, rows_of, table


def job(method: str, value: float, *, seed: int = 10, seconds: float = 9.0, **settings: object) -> Job:
    frame = pd.DataFrame({"rank": [1, 2], "metric": "accuracy", "value": [value, value + 0.01], "cpu_seconds": 30.0})
    return Job({"task": "toy", "method": method}, seed, {"steps": 3} | settings, lambda: frame, seconds)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("rank,value\n1,0.5\n")
    refused = Job({"task": "rte"}, 10, {}, lambda: pytest.fail("was run"), 1.0)
    with pytest.raises(ValueError, match=r"mine.csv has no column 'task', so it is not a file of these results"):
        collect(tmp_path / "mine.csv", [refused])


def test_a_job_is_done_once_and_leaves_the_rows_of_others_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    first = collect(path, [job("a", 0.25)])
    both = collect(path, [job("a", 0.99), job("b", 0.5), job("b", 0.75, seed=42)])
    pd.testing.assert_frame_equal(both.iloc[:2], first)
    assert both["value"].tolist() == [0.25, 0.26, 0.5, 0.51, 0.75, 0.76]
    assert both["seed"].tolist() == [10, 10, 10, 10, 42, 42] and set(both["steps"]) == {3}


def draws(seed: int) -> pd.DataFrame:
    """A result that depends on the seed alone, and who gave it."""
    value = torch.rand(2000, 2000, generator=torch.Generator().manual_seed(seed)).mean().item()
    who = f"{os.getpid()} with {torch.get_num_threads()}"
    return pd.DataFrame([{"rank": 1, "metric": "accuracy", "value": value, "who": who}])


def of_seeds(count: int = 6) -> list[Job]:
    return [Job({"task": "toy", "method": "a"}, seed, {"steps": 3}, partial(draws, seed), 1.0) for seed in range(count)]


def test_the_rows_are_the_same_however_many_jobs_run_at_a_time(tmp_path: Path) -> None:
    alone = collect(tmp_path / "alone.csv", of_seeds())
    collect(tmp_path / "together.csv", of_seeds(1))  # a run that was stopped
    together = collect(tmp_path / "together.csv", of_seeds(), n_jobs=2)
    pd.testing.assert_frame_equal(together.drop(columns="who"), alone.drop(columns="who"), check_exact=True)
    helpers = set(together["who"][1:])
    assert all(who.endswith(" with 1") for who in helpers) and str(os.getpid()) not in " ".join(helpers)


def test_a_cluster_of_two_workers_does_the_jobs(tmp_path: Path) -> None:
    two = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")
    with two, cluster(two.scheduler_address):
        spread = collect(tmp_path / "spread.csv", of_seeds(), n_jobs=None)
    alone = collect(tmp_path / "alone.csv", of_seeds())
    pd.testing.assert_frame_equal(spread.drop(columns="who"), alone.drop(columns="who"), check_exact=True)
    assert str(os.getpid()) not in " ".join(spread["who"])


@pytest.mark.parametrize(
    ("workers", "threads", "message"),
    [(1, 2, "each worker needs one thread of its own: start them with dask worker --nthreads 1"),
     (1, 1, "the cluster has one worker: start another one, or run the command on that machine")],
)  # fmt: skip
def test_a_cluster_whose_results_would_be_others_is_refused(workers: int, threads: int, message: str) -> None:
    here = LocalCluster(n_workers=workers, threads_per_worker=threads, dashboard_address=None, processes=False)
    with here, pytest.raises(ValueError, match=message), cluster(here.scheduler_address):
        pytest.fail("went on")


def fails(seconds: float) -> pd.DataFrame:
    time.sleep(seconds)
    raise FloatingPointError("the loss is nan")


def test_what_is_done_stays_when_another_job_fails(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    failing = Job({"task": "toy", "method": "a"}, 99, {"steps": 3}, partial(fails, 3.0), 1.0)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        collect(path, [failing, *of_seeds(4)], n_jobs=2)  # the first one is the last to end
    assert pd.read_csv(path)["seed"].tolist() == [0, 1, 2, 3]


def test_rows_stand_in_the_order_of_the_jobs_whichever_ends_first(tmp_path: Path) -> None:
    def slow() -> pd.DataFrame:
        time.sleep(2.0)
        return draws(7)

    late = Job({"task": "toy", "method": "a"}, 7, {"steps": 3}, slow, 1.0)
    assert collect(tmp_path / "mine.csv", [late, *of_seeds(3)], n_jobs=2)["seed"].tolist() == [7, 0, 1, 2]


def test_a_killed_process_is_told_in_a_sentence(tmp_path: Path) -> None:
    dies = Job({"task": "toy", "method": "b"}, 10, {"steps": 3}, lambda: os.kill(os.getpid(), 9), 1.0)
    with pytest.raises(
        ChildProcessError, match="process was killed, perhaps for want of memory: let fewer run at a time"
    ):
        collect(tmp_path / "mine.csv", [dies, dies], n_jobs=2)


def test_adapters_that_another_machine_kept_for_itself_are_told(tmp_path: Path) -> None:
    lost = Job({"task": "toy", "method": "a"}, 1, {"steps": 3}, partial(draws, 1), 1.0, makes=tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="elsewhere after its training: all machines have to share that folder"):
        collect(tmp_path / "mine.csv", [lost, *of_seeds(1)], n_jobs=2)


def test_a_cluster_that_does_not_answer_is_told_in_a_sentence() -> None:
    with pytest.raises(OSError, match=r"tcp://127\.0\.0\.1:9"), cluster("tcp://127.0.0.1:9"):
        pytest.fail("went on")


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    messages: list[str] = []

    def run() -> pd.DataFrame:
        with pytest.raises(ValueError, match="is being written by another run: wait") as error:
            collect(path, [job("b", 0.5)])
        messages.append(str(error.value))
        return pd.DataFrame({"rank": [1], "metric": "accuracy", "value": [0.25]})

    collect(path, [Job({"task": "toy", "method": "a"}, 10, {"steps": 3}, run, 1.0)])
    assert len(messages) == 1
    assert len(collect(path, [job("b", 0.5)])) == 3  # the lock fell with the run


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    words = f"""
import os, pathlib, pandas as pd
from dylora_kit.paper.jobs import Job
from dylora_kit.paper.runs import collect
frame = pd.DataFrame({{"rank": [1], "value": [0.5]}})
done = Job({{"task": "toy", "method": "a"}}, 10, {{"steps": 3}}, lambda: frame, 1.0)
dies = Job({{"task": "toy", "method": "b"}}, 10, {{"steps": 3}}, lambda: os.kill(os.getpid(), 9), 1.0)
collect(pathlib.Path({str(path)!r}), [done, dies])
"""
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == -9
    assert collect(path, [job("b", 0.75)])["method"].tolist() == ["a", "b", "b"]


def test_nothing_is_locked_where_nothing_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    collect(path, [job("a", 0.25)])
    lock = path.with_name(".mine.csv.lock")
    lock.unlink()
    collect(path, [job("a", 0.25)])
    assert not lock.exists()


def test_a_method_with_another_budget_than_the_others_on_its_task_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    collect(path, [job("a", 0.25)])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="has toy with steps = 3, now it is 4: pass --out"):
        collect(path, [job("b", 0.5, steps=4)])
    assert path.read_bytes() == before


def test_a_job_whose_folder_is_missing_is_done_again(tmp_path: Path) -> None:
    path, folder = tmp_path / "mine.csv", tmp_path / "kept"

    def run() -> pd.DataFrame:
        folder.mkdir()
        return pd.DataFrame({"rank": [1], "value": [0.5]})

    making = Job({"method": "a"}, 10, {}, run, 1.0, makes=folder)
    assert len(collect(path, [making])) == 1
    assert len(rows_of(pd.read_csv(path), making)) == 1
    folder.rmdir()
    assert len(rows_of(pd.read_csv(path), making)) == 0
    assert len(collect(path, [making])) == 1 and folder.is_dir()


def test_a_job_that_is_done_again_replaces_the_rows_that_it_gave_of_other_methods(tmp_path: Path) -> None:
    path, folder, values = tmp_path / "mine.csv", tmp_path / "kept", [0.5, 0.6]

    def run() -> pd.DataFrame:
        folder.mkdir()
        rows = [(name, rank, "bleu") for name, rank in (("cut", 1), ("cut", 2), ("by SVD", 1), ("one per rank", 2))]
        return pd.DataFrame(rows, columns=["method", "rank", "metric"]).assign(value=values.pop(0))

    cut = Job({"task": "toy", "method": "cut"}, 10, {"steps": 3}, run, 1.0, makes=folder)
    one = pd.DataFrame({"rank": [1], "metric": "bleu", "value": 0.25})
    alone = Job({"task": "toy", "method": "one per rank", "rank": 1}, 10, {"steps": 3}, lambda: one, 1.0)
    collect(path, [cut, alone])
    folder.rmdir()
    again = collect(path, [cut, alone])
    assert not again.duplicated(["method", "rank"]).any()
    by_row = again.set_index(["method", "rank"])["value"].to_dict()
    assert by_row == {("one per rank", 1): 0.25} | dict.fromkeys(
        (("cut", 1), ("cut", 2), ("by SVD", 1), ("one per rank", 2)), 0.6
    )
    pd.testing.assert_frame_equal(pd.read_csv(path), again)


def test_what_a_job_takes_is_what_others_of_its_part_took_and_else_a_guess(tmp_path: Path) -> None:
    results = collect(tmp_path / "mine.csv", [job("a", 0.25)])
    assert expected_seconds(job("a", 0.5, seed=42), [pd.DataFrame(), results]) == 30.0
    assert expected_seconds(job("b", 0.5, seconds=7.0), [pd.DataFrame(), results]) == 7.0


def test_what_is_measured_along_one_training_counts_once(tmp_path: Path) -> None:
    def along(seed: int) -> pd.DataFrame:
        marks = [(b, mark, mark * 10.0 * seed) for mark in (1, 3, 10) for b in (1, 2)]
        return pd.DataFrame(marks, columns=["rank", "epochs", "cpu_seconds"]).assign(metric="accuracy", value=0.5)

    jobs = [Job({"task": "toy", "method": "a"}, seed, {}, partial(along, seed), 9.0) for seed in (1, 3)]
    results = collect(tmp_path / "mine.csv", jobs)
    assert expected_seconds(jobs[0], [results]) == (100.0 + 300.0) / 2


def test_a_file_that_tells_no_weight_decay_had_none(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    collect(path, [job("a", 0.25)])
    assert len(collect(path, [job("a", 0.25, weight_decay=0.0), job("b", 0.5, weight_decay=0.0)])) == 4
    with pytest.raises(ValueError, match=r"has toy, a with weight_decay = 0, now it is 0.1: pass --out"):
        collect(path, [job("a", 0.25, weight_decay=0.1)])


def test_a_table_has_methods_down_and_ranks_across() -> None:
    rows = [("a", "DyLoRA", b, value, seed) for b in (10, 2) for seed, value in enumerate((0.5, 0.7))]
    rows += [("a", "LoRA", 2, 0.25, seed) for seed in (0, 1)]
    frame = pd.DataFrame(rows, columns=["task", "method", "rank", "value", "seed"])
    found = table(frame, ["task"])
    assert list(found.columns) == [2, 10]
    assert found.loc[("a", "DyLoRA")].tolist() == ["60 ± 14", "60 ± 14"]
    assert found.loc[("a", "LoRA")].tolist() == ["25 ± 0", ""]


def test_a_training_that_was_stopped_tells_nothing_of_how_long_one_takes() -> None:
    rows = [(seed, epochs, seconds) for seed, times in ((10, (60.0, float("nan"))), (42, (60.0, 1800.0)))
            for epochs, seconds in zip((1, 30), times, strict=True)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["seed", "epochs", "cpu_seconds"]).assign(task="toy", method="a")
    one = Job({"task": "toy", "method": "a"}, 7, {}, lambda: frame, 5.0)
    assert expected_seconds(one, [frame]) == 1800.0
    assert expected_seconds(one, [frame[frame["seed"] == 10]]) == 5.0


def test_checkpoints_go_once_the_rows_are_in_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "a"
    folder.mkdir(parents=True)
    (folder / "training.safetensors").write_text("")

    def run() -> pd.DataFrame:
        assert folder.is_dir()
        return pd.DataFrame({"rank": [1], "metric": "f1", "value": [0.5]})

    collect(tmp_path / "mine.csv", [Job({"task": "toy"}, 10, {}, run, 1.0, scratch=folder)])
    assert not folder.exists()


class Odd(Exception):
    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def test_an_error_that_does_not_fit_through_a_pipe_arrives_as_its_words(tmp_path: Path) -> None:
    def fails() -> pd.DataFrame:
        raise Odd("the hub", "it is closed")

    jobs = [Job({"task": "toy"}, seed, {}, fails, 1.0) for seed in (1, 2)]
    with pytest.raises(ChildProcessError, match=r"^Odd: the hub: it is closed$"):
        collect(tmp_path / "mine.csv", jobs, n_jobs=2)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_helpers_end_with_the_command(sent: signal.Signals, tmp_path: Path) -> None:
    words = f"""
import os, pathlib, signal, time
from dylora_kit.paper.runs import Job, collect
signal.signal(signal.SIGTERM, signal.default_int_handler)
def run(seed):
    while True:
        (pathlib.Path({str(tmp_path)!r}) / f"alive-{{seed}}").write_text(str(os.getpid()))
        time.sleep(0.1)
collect(pathlib.Path({str(tmp_path / "mine.csv")!r}),
        [Job({{"task": "toy"}}, seed, {{}}, lambda seed=seed: run(seed), 1.0) for seed in (1, 2)], n_jobs=2)
"""
    started = subprocess.Popen([sys.executable, "-c", words], stderr=subprocess.DEVNULL)
    alive = [tmp_path / f"alive-{seed}" for seed in (1, 2)]
    until = time.time() + 60
    while not all(file.exists() for file in alive) and time.time() < until:
        time.sleep(0.1)
    started.send_signal(sent)
    started.wait(30)
    time.sleep(2)  # half a second is what a helper takes to see it
    for file in alive:
        file.unlink()
    time.sleep(0.5)
    assert not any(file.exists() for file in alive)


def test_an_empty_file_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("")
    with pytest.raises(ValueError, match=r"mine.csv is empty: delete it, or pass --out"):
        collect(tmp_path / "mine.csv", [job("a", 0.5)])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("task,method,seed,rank,value\ntoy,a,10,1,0.5\ntoy,a,1", "ends in the middle of a line: delete that line"),
        ('task,method,seed,rank,value\ntoy,"a,10,1,0.5\n', "is no file of results: delete it, or pass --out"),
        ("task,method\ntoy,\udcff\n", "is no file of results: delete it, or pass --out"),
    ],
)
def test_a_file_that_was_cut_or_is_none_is_told_by_its_name(tmp_path: Path, text: str, told: str) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=f"mine.csv {told}"):
        collect(mine, [job("a", 0.5)])
    assert mine.read_bytes() == text.encode(errors="surrogateescape")


def test_models_of_one_name_are_told_apart_and_files_that_do_not_tell_go_on(tmp_path: Path) -> None:
    collect(tmp_path / "mine.csv", [job("a", 0.25, model="base", backbone="0123")])
    with pytest.raises(ValueError, match="has toy, a with backbone = 0123, now it is 4567: pass --out"):
        collect(tmp_path / "mine.csv", [job("a", 0.5, seed=42, model="base", backbone="4567")])
    collect(tmp_path / "old.csv", [job("a", 0.25, model="base")])
    assert len(collect(tmp_path / "old.csv", [job("a", 0.5, seed=42, model="base", backbone="4567")])) == 4
