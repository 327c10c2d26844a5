"""A live model: what it answers at each rank, kept until its weights change."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.evaluation.ordering import scores
from dylora_kit.evaluation.sweep import sweep_and_predict
from dylora_kit.resizing.singular_values import singular_values_of_product
from dylora_kit.widgets.svg_cards import Example, Layer
from dylora_kit.widgets.svg_cards.pictures import side_by_side

KEPT = 200  # states of the weights
STRIP = 7  # reconstructions side by side
COMPARED = 32  # ranks whose largest singular values set the scale of a spectrum
SAMPLED = 65_536  # numbers of each frozen weight that are looked at to notice a change …
IN_ALL = 2**20  # … and of all together: 130 million frozen weights are looked at in a twentieth of a second


@dataclass
class _Answers:
    """What a model answers while its weights are the same: the first two at once, the others when they are asked for.

    Attributes:
        values: the metric by rank, 0 to 1, as `sweep` has it; NaN where answers that count are not finite.
        first_outputs: the outputs for the first examples, by rank.
        spectra: the singular values of ΔW, by layer and rank.
        ordering: the ordering scores of the ranks 1 … r, by layer.
        strips: the first reconstructions as a data URI, by rank.
    """

    values: dict[int, float] = field(default_factory=dict)
    first_outputs: dict[int, np.ndarray] = field(default_factory=dict)
    spectra: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    ordering: dict[str, list[float]] = field(default_factory=dict)
    strips: dict[int, str] = field(default_factory=dict)


class LiveModel:
    """One model's answers on the data, by rank: computed by that model, once for each state of its weights.

    Arguments:
        handle: turns the model's rank.
        data: what it is evaluated on, as for `sweep`.
        metric: a name, as in `sweep`.
        shown: how many examples keep their outputs.
        collate: makes a batch of a list of examples.

    Attributes:
        labels: the labels of the examples that keep their outputs.
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
        self._states: dict[str, _Answers] = {}  # by fingerprint, the oldest first
        self._answers = _Answers()
        self.labels = np.zeros(0)

    @property
    def values(self) -> dict[int, float]:
        """The metric by rank, as `sweep` has it; NaN where answers that count are not finite, empty before `update`."""
        return self._answers.values

    @property
    def first_outputs(self) -> dict[int, np.ndarray]:
        """The outputs for the first examples, by rank; empty before the first `update`."""
        return self._answers.first_outputs

    def update(self) -> None:
        """Evaluates every rank, if that is not known for the weights as they are."""
        weights = fingerprint(self.handle)
        if weights not in self._states:
            values, first_outputs, self.labels = sweep_and_predict(
                self.handle.model,
                self.handle,
                self._data,
                metric=self._metric,
                first=self._shown,
                ranks=range(1, self.handle.r + 1),
                collate=self.collate,
            )
            self._states[weights] = _Answers(values, first_outputs)
            if len(self._states) > KEPT:
                del self._states[next(iter(self._states))]
        self._answers = self._states[weights]

    def examples(self, rank: int, inputs: Sequence[str], classes: Sequence[str] = ()) -> list[Example]:
        """The first examples with what the model predicts at a rank.

        Arguments:
            inputs: what to show of each, a picture as data URI or a text.
            classes: what the classes are called, 0 first; those without a name are called by their number.
        """

        def name(number: int) -> str:
            return classes[number] if 0 <= number < len(classes) else str(number)

        examples = []
        for shown, output, label in zip(inputs, self.first_outputs[rank], self.labels, strict=False):
            predicted = int(output.argmax())
            examples.append(Example(shown, name(predicted), name(int(label)), predicted == int(label)))
        return examples

    def layer(self, name: str, rank: int) -> Layer:
        """An adapted layer at a rank, or at its own maximum where that is smaller: its sizes, scale and spectra."""
        assert isinstance(self.handle, Adapters)
        layer = self.handle.layers[name]
        b = min(rank, layer.r)
        return Layer(
            name=name,
            rank=b,
            r=layer.r,
            d_in=layer.in_features,
            d_out=layer.out_features,
            scaling=layer.scaling.replace("alpha", "α"),
            scale=layer.scale(b),
            now=self.spectrum(name, b),
            full=self.spectrum(name, layer.r),
            most=max(self.spectrum(name, rank)[0] for rank in {*range(1, min(layer.r, COMPARED) + 1), b, layer.r}),
        )

    def spectrum(self, layer: str, rank: int) -> Sequence[float]:
        """The singular values of ΔW at a rank, largest first: `rank` numbers, NaN where ΔW is not finite."""
        assert isinstance(self.handle, Adapters)
        spectra = self._answers.spectra
        if (layer, rank) not in spectra:
            adapter = self.handle.layers[layer]
            A, B = adapter.lora_A[:rank].detach().cpu(), adapter.lora_B[:, :rank].detach().cpu()
            finite = bool(A.isfinite().all() and B.isfinite().all())
            values = (singular_values_of_product(A, B) * adapter.scale(rank)).tolist() if finite else []
            spectra[layer, rank] = [*values, *[0.0 if finite else math.nan] * (rank - len(values))]
        return spectra[layer, rank]

    def ordering(self) -> dict[str, list[float]]:
        """The ordering scores of the ranks 1 … r, by layer; none where an adapter is not finite."""
        assert isinstance(self.handle, Adapters)
        matrices = [matrix for layer in self.handle.layers.values() for matrix in (layer.lora_A, layer.lora_B)]
        if not self._answers.ordering and all(bool(matrix.isfinite().all()) for matrix in matrices):
            self._answers.ordering = scores(self.handle)
        return self._answers.ordering

    def reconstructions(self, rank: int) -> str:
        """The first reconstructions at a rank side by side, as a data URI."""
        strips = self._answers.strips
        if rank not in strips:
            strips[rank] = side_by_side(self._data.pictures(self.first_outputs[rank][:STRIP]))
        return strips[rank]


def fingerprint(handle: RankHandle) -> str:
    """Changes when the model's weights or buffers do, and when its adapters are disabled.

    Trained ones count by their content. Frozen ones count by torch's record of changes, and, since a change through
    `.data` leaves no record, by the bits of some of their numbers and their order: at most `SAMPLED` of each, `IN_ALL`
    in the whole model. Buffers that are not saved count by those bits alone. Hooks, and settings of modules that are no
    tensors, are not looked at.
    """
    state = f"{handle.settings()} {handle._active.disabled} {trained_digest(handle)}"
    digest = hashlib.blake2b(state.encode(), digest_size=16)
    known = dict(trained_tensors(handle))
    others: list[tuple[str, Tensor, str]] = [
        (name, p, f"{p.data_ptr()} {p._version}") for name, p in handle.model.named_parameters()
    ]
    others += [(name, buffer, "") for name, buffer in handle.model.named_buffers()]
    others = [other for other in others if other[0] not in known]
    most = min(SAMPLED, max(IN_ALL // max(len(others), 1), 1))
    weighed = [_weighed_bits(tensor.detach(), most).cpu() for _, tensor, _ in others]
    sums = torch.stack(weighed).tolist() if weighed else ()
    for (name, _, changes), total in zip(others, sums, strict=True):
        digest.update(f"{name} {changes} {total}".encode())
    return digest.hexdigest()


def _weighed_bits(tensor: Tensor, most: int) -> Tensor:
    """The sum of a tensor's numbers, evenly chosen ones if there are more than `most`, as whole numbers bit by bit.

    Each is weighed by its place, so that the sum changes with the order; by an odd number, so that a change of one
    number is never lost when the sum overflows.
    """
    bits = tensor.reshape(-1)[:: max(tensor.numel() // most, 1)]
    kind = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(bits.element_size())
    whole = bits.contiguous().view(kind) if kind and bits.is_floating_point() else bits
    places = torch.arange(1, 2 * len(bits), 2, device=bits.device)
    return (whole.to(torch.int64) * places).sum()


def trained_digest(handle: RankHandle) -> str:
    """Changes when one of `trained_tensors` does, by their content alone."""
    digest = hashlib.blake2b(digest_size=16)
    for _, tensor in trained_tensors(handle):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def trained_tensors(handle: RankHandle) -> Iterator[tuple[str, Tensor]]:
    """What training changes: trained parameters, and buffers that are saved with a model, such as running means."""
    yield from ((name, parameter) for name, parameter in handle.model.named_parameters() if parameter.requires_grad)
    buffers = dict(handle.model.named_buffers())
    if buffers:
        saved = handle.model.state_dict().keys()
        yield from ((name, buffer) for name, buffer in buffers.items() if name in saved)
