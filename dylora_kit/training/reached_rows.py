"""Which rows of an adapter backward passes reached: what an exact optimizer step has to know."""

import weakref

import torch
from torch import Tensor

from dylora_kit.core.low_rank import LowRankAdapter

_TRACKERS: "weakref.WeakKeyDictionary[LowRankAdapter, RowTracker]" = weakref.WeakKeyDictionary()


def tracker_of(layer: LowRankAdapter) -> "RowTracker":
    """The tracker of a layer, which all optimizers made for the layer share."""
    if layer not in _TRACKERS:
        _TRACKERS[layer] = RowTracker(layer)
    _TRACKERS[layer].listen(layer)
    return _TRACKERS[layer]


class RowTracker:
    """Which rows of one layer the backward passes since the last clearing of its gradients reached.

    A backward pass through the layer brings two gradients, in either order: that of `layer.reached`, which names the
    rows, and that of the watched parameter: lora_A, or lora_B where lora_A is not trained. The second of them to come
    joins the rows of the pass to `rows`. `model.zero_grad()` does not call the optimizer, so cleared gradients are
    noticed when the next gradient comes: the old one is None, or was changed since the latest pass and is all zero.

    | state | holds | set by | reset by |
    | --- | --- | --- | --- |
    | `rows` | the rows reached since gradients were cleared | `_join` | `forget`, `selected` |
    | `_cleared` | whether gradients were cleared before the pass under way | `_before_gradient` | the next pass |
    | `_pass_rows` | its rows, where its gradient is still to come | `_on_rows` | `_join`, `forget` |
    | `_has_gradient` | whether its gradient came, but no rows | `_after_gradient` | `_join`, `forget`, `selected` |
    | `_joined` | whether a pass was joined since the latest step | `_join` | `selected` |
    | `_version` | torch's count of changes to the watched gradient, after a pass | `_after_gradient` | the next pass |

    Attributes:
        rows: shape (r,), 1.0 where a row was reached; None if no row was.
    """

    def __init__(self, layer: LowRankAdapter) -> None:
        self.r = layer.r
        self.rows: Tensor | None = None
        self._parameters = [weakref.ref(layer.lora_A), weakref.ref(layer.lora_B)]
        self._hooked: set[int] = set()  # which of the two have hooks
        self._cleared = False
        self._pass_rows: Tensor | None = None
        self._has_gradient = False
        self._joined = False
        self._version = -1
        layer.reached.grad = None  # what earlier backward passes left
        layer.reached.register_post_accumulate_grad_hook(self._on_rows)

    def listen(self, layer: LowRankAdapter) -> None:
        """Puts hooks on those of the layer's parameters that are trained."""
        for index, parameter in enumerate((layer.lora_A, layer.lora_B)):
            if parameter.requires_grad and index not in self._hooked:
                self._hooked.add(index)
                parameter.register_hook(lambda gradient, index=index: self._before_gradient(index))
                parameter.register_post_accumulate_grad_hook(lambda p, index=index: self._after_gradient(index, p))

    def selected(self) -> Tensor | None:
        """The rows to update in this step, shape (r,); None if no backward pass reached the layer.

        Raises `RuntimeError` if there is a gradient that did not come from a full backward pass through the layer.
        """
        unnamed = self._has_gradient  # a gradient whose rows are not known
        if not self._joined and not unnamed:
            # no pass since the latest step: `rows` holds still, unless gradients were cleared, or assigned, since then
            parameters = [parameter() for parameter in self._parameters]
            grads = [(p.grad, dim) for dim, p in enumerate(parameters) if p is not None]
            nonzero = [grad.any(1 - dim) for grad, dim in grads if grad is not None]
            if any(bool(rows.any()) for rows in nonzero):
                known = torch.zeros(self.r) if self.rows is None else self.rows
                unnamed = any(bool(rows.cpu()[known == 0].any()) for rows in nonzero)
            else:
                self.rows = None
        self._joined = self._has_gradient = False
        if unnamed:
            self.rows = None
            raise RuntimeError(
                "an adapter has a gradient that did not come from a full backward pass through it: "
                "call loss.backward() without inputs=…, or use update='authors'"
            )
        return self.rows

    def forget(self) -> None:
        """Forgets all rows, since the gradients were cleared."""
        self.rows, self._has_gradient, self._pass_rows = None, False, None

    def _watched(self) -> int:
        """The index of the watched parameter: 0 for lora_A, 1 for lora_B."""
        lora_A = self._parameters[0]()
        return 0 if lora_A is not None and lora_A.requires_grad else 1

    def _before_gradient(self, index: int) -> None:
        """Hook before a gradient is added to the parameter's: notices whether that was cleared."""
        parameter = self._parameters[index]()
        if index == self._watched() and parameter is not None:
            old = parameter.grad
            self._cleared = old is None or (old._version != self._version and not bool(old.any()))

    def _after_gradient(self, index: int, parameter: Tensor) -> None:
        """Hook after a gradient was added."""
        if index == self._watched() and parameter.grad is not None:
            self._version, self._has_gradient = parameter.grad._version, True
            self._join()

    def _on_rows(self, reached: Tensor) -> None:
        """Hook after the gradient of `layer.reached` came, which names the rows."""
        assert reached.grad is not None
        # at most 1: the rows of a layer that runs several times in one pass are added up
        self._pass_rows, reached.grad = reached.grad.clamp(max=1), None
        self._join()

    def _join(self) -> None:
        """Joins the rows of the pass under way to `rows`, once its rows and its gradient have both come."""
        if self._pass_rows is None or not self._has_gradient:
            return
        starts_anew = self._cleared or self.rows is None
        self.rows = self._pass_rows if starts_anew else torch.maximum(self.rows, self._pass_rows)  # type: ignore[arg-type]
        self._pass_rows, self._has_gradient, self._joined = None, False, True
