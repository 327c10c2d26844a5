"""Which rows of adapters the gradients reach, and AdamW on these rows alone, each with its own step count."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.low_rank import LowRankAdapter


class Rows:
    """The trained matrices of adapters of one maximum rank, side by side: row i is all that the i-th rank owns.

    A row of an adapter is selected if its row of `lora_A.grad` or its column of `lora_B.grad` holds a nonzero. So the
    gradients alone say it, however they were cleared, added up, scaled or averaged over processes.

    Arguments:
        layers: adapters of one maximum rank, on one device and of one type.
        trained: the matrices that are trained.
        state: of the optimizer; takes up views of the moments and step counts, and gives those that it has.

    Attributes:
        params: the matrices, those of one size beside each other.
        steps: how often each row of each matrix was updated, shape (r, matrices).
        exp_avg, exp_avg_sq: AdamW's moments, shape (r, total).
    """

    def __init__(
        self, layers: Sequence[LowRankAdapter], trained: Collection[nn.Parameter], state: dict[Any, Any]
    ) -> None:
        halves = [
            (p.shape[1 - dim], dim, place, p)
            for place, layer in enumerate(layers)
            for dim, p in enumerate((layer.lora_A, layer.lora_B))
            if p in trained
        ]
        halves.sort(key=lambda half: half[:3])
        self.sizes, self.dims, places, self.params = ([*column] for column in zip(*halves, strict=True))
        first = self.params[0]
        self.r, self.device, self.dtype = layers[0].r, first.device, first.dtype
        total, device = sum(self.sizes), first.device
        self.steps = torch.zeros(self.r, len(self.params), dtype=torch.float32, device=device)
        self.exp_avg = torch.zeros(self.r, total, dtype=first.dtype, device=device)
        self.exp_avg_sq = torch.zeros_like(self.exp_avg)
        self._grads, self._change = torch.empty_like(self.exp_avg), torch.empty_like(self.exp_avg)  # new in each step
        self.layer_of, self._layers = torch.tensor(places, device=device), len(layers)
        matrices = [index for index, size in enumerate(self.sizes) for _ in range(size)]
        self._matrix_of = torch.tensor(matrices, device=device)  # of each column
        self._factors: tuple[Any, Tensor | None] = (None, None)
        self._share_state(state)

    def _share_state(self, state: dict[Any, Any]) -> None:
        """Copies what the state has, and puts views into it."""
        moments = {key: getattr(self, key).split(self.sizes, 1) for key in ("exp_avg", "exp_avg_sq")}
        for index, (p, dim) in enumerate(zip(self.params, self.dims, strict=True)):
            views = {"step": self.steps[:, index]}
            views |= {key: parts[index].t() if dim else parts[index] for key, parts in moments.items()}
            for key, view in views.items():
                if key in state[p]:
                    view.copy_(state[p][key])
                state[p][key] = view
        self._known = state[self.params[0]]["exp_avg"]

    def fits(self, state: dict[Any, Any]) -> bool:
        """Whether the optimizer's state and the matrices are those that this was made for, of the same types."""
        return state[self.params[0]].get("exp_avg") is self._known and all(
            p.dtype == self.dtype and p.device == self.device for p in self.params
        )

    def step(self, group: dict[str, Any]) -> None:
        """AdamW on the selected rows of all matrices: on a CPU mostly in one block, elsewhere without a wait for it."""
        nothing = None
        parts = []
        for p, dim, size in zip(self.params, self.dims, self.sizes, strict=True):
            if p.grad is None:
                nothing = p.new_zeros(self.r, size)
                parts.append(nothing)
            else:
                parts.append(p.grad.t() if dim else p.grad)
        grads = torch.cat(parts, 1, out=self._grads)  # (r, total)
        reached = self._reached(grads)
        runs = None if nothing is not None else self._common_runs(reached)
        if runs is None:
            selected = self._selected(reached)
            if nothing is not None:
                selected &= torch.tensor([p.grad is not None for p in self.params], device=self.device)
            runs = self._common_runs(selected)
        if runs is None:
            self._step_masked(group, grads, selected)
        for low, high in runs or ():
            self._step_block(group, grads, low, high)

    def _common_runs(self, selected: Tensor) -> list[tuple[int, int]] | None:
        """The runs of rows that are selected in all matrices; None if they differ, or a device would be waited for."""
        if self.device.type != "cpu":
            return None
        every, some = torch.stack([selected.all(1), selected.any(1)]).tolist()
        return _runs(every) if every == some else None

    def _reached(self, grads: Tensor) -> Tensor:
        """Which rows of which matrices have a nonzero gradient, shape (r, matrices)."""
        reached, start, sizes = [], 0, torch.abs(grads, out=self._change)
        for size in dict.fromkeys(self.sizes):
            count = self.sizes.count(size)
            alike = sizes[:, start : start + count * size].unflatten(1, (count, size))
            reached.append(alike.sum(2))  # (r, count); no sum of absolute values is rounded to zero, and any() is slow
            start += count * size
        return torch.cat(reached, 1).ne(0)  # also where the sum is infinite or NaN

    def _selected(self, reached: Tensor) -> Tensor:
        """Which rows are updated, shape (r, matrices): those reached in lora_A or in its lora_B."""
        by_layer = torch.zeros(self.r, self._layers, dtype=torch.int32, device=self.device)
        by_layer.index_add_(1, self.layer_of, reached.int())
        return by_layer.index_select(1, self.layer_of) > 0

    def _step_block(self, group: dict[str, Any], grads: Tensor, low: int, high: int) -> None:
        """AdamW on the rows low+1 … high of all matrices."""
        steps = self.steps[low:high]
        steps += 1
        alike = bool((steps == steps[:, :1]).all())
        count = steps[:, :1] if alike else steps.index_select(1, self._matrix_of)
        mean, square = self.exp_avg[low:high], self.exp_avg_sq[low:high]
        rates = self._rates(group, low, high)
        change = _update(group, count, rates, mean, square, grads[low:high], self._change[low:high])
        rows = [p[:, low:high].t() if dim else p[low:high] for p, dim in zip(self.params, self.dims, strict=True)]
        if group["weight_decay"]:
            kept = _shrinkage(group, rates, self.dtype)
            every = [kept] * len(rows) if isinstance(kept, Tensor) else torch.tensor(kept, dtype=torch.float64)
            torch._foreach_mul_(rows, every)  # a number would be made a tensor for each of them
        torch._foreach_sub_(rows, change.split(self.sizes, 1))

    def _step_masked(self, group: dict[str, Any], grads: Tensor, selected: Tensor) -> None:
        """The same, computed for all rows and kept where they are selected."""
        self.steps += selected
        mask = selected.index_select(1, self._matrix_of)  # (r, total)
        count = self.steps.index_select(1, self._matrix_of).clamp(min=1)
        mean, square = self.exp_avg.clone(), self.exp_avg_sq.clone()
        rates = self._rates(group, 0, self.r)
        change = _update(group, count, rates, mean, square, grads, self._change)
        rows = [p.detach().t() if dim else p.detach() for p, dim in zip(self.params, self.dims, strict=True)]
        before = torch.cat(rows, 1)  # (r, total)
        after = before * _shrinkage(group, rates, self.dtype) - change
        torch._foreach_copy_(rows, torch.where(mask, after, before).split(self.sizes, 1))
        self.exp_avg.copy_(torch.where(mask, mean, self.exp_avg))
        self.exp_avg_sq.copy_(torch.where(mask, square, self.exp_avg_sq))

    def _rates(self, group: dict[str, Any], low: int, high: int) -> Any:
        """The learning rate, or that of each row, (rows, 1)."""
        if not group["row_lr"]:
            return group["lr"]
        known, factors = self._factors
        now = tuple(group["row_lr"])
        if known != now or factors is None:  # kept on the device, so that a step moves nothing there
            factors = torch.tensor(now, dtype=_exact(self.device), device=self.device)[:, None]
            self._factors = now, factors
        return factors[low:high] * group["lr"]


def _update(
    group: dict[str, Any], count: Tensor, rates: Any, mean: Tensor, square: Tensor, grads: Tensor, change: Tensor
) -> Tensor:
    """Moves the moments by the gradients, and returns in `change` what is then taken off the weights, (rows, total).

    Arguments:
        count: which step it is, (rows, 1) or (rows, total).
        rates: the learning rate, or one for each row, (rows, 1).
    """
    beta1, beta2 = group["betas"]
    count = count.to(_exact(mean.device))
    step_size = (rates / (1 - beta1**count)).to(mean.dtype)
    root = (1 - beta2**count).sqrt_().to(mean.dtype)
    mean.lerp_(grads, 1 - beta1)
    square.mul_(beta2).addcmul_(grads, grads, value=1 - beta2)
    torch.sqrt(square, out=change).div_(root).add_(group["eps"])
    return torch.div(mean, change, out=change).mul_(step_size)


def _shrinkage(group: dict[str, Any], rates: Any, dtype: torch.dtype) -> Any:
    """What weight decay multiplies weights by: a number, or one for each row, (rows, 1)."""
    kept = 1 - group["weight_decay"] * rates
    return kept.to(dtype) if isinstance(kept, Tensor) else kept


def _exact(device: torch.device) -> torch.dtype:
    """The most exact type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def _runs(selected: Sequence[bool]) -> list[tuple[int, int]]:
    """The runs of selected rows, as (first, after the last).

    >>> _runs([True, True, False, True])
    [(0, 2), (3, 4)]
    """
    marks = [False, *selected, False]
    edges = [index for index in range(len(marks) - 1) if marks[index] != marks[index + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))
