"""python -m dylora_kit advise: which rank to take, from one training on your own data."""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dylora_kit.commands.base import opened
from dylora_kit.core.adapters import attach, load
from dylora_kit.evaluation.advisor import advise
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.storage.files import check_new_folder, read_json, write_files
from dylora_kit.tasks import own_data
from dylora_kit.training.loop import train
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.sampling import RankSampler, Uniform

if TYPE_CHECKING:
    from dylora_kit.core.handle import Adapters

EXAMPLE = """examples:
  python -m dylora_kit advise base-model reviews.csv --text review --label stars --out nested
  python -m dylora_kit advise base-model reviews.csv --text review --label stars --adapter nested --tolerance 0.02"""

HEADS = ("classifier", "score", "classification_head")
TASK = "task.json"  # beside the adapter: the classes and the rows that were put aside


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of a command line."""
    command = commands.add_parser(
        "advise",
        help="say which rank to take",
        description="Trains one adapter for all ranks on your data, and says which rank to take, how sure that is and "
        "what each rank costs. A tenth of the rows is chosen on, and a tenth is tested on.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("base", metavar="BASE", help="a model of transformers: a folder, or its name on the hub")
    command.add_argument("data", metavar="DATA", help="a .csv, .tsv, .json or .jsonl file")
    command.add_argument("--text", required=True, nargs="+", metavar="COLUMN", help="one column, or two for pairs")
    command.add_argument("--label", required=True, metavar="COLUMN", help="the class of each row, or its score")
    command.add_argument("--scores", action="store_true", help="labels are numbers to be predicted, not classes")
    command.add_argument("--encoding", default="utf-8", help="of the file; default utf-8")
    command.add_argument("--tolerance", type=float, default=0.01, help="how much worse is good enough; default 0.01")
    command.add_argument("--r", type=int, default=8, help="the largest rank; default 8")
    command.add_argument("--target-modules", default="attention", help="which layers; default attention")
    command.add_argument("--steps", type=int, default=500, help="of the training; default 500")
    command.add_argument("--batch-size", type=int, default=16, help="rows in a step; default 16")
    command.add_argument("--lr", type=float, default=1e-3, help="learning rate; default 0.001")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--adapter", metavar="FOLDER", help="one that is trained already, saved by this kit")
    command.add_argument("--out", metavar="OUT", help="save the adapter in this folder, a new one")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks for, and prints the advice."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if not arguments.tolerance >= 0:  # what the advisor, and saving, would say after the training
        raise ValueError(f"tolerance must be 0 or more: got {arguments.tolerance}")
    if arguments.out:
        check_new_folder(arguments.out)
    torch.manual_seed(arguments.seed)  # draws a new head
    tokenizer = opened(AutoTokenizer, arguments.base)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    task = own_data.load(
        arguments.data,
        tokenizer,
        text=arguments.text,
        label=arguments.label,
        scores=arguments.scores,
        encoding=arguments.encoding,
        seed=arguments.seed,
    )
    model, info = opened(
        AutoModelForSequenceClassification,
        arguments.base,
        num_labels=own_data.num_labels(task),
        ignore_mismatched_sizes=True,  # a head for other classes makes room for a new one
        output_loading_info=True,
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    if arguments.adapter:
        _check_same_task(Path(arguments.adapter), task, arguments.seed)
        adapters = load(model, arguments.adapter)
    else:
        adapters = _trained(model, _new_modules(model, info["missing_keys"]), task, arguments)
    if arguments.out:
        adapters.save(arguments.out)
        text = json.dumps({"classes": task.classes, "seed": arguments.seed})
        write_files(Path(arguments.out), {TASK: text.encode()})
    how: dict[str, Any] = {"metric": task.metric, "collate": task.collate}
    advice = advise(model, adapters, task.validation, tolerance=arguments.tolerance, **how)
    print(advice)
    tested = sweep(model, adapters, task.test, ranks=sorted({advice.rank, adapters.r}), progress=False, **how)
    values = [f"{value:.3f} at rank {rank}" for rank, value in zip(tested["rank"], tested["value"], strict=True)]
    print(f"On the {len(task.test)} rows kept for testing: {task.metric} {', '.join(values)}.")


def _new_modules(model: Any, missing: Iterable[str]) -> list[str]:
    """The modules to train along: the head, and whatever else the base did not hold, such as a pooler."""
    heads = [name for name, _ in model.named_children() if name in HEADS]
    new = dict.fromkeys(key.rpartition(".")[0] for key in sorted(missing))
    return heads + [name for name in new if name.partition(".")[0] not in heads]


def _check_same_task(folder: Path, task: own_data.OwnTask, seed: int) -> None:
    """Raises `ValueError` if an adapter that this command saved was trained on other classes, or other rows."""
    if not (folder / TASK).is_file():
        return
    trained = read_json(folder / TASK)
    for what, now in (("classes", list(task.classes)), ("seed", seed)):
        if trained.get(what) != now:
            raise ValueError(
                f"{folder} was trained with the {what} {trained.get(what)}, and these are {now}: give the same data "
                "and --seed, or train anew"
            )


def _trained(model: Any, saved: list[str], task: own_data.OwnTask, arguments: argparse.Namespace) -> "Adapters":
    """An adapter for all ranks, with the modules that are new, trained on a task."""
    adapters = attach(model, r=arguments.r, target_modules=arguments.target_modules, modules_to_save=saved)
    train(
        model,
        adapters,
        task.train,
        sampler=RankSampler(Uniform(1, adapters.r), seed=arguments.seed),
        optimizer=NestedAdamW(adapters, lr=arguments.lr),
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        collate=task.collate,
    )
    return adapters
