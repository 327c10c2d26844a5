"""What a training needs to go on where it stopped, in one file that is whole or not there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dylora_kit.core.names import plain_name, unwrapped
from dylora_kit.storage.files import read_tensors, tensors_as_bytes, write_files
from dylora_kit.training.sampling import RankSampler

FILE = "training.safetensors"
UNKNOWN_AS_NONE = ("first and last example", "base")  # settings that are not compared where one run does not know them


class Row(NamedTuple):
    """One step of a training: its number from 1, the rank (None if it used several), loss and learning rate."""

    step: int
    rank: int | None
    loss: float
    lr: float


def trained_and_buffers(model: nn.Module) -> dict[str, Tensor]:
    """A model's trained parameters, adapters that are frozen at present, and saved buffers, by name in a checkpoint."""
    model = unwrapped(model)
    trained = {
        f"model.{plain_name(name)}": p
        for name, p in model.named_parameters()
        if p.requires_grad or name.rpartition(".")[2] in ("lora_A", "lora_B")
    }
    persistent = model.state_dict()  # without buffers that a model makes anew, such as masks of −∞
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return trained | {f"buffer.{plain_name(name)}": buffer for name, buffer in buffers.items()}


@dataclass
class Checkpoint:
    """Trained weights, optimizer, sampler, random state and history of a run, on disk.

    Attributes:
        settings: what the run's result depends on, as JSON.
        folder: where the file is; None if the run keeps none.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    sampler: RankSampler
    settings: dict[str, Any]
    folder: Path | None

    @property
    def path(self) -> Path:
        """The file; there is none without a folder."""
        assert self.folder is not None
        return self.folder / FILE

    def exists(self) -> bool:
        """Whether there is a saved state."""
        return self.folder is not None and self.path.is_file()

    def write(self, rows: list[Row]) -> None:
        """Writes the state after the steps of the history."""
        tensors = trained_and_buffers(self.model) | {
            "sampler": self.sampler.state_dict()["generator"],
            "rng": torch.get_rng_state(),
            "history": torch.tensor(
                [(row.step, -1 if row.rank is None else row.rank, row.loss, row.lr) for row in rows],
                dtype=torch.float64,
            ),
        }
        if self._device.type == "cuda":
            tensors["cuda_rng"] = torch.cuda.get_rng_state(self._device)
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
        write_files(self.path.parent, {FILE: tensors_as_bytes(tensors, self.settings)})

    def read(self) -> list[Row]:
        """Puts everything into the saved state, in place. Returns the history.

        Raises `FileNotFoundError`, or `ValueError` for a file that is damaged or of a run with other settings; nothing
        has changed then.
        """
        tensors, saved_settings = read_tensors(self.path)
        tensors = self._named_as_here(tensors)
        self._check_settings(saved_settings)
        self._check_weights(tensors)
        self.optimizer.load_state_dict(self._optimizer_state(tensors))
        self.sampler.load_state_dict(self.sampler.state_dict() | {"generator": tensors["sampler"]})
        with torch.no_grad():
            for name, weight in trained_and_buffers(self.model).items():
                weight.copy_(tensors[name])
        torch.set_rng_state(tensors["rng"])
        if self._device.type == "cuda" and "cuda_rng" in tensors:
            torch.cuda.set_rng_state(tensors["cuda_rng"], self._device)
        return [
            Row(int(step), None if rank < 0 else int(rank), loss, lr)
            for step, rank, loss, lr in tensors["history"].tolist()
        ]

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _named_as_here(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file's tensors, without what `torch.compile` or a wrapper put into names when an older one was written."""
        weights = trained_and_buffers(self.model)
        known = {kind: {name.removeprefix(kind) for name in weights} for kind in ("model.", "buffer.")}
        return {
            kind + plain_name(name.removeprefix(kind), known.get(kind, ())) if kind in known else name: tensor
            for name, tensor in tensors.items()
            for kind in [name.partition(".")[0] + "."]
        }

    def _check_settings(self, saved: Any) -> None:
        """Raises `ValueError` for the first setting in which the saved run and this one differ."""
        settings = json.loads(json.dumps(self.settings))
        if not isinstance(saved, dict):
            raise ValueError(f"{self.path} was not written by this kit: it does not say how it was trained")
        for key in dict.fromkeys([*settings, *saved]):
            unknown = key in UNKNOWN_AS_NONE and None in (saved.get(key), settings.get(key))
            if unknown or (key == "loss" and key not in saved):
                continue
            if saved.get(key) != settings.get(key):
                raise ValueError(
                    f"the checkpoint was made with {key} = {saved.get(key)}, this run has {key} = {settings.get(key)}"
                )

    def _check_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises `ValueError` if the file's weights are not those of the model, or something else is missing."""
        weights = trained_and_buffers(self.model)
        for name in [*weights, *(name for name in tensors if name.startswith(("model.", "buffer.")))]:
            if name not in weights or name not in tensors or tensors[name].shape != weights[name].shape:
                raise ValueError(f"the checkpoint does not fit this model: {name!r} is missing or has another shape")
        lacking = [name for name in ("sampler", "rng", "history") if name not in tensors]
        if lacking:
            raise ValueError(f"the checkpoint is damaged: it lacks {lacking[0]!r}")

    def _optimizer_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """The optimizer's state dict with the file's moments and step counts; `ValueError` if one does not fit."""
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
        return state
