"""A live model: what it answers at each rank, kept until its weights change."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.evaluation.at_ranks import outputs_of, run_at_ranks
from dylora_kit.evaluation.ordering import scores
from dylora_kit.evaluation.sweep import sweep_and_predict
from dylora_kit.resizing.singular_values import singular_values_of_product
from dylora_kit.widgets.fingerprint import fingerprint
from dylora_kit.widgets.svg_cards import Example, Layer
from dylora_kit.widgets.svg_cards.pictures import side_by_side

KEPT = 200  # states of the weights
STRIP = 7  # reconstructions side by side
COMPARED = 32  # ranks whose largest singular values set the scale of a spectrum


@dataclass
class _Answers:
    """What a model answers while its weights are the same: the first two at once, the others when they are asked for.

    Attributes:
        values: the metric by rank, 0 to 1, as `sweep` has it; NaN where answers that count are not finite.
        first_outputs: the outputs for the first examples, by rank.
        spectra: the singular values of ΔW, by layer and rank.
        ordering: the ordering scores of the ranks 1 … r, by layer.
        strips: the first reconstructions as a data URI, by rank.
        read: what it was given by hand, and the outputs for that, by rank.
    """

    values: dict[int, float] = field(default_factory=dict)
    first_outputs: dict[int, np.ndarray] = field(default_factory=dict)
    spectra: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    ordering: dict[str, list[float]] = field(default_factory=dict)
    strips: dict[int, str] = field(default_factory=dict)
    read: tuple[Any, dict[int, np.ndarray]] = (None, {})


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
        before: the curve before the latest change, by rank, which is drawn pale; empty at first.
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
        self.before: dict[int, float] = {}

    @property
    def values(self) -> dict[int, float]:
        """The metric by rank, as `sweep` has it; NaN where answers that count are not finite, empty before `update`."""
        return self._answers.values

    @property
    def first_outputs(self) -> dict[int, np.ndarray]:
        """The outputs for the first examples, by rank; empty before the first `update`."""
        return self._answers.first_outputs

    def keep_curve(self) -> None:
        """Keeps the curve as it is, to be compared with what comes now."""
        self.before = dict(self.values)

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

    def read(self, key: Any, example: Mapping[str, Any], ranks: Iterable[int]) -> dict[int, np.ndarray]:
        """The outputs (classes,) for an example that is not in the data, by rank; kept until another one is read.

        Arguments:
            key: the same for the same example.
            example: as in the data, without a label.

        Raises `ValueError`, or what the model raises, for one that it cannot read.
        """
        if self._answers.read[0] != key:
            self._answers.read = (key, {})
        known, ranks = self._answers.read[1], list(ranks)

        def take(rank: int, batch: dict[str, Any], output: Any) -> None:
            known[rank] = outputs_of(output, batch)[0].float().cpu().numpy()

        missing = [rank for rank in ranks if rank not in known]
        if missing:
            run_at_ranks(
                self.handle.model, self.handle, [dict(example)], missing, take,
                batch_size=1, collate=self.collate, forward=None, progress=False,
            )  # fmt: skip
        return {rank: known[rank] for rank in ranks}

    def layer(self, name: str, rank: int, rival: "LiveModel | None" = None) -> Layer:
        """An adapted layer at a rank, or at its own maximum where that is smaller: its sizes, scale and spectra.

        With a rival, its spectrum at that rank as well.
        """
        assert isinstance(self.handle, Adapters)
        layer = self.handle.layers[name]
        b = min(rank, layer.r)
        beside = rival.handle.layers[name].r if rival and isinstance(rival.handle, Adapters) else 0
        drawn = [self, rival] if rival and beside else [self]
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
            most=max(live._largest(name, b) for live in drawn),
            rival=rival.spectrum(name, min(b, beside)) if rival and beside else (),
        )

    def _largest(self, layer: str, b: int) -> float:
        """The largest singular value of ΔW at rank b, at any of the first ranks, and at r."""
        assert isinstance(self.handle, Adapters)
        r = self.handle.layers[layer].r
        values = [self.spectrum(layer, rank)[0] for rank in {*range(1, min(r, COMPARED) + 1), min(b, r), r}]
        return max(filter(math.isfinite, values), default=0.0)

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
