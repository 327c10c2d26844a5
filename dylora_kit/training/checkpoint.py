"""What a training needs to go on where it stopped, in one file that is whole or not there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dylora_kit.core.names import plain_name, unwrapped
from dylora_kit.core.saved_states import handle_in, trained_tensors
from dylora_kit.storage.files import read_tensors, tensors_as_bytes, write_files
from dylora_kit.training.sampling import RankSampler

FILE = "training.safetensors"
FROZEN = "frozen parameters"  # in the header, beside the settings
CODE = "code of "  # begins the keys of settings that hold a function's code
# settings that are not compared where one run does not know them, and those that older files lack
UNKNOWN_AS_NONE = ("examples", "values of examples", "first and last example", "base", "base weights")
LATER = ("loss", "collate", "label_smoothing")


class Row(NamedTuple):
    """One step of a training: its number from 1, the rank (None if it used several), loss and learning rate."""

    step: int
    rank: int | None
    loss: float
    lr: float


def trained_and_buffers(model: nn.Module) -> dict[str, Tensor]:
    """What training changes in a model, see `core.saved_states`, by name in a checkpoint."""
    return {
        f"{'model' if isinstance(tensor, nn.Parameter) else 'buffer'}.{plain_name(name)}": tensor
        for name, tensor in trained_tensors(unwrapped(model)).items()
    }


def check_same_settings(saved: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises `ValueError` for the first setting in which a run that resumes differs from what its checkpoint says."""
    for key in dict.fromkeys([*settings, *saved]):
        unknown = key in UNKNOWN_AS_NONE or key.startswith(CODE)
        if (unknown and None in (saved.get(key), settings.get(key))) or (key in LATER and key not in saved):
            continue
        if saved.get(key) != settings.get(key):
            raise ValueError(
                f"the checkpoint was made with {key} = {saved.get(key)}, this run has {key} = {settings.get(key)}"
            )


def frozen_parameters(weights: Mapping[str, Tensor]) -> list[str]:
    """The names of the parameters among these that require no gradient."""
    return [name for name, weight in weights.items() if isinstance(weight, nn.Parameter) and not weight.requires_grad]


def check_trained_here(weights: Mapping[str, Tensor], frozen: Sequence[str]) -> None:
    """Raises `ValueError` for a parameter that is frozen here, and not among those that were when a run stopped."""
    for name in frozen_parameters(weights):
        if name not in frozen:
            raise ValueError(
                f"the checkpoint's run trained {name.removeprefix('model.')!r}, which is frozen here: unfreeze it "
                "with requires_grad_(True) before the optimizer is made"
            )


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
        """Writes the state after the steps of the history.

        Raises `ValueError` if something else was trained meanwhile, which would not be in it.
        """
        weights, adapters = trained_and_buffers(self.model), handle_in(self.model)
        if adapters is not None:
            adapters.check_saved(weights)
        tensors = weights | {
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
        settings = self.settings | {FROZEN: frozen_parameters(weights)}
        write_files(self.path.parent, {FILE: tensors_as_bytes(tensors, settings)})

    def read(self) -> list[Row]:
        """Puts everything into the saved state, in place. Returns the history.

        Raises `FileNotFoundError`, or `ValueError` for a file that is damaged or of a run with other settings; nothing
        has changed then.
        """
        tensors, saved = read_tensors(self.path)
        tensors = self._named_as_here(tensors)
        if not isinstance(saved, dict):
            raise ValueError(f"{self.path} was not written by this kit: it does not say how it was trained")
        frozen = saved.pop(FROZEN, None)  # older files do not say
        check_same_settings(saved, json.loads(json.dumps(self.settings)))
        self._check_weights(tensors)
        if frozen is not None:
            check_trained_here(trained_and_buffers(self.model), frozen)
        self.optimizer.load_state_dict(self._optimizer_state(tensors))
        self.sampler.load_state_dict(self.sampler.state_dict() | {"generator": tensors["sampler"]})
        with torch.no_grad():
            for name, weight in trained_and_buffers(self.model).items():
                weight.copy_(tensors[name])
                if name in (frozen or ()):
                    weight.requires_grad_(False)
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
            shape = params[index].shape if index < len(params) else None
            for key in keys:
                if key not in values or (key != "step" and values[key].dim() and values[key].shape != shape):
                    raise ValueError(f"the checkpoint is damaged: 'optimizer.{index}.{key}' is missing or misshapen")
        return state
