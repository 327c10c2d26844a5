"""Any LoRA gets all its ranks: its rows are ordered, and then each rank learns what rank r answers. No labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import Subset

from dylora_kit.core.handle import Adapters
from dylora_kit.training.batches import Collate, check_data
from dylora_kit.training.checkpoint import FILE
from dylora_kit.training.loop import train
from dylora_kit.training.next_token import named_causal
from dylora_kit.training.objectives import Objective, sandwich_loss
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.run_settings import check_sampler
from dylora_kit.training.sampling import RankDistribution, RankSampler, Uniform
from dylora_kit.training.teacher import KeptAdapters, Teacher

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 256  # examples by which learning rates are compared, at most


@dataclass
class Nesting:
    """What `nest` did.

    Attributes:
        lr: the learning rate that was kept; 0 if ordering alone was better than each of them.
        divergences: a frame with the columns lr, rank and divergence: how far each rank is from the answers of rank r,
            on examples held out. Rows with lr 0 are the ordered adapter before training.
        history: the frame that `train` gave at that rate; None if lr is 0.
    """

    lr: float
    divergences: "pd.DataFrame"
    history: "pd.DataFrame | None"
    _before: KeptAdapters = field(repr=False)

    def undo(self) -> None:
        """Gives the adapters back, bit for bit, what they were before `nest`, unless they were grown since."""
        self._before.put_back()


def nest(
    model: nn.Module,
    adapters: Adapters,
    data: Any,
    *,
    steps: int = 200,
    objective: Objective = sandwich_loss,
    distribution: RankDistribution | None = None,
    lr: float | Sequence[float] = (3e-4, 1e-3, 3e-3, 1e-2),
    batch_size: int = 32,
    gradient_accumulation: int = 1,
    max_grad_norm: float | None = None,
    train_heads: bool = True,
    held_out: float = 0.1,
    seed: int = 0,
    collate: Collate | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    resume: bool = False,
    progress: bool = True,
) -> Nesting:
    """Gives a LoRA that was trained at one rank all ranks below it, in place.

    First its rows are ordered by singular value (`adapters.order`). Then each rank learns, by `train`, what the model
    answers at rank r: the mean divergence KL(answers ‖ outputs) is minimised; for a model with a single output, a
    score, half the squared difference. The answers are those of the model as it is given, and do not move while it
    learns. No labels are needed, and no dropout is applied.

    This is done at one learning rate after another, the lowest first, until the divergence on examples held out, on
    average over the ranks 1, 2, 4, … and r, is larger than at the rate before. The adapter with the smallest is kept,
    be it the ordered one without training.

    Arguments:
        adapters: a handle from `attach`, `load`, `import_peft` or `nest_peft`.
        data: a map-style dataset of dicts, as in `train`; the inputs alone are enough. `Teacher` says which tokens of
            texts count.
        steps: of each training.
        objective: `sandwich_loss` runs each batch at the lowest, the drawn and the highest rank; any of `train` does.
        distribution: of the rank b; default is uniform on 1 … r.
        lr: one learning rate, or several to choose from.
        train_heads: whether modules in `modules_to_save` learn too. All ranks share them, and the low ones gain by it.
            Nothing else learns.
        held_out: the share of the data on which learning rates are compared, at most 256 examples.
        seed: of the examples held out, the order of the others, and the ranks.
        batch_size, gradient_accumulation, max_grad_norm, collate, progress: as in `train`.
        checkpoint, checkpoint_every, resume: as in `train`, with a folder in it for each learning rate. To go on, call
            `nest` on the adapter as it was at first.

    Returns what was done; its `undo()` gives back the adapter as it was. The rank is afterwards what it was before.

    Raises `ValueError` where `train` and `order` do, for answers that are not finite, and for a causal language model
    if a text has less than two tokens. After an error the adapter is as it was.

    Source: the sandwich rule and in-place distillation of slimmable networks (Yu and Huang, arXiv 1903.05134), here
    with a teacher that stays as it is.

    >>> from dylora_kit.core.adapters import attach
    >>> class Classifier(nn.Sequential):
    ...     def forward(self, x):
    ...         return super().forward(x)
    >>> model = Classifier(nn.Linear(6, 5))
    >>> adapters = attach(model, r=4, target_modules=["0"])
    >>> _ = nn.init.normal_(adapters.layers["0"].lora_B)
    >>> data = [{"x": torch.randn(6)} for _ in range(40)]
    >>> nesting = nest(model, adapters, data, steps=3, progress=False)
    >>> nesting.divergences.columns.tolist(), adapters.scaling
    (['lr', 'rank', 'divergence'], 'alpha/r')
    """
    adapters.check_usable(model)
    adapters.check_unmerged("nesting")
    distribution = distribution or Uniform(1, adapters.r)
    check_sampler(RankSampler(distribution, seed=seed), adapters)
    rates = _checked_rates(lr)
    taught, held = _split(data, held_out, seed)
    _check_texts(adapters.model, data)
    flags = {parameter: parameter.requires_grad for parameter in adapters.model.parameters()}
    learning = set(adapters.nested_parameters())
    if train_heads:
        learning |= {p for module in adapters.saved_modules.values() for p in module.parameters()}
    before = KeptAdapters(adapters)
    try:
        adapters.order()
        teacher = Teacher(adapters, before.digest)
        trials = _Trials(teacher, model, held, _some_ranks(distribution), batch_size, collate)
        trials.add(0.0, None)
        for parameter, flag in flags.items():  # what else was trained, such as norms, is the teacher's too
            parameter.requires_grad_(flag and parameter in learning)
        for rate in rates:
            teacher.kept.put_back()
            folder = None if checkpoint is None else Path(checkpoint) / f"lr-{rate:g}"
            try:
                history = train(
                    model, adapters, taught,
                    sampler=RankSampler(distribution, seed=seed), objective=objective, loss=teacher, steps=steps,
                    optimizer=NestedAdamW(adapters, lr=rate), batch_size=batch_size, max_grad_norm=max_grad_norm,
                    gradient_accumulation=gradient_accumulation, seed=seed, collate=collate, checkpoint=folder,
                    checkpoint_every=checkpoint_every, progress=progress,
                    resume=resume and folder is not None and (folder / FILE).is_file(),
                )  # fmt: skip
            except FloatingPointError:
                trials.add_failed(rate)
            else:
                trials.add(rate, history)
            if trials.lr != rate:  # a higher rate would be worse still
                break
        trials.best.put_back()
    except BaseException:
        before.put_back()
        raise
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
    return Nesting(trials.lr, trials.frame(), trials.history, before)


@dataclass
class _Trials:
    """The adapter after training at each learning rate: how far its ranks are from the answers; the best one is kept.

    Arguments:
        data: examples held out.
        ranks: those that are compared.

    Attributes:
        lr, best, history: the best trial's learning rate, its adapter, and what `train` returned.
    """

    teacher: Teacher
    model: nn.Module
    data: Any
    ranks: list[int]
    batch_size: int
    collate: Collate | None

    def __post_init__(self) -> None:
        self._measured: dict[float, dict[int, float]] = {}
        self.lr, self.history = 0.0, None

    def add(self, lr: float, history: "pd.DataFrame | None") -> None:
        """Measures the adapter as it is now; the first one is the best until another is better."""
        self._measured[lr] = self.teacher.divergences(
            self.model, self.data, self.ranks, batch_size=self.batch_size, collate=self.collate
        )
        if len(self._measured) == 1 or self._mean(lr) < self._mean(self.lr):
            self.lr, self.history, self.best = lr, history, KeptAdapters(self.teacher.adapters)

    def add_failed(self, lr: float) -> None:
        """Notes a rate at which the loss was not finite."""
        self._measured[lr] = dict.fromkeys(self.ranks, math.inf)

    def frame(self) -> "pd.DataFrame":
        """One row per learning rate and rank: lr, rank, divergence."""
        import pandas as pd

        rows = [(lr, rank, value) for lr, values in self._measured.items() for rank, value in values.items()]
        return pd.DataFrame(rows, columns=["lr", "rank", "divergence"])

    def _mean(self, lr: float) -> float:
        return sum(self._measured[lr].values()) / len(self.ranks)


def _checked_rates(lr: float | Sequence[float]) -> list[float]:
    """The learning rates to try, the lowest first; `ValueError` if there are none, or one is not finite and above 0."""
    rates = [float(rate) for rate in (lr if isinstance(lr, Sequence) else [lr])]
    if not rates or not all(0 < rate < math.inf for rate in rates):
        raise ValueError(f"lr must be one learning rate, or several, above 0: got {lr!r}")
    return sorted(set(rates))


def _split(data: Any, held_out: float, seed: int) -> tuple[Any, Any]:
    """The examples to learn from, and those held out."""
    check_data(data, "the data is empty: there is nothing to learn from")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be a share of the data, between 0 and 1: got {held_out!r}")
    size = min(HELD_OUT, max(1, round(held_out * len(data))))
    if size == len(data):
        raise ValueError("the data has one example: give more, since some are held out to compare learning rates")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    return Subset(data, sorted(order[size:])), Subset(data, sorted(order[:size]))


def _check_texts(model: nn.Module, data: Any) -> None:
    """Raises `ValueError` if a causal language model is given a text in which no token is followed by another."""
    if not named_causal(model):
        return
    for index in range(len(data)):
        example = data[index]
        if isinstance(example, Mapping) and "input_ids" in example:
            tokens = int(sum(example["attention_mask"])) if "attention_mask" in example else len(example["input_ids"])
            if tokens < 2:
                raise ValueError(
                    f"the text of example {index} has {tokens} tokens, and an answer is about the next one: leave out "
                    "texts of less than 2 tokens"
                )


def _some_ranks(distribution: RankDistribution) -> list[int]:
    """The lowest rank, the powers of two above it, and the highest.

    >>> _some_ranks(Uniform(1, 12)), _some_ranks(Uniform(3, 8))
    ([1, 2, 4, 8, 12], [3, 4, 8])
    """
    lo, hi = distribution.lo, distribution.hi
    powers = (2**exponent for exponent in range(hi.bit_length()))
    return list(dict.fromkeys([lo, *(power for power in powers if lo < power < hi), hi]))
