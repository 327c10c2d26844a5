"""The active rank b: one object per model, read by every adapted layer.

Ranks are counted from 1. The state is in one place, so layers cannot disagree, and setting it is one assignment,
whatever the number of layers.
"""

import operator
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dylora_kit.core.names import plain_name

Rank = int | Mapping[str, int] | Tensor
_COUNTING = threading.Lock()  # threads enter and leave `switched_off` at any time
# in place of an axis: the first holds parts of each example in turn; none has them in order; the first or the second
FOLDED, UNKNOWN, EITHER = -1, -2, -3


class ActiveRank:
    """The rank at which all layers of one model run.

    Arguments:
        limits: the maximum rank r of each layer, by layer name.

    Assign `value` to change it:

    - an int, `1 ≤ b ≤ r`: every layer runs at b (a layer whose own maximum is smaller runs at its maximum);
    - a mapping from *every* layer name to its own rank;
    - an integer tensor of shape `(N,)`: one rank per example of the batch (a mixed batch).

    Raises `ValueError` for anything else, and keeps the value it had.

    Attributes:
        frozen: whether gradients reach row and column b only (Eq. 10).
        merged: whether ΔW is at present added to the base weights; the rank cannot be set meanwhile.
        disabled: how many blocks at present run the layers without their adapters; 0 in a copy.
        per_example: the ranks of a mixed batch, shape (N,), on the CPU; else None.
        axes: the axis along which the inputs of a layer have the examples, or `FOLDED`, `UNKNOWN` or `EITHER`; the
            first for layers not named.
        copies: how often an example may stand in the batch in a row, as beams do while a text is generated.
        gates: what layers made of the ranks of a mixed batch, to be used again until the rank is set.

    >>> rank = ActiveRank({"query": 8, "value": 8})
    >>> rank.value
    8
    >>> rank.value = 3
    >>> rank.of("query")
    3
    >>> rank.value = 9
    Traceback (most recent call last):
    ...
    ValueError: rank 9 is out of range: expected 1 to 8
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = dict(limits)
        self.r = max(self.limits.values())
        self._size, self._sizes = _of_size(self.r), dict[str, Tensor]()
        self.per_example: Tensor | None = None
        self.frozen = False
        self.merged = False
        self.disabled = 0
        self.axes: dict[str, int] = {}
        self.copies = 1
        self.gates: dict[Any, Any] = {}

    @property
    def b(self) -> int:
        """The rank as one number: the largest, if there are several."""
        return self._size.shape[0]

    @property
    def per_layer(self) -> dict[str, int] | None:
        """`{layer: rank}` if each layer has its own rank, else None."""
        return {layer: size.shape[0] for layer, size in self._sizes.items()} or None

    @property
    def value(self) -> Rank:
        """The rank as it was set: an int, a mapping by layer name, or one rank per example."""
        if self._sizes:
            return self.per_layer or {}
        return self.b if self.per_example is None else self.per_example.clone()

    @value.setter
    def value(self, value: Rank) -> None:
        self.check_unmerged("setting a rank")
        if isinstance(value, Mapping):
            sizes = {layer: _of_size(b) for layer, b in self._check_mapping(value).items()}
            b, per_example = max(size.shape[0] for size in sizes.values()), None
        elif isinstance(value, Tensor) and value.dim() > 0:
            sizes, per_example = {}, self._check_examples(value)
            b = int(per_example.max())
        else:
            sizes, per_example, b = {}, None, check_rank(value, self.r)
        self._size, self._sizes, self.per_example, self.gates = _of_size(b), sizes, per_example, {}

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets: without what a block, such as `switched_off`, sets and takes back on the original alone."""
        return self.__dict__ | {"disabled": 0, "copies": 1, "gates": {}}

    def grow(self, limits: Mapping[str, int]) -> None:
        """Gives layers larger maximum ranks. The rank stays."""
        self.limits = dict(limits)
        self.r, self.gates = max(self.limits.values()), {}

    @contextmanager
    def switched_off(self, also: Callable[[bool], None]) -> Iterator[None]:
        """A block without adapters. Blocks may be nested, and overlap in threads: the last one to end switches on.

        Arguments:
            also: called with True where the first block begins, and with False where the last one ends.
        """
        with _COUNTING:
            if not self.disabled:
                also(True)
            self.disabled += 1
        try:
            yield
        finally:
            with _COUNTING:
                self.disabled -= 1
                if not self.disabled:
                    also(False)

    def check_enabled(self, purpose: str) -> None:
        """Raises `ValueError` that names the purpose, such as `"training"`, while the adapters are switched off."""
        if self.disabled:
            raise ValueError(f"the adapters are switched off in a disabled() block: leave it before {purpose}")

    def of(self, layer: str) -> int:
        """The rank of one layer; in a mixed batch, the largest of the batch."""
        b, limit = (self._sizes[layer] if self._sizes else self._size).shape[0], self.limits[layer]
        if not torch.compiler.is_compiling():
            return min(b, limit)
        torch._check(b >= 1)  # where the number is left open, compiled code has to be told
        if limit < self.r:
            return torch.sym_min(b, limit)
        torch._check(b <= limit)
        return b

    def check_unmerged(self, purpose: str, error: type[Exception] = ValueError) -> None:
        """Raises an error that names the purpose, such as `"saving"`, while ΔW is added to the base weights."""
        if self.merged:
            raise error(f"the adapters are merged into the base weights: call unmerge() before {purpose}")

    def check_not_mixed(self, request: str, rank: Rank | None = None) -> None:
        """Raises `ValueError` that ends with the request if a rank (default: the active one) is one per example."""
        if isinstance(self.value if rank is None else rank, Tensor):
            raise ValueError(f"each example has its own rank: {request}")

    def check_layer(self, name: str) -> None:
        """Raises `ValueError` if no layer has this name."""
        if name not in self.limits:
            raise ValueError(f"no adapted layer is called {name!r}: the layers are {', '.join(self.limits)}")

    def batch_sizes(self) -> tuple[int, ...]:
        """How many rows a batch may have: one for each rank, or `copies` in a row."""
        assert self.per_example is not None
        return len(self.per_example), len(self.per_example) * self.copies

    def check_batch(self, batch: Tensor) -> None:
        """Raises `ValueError` if each example has its own rank, and a batch (N, …) has not one example for each."""
        if self.per_example is not None and (batch.dim() < 2 or len(batch) != len(self.per_example)):
            raise self.wrong_batch(len(batch))

    def wrong_batch(self, size: int) -> ValueError:
        """The error for a batch of another size than the rank tensor has."""
        assert self.per_example is not None
        return ValueError(
            f"the rank tensor names {len(self.per_example)} examples, but the batch holds {size} along its first axis: "
            "pass one rank for each, with the examples first and as many throughout the call, or set one rank for all"
        )

    def _check_mapping(self, value: Mapping[str, int]) -> dict[str, int]:
        value = {plain_name(name, self.limits): rank for name, rank in value.items()}
        for name in value:
            self.check_layer(name)
        missing = [name for name in self.limits if name not in value]
        if missing:
            raise ValueError(f"the mapping gives no rank for {missing[0]!r}: name all {len(self.limits)} layers")
        return {name: check_rank(value[name], self.limits[name], f" of layer {name!r}") for name in self.limits}

    def _check_examples(self, value: Tensor) -> Tensor:
        if value.dim() != 1 or value.numel() == 0 or not _holds_integers(value):
            raise ValueError(
                f"ranks per example must be integers of shape (batch,), from 1 to {self.r}: "
                f"got {str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
            )
        ranks = value.detach().to("cpu", torch.long, copy=True)
        for rank in (int(ranks.min()), int(ranks.max())):
            check_rank(rank, self.r)
        return ranks


def _of_size(b: int) -> Tensor:
    """An empty tensor whose size is a rank.

    torch.compile takes an int on a module for a constant, and would compile anew at each rank. A size it leaves open.
    """
    size = torch.empty(b, device="cpu")
    if "torch._dynamo" in sys.modules:
        torch._dynamo.decorators.mark_unbacked(size, 0)
    return size


def check_rank(value: Any, r: int | None, where: str = "") -> int:
    """`value` as an int from 1 to `r`, or from 1 up; `ValueError` with the allowed range for anything else.

    Arguments:
        where: goes into the sentence after "rank", such as `" of layer 'query'"`.

    >>> check_rank(torch.tensor(3), r=8)
    3
    """
    allowed = "1 upwards" if r is None else f"1 to {r}"
    try:
        if isinstance(value, bool) or (isinstance(value, Tensor) and not _holds_integers(value)):
            raise TypeError
        rank = operator.index(value)
    except TypeError:
        raise ValueError(f"rank{where} must be a whole number from {allowed}: got {value!r}") from None
    if rank < 1 or (r is not None and rank > r):
        raise ValueError(f"rank {rank}{where} is out of range: expected {allowed}")
    return rank


def _holds_integers(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
