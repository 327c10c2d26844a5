"""The methods that are compared, and how each is trained on a transformers model: same steps, batches and head."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from dylora_kit.baselines.svd_cut import refit_head
from dylora_kit.core.adapters import Adapters, attach
from dylora_kit.evaluation.sweep import sweep
from dylora_kit.paper.settings import ALPHA, HEAD_RATES, R
from dylora_kit.tasks import Task
from dylora_kit.training.checkpoint import FILE
from dylora_kit.training.loop import train
from dylora_kit.training.objectives import Objective, individual_loss
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.sampling import Fixed, RankDistribution, RankSampler, Uniform

DYLORA, FROZEN, LORA = "DyLoRA", "DyLoRA, frozen", "LoRA, cut to b"
HELD, SVD, ONE = "LoRA, cut, scale α/r", "LoRA, cut by SVD", "LoRA, one per rank"
FULL, HEAD = "full fine-tuning", "head only"
NEW_HEAD, NO_ADAPTER, DYLORA_HELD = "LoRA, cut by SVD, new head", "no adapter, new head", "DyLoRA, scale α/r"
BAG = "bag of words"
FLOP, GATED, ADALORA = "FLOP on the weights", "FLOP on a LoRA", "AdaLoRA"

Build = Callable[[], nn.Module]


def trained(
    build: Build,
    task: Task,
    method: str,
    seed: int,
    *,
    r: int = R,
    scaling: str = "alpha/b",
    steps: int = 500,
    lr: float = 1e-3,
    head_lr: float | None = None,
    batch_size: int = 32,
    distribution: RankDistribution | None = None,
    objective: Objective = individual_loss,
    update: str = "exact",
    lr_exponent: float = 0.0,
    weight_decay: float = 0.0,
    max_grad_norm: float | None = 1.0,
    after_step: Callable[[int, nn.Module, Adapters], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
) -> tuple[nn.Module, Adapters]:
    """A fresh model with adapters on query and value, whatever is outside its pretrained part trained along.

    `DYLORA` and `FROZEN` draw b uniformly from 1 … r, `LORA` and `ONE` train at r. With `FULL` and `HEAD` the adapters
    stay zero, and the whole model, or only what is outside the pretrained part, is trained by AdamW.

    Arguments:
        scaling: as in `attach`.
        head_lr: the learning rate of what is trained along with adapters; default is `lr`.
        distribution: how b is drawn instead.
        objective, max_grad_norm: as in `train`.
        update, weight_decay: as in `NestedAdamW`, but biases and norms have no decay, as with transformers' `Trainer`;
            full fine-tuning and the head alone have none at all.
        lr_exponent: a row's learning rate is lr / frequency^lr_exponent, by the share of steps that update it.
        after_step: called with the number of finished steps, the model and its adapters.
        checkpoint: a folder, from which a training that was stopped goes on.
    """
    model = built(build, seed)
    base = getattr(model, str(model.base_model_prefix))
    inside = set(base.parameters())
    adapters = attach(model, r=r, lora_alpha=ALPHA, scaling=scaling, target_modules="attention",
                      modules_to_save=head_of(model), seed=seed)  # fmt: skip
    adapters.frozen = method == FROZEN
    nested = method in (DYLORA, FROZEN)
    drawn = distribution or (Uniform(1, r) if nested else Fixed(r))
    sampler = RankSampler(drawn, seed=seed)
    if method in (FULL, HEAD):
        for parameter in adapters.nested_parameters():
            parameter.requires_grad_(False)
        for parameter in inside if method == FULL else ():
            parameter.requires_grad_(True)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learned:  # a causal model has no head of its own
        return model, adapters
    plain = method in (FULL, HEAD)
    frequencies = drawn.update_frequencies(r, frozen=adapters.frozen)
    row_lr = (
        [(frequency or 1.0) ** -lr_exponent for frequency in frequencies] if lr_exponent else None
    )  # 0: never updated
    if plain:
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=0.0)
    else:
        optimizer = NestedAdamW(adapters, lr=lr, head_lr=head_lr if head_of(model) else None, update=update,
                                row_lr=row_lr, weight_decay=weight_decay)  # fmt: skip
        spare_biases(optimizer)
    train(model, adapters, task.train, sampler=sampler, optimizer=optimizer, steps=steps, batch_size=batch_size,
          objective=objective, seed=seed, collate=task.collate, max_grad_norm=max_grad_norm, progress=False,
          checkpoint=checkpoint, checkpoint_every=checkpoint_every, resume=begun(checkpoint),
          on_step=after_step and (lambda step: after_step(step, model, adapters)))  # fmt: skip
    return model, adapters


def begun(checkpoint: Path | None) -> bool:
    """Whether a training left a checkpoint in that folder."""
    return checkpoint is not None and (checkpoint / FILE).is_file()


def spare_biases(optimizer: torch.optim.Optimizer) -> None:
    """Takes biases and norms out of the weight decay, in place: they get groups of their own.

    >>> layer = nn.Linear(6, 5)
    >>> optimizer = torch.optim.AdamW(layer.parameters(), weight_decay=0.1)
    >>> spare_biases(optimizer)
    >>> [(group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    [(0.1, 1), (0.0, 1)]
    """
    for group in list(optimizer.param_groups):
        spared = [parameter for parameter in group["params"] if parameter.ndim < 2]
        if spared and group["weight_decay"]:
            group["params"] = [parameter for parameter in group["params"] if parameter.ndim >= 2]
            optimizer.add_param_group(group | {"params": spared, "weight_decay": 0.0})


def built(build: Build, seed: int) -> nn.Module:
    """A fresh model, its head drawn from the seed."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        return build()


def head_of(model: nn.Module) -> list[str]:
    """The names of what is outside the pretrained part of a transformers model."""
    inside = set(getattr(model, str(model.base_model_prefix)).parameters())
    return [name for name, child in model.named_children() if not inside.issuperset(child.parameters())]


def with_new_head(
    adapters: Adapters, task: Task, b: int, seed: int, *, steps: int, batch_size: int = 32
) -> tuple[tuple[nn.Module, Adapters], float]:
    """A copy of an adapted model whose head alone is trained on at rank b, at the best of `HEAD_RATES`.

    Returns the copy and its handle, and the learning rate.
    """

    def train_at(lr: float) -> tuple[nn.Module, Adapters]:
        return refit_head(adapters, task.train, rank=b, steps=steps, lr=lr, batch_size=batch_size, seed=seed,
                          collate=task.collate)  # fmt: skip

    return best_on_validation(train_at, HEAD_RATES, task, b)


def best_on_validation(
    train_at: Callable[[float], tuple[nn.Module, Adapters]], rates: Sequence[float], task: Task, b: int
) -> tuple[tuple[nn.Module, Adapters], float]:
    """What was trained at the learning rate of the lowest validation loss at rank b, and that rate.

    Arguments:
        train_at: learning rate → a model and its adapters. A training that is not finite is out.
    """
    best: tuple[float, tuple[nn.Module, Adapters], float] | None = None
    for lr in rates:
        try:
            pair = train_at(lr)
        except FloatingPointError:
            continue
        frame = sweep(*pair, task.validation, metric="loss", ranks=[b], collate=task.collate, progress=False)
        loss = float(frame["value"].iloc[0])
        if best is None or loss < best[0]:
            best = loss, pair, lr
    if best is None:
        raise FloatingPointError(f"no training was finite at any learning rate of {', '.join(map(str, rates))}")
    return best[1:]
