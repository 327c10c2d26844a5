"""One command for every table of the paper: measures what is missing, and prints it beside the paper's numbers.

python -m dylora_kit.paper table4                              # into data/results; goes on where it stopped
python -m dylora_kit.paper table2 --tasks world-sentiment --seeds 10 42
python -m dylora_kit.paper table2 --list                       # what would run, what is done, about how long
python -m dylora_kit.paper --list                              # the same of every table, also of those never run
python -m dylora_kit.paper table2 --tier real --model sentence-transformers/all-MiniLM-L6-v2 --tasks sst2 rte
python -m dylora_kit.paper table6 --tier real --model HuggingFaceTB/SmolLM2-135M-Instruct --steps 1000 --beams 1
python -m dylora_kit.paper arena --n-jobs 4                    # every way to every rank; four trainings at a time
accelerate launch -m dylora_kit.paper table2 --tier paper      # the paper's own model and settings, on a GPU
python -m dylora_kit.paper advisor                             # judges the rank advisor by the files of table1
python -m dylora_kit.paper report                              # the tables in data/results/README.md, made anew
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import parallel_config

from dylora_kit.paper import (
    arena,
    epochs,
    every_rank,
    generation,
    judged_advice,
    layer_ranks,
    nested_afterwards,
    nested_texts,
    overview,
    rank_search,
    real_text,
    report,
    row_ordering,
    training_choices,
)
from dylora_kit.paper.compared_methods import DYLORA, FULL
from dylora_kit.paper.runs import Study, collect, expected_seconds, read_results, rows_of, table
from dylora_kit.paper.settings import GPT2_MODEL, ROBERTA, ROBERTA_MODEL, SEEDS
from dylora_kit.storage.files import data_folder
from dylora_kit.tasks import glue

STUDIES: dict[str, Study] = {
    "table1": rank_search.STUDY,
    "table2": every_rank.STUDY,
    "table3": rank_search.STUDY,
    "table4": training_choices.DISTRIBUTIONS,
    "table5": rank_search.STUDY,
    "table6": generation.embedded_study("table6"),
    "table6-r8": generation.embedded_study("table6-r8"),
    "table7": training_choices.OBJECTIVES,
    "updates": training_choices.UPDATES,
    "layers": layer_ranks.STUDY,
    "ordering": row_ordering.STUDY,
    "nested": nested_afterwards.STUDY,
    "arena": arena.STUDY,
    "epochs": epochs.STUDY,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m dylora_kit.paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "table",
        nargs="?",
        choices=[*STUDIES, "table9", "advisor", "report"],
        help="a table of the paper (table6-r8: with r = 8 and alpha 16; table9: on the real tier); or updates (which "
        "rows a step moves), layers (a rank for each layer), ordering (by singular value), nested (a LoRA that gets "
        "its ranks afterwards), arena (all ways to every rank, in the same time), epochs (a cut LoRA after 1 to 30 "
        "epochs, with Table 8's settings); or advisor (judged by the search for "
        "a rank); or report",
    )
    made.add_argument("--tier", choices=("embedded", "real", "paper"), default="embedded",
                      help="real: table2, nested and epochs on GLUE, table6 on E2E, nested --tasks e2e on the LoRA of "
                      "table6, table9 on DART and WebNLG; paper: the same with roberta-base and gpt2-medium, and the "
                      "settings of Table 8")  # fmt: skip
    made.add_argument("--tasks", nargs="+", help="default: those of the results that come with the kit")
    made.add_argument("--seeds", nargs="+", type=int, help="default: the paper's, as many as were measured")
    made.add_argument("--out", type=Path, help="another folder than data/ to write results/ and adapters/ into")
    made.add_argument("--list", action="store_true", help="what would run, what is done, and about how long it takes")
    made.add_argument(
        "--choose", action="store_true", help="table2: compare learning rates on validation parts, and stop"
    )
    many = made.add_argument_group("several trainings at a time")
    many.add_argument("--n-jobs", type=int, default=1, help="so many processes with one thread each; -1: one per core")
    many.add_argument("--dask", metavar="ADDRESS", help="of the scheduler of a Dask cluster that shares this folder, "
                      "with one thread for each worker: as many trainings as it has workers")  # fmt: skip
    real = made.add_argument_group("the tiers real and paper")
    real.add_argument("--model", help="a model of the hub, or a local folder; paper: default is the paper's")
    real.add_argument("--steps", type=int, help="of each training; default: 500, and for tables 6 and 9 five epochs")
    real.add_argument("--lr", type=float, help="default: 1e-3, and for tables 6 and 9 the paper's")
    real.add_argument("--batch-size", type=int, help="default: 32, and for tables 6 and 9 the paper's")
    real.add_argument("--max-length", type=int, help="of a text of GLUE, in tokens; default: 64, and Table 8's is 512")
    real.add_argument("--limit", type=int, default=0, help="tables 6 and 9: only so many test inputs")
    real.add_argument("--beams", type=int, default=10, help="tables 6 and 9: 1 is faster, 10 is LoRA's authors' number")
    return made


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks for. Raises `ValueError` for what does not fit together."""
    _check_options(arguments)
    out = (arguments.out or data_folder()).resolve()  # processes on other machines have another working directory
    if arguments.table == "report":
        print(report.write(out / "results" / "README.md"))
        return
    if arguments.table == "advisor":
        path = judged_advice.write(out / "results")
        print(f"{path.name}:\n{report.beside_the_paper('advisor', path.parent)}")
        return
    if arguments.table is None and not arguments.list:
        raise ValueError(f"which table? Name one of {', '.join(STUDIES)}, or pass --list")
    if arguments.table == "table9" and arguments.tier == "embedded":
        print(report.beside_the_paper("table9", out / "results"))
        return
    real = None
    if arguments.tier != "embedded":
        _check_model(arguments)
        real = None if arguments.table in generation.TABLES else _real_text(arguments)
    study = _study(arguments, real)
    if study is not None:
        _check(arguments, study)
    if arguments.list:
        for name, listed in STUDIES.items() if study is None else ((arguments.table, study),):
            _list(name, listed, arguments.tasks or listed.default, arguments.seeds, out)
        if study is None:
            print("\n".join(overview.lines(out / "results")))
    elif arguments.choose:
        assert study is not None
        _choose(arguments, study, real)
    else:
        assert study is not None
        with cluster(arguments.dask):
            _measure(arguments, study, out)


def _study(arguments: argparse.Namespace, real: real_text.RealText | None) -> Study | None:
    if real is not None and arguments.table == "nested" and arguments.tasks == [nested_texts.TASK]:
        sizes = {name: getattr(arguments, name) for name in ("batch_size", "limit", "beams")}
        return nested_texts.study(arguments.model, **sizes)
    if real is not None and arguments.table == "nested":
        return nested_afterwards.real_study(real, arguments.tasks or ("mrpc",))
    if real is not None and arguments.table == "epochs":
        return epochs.real_study(real, arguments.tasks or ("mrpc",))
    if real is not None and arguments.tier == "paper":
        return real.study(arguments.tasks or glue.PAPER, len(SEEDS))
    if real is not None:
        return real.study(arguments.tasks or ("sst2", "mrpc", "rte"))
    if arguments.tier == "embedded":
        return STUDIES.get(arguments.table)
    sizes = {name: getattr(arguments, name) for name in ("steps", "lr", "batch_size", "limit", "beams")}
    seeds = 3 if arguments.tier == "paper" else 1
    return generation.real_study(arguments.table, arguments.model, **sizes, seeds=seeds)


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises `ValueError` for options that would be dropped."""
    if arguments.n_jobs == 0 or arguments.n_jobs < -1:
        raise ValueError(f"--n-jobs is a number of processes, or -1 for one on each core: got {arguments.n_jobs}")
    if arguments.dask and arguments.n_jobs != 1:
        raise ValueError("--dask trains on all workers of the cluster: leave out --n-jobs")
    if arguments.choose and (arguments.dask or arguments.n_jobs != 1):
        raise ValueError("--choose trains once for each rate, one after another: leave out --n-jobs and --dask")
    real = ("model", "steps", "lr", "batch_size", "max_length")
    given = [name for name in real if getattr(arguments, name) is not None]
    if arguments.tier == "embedded" and given:
        raise ValueError(f"--{given[0].replace('_', '-')} is for the tiers real and paper: pass --tier real")


def _check_model(arguments: argparse.Namespace) -> None:
    """Raises `ValueError` for what does not fit the tiers real and paper; puts in the paper's model where none is."""
    if arguments.tier == "paper" and not arguments.model:
        writes = arguments.table in generation.TABLES or arguments.tasks == [nested_texts.TASK]
        arguments.model = GPT2_MODEL if writes else ROBERTA_MODEL
    if arguments.model and Path(arguments.model).is_dir():
        arguments.model = str(Path(arguments.model).resolve())
    if arguments.table not in ("table2", "nested", "epochs", *generation.TABLES) or not arguments.model:
        raise ValueError(
            f"--tier {arguments.tier} is for table2, nested, epochs, table6, table6-r8 and table9"
            + ("" if arguments.model else ", and needs --model, a model of the hub or a local folder")
        )
    sizes = ("steps", "lr", "batch_size", "max_length", "limit", "beams")
    for name in sizes:
        value = getattr(arguments, name)
        if value is not None and value < (0 if name == "limit" else 1e-12):
            raise ValueError(f"--{name.replace('_', '-')} must be positive: got {value}")
    chosen = [name for name in sizes[:3] if getattr(arguments, name) is not None]
    if chosen and (arguments.tier == "paper" or arguments.table == "epochs"):
        what = "--tier paper" if arguments.tier == "paper" else "epochs"
        raise ValueError(f"{what} has the settings of Table 8: leave out --{chosen[0].replace('_', '-')}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "several processes would train the same: launch one (--num_processes 1); --n-jobs runs several trainings "
            "at a time"
        )


def _real_text(arguments: argparse.Namespace) -> real_text.RealText:
    if arguments.tier == "paper" or arguments.table == "epochs":
        settings: dict[str, Any] = {key: ROBERTA[key] for key in ("lr", "weight_decay", "batch_size", "epochs")}
        return real_text.RealText(arguments.model, max_length=arguments.max_length or ROBERTA["max_length"], **settings)
    sizes: dict[str, Any] = {
        "steps": arguments.steps or 500,
        "lr": arguments.lr or 1e-3,
        "batch_size": arguments.batch_size or 32,
    }
    return real_text.RealText(arguments.model, max_length=arguments.max_length or 64, **sizes)


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """A block whose jobs go to the workers of a Dask cluster, if there is an address.

    Raises `ValueError` for workers with more than one thread, which would draw from one random state, and for a single
    worker, beside which joblib would train in this process.
    """
    if address is None:
        yield
        return
    try:
        from dask.distributed import Client, KilledWorker
    except ImportError as error:
        raise ValueError("--dask needs Dask: pip install 'dylora_kit[cluster]'") from error
    with Client(address, timeout=10) as client:
        threads = client.nthreads()
        if set(threads.values()) != {1}:
            raise ValueError("each worker needs one thread of its own: start them with dask worker --nthreads 1")
        if len(threads) < 2:
            raise ValueError("the cluster has one worker: start another one, or run the command on that machine")
        try:
            with parallel_config("dask", n_jobs=-1):
                yield
        except KilledWorker as error:
            raise ChildProcessError("a worker of the cluster was killed, perhaps for want of memory") from error


def _check(arguments: argparse.Namespace, study: Study) -> None:
    unknown = [task for task in arguments.tasks or () if task not in study.tasks]
    if unknown:
        raise ValueError(f"{arguments.table} has no task {unknown[0]!r}: expected some of {', '.join(study.tasks)}")
    for what in ("tasks", "seeds"):
        values = getattr(arguments, what) or []
        if len(set(values)) < len(values):
            raise ValueError(f"--{what} names {max(values, key=values.count)} twice: name each once")
    if arguments.choose and arguments.table != "table2":
        raise ValueError("--choose is for table2, whose learning rates the others have")


def _list(name: str, study: Study, tasks: Sequence[str], seeds: Sequence[int] | None, out: Path) -> None:
    """Prints, for each task, how many measurements are done and about how long the others take."""
    for task in tasks:
        path = study.path(task, out)
        results, shipped = read_results(path), read_results(study.path(task, data_folder()))
        jobs = study.jobs_of(task, seeds, out)
        missing = [job for job in jobs if not len(rows_of(results, job))]
        seconds = sum(expected_seconds(job, (results, shipped)) for job in missing)
        rest = f", the others take about {max(round(seconds / 60), 1)} minutes of one core" if missing else ""
        print(f"{name}, {task}: {len(jobs) - len(missing)} of {len(jobs)} measurements are done in {path.name}{rest}")


def _choose(arguments: argparse.Namespace, study: Study, real: real_text.RealText | None) -> None:
    """Prints how good each candidate learning rate is on the validation part of each task."""
    for task in arguments.tasks or study.default:
        if real is not None:
            settings = {key: value for key, value in real.settings_of(task).items() if key != "lr"}
            by_method = {DYLORA: real_text.choose(partial(real.build, task), real.load(task), **settings)}
        else:
            by_method = {method: every_rank.choose(task, method) for method in (DYLORA, FULL)}
        for method, values in by_method.items():
            rates = ", ".join(f"{lr:g}: {value:.4f}" for lr, value in values.items())
            print(f"{task}, {method}: {rates} on validation; best {real_text.best(values):g}", flush=True)


def _measure(arguments: argparse.Namespace, study: Study, out: Path) -> None:
    """Measures what is missing, and prints the results and the table beside the paper's."""
    name, tasks, results = arguments.table, arguments.tasks or study.default, []
    for task in tasks:
        _list(name, study, [task], arguments.seeds, out)
        jobs, n_jobs = study.jobs_of(task, arguments.seeds, out), None if arguments.dask else arguments.n_jobs
        results.append(study.shown(collect(study.path(task, out), jobs, n_jobs=n_jobs)))
    if study.one_file:
        results = results[-1:]
    print(table(pd.concat(results), study.parts).to_string())
    embedded = arguments.tier == "embedded"
    if (embedded or name in generation.TABLES) and name.startswith(("table", "nested", "arena")):
        print(report.beside_the_paper(name.removesuffix("-r8"), out / "results"))


if __name__ == "__main__":
    # one thread is the fastest for small matrices, and gives the same sums on every machine
    torch.set_num_threads(1)
    command_line = parser()
    try:
        run(command_line.parse_args())
    except (ValueError, OSError, FloatingPointError) as error:
        command_line.exit(1, f"{error}\n")
    except torch.OutOfMemoryError:
        command_line.exit(
            1, "the GPU ran out of memory: lower --max-length or --batch-size, or take a smaller --model\n"
        )
