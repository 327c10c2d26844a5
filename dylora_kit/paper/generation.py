"""Tables 6 and 9: what causal models write of facts, by every method at every rank, with Table 8's GPT-2 settings.

A LoRA is trained once and cut in three ways: with its own scale for each rank (α/b), with the scale that it was trained
with (α/r), and by singular values. At its full rank all three are the LoRA itself, which is measured once. What a
training and its texts have reached is kept in the folder of the results, so that a run that was stopped goes on.
"""

import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from dylora_kit import backbones
from dylora_kit.baselines.svd_cut import svd_cut
from dylora_kit.core.adapters import Adapters, attach
from dylora_kit.evaluation.text_metrics import scores
from dylora_kit.evaluation.text_sweep import sweep_texts
from dylora_kit.evaluation.writing import context_of
from dylora_kit.paper.compared_methods import DYLORA, FROZEN, HELD, LORA, ONE, SVD
from dylora_kit.paper.embedded import made_of
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.run_folders import slug
from dylora_kit.paper.runs import keep
from dylora_kit.paper.settings import DESCRIBE, GPT2, SEEDS
from dylora_kit.paper.short_timing import timed
from dylora_kit.synthetic.read import slot_errors as world_errors
from dylora_kit.tasks import Task, dart, e2e, slots, webnlg, world
from dylora_kit.training.checkpoint import FILE
from dylora_kit.training.loop import train
from dylora_kit.training.sampling import Fixed, RankSampler, Uniform

TABLES = {"table6": ("e2e",), "table6-r8": ("e2e",), "table9": ("dart", "webnlg")}  # what each is measured on
VARIANTS = {"table6-r8": {"r": 8, "lora_alpha": 16}}  # beside the paper's preset
OWN = (1, 2, 4)  # the ranks for which a LoRA of its own is trained
NEW_TOKENS = 64  # of a text at most, as in LoRA's experiments
BEAMS = {"num_beams": 10, "length_penalty": 0.8, "no_repeat_ngram_size": 4}


@dataclass(frozen=True, eq=False)
class Setup:
    """One model on one task: how it is built, the rows it learns from, and the inputs that it is measured on.

    Attributes:
        inputs: with `"first"`, `"references"` and `"facts"`.
        prompt: what the model is given of an input.
        score: the metrics of texts of inputs.
    """

    name: str
    build: Callable[[], nn.Module]
    tokenizer: Any
    task: Task
    inputs: Sequence[dict[str, Any]]
    prompt: Callable[[Any], str]
    score: Callable[[Sequence[str], Sequence[Any]], dict[str, float]]


def run(
    load: Callable[[], Setup], method: str, seed: int, texts: Path, checkpoint: Path, *, r: int,
    adapters: Path | None = None, card: tuple[str, str, Path] | None = None, **settings: Any,
) -> pd.DataFrame:  # fmt: skip
    """One training, and the texts and scores of the test inputs at its ranks. A LoRA is cut in every way.

    Arguments:
        texts, checkpoint: folders; what is there is not done again.
        adapters: a folder for the adapters, with a card: what they are, the command, and the results file.
        settings: of `trained`, and how texts are written: `num_beams`, `length_penalty` and `no_repeat_ngram_size`.
    """
    setup = load()
    writing = {key: settings.pop(key) for key in BEAMS}
    model, handle = trained(setup, method, seed, checkpoint, r=r, **settings)
    if adapters is not None and card is not None:
        what, command, results = card
        keep(handle, adapters, what, command, settings | {"r": r, "seed": seed}, results)

    def measured(name: str, pair: tuple[nn.Module, Adapters], ranks: Sequence[int]) -> pd.DataFrame:
        out = texts / f"{slug(name)}.jsonl"
        return sweep_texts(*pair, setup.inputs, setup.tokenizer, ranks=ranks, metrics=setup.score, out=out,
                           prompt=setup.prompt, method=name, seed=seed, max_new_tokens=NEW_TOKENS,
                           batch_size=max(1, 100 // writing["num_beams"]), **writing)  # fmt: skip

    if method == ONE:
        return measured(ONE, (model, handle), [r])
    frames = [measured(method, (model, handle), range(1, r + 1))]
    if method == LORA:
        whole = frames[0][frames[0]["rank"] == r]
        if r in OWN:
            frames.append(whole.assign(method=ONE))
        if r > 1:
            frames.append(measured(SVD, svd_cut(handle), range(1, r)))
            handle.scaling = "alpha/r"
            frames.append(measured(HELD, (model, handle), range(1, r)))
        frames += [whole.assign(method=name) for name in (SVD, HELD)]
    return pd.concat(frames)


def trained(
    setup: Setup, method: str, seed: int, checkpoint: Path, *, r: int, lora_alpha: float, lora_dropout: float,
    steps: int, batch_size: int, **settings: Any,
) -> tuple[nn.Module, Adapters]:  # fmt: skip
    """A model with adapters on query and value, trained by a method; one that was stopped goes on.

    Arguments:
        settings: learning rate, weight decay, warm-up and label smoothing, as in `train`.
    """
    model = setup.build()
    adapters = attach(
        model, r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules="attention", seed=seed
    )
    adapters.frozen = method == FROZEN
    sampler = RankSampler(Uniform(1, r) if method in (DYLORA, FROZEN) else Fixed(r), seed=seed)
    train(model, adapters, setup.task.train, sampler=sampler, steps=steps, batch_size=batch_size, seed=seed,
          collate=setup.task.collate, checkpoint=checkpoint, checkpoint_every=100, resume=(checkpoint / FILE).is_file(),
          **settings)  # fmt: skip
    return model, adapters


@cache
def embedded() -> Setup:
    """`world-gpt2` on `describe`."""
    tokenizer, name = backbones.tokenizer("world-gpt2"), "world-describe"
    task, inputs = world.load("describe", tokenizer), world.texts("describe")["test"]
    score = partial(score_texts, errors=world_errors, metrics=("bleu", "nist", "rouge-l", "cider"), tool="e2e")
    return Setup(name, partial(backbones.load, "world-gpt2"), tokenizer, task, inputs, world.prompt_of, score)


@cache
def real(model: str, name: str, limit: int) -> Setup:
    """A causal model of the hub or of a local folder on E2E, DART or WebNLG.

    Arguments:
        limit: only so many test inputs; 0 for all.
    """
    from transformers import AutoTokenizer

    tokenizer, build = AutoTokenizer.from_pretrained(model), partial(_causal, model)
    context = context_of(build()) or 512
    task = {"e2e": e2e, "dart": dart, "webnlg": webnlg}[name].load(tokenizer, max_length=min(512, context))
    metrics = tuple(metric for metric in (task.metric, *task.also) if metric != "meteor" or _has_meteor())
    score = partial(score_texts, errors=slots.slot_errors if name == "e2e" else None, metrics=metrics,
                    tool="e2e" if name == "e2e" else "webnlg")  # fmt: skip
    inputs = task.test[: limit or None]
    return Setup(task.name, build, tokenizer, task, inputs, lambda row: str(row["first"]), score)


def _causal(model: str) -> nn.Module:
    """A fresh model. One of a local folder is called by the folder's name, so that adapters do not name its place."""
    from transformers import AutoModelForCausalLM

    fresh: nn.Module = AutoModelForCausalLM.from_pretrained(model)
    if Path(model).is_dir():
        fresh.name_or_path = Path(model).name  # type: ignore[assignment]
    return fresh.to("cuda" if torch.cuda.is_available() else "cpu")


def score_texts(
    texts: Sequence[str], rows: Sequence[Any], *, errors: Any, metrics: Sequence[str], tool: str
) -> dict[str, float]:
    """The metrics, of lower-case texts as LoRA's authors have it, and the rate of slots that are not said as given.

    Arguments:
        errors: `(text, facts) → number` of slots that are missing, wrong or made up; None if they cannot be told.
    """
    lower = [text.lower() for text in texts]
    references = [[reference.lower() for reference in row["references"]] for row in rows]
    values: dict[str, float] = dict(scores(lower, references, metrics, tool=tool))
    if errors is not None:
        wrong = sum(errors(text, row["facts"]) for text, row in zip(texts, rows, strict=True))
        values["slot error rate"] = wrong / sum(len(row["facts"]) for row in rows)
    return values


@cache
def timing(setup: Setup, batch_size: int, beams: int) -> tuple[float, float, int]:
    """About how many seconds a step of a training takes here, and one text; and how many bytes a checkpoint has."""
    per_step, _, disk = timed(setup.build, setup.task, batch_size)
    model, few = setup.build(), setup.inputs[:4]
    adapters = attach(model, r=1, target_modules="attention")
    writing: dict[str, Any] = BEAMS | {"num_beams": beams}
    start = time.perf_counter()
    sweep_texts(model, adapters, few, setup.tokenizer, prompt=setup.prompt, metrics=lambda *_: {}, progress=False,
                max_new_tokens=NEW_TOKENS, **writing)  # fmt: skip
    return per_step, (time.perf_counter() - start) / len(few), disk


def jobs(
    table: str, setup: Callable[[], Setup], settings: dict[str, Any], recorded: dict[str, Any], seconds: float,
    command: str, task: str, seed: int, adapters: Path, disk: int = 1_000_000,
    per_rank: float = 0.0,
) -> list[Job]:  # fmt: skip
    """The trainings of a table on a task with a seed.

    Arguments:
        setup: gives model and data when a job is run.
        settings: of `run`.
        recorded: what results depend on besides.
        seconds: about how long a training takes.
        disk: about how many bytes of checkpoint it has.
        per_rank: about how long the texts of one rank take, scale and way to cut.
    """
    r, result = settings["r"], list[Job]()
    for method, rank in ((DYLORA, r), (FROZEN, r), (LORA, r), *((ONE, own) for own in OWN if own < r)):
        own = f"{task}-{slug(method)}" + (f"-{rank}" if method == ONE else "")
        folders = [adapters.parent / name / table / f"{own}-seed-{seed}" for name in ("results", "checkpoints")]
        kept = adapters / f"{table}-{own}" if seed == SEEDS[0] and method != ONE else None
        what = f"{method.split(',')[0] if method == LORA else method}, r = {rank}, trained on {task}"
        card = (what, command, Path(f"{table}-{task}.csv"))
        run_it = partial(run, setup, method, seed, *folders, adapters=kept, card=card, **settings | {"r": rank})
        written = 1 if method == ONE else 3 * r - 2 if method == LORA else r
        part = {"task": task, "method": method} | ({"rank": rank} if method == ONE else {})
        shared = {key: value for key, value in settings.items() if key != "r"} | recorded
        result.append(Job(part, seed, shared | {"r_max": r}, run_it, seconds + written * per_rank, disk=disk))
    return result


def settings_of(table: str, **changed: Any) -> dict[str, Any]:
    """What a table's methods are trained and written with, but for the number of steps; None leaves the preset's."""
    settings = {key: value for key, value in GPT2.items() if key != "epochs"}
    return settings | VARIANTS.get(table, {}) | {key: value for key, value in changed.items() if value is not None}


def embedded_study(table: str) -> Study:
    """A table on `world-describe`: greedy, with the steps and the learning rate that suit `world-gpt2`."""
    settings, seconds = settings_of(table, **DESCRIBE) | BEAMS | {"num_beams": 1}, 0.12 * DESCRIBE["steps"]

    def of(task: str, seed: int, adapters: Path) -> list[Job]:
        command = f"python -m dylora_kit.paper {table}"
        return jobs(table, embedded, settings, made_of("world-describe"), seconds, command, task, seed, adapters)

    return Study(table, ("world-describe",), ("world-describe",), lambda task: SEEDS[:3], of, shown=bleu)


def real_study(
    table: str, model: str, *, steps: int | None, lr: float | None, batch_size: int | None, limit: int, beams: int,
    seeds: int = 1,
) -> Study:  # fmt: skip
    """A table with a model of the hub or of a local folder.

    Arguments:
        steps: default is five epochs.
        lr, batch_size: default is the preset's.
        limit: only so many test inputs; 0 for all.
        beams: 1 takes the most probable token each time.
        seeds: how many of the paper's, if none are named.
    """
    name = Path(model).name

    def of(task: str, seed: int, adapters: Path) -> list[Job]:
        setup = partial(real, model, task, limit)
        settings = settings_of(table, lr=lr, batch_size=batch_size) | BEAMS | {"num_beams": beams}
        data = setup().task
        settings["steps"] = steps or GPT2["epochs"] * len(data.train) // settings["batch_size"]
        per_step, per_text, disk = timing(setup(), settings["batch_size"], beams)
        seconds = settings["steps"] * per_step
        recorded = {"model": name, "limit": limit, "data": data.name}
        command = (
            f"python -m dylora_kit.paper {table} --tier real --model {name} --tasks {task} --steps {settings['steps']}"
        )
        return jobs(f"{table}-{name}", setup, settings, recorded, seconds, command, task, seed, adapters, disk,
                    per_text * len(setup().inputs))  # fmt: skip

    return Study(f"{table}-{name}", TABLES[table], TABLES[table], lambda task: SEEDS[:seeds], of, shown=bleu)


def bleu(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of results that are BLEU."""
    return results[results["metric"] == "bleu"]


@cache
def _has_meteor() -> bool:
    """Whether METEOR can be measured; tells if not."""
    try:
        import pycocoevalcap.meteor.meteor  # noqa: F401
    except ImportError:
        pass
    else:
        if shutil.which("java"):
            return True
    warnings.warn("METEOR is left out: it needs Java and the package pycocoevalcap", stacklevel=2)
    return False
