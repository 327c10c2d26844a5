"""A live model: what it answers at each rank, kept until its weights change, and what it was while it trained."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank import RankHandle
from dylora_kit.evaluation.metrics import METRICS
from dylora_kit.evaluation.ordering import scores
from dylora_kit.evaluation.sweep import predict
from dylora_kit.widgets.svg_cards.pictures import side_by_side

KEPT = 200  # states of the weights
STRIP = 7  # reconstructions side by side


class Live:
    """One model's answers on the data, by rank: computed by that model, once for each state of its weights.

    Attributes:
        values: the metric by rank, 0 to 1.
        first: the outputs for the first examples, by rank.
        labels: the labels of the data.
        collate: makes a batch of a list of examples.
    """

    def __init__(
        self,
        handle: RankHandle,
        data: Any,
        metric: str,
        shown: int,
        collate: Callable[[list[Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.handle, self._data, self._metric, self._shown, self.collate = handle, data, metric, shown, collate
        self._states: dict[str, dict[Any, Any]] = {}
        self._state: dict[Any, Any] = {}
        self.labels = np.zeros(0)
        self.values: dict[int, float] = {}
        self.first: dict[int, np.ndarray] = {}

    def update(self) -> None:
        """Evaluates every rank, if that is not known for the weights as they are."""
        weights = fingerprint(self.handle)
        if weights not in self._states:
            ranks = range(1, self.handle.r + 1)
            outputs, self.labels = predict(
                self.handle.model, self.handle, self._data, ranks=ranks, collate=self.collate
            )
            values = {rank: METRICS[self._metric](output, self.labels) for rank, output in outputs.items()}
            first = {rank: output[: self._shown].copy() for rank, output in outputs.items()}
            self._states[weights] = {"values": values, "first": first}
            if len(self._states) > KEPT:
                del self._states[next(iter(self._states))]
        self._state = self._states[weights]
        self.values, self.first = self._state["values"], self._state["first"]

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
            self._state["drawn", rank] = side_by_side(self._data.pictures(self.first[rank][:STRIP]))
        return self._state["drawn", rank]


@dataclass
class Moment:
    """What a model was after some steps of training."""

    step: int
    content: str  # changes when a tensor does
    tensors: dict[str, Tensor]
    values: dict[int, float] = field(default_factory=dict)  # the metric by rank, once it was measured


class Moments:
    """What a model was at moments of its training, the latest last."""

    def __init__(self, handle: RankHandle) -> None:
        self._handle = handle
        self.all: list[Moment] = []
        self.keep(0)

    def __len__(self) -> int:
        return len(self.all)

    def keep_unknown(self) -> bool:
        """Keeps the model as it is, if it is no moment yet, which it is not when it was trained elsewhere."""
        content = _content(self._handle)
        unknown = all(content != moment.content for moment in self.all)
        if unknown:
            self.keep(self.all[-1].step)
        return unknown

    def keep(self, step: int) -> None:
        """Keeps the model as it is, as the latest moment."""
        tensors = {name: tensor.detach().clone() for name, tensor in _changing(self._handle)}
        self.all.append(Moment(step, _content(self._handle), tensors))

    @torch.no_grad()
    def restore(self, index: int) -> None:
        """Puts the model back to a moment. What it is now is kept first.

        Raises `ValueError`, and changes nothing, while merged, and if other parameters are trained now than then.
        """
        self._handle.check_unmerged("going back")
        now, then = dict(_changing(self._handle)), self.all[index].tensors
        if now.keys() != then.keys():
            odd = sorted(now.keys() ^ then.keys())[0]
            raise ValueError(f"cannot go back: {odd!r} was trained then and is not now, or the other way round")
        self.keep_unknown()
        for name, tensor in now.items():
            tensor.copy_(then[name])


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
    """What training changes: trained parameters, and buffers that are saved with a model, such as running means."""
    yield from ((name, parameter) for name, parameter in handle.model.named_parameters() if parameter.requires_grad)
    buffers = dict(handle.model.named_buffers())
    if buffers:
        saved = handle.model.state_dict().keys()
        yield from ((name, buffer) for name, buffer in buffers.items() if name in saved)
