"""What the explorer's cards are drawn from, as plain numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Series:
    """One method's curve: value (0 to 1) by rank."""

    name: str
    values: dict[int, float]
    before: dict[int, float] = field(default_factory=dict)  # the curve before the latest training, drawn pale
    kind: int = 0  # its look: which colour and marker


@dataclass
class Example:
    """One example of the test set and what the model predicts for it."""

    shown: str  # a picture as data URI, or a text
    predicted: str
    label: str
    right: bool


@dataclass
class Layer:
    """One adapted layer of the active method."""

    name: str
    rank: int  # smaller than the scene's where rank_pattern says so
    r: int
    d_in: int
    d_out: int
    scaling: str
    scale: float
    now: Sequence[float]  # singular values of ΔW at the active rank
    full: Sequence[float]  # … and at rank r
    most: float  # the largest at any of the first ranks, at this one and at r, also of the rival
    rival: Sequence[float] = ()  # those of a rival at the active rank


@dataclass
class Scene:
    """One state of the explorer. `active` is the index of the method that cards about one method show.

    >>> scene = Scene(3, 8, [Series("DyLoRA", {3: 0.92})], 0, "accuracy")
    >>> scene.finding
    'Rank 3 of 8: DyLoRA has an accuracy of 92 %.'
    """

    rank: int
    r: int
    series: Sequence[Series]
    active: int
    metric: str
    subtitle: str = ""
    unit: str = "rank"  # what b counts
    layer: Layer | None = None
    rival: int | None = None  # the index of the method that `layer.rival` is of
    ordering: Mapping[str, Sequence[float]] = field(default_factory=dict)  # scores of the ranks 1 … r, by layer
    examples: Sequence[Example] = ()  # pictures
    texts: Sequence[Example] = ()
    rebuilt: Mapping[str, str] = field(default_factory=dict)  # rows of pictures by name, data URIs; the first is real
    waits: bool = False  # the curves are not drawn yet
    guesses: Sequence[tuple[int, float, int]] = ()  # rank, value, and the index of the method it is about

    @property
    def colour(self) -> str:
        """The active method's colour."""
        return f"var(--dk-{self.series[self.active].kind})"

    @property
    def finding(self) -> str:
        """What every method achieves at this rank, in one sentence."""
        values = [
            f"{series.name} has an {self.metric} of {100 * series.values[self.rank]:.0f} %"
            if math.isfinite(series.values[self.rank])
            else f"{series.name} gives answers that are not finite"
            for series in self.series
            if self.rank in series.values
        ]
        return f"{self.unit.capitalize()} {self.rank} of {self.r}: {'; '.join(values)}."
