"""A choice of the student's own, how ranks are drawn and what is minimised, against a task that is not shown."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from dylora_kit.backbones import load
from dylora_kit.core.adapters import attach
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.lessons.claims import in_words
from dylora_kit.tasks import digits
from dylora_kit.training.loop import train
from dylora_kit.training.objectives import Objective, individual_loss
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.sampling import RankDistribution, RankSampler, Uniform

if TYPE_CHECKING:
    import pandas as pd

    from dylora_kit.tasks import Task

R, BATCH, SEED = 8, 32, 10
_SHOWN, _HIDDEN = "turned", "inverted"


@dataclass
class Capstone:
    """Train a DyLoRA your way: the score is its accuracy, averaged over ranks 1 to 8.

    Every way has the same budget, counted in pictures that pass through the model: an objective that runs a batch at
    eight ranks takes an eighth of the steps. You practise on turned digits, on pictures put aside to choose on. What
    you submit is trained anew on a task that you have not seen. The rival is what the paper does: one rank for each
    step, all as likely.

    Arguments:
        passes: the budget, in batches of 32 pictures.

    Attributes:
        submitted: how often you submitted.

    >>> capstone = Capstone(passes=2)
    >>> capstone.practise(Uniform(1, 4)).shape  # doctest: +ELLIPSIS
    turned digits: your mean over the ranks is ... %, the rival's ... %: ... points
    (2, 9)
    """

    passes: int = 400
    submitted: int = 0
    _rivals: dict[str, list[float]] = field(default_factory=dict, repr=False)

    def practise(self, distribution: RankDistribution, objective: Objective = individual_loss) -> "pd.DataFrame":
        """Trains on turned digits, as often as you like. Prints the score, and returns the accuracy at each rank.

        Arguments:
            distribution: how the rank of a step is drawn.
            objective: what a step minimises.

        Raises `ValueError` for a rank that the adapter does not have.
        """
        task = digits.load(_SHOWN)
        return self._scored("turned digits", task, task.validation, distribution, objective)

    def submit(self, distribution: RankDistribution, objective: Objective = individual_loss) -> "pd.DataFrame":
        """Trains on the task that you have not seen. Arguments, what it prints and returns: as `practise`."""
        self.submitted += 1
        task = digits.load(_HIDDEN)
        again = f", try {self.submitted}: each one tells you more of the test" if self.submitted > 1 else ""
        return self._scored(f"the hidden task{again}", task, task.test, distribution, objective)

    def _scored(
        self, name: str, task: "Task", data: digits.Digits, distribution: RankDistribution, objective: Objective
    ) -> "pd.DataFrame":
        import pandas as pd

        if distribution.hi > R:
            raise ValueError(f"the adapter has ranks from 1 to {R}: {distribution!r} draws rank {distribution.hi}")
        yours = self._accuracies(task, data, distribution, objective)
        if task.name not in self._rivals:
            self._rivals[task.name] = self._accuracies(task, data, Uniform(1, R), individual_loss)
        rows = {"yours": yours, "the rival": self._rivals[task.name]}
        frame = pd.DataFrame(rows, index=range(1, R + 1)).T.assign(mean=lambda table: table.mean(axis=1))
        mean, other = frame["mean"]
        print(
            f"{name}: your mean over the ranks is {in_words(mean, '%')}, the rival's {in_words(other, '%')}: "
            f"{100 * (mean - other):+.1f} points"
        )
        return frame

    def _accuracies(
        self, task: "Task", data: digits.Digits, distribution: RankDistribution, objective: Objective
    ) -> list[float]:
        """The accuracy at each rank after a training within the budget."""
        model = load("digits-vit")
        adapters = attach(model, r=R, target_modules="attention", modules_to_save=["classifier"], seed=SEED)
        sampler = RankSampler(distribution, seed=SEED)
        steps = max(int(self.passes / passes_of(objective, distribution)), 1)
        train(
            model,
            adapters,
            task.train,
            sampler=sampler,
            objective=objective,
            steps=steps,
            batch_size=BATCH,
            optimizer=NestedAdamW(adapters, lr=4e-3),
            seed=SEED,
            max_grad_norm=1.0,
            progress=False,
        )
        return [float(value) for value in sweep(model, adapters, data, progress=False)["value"]]


def passes_of(objective: Objective, distribution: RankDistribution) -> float:
    """How often a step of an objective runs its batch, as the average over ten steps.

    >>> from dylora_kit.training.objectives import mixed_loss, summation_in_one, summation_loss
    >>> [passes_of(loss, Uniform(1, 8)) for loss in (individual_loss, mixed_loss, summation_loss, summation_in_one)]
    [1.0, 1.0, 8.0, 8.0]
    """
    sampler = RankSampler(distribution, seed=SEED)
    runs = 0.0
    for _ in range(10):
        for _, rank in objective(sampler.draw(), sampler, BATCH):
            runs += len(rank) / BATCH if isinstance(rank, Tensor) else 1
    return runs / 10
