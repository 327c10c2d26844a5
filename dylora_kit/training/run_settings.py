"""What a training is asked for: checked before anything changes, and recorded for a run that resumes."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dylora_kit.core.handle import Adapters
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.training.checkpoint import CODE, FILE, trained_and_buffers
from dylora_kit.training.code_fingerprint import code_fingerprint
from dylora_kit.training.data_fingerprint import data_fingerprint
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.sampling import RankSampler


@dataclass(frozen=True)
class RunSettings:
    """The numbers of a training; see `train`. Raises `ValueError` for one that is out of range."""

    steps: int
    batch_size: int
    gradient_accumulation: int
    schedule: str
    warmup: int | float
    max_grad_norm: float | None
    seed: int
    checkpoint_every: int
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "gradient_accumulation", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1: got {getattr(self, name)}")
        share = not isinstance(self.warmup, int)
        if isinstance(self.warmup, bool) or not self.warmup >= 0 or (share and self.warmup >= 1):
            raise ValueError(
                "warmup is a share of the steps, at least 0 and less than 1, or a whole number of steps: "
                f"got {self.warmup!r}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and less than 1: got {self.label_smoothing!r}")
        if self.schedule not in ("linear", "constant"):
            raise ValueError(f"unknown schedule {self.schedule!r}: expected 'linear' or 'constant'")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be greater than 0: got {self.max_grad_norm!r}")

    def lr_factor(self, step: int) -> float:
        """The factor of the learning rate in a step, counted from 0.

        Under `"linear"` it rises to 1 over the first `warmup` of the steps, a share or a whole number of them, and then
        falls evenly towards 0.
        """
        if self.schedule == "constant":
            return 1.0
        rising = self.warmup if isinstance(self.warmup, int) else round(self.warmup * self.steps)
        return (step + 1) / (rising + 1) if step < rising else (self.steps - step) / (self.steps - rising)

    def recorded(
        self,
        adapters: RankHandle,
        optimizer: torch.optim.Optimizer,
        sampler: RankSampler,
        objective: Callable[..., Any],
        loss: Callable[..., Any] | None,
        collate: Callable[..., Any] | None,
        data: Any,
    ) -> dict[str, Any]:
        """What the result depends on, as JSON, to be kept in a checkpoint."""
        others = [key for key in optimizer.param_groups[0] if key not in ("params", "lr")]
        return {
            **adapters.settings(),
            "steps": self.steps,
            "batch_size": self.batch_size,
            "gradient_accumulation": self.gradient_accumulation,
            "objective": _name_of(objective),
            "loss": None if loss is None else _name_of(loss),
            "collate": None if collate is None else _name_of(collate),
            **_codes_of(objective=objective, loss=loss, collate=collate),
            "schedule": self.schedule,
            "warmup": self.warmup,
            "max_grad_norm": self.max_grad_norm,
            "label_smoothing": self.label_smoothing,
            "seed": self.seed,
            "optimizer": type(optimizer).__name__,
            "update": getattr(optimizer, "update", None),
            "lr": [group["lr"] for group in optimizer.param_groups],
            **{key: [group[key] for group in optimizer.param_groups] for key in others},
            **data_and_base(data, adapters),
            "probabilities": sampler.distribution.probabilities,
            "sampler_seed": sampler.seed,
        }


def _name_of(function: Callable[..., Any]) -> str:
    """The name of a function, or of the class of an object that is called."""
    return getattr(function, "__name__", type(function).__name__)


def _codes_of(**functions: Callable[..., Any] | None) -> dict[str, str | None]:
    """The code of functions, by a key that names the version of Python, in which the same code is compiled alike."""
    version = ".".join(map(str, sys.version_info[:2]))
    return {
        f"{CODE}{name} in Python {version}": None if function is None else code_fingerprint(function)
        for name, function in functions.items()
    }


def data_and_base(data: Any, adapters: RankHandle) -> dict[str, Any]:
    """What tells the data and the base of a training from others; None where that is not known, as of a stream."""
    known = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    return {
        "examples": len(data) if known else None,
        "values of examples": data_fingerprint(data) if known else None,
        "base weights": _base_of(adapters),
    }


def _base_of(adapters: RankHandle) -> str | None:
    """A hash that tells one base from another; None for a handle that has none."""
    if not isinstance(adapters, Adapters):
        return None
    with_values = {name: text for name, text in adapters.base.fingerprint.items() if "#" in text}
    text = json.dumps(with_values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def checked_optimizer(
    model: nn.Module,
    adapters: RankHandle,
    sampler: RankSampler,
    given: torch.optim.Optimizer | None,
    lr: float | None,
    weight_decay: float | None,
) -> torch.optim.Optimizer:
    """The optimizer that was given, or a new `NestedAdamW`, for adapters that can be trained with this sampler.

    Raises `ValueError` for adapters of another model or merged ones, for a sampler that draws other ranks, and for an
    optimizer that does not train them.
    """
    adapters.check_usable(model)
    adapters.check_unmerged("training")
    check_sampler(sampler, adapters)
    if given is None:
        if not isinstance(adapters, Adapters):
            raise ValueError("this model has no adapters for NestedAdamW: pass an optimizer of its parameters")
        return NestedAdamW(adapters, lr=1e-3 if lr is None else lr, weight_decay=weight_decay or 0.0)
    if lr is not None or weight_decay is not None:
        raise ValueError("give lr and weight_decay to the optimizer you pass, not to train()")
    check_trains(given, adapters, "the optimizer")
    return given


def check_sampler(sampler: RankSampler, adapters: RankHandle) -> None:
    """Raises `ValueError` if the sampler draws ranks that these adapters do not have."""
    if sampler.distribution.hi > adapters.r:
        raise ValueError(f"the sampler draws ranks up to {sampler.distribution.hi}, but r = {adapters.r}")


def check_trains(optimizer: torch.optim.Optimizer, adapters: RankHandle, name: str) -> None:
    """Raises `ValueError` if the optimizer, which the sentence calls by this name, does not train these adapters."""
    trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    if not all(parameter in trained for parameter in adapters.nested_parameters()):
        raise ValueError(f"{name} does not train these adapters: make it from the handle you pass")


def check_in_model(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Raises `ValueError` if the optimizer trains what is no part of the model, and so would be in no checkpoint."""
    of_model = set(model.parameters())
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in of_model:
                raise ValueError(
                    f"the optimizer trains a parameter of shape {tuple(parameter.shape)} that is not in the model, and "
                    "a checkpoint would lack it: make it a part of the model before adapters are attached, and name "
                    "its module in modules_to_save, or write no checkpoints"
                )


def checked_folder(
    checkpoint: str | Path | None,
    model: nn.Module,
    adapters: RankHandle,
    optimizer: torch.optim.Optimizer,
    resume: bool,
) -> Path | None:
    """The folder of a checkpoint.

    Raises `ValueError` if there has to be one, if it holds the checkpoint of another run, and if the model has been, or
    will be, trained in what no checkpoint of this run would hold.
    """
    if checkpoint is None:
        if resume:
            raise ValueError("resume=True needs the folder of the checkpoint: pass checkpoint=…")
        return None
    if not adapters.resumes:
        raise ValueError(f"a training of {adapters.kind} cannot go on from a checkpoint: leave checkpoint=… out")
    if isinstance(adapters, Adapters):
        adapters.check_saved(trained_and_buffers(adapters.model))
    check_in_model(optimizer, model)
    if not resume and (Path(checkpoint) / FILE).is_file():
        raise ValueError(f"{checkpoint} holds the checkpoint of another run: pass resume=True, or another folder")
    return Path(checkpoint)
