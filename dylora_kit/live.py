"""A live model: what it answers at each rank, kept until its weights change, and what it was while it trained."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dylora_kit.adapt import Adapters
from dylora_kit.evaluate import METRICS, predict
from dylora_kit.ordering import scores
from dylora_kit.rank import RankHandle

KEPT = 200  # states of the weights
STRIP = 7  # reconstructions side by side


class Live:
    """One model's answers on the data, by rank: computed by that model, once for each state of its weights.

    Attributes:
        values: the metric by rank, 0 to 1.
        first: the outputs for the first examples, by rank.
        labels: the labels of the data.
    """

    def __init__(self, handle: RankHandle, data: Any, metric: str, shown: int) -> None:
        self.handle, self._data, self._metric, self._shown = handle, data, metric, shown
        self._states: dict[str, dict[Any, Any]] = {}
        self._state: dict[Any, Any] = {}
        self.labels = np.zeros(0)
        self.values: dict[int, float] = {}
        self.first: dict[int, np.ndarray] = {}

    def update(self) -> None:
        """Evaluates every rank, if that is not known for the weights as they are."""
        weights = fingerprint(self.handle)
        if weights not in self._states:
            outputs, self.labels = predict(
                self.handle.model, self.handle, self._data, ranks=range(1, self.handle.r + 1)
            )
            values = {rank: METRICS[self._metric](output, self.labels) for rank, output in outputs.items()}
            first = {rank: output[: self._shown] for rank, output in outputs.items()}
            self._states[weights] = {"values": values, "first": first}
            if len(self._states) > KEPT:
                del self._states[next(iter(self._states))]
        self._state = self._states[weights]
        self.values, self.first = self._state["values"], self._state["first"]

    def values_at(self, weights: str) -> dict[int, float]:
        """The metric by rank for weights that were evaluated before, named by their fingerprint; empty if forgotten."""
        return self._states.get(weights, {"values": {}})["values"]

    def spectrum(self, layer: str, rank: int) -> Sequence[float]:
        """The singular values of ΔW at a rank, largest first: `rank` numbers."""
        assert isinstance(self.handle, Adapters)
        if (layer, rank) not in self._state:
            delta = self.handle.delta(layer, rank).float().cpu()  # (d_out, d_in)
            self._state[layer, rank] = torch.linalg.svdvals(delta)[:rank].tolist()
        return self._state[layer, rank]

    def ordering(self) -> dict[str, list[float]]:
        """The ordering scores of every layer at every rank."""
        assert isinstance(self.handle, Adapters)
        if "ordering" not in self._state:
            self._state["ordering"] = scores(self.handle)
        return self._state["ordering"]

    def drawn(self, rank: int) -> str:
        """The first reconstructions at a rank side by side, as a data URI."""
        if ("drawn", rank) not in self._state:
            self._state["drawn", rank] = self._data.strip(self.first[rank][:STRIP])
        return self._state["drawn", rank]


class Moments:
    """What a model was at moments of its training, the latest last."""

    def __init__(self, handle: RankHandle) -> None:
        self._handle = handle
        self.steps: list[int] = []
        self.weights: list[str] = []  # fingerprints
        self._contents: list[str] = []
        self._tensors: list[dict[str, Tensor]] = []
        self.keep(0)

    def __len__(self) -> int:
        return len(self.steps)

    def keep_unknown(self) -> bool:
        """Keeps the model as it is, if it is no moment yet, which it is not when it was trained elsewhere."""
        unknown = _content(self._handle) not in self._contents
        if unknown:
            self.keep(self.steps[-1])
        return unknown

    def keep(self, step: int) -> None:
        """Keeps the model as it is, as the latest moment."""
        self.steps.append(step)
        self.weights.append(fingerprint(self._handle))
        self._contents.append(_content(self._handle))
        self._tensors.append({name: tensor.detach().clone() for name, tensor in _changing(self._handle)})

    @torch.no_grad()
    def restore(self, index: int) -> None:
        """Puts the model back to a moment. What it is now is kept first."""
        self.keep_unknown()
        for name, tensor in _changing(self._handle):
            tensor.copy_(self._tensors[index][name])


def fingerprint(handle: RankHandle) -> str:
    """Changes when the model's weights do: trained ones by their content, frozen ones by torch's record of changes."""
    digest = hashlib.blake2b(f"{handle.settings()} {_content(handle)}".encode(), digest_size=16)
    for name, parameter in handle.model.named_parameters():
        if not parameter.requires_grad:
            digest.update(f"{name} {parameter.data_ptr()} {parameter._version}".encode())
    return digest.hexdigest()


def _content(handle: RankHandle) -> str:
    """Changes when what training changes does."""
    digest = hashlib.blake2b(digest_size=16)
    for _, tensor in _changing(handle):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _changing(handle: RankHandle) -> Iterator[tuple[str, Tensor]]:
    """What training changes: trained parameters, and buffers such as running means."""
    yield from ((name, parameter) for name, parameter in handle.model.named_parameters() if parameter.requires_grad)
    yield from handle.model.named_buffers()
