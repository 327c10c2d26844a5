"""Which options of `python -m dylora_kit.paper` fit together."""

import argparse
import math
import os
from pathlib import Path

from dylora_kit.paper import generation, nested_texts
from dylora_kit.paper.jobs import Study
from dylora_kit.paper.settings import GPT2_MODEL, ROBERTA_MODEL


def check_options(arguments: argparse.Namespace) -> None:
    """Raises `ValueError` for options that would be dropped."""
    if arguments.n_jobs == 0 or arguments.n_jobs < -1:
        raise ValueError(f"--n-jobs is a number of processes, or -1 for one on each core: got {arguments.n_jobs}")
    if arguments.dask and arguments.n_jobs != 1:
        raise ValueError("--dask trains on all workers of the cluster: leave out --n-jobs")
    if arguments.choose and (arguments.dask or arguments.n_jobs != 1):
        raise ValueError("--choose trains once for each rate, one after another: leave out --n-jobs and --dask")
    real = ("model", "steps", "lr", "batch_size", "max_length", "limit", "beams")
    given = [name for name in real if getattr(arguments, name) is not None]
    if arguments.tier == "embedded" and given:
        raise ValueError(f"--{given[0].replace('_', '-')} is for the tiers real and paper: pass --tier real")
    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_dir():
        raise ValueError(f"--out names a folder, and {arguments.out} is a file")


def check_model(arguments: argparse.Namespace) -> None:
    """Raises `ValueError` for what does not fit the tiers real and paper; puts in the paper's model where none is."""
    if arguments.tier == "paper" and not arguments.model:
        writes = arguments.table in generation.TABLES or arguments.tasks == [nested_texts.TASK]
        arguments.model = GPT2_MODEL if writes else ROBERTA_MODEL
    if arguments.model and Path(arguments.model).is_dir():
        arguments.model = str(Path(arguments.model).absolute())  # a link keeps its name, which results tell
    if arguments.table not in ("table2", "nested", "epochs", "arena", *generation.TABLES) or not arguments.model:
        raise ValueError(
            f"--tier {arguments.tier} is for table2, nested, epochs, arena, table6, table6-r8 and table9"
            + ("" if arguments.model else ", and needs --model, a model of the hub or a local folder")
        )
    sizes = ("steps", "lr", "batch_size", "max_length", "limit", "beams")
    for name in sizes:
        value = getattr(arguments, name)
        if value is not None and not (0 if name == "limit" else 1e-12) <= value < math.inf:
            above = "0 or more, where 0 is all" if name == "limit" else "positive"
            raise ValueError(f"--{name.replace('_', '-')} must be {above}: got {value}")
    if arguments.table == "arena" and arguments.lr is not None:
        raise ValueError("the arena chooses each method's rate on validation: leave out --lr")
    chosen = [name for name in sizes[:3] if getattr(arguments, name) is not None]
    if chosen and (arguments.tier == "paper" or arguments.table == "epochs"):
        what = "--tier paper" if arguments.tier == "paper" else "epochs"
        raise ValueError(f"{what} has the settings of Table 8: leave out --{chosen[0].replace('_', '-')}")
    nested, writes = (arguments.table == "nested", arguments.tasks == [nested_texts.TASK])
    writes = arguments.table in generation.TABLES or (nested and writes)
    dropped = ("max_length", *(("steps", "lr") if nested else ())) if writes else ("limit", "beams")
    if others := [name for name in dropped if getattr(arguments, name) is not None]:
        what = "what writes texts has no" if writes else "only what writes texts has a"
        raise ValueError(f"{what} --{others[0].replace('_', '-')}: leave it out")
    arguments.limit, arguments.beams = arguments.limit or 0, arguments.beams or 10
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "several processes would train the same: launch one (--num_processes 1); --n-jobs runs several trainings "
            "at a time"
        )


def check_study(arguments: argparse.Namespace, study: Study) -> None:
    """Raises `ValueError` for tasks that a study does not have, and for what is named twice."""
    unknown = [task for task in arguments.tasks or () if task not in study.tasks]
    if unknown:
        raise ValueError(f"{arguments.table} has no task {unknown[0]!r}: expected some of {', '.join(study.tasks)}")
    for what in ("tasks", "seeds"):
        values = getattr(arguments, what) or []
        if len(set(values)) < len(values):
            raise ValueError(f"--{what} names {max(values, key=values.count)} twice: name each once")
    if arguments.choose and arguments.table != "table2":
        raise ValueError("--choose is for table2, whose learning rates the others have")
