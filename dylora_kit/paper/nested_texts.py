"""A LoRA of a causal model that gets its ranks afterwards: what it writes cut by SVD, and taught by its own answers.

The LoRA is the one that `table6` trained and kept among its adapters, with the settings that it had there.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from torch.utils.data import Subset

from dylora_kit.core.adapters import Adapters, load
from dylora_kit.evaluation.text_sweep import sweep_texts
from dylora_kit.paper import generation
from dylora_kit.paper.compared_methods import LORA, SVD
from dylora_kit.paper.generation import BEAMS, Setup
from dylora_kit.paper.jobs import Job, Study
from dylora_kit.paper.nested_afterwards import NESTED
from dylora_kit.paper.results_files import MISSING, WRITTEN, Rows, cell
from dylora_kit.paper.run_folders import slug
from dylora_kit.paper.runs import read_results
from dylora_kit.paper.settings import GPT2, SEEDS
from dylora_kit.training.self_distillation import nest

TASK = "e2e"
STEPS, RATES = 40, (1e-4, 3e-4)
PASSES = 3.5  # of a step, in steps of a training: the ranks 1, b and r, and the teacher's forward pass
EXAMPLES = 1000  # inputs to learn from and to compare rates on: 40 steps of 8 see 320 of them
DIVERGENCE = "divergence"  # from the answers at rank r, on inputs held out


def run(setup: Callable[[], Setup], lora: Path, texts: Path, seed: int, *, batch_size: int, beams: int) -> pd.DataFrame:
    """The LoRA of a folder cut by SVD, and after `nest`: what it writes at each rank, and how far it is from rank r.

    Arguments:
        lora: the folder of the LoRA.
        texts: a folder for what is written; what is there is not written again.

    Raises `FileNotFoundError` if there is no such LoRA.
    """
    if not lora.is_dir():
        raise FileNotFoundError(
            f"there is no {lora.name} among the adapters: it is trained by table6, so run that first"
        )
    here = setup()
    model = here.build()
    adapters = load(model, lora)
    frames = list[pd.DataFrame]()

    def add(method: str, handle: Adapters) -> None:
        out = texts / f"{slug(method)}.jsonl"
        frames.append(
            sweep_texts(
                model, handle, here.inputs, here.tokenizer, ranks=range(1, handle.r + 1), metrics=here.score, out=out,
                prompt=here.prompt, method=method, seed=seed, max_new_tokens=generation.NEW_TOKENS,
                batch_size=max(1, 100 // beams), num_beams=beams, length_penalty=BEAMS["length_penalty"],
                no_repeat_ngram_size=int(BEAMS["no_repeat_ngram_size"]),
            )
        )  # fmt: skip

    data = Subset(here.task.train, range(min(EXAMPLES, len(here.task.train))))
    nesting = nest(model, adapters, data, steps=STEPS, lr=RATES, batch_size=batch_size, seed=seed,
                   collate=here.task.collate)  # fmt: skip
    add(NESTED, adapters)
    nesting.undo()
    adapters.order()
    add(SVD, adapters)
    apart = nesting.divergences.rename(columns={"divergence": "value"}).assign(metric=DIVERGENCE, seed=seed)
    for method, lr in ((SVD, 0.0), (NESTED, nesting.lr)):
        frames.append(apart[apart["lr"] == lr].assign(method=method).drop(columns="lr"))
    return pd.concat(frames, ignore_index=True).assign(chosen_lr=nesting.lr)


def study(model: str, *, batch_size: int | None, limit: int, beams: int) -> Study:
    """The study of a model of the hub or of a local folder.

    Arguments:
        batch_size, limit, beams: as for Table 6.
    """
    name = Path(model).name
    size = batch_size or int(GPT2["batch_size"])

    def jobs(task: str, seed: int, adapters: Path) -> list[Job]:
        if seed != SEEDS[0]:
            raise ValueError(f"the LoRA that table6 keeps is that of seed {SEEDS[0]}: leave out --seeds {seed}")
        setup = partial(generation.real, model, task, limit)
        lora = adapters / f"table6-{name}-{task}-{slug(LORA)}"
        texts = adapters.parent / "results" / f"nested-{name}" / f"{task}-seed-{seed}"
        recorded = {"model": name, "limit": limit, "data": setup().task.name, "batch_size": size, "num_beams": beams,
                    "steps_after": STEPS}  # fmt: skip
        run_it = partial(run, setup, lora, texts, seed, batch_size=size, beams=beams)
        per_step, per_text, _ = generation.timing(setup(), size, beams)
        writing = 2 * int(GPT2["r"]) * len(setup().inputs) * per_text  # after each of the two ways, at every rank
        return [Job({"task": task}, seed, recorded, run_it, len(RATES) * STEPS * PASSES * per_step + writing)]

    return Study(f"nested-{name}", (TASK,), (TASK,), lambda task: SEEDS[:1], jobs,
                 shown=lambda results: results[results["metric"] == "bleu"])  # fmt: skip


def table(folder: Path) -> Rows:
    """What each model writes at every rank, cut by SVD and nested."""
    rows: Rows = []
    for path in sorted(folder.glob(f"nested-*-{TASK}.csv")):
        frame = read_results(path)
        what = f"{path.stem.removeprefix('nested-').removesuffix(f'-{TASK}')} on E2E"
        for method in (SVD, NESTED):
            for metric in ("bleu", "slot error rate", DIVERGENCE):
                of = frame[(frame["method"] == method) & (frame["metric"] == metric)].groupby("rank")["value"]
                cells = {
                    rank: f"{values.mean():.3f}"
                    if metric == DIVERGENCE
                    else cell(values, seeds=frame["seed"].nunique())
                    for rank, values in of
                }
                row = {"model": what, "method": method, "measured": WRITTEN.get(metric, metric)}
                rows.append(row | {f"rank {rank}": cells.get(rank, MISSING) for rank in sorted(set(frame["rank"]))})
    return rows
