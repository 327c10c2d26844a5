"""One training loop for every method: the sampler and the objective say which."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dylora_kit.core.modes import modes_kept
from dylora_kit.core.offload import input_device
from dylora_kit.core.rank import Rank
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.progress import progress_bar
from dylora_kit.training.batches import Batch, Collate, arguments, check_data, on_device, stacked
from dylora_kit.training.checkpoint import Checkpoint, Row
from dylora_kit.training.counting import OwnLoss
from dylora_kit.training.objectives import Objective, individual_loss, repeated, size_of, weighted
from dylora_kit.training.own_step import OwnStep, check_own_step, take
from dylora_kit.training.run_settings import RunSettings, checked_folder, checked_optimizer
from dylora_kit.training.sampling import RankSampler

if TYPE_CHECKING:
    import pandas as pd

Loss = Callable[[nn.Module, Batch], Tensor]


def train(
    model: nn.Module,
    adapters: RankHandle,
    train_data: Any,
    *,
    sampler: RankSampler,
    steps: int,
    objective: Objective = individual_loss,
    batch_size: int = 32,
    gradient_accumulation: int = 1,
    optimizer: torch.optim.Optimizer | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    schedule: str = "linear",
    warmup: int | float = 0.06,
    max_grad_norm: float | None = None,
    label_smoothing: float = 0.0,
    seed: int = 0,
    collate: Collate | None = None,
    loss: Loss | None = None,
    step: OwnStep | None = None,
    on_step: Callable[[int], None] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    resume: bool = False,
    progress: bool = True,
) -> "pd.DataFrame":
    """Trains adapters as Algorithm 1 does, in place. Afterwards the rank is what it was before.

    One rank b is drawn per optimizer step; all layers and all micro-batches of the step use it. `RankSampler(Fixed(r))`
    trains plain LoRA. Data order and dropout follow from `seed` alone, so two methods see the same batches and masks;
    the global random state is left untouched.

    Arguments:
        adapters: the handle from `attach` or `load`, or another `RankHandle`, such as an autoencoder's code.
        train_data: a map-style dataset of dicts, such as a `datasets.Dataset` or a list. A column `label` is passed on
            as `labels`.
        sampler: draws b.
        objective: `individual_loss` (Eq. 9), `summation_loss` (Eq. 2), `summation_in_one`, `mixed_loss`,
            `stratified_loss`, `sandwich_loss`, or your own.
        gradient_accumulation: micro-batches of `batch_size` per optimizer step. The loss of the step is that of one
            batch of them all: each of the model's own losses weighs as many labels as it is the mean of. A `loss` of
            yours is taken for a mean over examples, so each counts alike; so does each process's step under DDP.
        optimizer: default is `NestedAdamW(adapters)` with `lr` (1e-3) and `weight_decay` (0).
        schedule: `"linear"` (warm up over the first `warmup` of the steps, then down to 0) or `"constant"`.
        warmup: a share of the steps, such as 0.06, or a whole number of steps, such as 500.
        label_smoothing: the share of each label that counts as spread evenly over all classes; the loss is then the
            cross-entropy of the model's logits with such labels, without terms that a model may add to its own.
        collate: makes a batch of a list of examples; default stacks each column, whose examples need one length.
        loss: `(model, batch) → scalar`, or one value per example, of which the mean is taken; default is
            `model(**batch).loss`.
        step: a step of your own in place of the kit's, `(adapters, sampler, optimizer, loss, batch)`, for one batch:
            it draws b and sets the rank, calls `loss(batch)` and `backward`, and lets the optimizer step and clear.
        on_step: called with the number of finished steps.
        checkpoint: a folder; the state goes there every `checkpoint_every` steps and at the end.
        resume: go on from the checkpoint in that folder. The result is bit for bit that of a run without a break. A run
            with other settings is refused, as are another base, other data (64 examples are looked at) and other code
            of `objective`, `loss` or `collate`; what such a function takes from outside of itself is not compared, and
            what `on_step` does after a checkpoint is written is not in it. Random numbers that the data or `collate`
            take from Python, NumPy or a generator of their own go on as they are; torch's global ones are put back.

    Returns a frame with one row per step: step, rank (missing if a step used several), loss, lr.

    Raises `ValueError` for settings that do not fit together and for a checkpoint that would lack something that was
    trained, and `FloatingPointError` when the loss is not finite:
    training stops before that step, and the checkpoint keeps the last good state.

    >>> from dylora_kit.core.adapters import attach
    >>> from dylora_kit.training.sampling import Uniform
    >>> model = nn.Sequential(nn.Linear(6, 5))
    >>> adapters = attach(model, r=4, target_modules=["0"])
    >>> data = [{"x": torch.randn(6)} for _ in range(8)]
    >>> loss = lambda model, batch: model(batch["x"]).square().mean()
    >>> sampler = RankSampler(Uniform(1, 4), seed=0)
    >>> len(train(model, adapters, data, sampler=sampler, steps=3, batch_size=2, loss=loss, progress=False))
    3
    """
    check_data(train_data, "the training data is empty")
    settings = RunSettings(
        steps, batch_size, gradient_accumulation, schedule, warmup, max_grad_norm, seed, checkpoint_every,
        label_smoothing,
    )  # fmt: skip
    if label_smoothing and loss is not None:
        raise ValueError("label_smoothing is for the model's own loss: smooth the labels in the loss you pass")
    check_own_step(
        step,
        objective=objective is not individual_loss,
        gradient_accumulation=gradient_accumulation != 1,
        max_grad_norm=max_grad_norm,
        checkpoint=checkpoint,
    )
    optimizer = checked_optimizer(model, adapters, sampler, optimizer, lr, weight_decay)
    folder = checked_folder(checkpoint, model, adapters, optimizer, resume)
    recorded = settings.recorded(adapters, optimizer, sampler, objective, loss, collate, train_data) if folder else {}
    saved = Checkpoint(model, optimizer, sampler, recorded, folder)
    own = OwnLoss(adapters.model, compared=gradient_accumulation > 1, label_smoothing=label_smoothing)
    run = _Run(model, adapters, sampler, objective, optimizer, loss or own, settings, saved, step)
    with _state_kept(model, adapters, optimizer), _random_state_kept(seed, run.device):
        rows = saved.read() if resume else []  # the steps that are done
        batches = _batches(train_data, batch_size, seed, len(rows) * gradient_accumulation, collate)
        if len(rows) < steps:
            batches = _first_checked(batches, model if loss is None else None)
        model.train()
        with progress_bar(steps, "training", show=progress, initial=len(rows)) as bar:
            for number in range(len(rows), steps):
                rows.append(run.step(number, batches))
                bar.set_postfix(loss=f"{rows[-1].loss:.3f}", rank=rows[-1].rank or "several", refresh=False)
                bar.update()
                if folder is not None and (len(rows) % checkpoint_every == 0 or len(rows) == steps):
                    saved.write(rows)
                if on_step is not None:
                    on_step(len(rows))
    return _history(rows)


@dataclass
class _Run:
    """One training: what `train` was given, and Algorithm 1 step by step."""

    model: nn.Module
    adapters: RankHandle
    sampler: RankSampler
    objective: Objective
    optimizer: torch.optim.Optimizer
    loss: Loss
    settings: RunSettings
    saved: Checkpoint
    own_step: OwnStep | None = None

    def __post_init__(self) -> None:
        self.device = input_device(self.model)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]

    def step(self, number: int, batches: Iterator[Batch]) -> Row:
        """One optimizer step, counted from 0: the body of the loop in Algorithm 1."""
        self.set_learning_rates(number)
        if self.own_step is not None:
            return self.take_own_step(self.own_step, number, next(batches))

        # Draw: b ~ p_B, once for all layers and all micro-batches of the step.
        b = self.sampler.draw()

        total, ranks, shares = 0.0, list[Rank](), list[float]()
        parts = list(islice(batches, self.settings.gradient_accumulation))
        for index, part in enumerate(parts):
            batch = on_device(part, self.device)
            # The individual loss has one term, the whole batch at rank b; other objectives may have several.
            for weight, rank in self.objective(b, self.sampler, size_of(batch)):
                # Forward at that rank: its first rows of lora_A, its first columns of lora_B (Eq. 7).
                self.adapters.rank = rank
                loss = weighted(self.loss(self.model, repeated(batch, rank)), weight)
                ranks.append(rank)
                shares = shares or self.shares(parts)  # a first loss tells which labels count
                if not shares[index]:
                    continue  # it has no label that counts, and its loss is 0/0
                loss = loss / shares[index]
                total += loss.item()
                self.check_finite("loss", total, number, rank, part)

                # Backward at the same rank: gradients of those rows and columns; when frozen, of the last one (Eq. 10).
                loss.backward()

        # Clip the gradients, and stop if they are not finite.
        norm = nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])
        self.check_finite("gradient norm", float(norm), number, ranks[-1])
        if self.settings.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self.trained, self.settings.max_grad_norm, norm)

        # Step: under the exact update, the rows and columns that were reached move, and no others.
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Row(number + 1, _common_rank(ranks), total, self.optimizer.param_groups[0]["lr"])

    def take_own_step(self, step: OwnStep, number: int, part: Batch) -> Row:
        """One step that the user wrote, on one batch."""

        def loss(batch: Batch) -> Tensor:
            value = weighted(self.loss(self.model, batch), 1.0)
            self.check_finite("loss", value.item(), number, self.adapters.rank, batch)
            return value

        batch = on_device(part, self.device)
        rank, value = take(step, self.adapters, self.sampler, self.optimizer, loss, batch)
        return Row(number + 1, rank if isinstance(rank, int) else None, value, self.optimizer.param_groups[0]["lr"])

    def shares(self, parts: list[Batch]) -> list[float]:
        """What each micro-batch's loss is divided by, so that their sum is that of one batch; 0 if no label counts."""
        own = self.loss if len(parts) > 1 and isinstance(self.loss, OwnLoss) else None
        counted = [own.counted(part) if own else 1 for part in parts]
        if not any(counted):
            return [float(len(parts))] * len(parts)
        return [sum(counted) / labels if labels else 0.0 for labels in counted]

    def set_learning_rates(self, number: int) -> None:
        """Gives each parameter group its learning rate of a step."""
        for group, base_lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base_lr * self.settings.lr_factor(number)

    def check_finite(self, what: str, value: float, number: int, rank: Rank, batch: Batch | None = None) -> None:
        """Raises `FloatingPointError` before a step that would spoil the weights; the loss is that of the batch."""
        if not math.isfinite(value):
            empty = batch is not None and isinstance(self.loss, OwnLoss) and not self.loss.counted(batch)
            where = f"; the last good state is in {self.saved.folder}" if self.saved.exists() else ""
            raise FloatingPointError(
                f"the {what} is {value} at step {number + 1} (rank {rank})"
                f"{', as no label of its batch counts (all are −100)' if empty else ''}: "
                f"training stopped before the update{where}"
            )


def _common_rank(ranks: list[Rank]) -> int | None:
    """The rank if it is the same one number in all of them, else None.

    >>> _common_rank([3, 3]), _common_rank([1, 3])
    (3, None)
    """
    numbers = {rank if isinstance(rank, int) else None for rank in ranks}
    return numbers.pop() if len(numbers) == 1 else None


def _history(rows: list[Row]) -> "pd.DataFrame":
    """One row per step: step, rank (missing if a step used several), loss, lr."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=["step", "rank", "loss", "lr"])
    return frame.astype({"step": int, "rank": "Int64"})


@contextmanager
def _state_kept(model: nn.Module, adapters: RankHandle, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """A block after which rank, modes and learning rates are what they were, and no gradient is left."""
    rank, lrs = adapters.rank, [group["lr"] for group in optimizer.param_groups]
    optimizer.zero_grad()
    with modes_kept(model):
        try:
            yield
        finally:
            optimizer.zero_grad()
            adapters.rank = rank
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr


@contextmanager
def _random_state_kept(seed: int, device: torch.device) -> Iterator[None]:
    """A block whose randomness follows from a seed, after which the global random state is what it was.

    That of the device is kept too if it is a GPU.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type != "cpu":
            getattr(torch, device.type).manual_seed(seed)
        yield


def _batches(data: Any, batch_size: int, seed: int, skip: int, collate: Collate | None) -> Iterator[Batch]:
    """Endless batches of `batch_size` examples in an order that follows from the seed.

    Each epoch is a new permutation, whose last examples are left out if they do not fill a batch. The first `skip`
    batches are passed over without being read.
    """
    from torch.utils.data import DataLoader

    def order() -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        size = min(batch_size, len(data))
        while True:
            for indices in torch.randperm(len(data), generator=generator).split(size):
                if len(indices) == size:  # every step sees a full batch, so that every method has the same budget
                    yield indices.tolist()

    batches: Any = islice(order(), skip, None)
    loader: Any = DataLoader(data, batch_sampler=batches, collate_fn=collate or stacked, generator=torch.Generator())
    return iter(loader)


def _first_checked(batches: Iterator[Batch], model: nn.Module | None) -> Iterator[Batch]:
    """The same batches, the first of which is made at once: one that does not fit is refused before a rank is drawn.

    Arguments:
        model: what is called with the batches; None if a loss of the user's own takes them.
    """
    first = next(batches)
    if model is not None:
        arguments(model, on_device(first, torch.device("cpu")))
    return chain([first], batches)
