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
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

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
from dylora_kit.paper.before_start import check_room, tell
from dylora_kit.paper.cluster import cluster
from dylora_kit.paper.compared_methods import DYLORA, FULL
from dylora_kit.paper.jobs import Study
from dylora_kit.paper.options import check_model, check_options, check_study
from dylora_kit.paper.runs import collect, table
from dylora_kit.paper.settings import ROBERTA, SEEDS
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
                      help="real: table2, nested, epochs and arena on GLUE, table6 on E2E, nested --tasks e2e on the "
                      "LoRA of table6, table9 on DART and WebNLG; paper: the same with roberta-base and gpt2-medium, "
                      "and the settings of Table 8")  # fmt: skip
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
    real.add_argument(
        "--lr", type=float, help="default: 1e-3, for tables 6 and 9 the paper's; the arena chooses by itself"
    )
    real.add_argument("--batch-size", type=int, help="default: 32, and for tables 6 and 9 the paper's")
    real.add_argument(
        "--max-length", type=int, help="of a text of GLUE, in tokens; default: 64, with Table 8's settings 512"
    )
    real.add_argument("--limit", type=int, help="tables 6 and 9: only so many test inputs; 0, the default, is all")
    real.add_argument("--beams", type=int, help="tables 6 and 9: 1 is faster, default is 10, as LoRA's authors")
    return made


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks for. Raises `ValueError` for what does not fit together."""
    check_options(arguments)
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
        check_model(arguments)
        real = None if arguments.table in generation.TABLES else _real_text(arguments)
    study = _study(arguments, real)
    if study is not None:
        check_study(arguments, study)
    if arguments.list:
        for name, listed in STUDIES.items() if study is None else ((arguments.table, study),):
            tell(name, listed, arguments.tasks or listed.default, arguments.seeds, out)
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
    if real is not None and arguments.table == "arena":
        return arena.real_study(real, arguments.tasks or ("mrpc",))
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
    check_room(tell(name, study, tasks, arguments.seeds, out), out)
    for task in tasks:
        jobs, n_jobs = study.jobs_of(task, arguments.seeds, out), None if arguments.dask else arguments.n_jobs
        results.append(study.shown(collect(study.path(task, out), jobs, n_jobs=n_jobs)))
    if study.one_file:
        results = results[-1:]
    print(table(pd.concat(results), study.parts).to_string())
    embedded = arguments.tier == "embedded"
    if (embedded or name in generation.TABLES) and name.startswith(("table", "nested", "arena")):
        print(report.beside_the_paper(name.removesuffix("-r8"), out / "results"))


if __name__ == "__main__":
    # one thread is the fastest for small matrices, and gives the same sums with any number of cores
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its helpers end with it
    command_line = parser()
    try:
        run(command_line.parse_args())
    except (ValueError, OSError, FloatingPointError) as error:
        command_line.exit(1, f"{error}\n")
    except KeyboardInterrupt:
        command_line.exit(130, "stopped: the same command goes on where it was\n")
    except torch.OutOfMemoryError:
        command_line.exit(
            1, "the GPU ran out of memory: lower --max-length or --batch-size, or take a smaller --model\n"
        )
