"""Which rows of an adapter backward passes reached: what an exact optimizer step has to know."""

import weakref

import torch
from torch import Tensor

from dylora_kit.core.low_rank import LowRankAdapter

_TRACKERS: "weakref.WeakKeyDictionary[LowRankAdapter, RowTracker]" = weakref.WeakKeyDictionary()


def tracker_of(layer: LowRankAdapter) -> "RowTracker":
    """The layer's tracker: one, whatever the number of optimizers made for it."""
    if layer not in _TRACKERS:
        _TRACKERS[layer] = RowTracker(layer)
    _TRACKERS[layer].listen(layer)
    return _TRACKERS[layer]


class RowTracker:
    """Which rows of one layer the backward passes since the last clearing of its gradients reached.

    A backward pass through the layer brings two things, in either order: a gradient for `layer.reached`, which names
    the rows, and one for lora_A (lora_B where lora_A is not trained), the watched parameter. `model.zero_grad()` does
    not tell the optimizer, so a cleared gradient is noticed when the next one arrives: the old one is None, or was
    changed by somebody and is all zero.

    Attributes:
        rows: shape (r,), 1.0 where a row was reached; None if no row was.
    """

    def __init__(self, layer: LowRankAdapter) -> None:
        self.r = layer.r
        self.rows: Tensor | None = None
        self._parameters = [weakref.ref(layer.lora_A), weakref.ref(layer.lora_B)]
        self._heard: set[int] = set()
        self._version = -1  # of the watched gradient, after the latest backward pass
        self._cleared = False  # before the pass that is under way
        self._named: Tensor | None = None  # rows of the pass under way, until its gradient is there too
        self._has_gradient = False  # … and the other way round
        self._fresh = False  # a pass came since the latest step
        layer.reached.grad = None  # what earlier backward passes left
        layer.reached.register_post_accumulate_grad_hook(self._on_rows)

    def listen(self, layer: LowRankAdapter) -> None:
        """Hears of the gradients of those of the layer's parameters that are trained."""
        for index, parameter in enumerate((layer.lora_A, layer.lora_B)):
            if parameter.requires_grad and index not in self._heard:
                self._heard.add(index)
                parameter.register_hook(lambda gradient, index=index: self._before_gradient(index))
                parameter.register_post_accumulate_grad_hook(lambda p, index=index: self._after_gradient(index, p))

    def selected(self) -> Tensor | None:
        """The rows to update in this step, shape (r,); None if no backward pass reached the layer.

        Raises `RuntimeError` if there are gradients of which nobody can say which rows they belong to.
        """
        grads = [(p.grad, dim) for dim, p in enumerate(ref() for ref in self._parameters) if p is not None]
        unknown = self._has_gradient
        if not self._fresh and not unknown:
            nonzero = [grad.any(1 - dim) for grad, dim in grads if grad is not None]
            if not any(bool(rows.any()) for rows in nonzero):
                self.rows = None  # cleared, or never there
            else:
                known = torch.zeros(self.r) if self.rows is None else self.rows
                unknown = any(bool(rows.cpu()[known == 0].any()) for rows in nonzero)
        self._fresh = self._has_gradient = False
        if unknown:
            self.rows = None
            raise RuntimeError(
                "an adapter has a gradient that did not come from a full backward pass through it: "
                "call loss.backward() without inputs=…, or use update='authors'"
            )
        return self.rows

    def forget(self) -> None:
        """The gradients were cleared."""
        self.rows, self._has_gradient, self._named = None, False, None

    def _watched(self) -> int:
        first = self._parameters[0]()
        return 0 if first is not None and first.requires_grad else 1

    def _before_gradient(self, index: int) -> None:
        parameter = self._parameters[index]()
        if index == self._watched() and parameter is not None:
            old = parameter.grad
            self._cleared = old is None or (old._version != self._version and not bool(old.any()))

    def _after_gradient(self, index: int, parameter: Tensor) -> None:
        if index == self._watched() and parameter.grad is not None:
            self._version, self._has_gradient = parameter.grad._version, True
            self._join()

    def _on_rows(self, reached: Tensor) -> None:
        assert reached.grad is not None
        # a layer that ran several times in one backward pass has its rows added up
        self._named, reached.grad = reached.grad.clamp(max=1), None
        self._join()

    def _join(self) -> None:
        if self._named is None or not self._has_gradient:
            return
        new = self._cleared or self.rows is None
        self.rows = self._named if new else torch.maximum(self.rows, self._named)  # type: ignore[arg-type]
        self._named, self._has_gradient, self._fresh = None, False, True
