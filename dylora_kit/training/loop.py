"""One training loop for every method: the sampler and the objective say which."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank import Rank, RankHandle
from dylora_kit.progress import progress_bar
from dylora_kit.storage.files import read_tensors, tensors_as_bytes, write_files
from dylora_kit.training.objectives import Objective, individual_loss
from dylora_kit.training.optim import NestedAdamW
from dylora_kit.training.sampling import RankSampler

if TYPE_CHECKING:
    import pandas as pd

CHECKPOINT = "training.safetensors"


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
    warmup: float = 0.06,
    max_grad_norm: float | None = None,
    seed: int = 0,
    collate: Callable[[list[Any]], dict[str, Any]] | None = None,
    loss: Callable[[nn.Module, dict[str, Any]], Tensor] | None = None,
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
        train_data: a map-style dataset of dicts.
        sampler: draws b.
        objective: `individual_loss` (Eq. 9), `summation_loss` (Eq. 2), `summation_in_one`, `mixed_loss`, or your own.
        gradient_accumulation: micro-batches of `batch_size` per optimizer step.
        optimizer: default is `NestedAdamW(adapters)` with `lr` (1e-3) and `weight_decay` (0).
        schedule: `"linear"` (warm up over the first `warmup` of the steps, then down to 0) or `"constant"`.
        collate: makes a batch of a list of examples; default is torch's.
        loss: `(model, batch) → scalar`, or one value per example, of which the mean is taken; default is
            `model(**batch).loss`.
        on_step: called with the number of finished steps.
        checkpoint: a folder; the state goes there every `checkpoint_every` steps and at the end.
        resume: go on from the checkpoint in that folder. The result is bit for bit that of a run without a break.

    Returns a frame with one row per step: step, rank (missing if a step used several), loss, lr.

    Raises `ValueError` for settings that do not fit together, and `FloatingPointError` when the loss is not finite:
    training stops before that step, and the checkpoint keeps the last good state.
    """
    import pandas as pd

    adapters.check_usable(model)
    adapters.check_unmerged("training")
    if sampler.distribution.hi > adapters.r:
        raise ValueError(f"the sampler draws ranks up to {sampler.distribution.hi}, but r = {adapters.r}")
    for what, number in {
        "steps": steps,
        "batch_size": batch_size,
        "gradient_accumulation": gradient_accumulation,
        "checkpoint_every": checkpoint_every,
    }.items():
        if number < 1:
            raise ValueError(f"{what} must be at least 1: got {number}")
    if optimizer is None:
        if not isinstance(adapters, Adapters):
            raise ValueError("this model has no adapters for NestedAdamW: pass an optimizer of its parameters")
        optimizer = NestedAdamW(adapters, lr=1e-3 if lr is None else lr, weight_decay=weight_decay or 0.0)
    elif lr is not None or weight_decay is not None:
        raise ValueError("give lr and weight_decay to the optimizer you pass, not to train()")
    if resume and checkpoint is None:
        raise ValueError("resume=True needs the folder of the checkpoint: pass checkpoint=…")
    if checkpoint is not None and not adapters.resumes:
        raise ValueError(f"a training of {adapters.kind} cannot go on from a checkpoint: leave checkpoint=… out")
    if checkpoint is not None and not resume and (Path(checkpoint) / CHECKPOINT).is_file():
        raise ValueError(f"{checkpoint} holds the checkpoint of another run: pass resume=True, or another folder")
    factor = _schedule(schedule, warmup, steps)
    loss = loss or (lambda model, batch: model(**batch).loss)
    if max_grad_norm is not None and not max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be greater than 0: got {max_grad_norm!r}")
    optimized = {p for group in optimizer.param_groups for p in group["params"]}
    if not all(p in optimized for p in adapters.nested_parameters()):
        raise ValueError("the optimizer does not train these adapters: make it from the handle you pass")
    base_lrs = [group["lr"] for group in optimizer.param_groups]
    others = [key for key in optimizer.param_groups[0] if key not in ("params", "lr")]
    settings = {
        **adapters.settings(),
        "steps": steps,
        "batch_size": batch_size,
        "gradient_accumulation": gradient_accumulation,
        "objective": getattr(objective, "__name__", type(objective).__name__),
        "schedule": schedule,
        "warmup": warmup,
        "max_grad_norm": max_grad_norm,
        "seed": seed,
        "optimizer": type(optimizer).__name__,
        "update": getattr(optimizer, "update", None),
        "lr": base_lrs,
        **{key: [group[key] for group in optimizer.param_groups] for key in others},
        "examples": len(train_data),
        "probabilities": sampler.distribution.probabilities,
        "sampler_seed": sampler.seed,
    }
    rows: list[tuple[int, float, float, float]] = []
    before, modes = adapters.rank, {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        with _own_randomness(seed, device):
            if resume:
                rows = _Checkpoint(model, optimizer, sampler, settings).read(Path(checkpoint))  # type: ignore[arg-type]
            batches = _batches(train_data, batch_size, seed, len(rows) * gradient_accumulation, collate)
            model.train()
            optimizer.zero_grad()
            with progress_bar(steps, "training", show=progress, initial=len(rows)) as bar:
                for step in range(len(rows), steps):
                    for group, base_lr in zip(optimizer.param_groups, base_lrs, strict=True):
                        group["lr"] = base_lr * factor(step)
                    b, total, used = sampler.draw(), 0.0, []
                    for _ in range(gradient_accumulation):
                        batch = {key: value.to(device) for key, value in next(batches).items()}
                        for weight, rank in objective(b, sampler, len(next(iter(batch.values())))):
                            adapters.rank = rank
                            used.append(rank)
                            term = _weighed(loss(model, _repeated(batch, rank)), weight) / gradient_accumulation
                            total += term.item()
                            if not math.isfinite(total):
                                raise FloatingPointError(_not_finite("loss", total, step, rank, checkpoint))
                            term.backward()
                    norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
                    if not math.isfinite(norm):
                        raise FloatingPointError(_not_finite("gradient norm", float(norm), step, rank, checkpoint))
                    if max_grad_norm is not None:
                        nn.utils.clip_grads_with_norm_(trained, max_grad_norm, norm)
                    optimizer.step()
                    optimizer.zero_grad()
                    one = used[0] if all(isinstance(rank, int) and rank == used[0] for rank in used) else None
                    now = optimizer.param_groups[0]["lr"]
                    rows.append((step + 1, float(one) if isinstance(one, int) else math.nan, total, now))
                    bar.set_postfix(loss=f"{total:.3f}", rank="several" if one is None else one, refresh=False)
                    bar.update()
                    if checkpoint is not None and (len(rows) % checkpoint_every == 0 or len(rows) == steps):
                        _Checkpoint(model, optimizer, sampler, settings).write(Path(checkpoint), rows)
                    if on_step is not None:
                        on_step(step + 1)
    finally:
        optimizer.zero_grad()
        adapters.rank = before
        for module, mode in modes.items():
            module.training = mode
        for group, base_lr in zip(optimizer.param_groups, base_lrs, strict=True):
            group["lr"] = base_lr
    frame = pd.DataFrame(rows, columns=["step", "rank", "loss", "lr"])
    return frame.astype({"step": int, "rank": "Int64"})


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """A block that draws from the seed and leaves the global random state, also the device's, as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type != "cpu":
            getattr(torch, device.type).manual_seed(seed)
        yield


def _repeated(batch: dict[str, Tensor], rank: Rank) -> dict[str, Tensor]:
    """The batch as often as there are ranks for it."""
    n = len(next(iter(batch.values())))
    if not isinstance(rank, Tensor) or rank.dim() != 1 or len(rank) == n or len(rank) % n:
        return batch  # a length that does not fit is refused by the layers
    times = len(rank) // n
    return {
        key: torch.cat([value] * times) if value.dim() and len(value) == n else value for key, value in batch.items()
    }


def _weighed(loss: Tensor, weight: float | Tensor) -> Tensor:
    if not isinstance(weight, Tensor) or weight.dim() == 0:
        return weight * loss.mean()
    if loss.shape != weight.shape:
        raise ValueError(
            f"this objective weighs {len(weight)} examples one by one, but the loss has shape {tuple(loss.shape)}: "
            "pass a loss that gives one value per example"
        )
    return (weight.to(loss) * loss).sum()


def _not_finite(what: str, value: float, step: int, rank: Any, checkpoint: str | Path | None) -> str:
    kept = checkpoint is not None and (Path(checkpoint) / CHECKPOINT).is_file()
    where = f"; the last good state is in {checkpoint}" if kept else ""
    return f"the {what} is {value} at step {step + 1} (rank {rank}): training stopped before the update{where}"


def _schedule(schedule: str, warmup: float, steps: int) -> Callable[[int], float]:
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a share of the steps, at least 0 and less than 1: got {warmup!r}")
    if schedule == "constant":
        return lambda step: 1.0
    if schedule != "linear":
        raise ValueError(f"unknown schedule {schedule!r}: expected 'linear' or 'constant'")
    rise = round(warmup * steps)
    return lambda step: (step + 1) / (rise + 1) if step < rise else (steps - step) / (steps - rise)


def _batches(
    data: Any, batch_size: int, seed: int, skip: int, collate: Callable[[list[Any]], dict[str, Any]] | None
) -> Iterator[dict[str, Any]]:
    """Endless batches in an order that follows from the seed; the first `skip` are passed over without being read."""
    from torch.utils.data import DataLoader

    if len(data) == 0:
        raise ValueError("the training data is empty")

    def order() -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        count = 0
        while True:
            for chosen in torch.randperm(len(data), generator=generator).split(min(batch_size, len(data))):
                if len(chosen) < min(batch_size, len(data)):
                    continue  # every step sees a full batch, so that every method has the same budget
                count += 1
                if count > skip:
                    yield chosen.tolist()

    loader: Any = DataLoader(data, batch_sampler=order(), collate_fn=collate, generator=torch.Generator())
    return iter(loader)


@dataclass
class _Checkpoint:
    """Everything a run needs to go on: trained weights, optimizer, sampler, random state, history; one file."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    sampler: RankSampler
    settings: dict[str, Any]

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _weights(self) -> dict[str, Tensor]:
        trained = {f"model.{name}": p for name, p in self.model.named_parameters() if p.requires_grad}
        kept = self.model.state_dict()  # without buffers that a model makes anew, such as masks of −∞
        return trained | {f"buffer.{name}": buffer for name, buffer in self.model.named_buffers() if name in kept}

    def write(self, folder: Path, rows: list[tuple[int, float, float, float]]) -> None:
        state, draws = self.optimizer.state_dict(), self.sampler.state_dict()
        tensors = self._weights() | {
            "sampler": draws["generator"],
            "rng": torch.get_rng_state(),
            "history": torch.tensor(rows, dtype=torch.float64).nan_to_num(nan=-1),
        }
        if self._device.type == "cuda":
            tensors["cuda_rng"] = torch.cuda.get_rng_state(self._device)
        for index, values in state["state"].items():
            tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
        write_files(folder, {CHECKPOINT: tensors_as_bytes(tensors, self.settings)})

    def read(self, folder: Path) -> list[tuple[int, float, float, float]]:
        tensors, saved = read_tensors(folder / CHECKPOINT)
        settings = json.loads(json.dumps(self.settings))
        if not isinstance(saved, dict):
            raise ValueError(f"{folder / CHECKPOINT} was not written by this kit: it does not say how it was trained")
        for key in dict.fromkeys([*settings, *saved]):
            if saved.get(key) != settings.get(key):
                raise ValueError(
                    f"the checkpoint was made with {key} = {saved.get(key)}, this run has {key} = {settings.get(key)}"
                )
        weights = self._weights()
        for name in [*weights, *(name for name in tensors if name.startswith(("model.", "buffer.")))]:
            if name not in weights or name not in tensors or tensors[name].shape != weights[name].shape:
                raise ValueError(f"the checkpoint does not fit this model: {name!r} is missing or has another shape")
        lacking = [name for name in ("sampler", "rng", "history") if name not in tensors]
        if lacking:
            raise ValueError(f"the checkpoint is damaged: it lacks {lacking[0]!r}")
        state = self.optimizer.state_dict()
        state["state"] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state["state"].setdefault(int(index), {})[key] = tensor
        keys = sorted({key for values in state["state"].values() for key in values})
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        for index, values in state["state"].items():
            for key in keys:
                if key not in values or (
                    key != "step" and values[key].dim() and values[key].shape != params[index].shape
                ):
                    raise ValueError(f"the checkpoint is damaged: 'optimizer.{index}.{key}' is missing or misshapen")
        self.optimizer.load_state_dict(state)
        draws = {"probabilities": self.sampler.distribution.probabilities, "generator": tensors["sampler"]}
        self.sampler.load_state_dict(draws)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(tensors[name])
        torch.set_rng_state(tensors["rng"])
        if self._device.type == "cuda" and "cuda_rng" in tensors:
            torch.cuda.set_rng_state(tensors["cuda_rng"], self._device)
        return [(int(s), math.nan if r < 0 else r, loss, lr) for s, r, loss, lr in tensors["history"].tolist()]
