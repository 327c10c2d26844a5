"""p_B: how the rank b of a training step is drawn."""

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class RankDistribution:
    """A distribution p_B over ranks, counted from 1.

    Arguments:
        probabilities: `{rank: weight}`. Weights are at least 0, at least one is greater, and they are renormalised.

    Raises `ValueError` for a rank below 1, or weights that are negative, not finite or all zero.

    >>> RankDistribution({1: 3, 8: 1}).probabilities
    {1: 0.75, 8: 0.25}
    """

    def __init__(self, probabilities: Mapping[int, float]) -> None:
        weights = {_whole(rank, "a rank"): float(weight) for rank, weight in probabilities.items()}
        weights = dict(sorted(weights.items()))
        if not weights or min(weights) < 1:
            raise ValueError(f"ranks must be whole numbers from 1 up: got {list(weights)}")
        if not all(math.isfinite(w) and w >= 0 for w in weights.values()) or not sum(weights.values()) > 0:
            raise ValueError(f"weights must be finite, at least 0 and not all zero: got {list(weights.values())}")
        total = sum(weights.values())
        self.probabilities = {rank: weight / total for rank, weight in weights.items() if weight > 0}

    @property
    def lo(self) -> int:
        """The smallest rank that can be drawn (r_min)."""
        return min(self.probabilities)

    @property
    def hi(self) -> int:
        """The largest rank that can be drawn (r_max)."""
        return max(self.probabilities)

    def update_frequencies(self, r: int | None = None, *, frozen: bool = False) -> list[float]:
        """The share of steps that update each row, first to last: P(b ≥ row), or P(b = row) when frozen (Eq. 10).

        For layers with r rows (default: the largest rank that is drawn), and steps with one rank each.

        >>> Uniform(1, 4).update_frequencies(), Uniform(1, 4).update_frequencies(frozen=True)
        ([1.0, 0.75, 0.5, 0.25], [0.25, 0.25, 0.25, 0.25])
        """
        rows = range(1, (r or self.hi) + 1)
        return [sum(p for b, p in self.probabilities.items() if b == row or (b > row and not frozen)) for row in rows]

    def __repr__(self) -> str:
        inside = ", ".join(f"{rank}: {p:.3g}" for rank, p in self.probabilities.items())
        return f"{type(self).__name__}({{{inside}}})"


class Uniform(RankDistribution):
    """Every rank from lo to hi with equal probability: what the paper uses.

    >>> Uniform(1, 4).probabilities
    {1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25}
    """

    def __init__(self, lo: int, hi: int) -> None:
        super().__init__(dict.fromkeys(_range(lo, hi), 1.0))


class Geometric(RankDistribution):
    """p_B(b) ∝ p·(1−p)^(b−1), cut to lo … hi and renormalised. The paper's Table 4 has p = 0.15.

    >>> Geometric(0.5, 1, 2).probabilities[1]
    0.6666666666666666
    """

    def __init__(self, p: float, lo: int, hi: int) -> None:
        if not 0 < p < 1:
            raise ValueError(f"p must lie between 0 and 1, both excluded: got {p!r}")
        super().__init__({b: p * (1 - p) ** (b - lo) for b in _range(lo, hi)})
        self.p = p


class Categorical(RankDistribution):
    """Any distribution, given as `{rank: weight}`.

    >>> Categorical({1: 0.5, 8: 0.5}).hi
    8
    """


class Fixed(RankDistribution):
    """Always the same rank. At r this trains a plain LoRA.

    >>> Fixed(8).probabilities
    {8: 1.0}
    """

    def __init__(self, b: int) -> None:
        super().__init__({b: 1.0})


class RankSampler:
    """Draws ranks from a distribution, from its own generator: the global one (data order, dropout) is untouched.

    Processes that make a sampler with the same seed draw the same ranks.

    >>> sampler = RankSampler(Uniform(1, 8), seed=10)
    >>> 1 <= sampler.draw() <= 8
    True
    >>> sampler.draw_many(5).shape
    torch.Size([5])
    """

    def __init__(self, distribution: RankDistribution, seed: int) -> None:
        if not isinstance(distribution, RankDistribution):
            raise ValueError(f"expected a distribution such as Uniform(1, 8): got {distribution!r}")
        self.distribution = distribution
        self.seed = seed
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._ranks = torch.tensor(list(distribution.probabilities), device="cpu")
        weights = list(distribution.probabilities.values())
        self._cumulated = torch.tensor(weights, dtype=torch.float64, device="cpu").cumsum(0)

    def draw(self) -> int:
        """One rank b ~ p_B, for one optimizer step."""
        return int(self.draw_many(1))

    def draw_many(self, n: int) -> Tensor:
        """n independent ranks, shape (n,): one per example of a mixed batch."""
        return self._at(torch.rand(n, generator=self._generator, dtype=torch.float64, device="cpu"))

    def draw_evenly(self, n: int) -> Tensor:
        """n ranks, shape (n,), lowest first, of which each has its share n·p_B(rank), rounded up or down by chance.

        Systematic sampling: one number is drawn, and the others follow it at equal distances.
        """
        start = torch.rand(1, generator=self._generator, dtype=torch.float64, device="cpu")
        return self._at((torch.arange(n, device="cpu") + start) / n)

    def _at(self, u: Tensor) -> Tensor:
        """The ranks at some points of the cumulated distribution, from 0 to 1."""
        position = torch.searchsorted(self._cumulated, u, right=True).clamp(max=len(self._ranks) - 1)
        return self._ranks[position]

    def restart(self, draws: int = 0) -> None:
        """Starts anew from the seed, and passes over the first `draws` draws."""
        self._generator.manual_seed(self.seed)
        for _ in range(draws):
            self.draw()

    def state_dict(self) -> dict[str, Any]:
        """The distribution and the generator's state; `load_state_dict` goes on drawing from there."""
        return {"probabilities": dict(self.distribution.probabilities), "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on drawing where a saved sampler was; `ValueError` if it drew from another distribution."""
        saved = {int(rank): p for rank, p in state["probabilities"].items()}
        if saved != self.distribution.probabilities:
            raise ValueError(f"the saved sampler drew from {saved}, this one from {self.distribution.probabilities}")
        self._generator.set_state(state["generator"])


def _range(lo: int, hi: int) -> range:
    lo, hi = _whole(lo, "lo"), _whole(hi, "hi")
    if not 1 <= lo <= hi:
        raise ValueError(f"expected 1 ≤ lo ≤ hi: got lo = {lo}, hi = {hi}")
    return range(lo, hi + 1)


def _whole(value: Any, what: str) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{what} must be a whole number: got {value!r}") from None
