"""Which rows of adapters the gradients reach, and AdamW on these rows alone, each with its own step count."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.low_rank import LowRankAdapter


class Family:
    """Adapters of the same sizes, of which the same matrices are trained: updated together, and their rows selected.

    A row is selected if its row of `lora_A.grad` or its column of `lora_B.grad` holds a nonzero. So the gradients alone
    say it, however they were cleared, added up, scaled or averaged over processes.
    """

    def __init__(
        self, layers: list[LowRankAdapter], rows_along: dict[nn.Parameter, int], state: dict[Any, Any]
    ) -> None:
        pairs = [(layer.lora_A, layer.lora_B) for layer in layers]
        self.halves = [
            Stack([pair[dim] for pair in pairs], dim, state) for dim in (0, 1) if pairs[0][dim] in rows_along
        ]
        self.layers, self.r = len(layers), layers[0].r

    def step(self, group: dict[str, Any]) -> None:
        """AdamW on the selected rows of all adapters."""
        grads = [half.gradients() for half in self.halves]
        device = self.halves[0].params[0].device
        selected = torch.zeros(self.layers, self.r, dtype=torch.bool, device=device)
        for half, (members, stacked) in zip(self.halves, grads, strict=True):
            if members:
                reached = stacked.any(2 - half.dim)  # (members, r)
                if len(members) == self.layers:
                    selected |= reached
                else:
                    selected[members] |= reached
        for half, (members, stacked) in zip(self.halves, grads, strict=True):
            if members:
                half.step(group, members, stacked, selected if len(members) == self.layers else selected[members])


class Stack:
    """One matrix of each adapter of a family, with the moments stacked, so that one kernel updates them all.

    Attributes:
        params: the matrices, all of one shape.
        dim: the dimension along which rows are counted: 0 for lora_A, and 1 for lora_B, where they are columns.
        steps: how often each row was updated, shape (layers, rows).
        exp_avg, exp_avg_sq: AdamW's moments, shape (layers, *shape). The optimizer's state holds views of these.
    """

    def __init__(self, params: list[nn.Parameter], dim: int, state: dict[Any, Any]) -> None:
        self.params, self.dim = params, dim
        first = params[0]
        stacks = {
            "step": torch.zeros(len(params), first.shape[dim], dtype=torch.float32, device=first.device),
            "exp_avg": torch.zeros(len(params), *first.shape, dtype=first.dtype, device=first.device),
            "exp_avg_sq": torch.zeros(len(params), *first.shape, dtype=first.dtype, device=first.device),
        }
        for key, stack in stacks.items():
            for p, view in zip(params, stack, strict=True):
                if key in state[p]:
                    view.copy_(state[p][key])
                state[p][key] = view
        self.steps, self.exp_avg, self.exp_avg_sq = stacks.values()

    def gradients(self) -> tuple[list[int], Tensor]:
        """Which of the matrices have a gradient, and these gradients, (members, *shape)."""
        members = [index for index, p in enumerate(self.params) if p.grad is not None]
        grads = [p.grad for p in self.params if p.grad is not None]
        return members, torch.stack(grads) if grads else self.exp_avg[:0]

    def step(self, group: dict[str, Any], members: list[int], grads: Tensor, selected: Tensor) -> None:
        """Updates the rows that selected (members, r) marks: on a CPU run by run, elsewhere by a mask, with no wait."""
        if grads.device.type != "cpu":
            self._step_masked(group, members, grads, selected)
            return
        runs: dict[tuple[int, int], list[int]] = {}
        for position, marks in enumerate(selected.tolist()):
            for run in _runs(marks):
                runs.setdefault(run, []).append(position)
        for (low, high), positions in runs.items():
            chosen = [members[position] for position in positions]
            of_run = grads if len(positions) == len(members) else grads[positions]
            self._step_rows(group, low, high, chosen, of_run.narrow(self.dim + 1, low, high - low))

    def _step_rows(self, group: dict[str, Any], low: int, high: int, members: list[int], grads: Tensor) -> None:
        """AdamW on the rows low+1 … high of those matrices, each row with its own step count."""
        whole = len(members) == len(self.params)  # then the stacks are updated in place, else a copy of these layers
        steps = self.steps[:, low:high] if whole else self.steps[members, low:high]
        moments = [stack.narrow(self.dim + 1, low, high - low) for stack in (self.exp_avg, self.exp_avg_sq)]
        mean, square = moments if whole else (moment[members] for moment in moments)
        rows = [self.params[index].detach().narrow(self.dim, low, high - low) for index in members]

        steps += 1
        shrinkage, change = self._update(group, steps, mean, square, grads, slice(low, high))
        if group["weight_decay"]:
            torch._foreach_mul_(rows, [shrinkage] * len(rows))
        torch._foreach_sub_(rows, list(change))
        if not whole:
            self.steps[members, low:high] = steps
            for moment, new in zip(moments, (mean, square), strict=True):
                moment[members] = new

    def _step_masked(self, group: dict[str, Any], members: list[int], grads: Tensor, selected: Tensor) -> None:
        """The same, computed for all rows and kept where they are selected; nothing waits for the device."""
        mask = selected.unsqueeze(2 - self.dim)  # (members, r, 1), or (members, 1, r)
        steps = self.steps[members] + selected
        mean, square = self.exp_avg[members], self.exp_avg_sq[members]
        shrinkage, change = self._update(group, steps, mean, square, grads, slice(None))
        for position, index in enumerate(members):
            p, moved = self.params[index].detach(), mask[position]
            p.copy_(torch.where(moved, p * shrinkage - change[position], p))
        self.steps[members] = steps
        for stack, new in ((self.exp_avg, mean), (self.exp_avg_sq, square)):
            stack[members] = torch.where(mask, new, stack[members])

    def _update(
        self, group: dict[str, Any], steps: Tensor, mean: Tensor, square: Tensor, grads: Tensor, rows: slice
    ) -> tuple[Tensor, Tensor]:
        """Moves the moments, and gives the factor of weight decay and what is then taken off the weights."""
        (beta1, beta2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
        exact = torch.float32 if mean.device.type == "mps" else torch.float64
        count = steps.to(exact)
        rates = torch.tensor(group["row_lr"][rows] if group["row_lr"] else [1.0], dtype=exact) * lr
        rates = rates.to(mean.device, non_blocking=True)
        factors = torch.stack([rates / (1 - beta1**count), (1 - beta2**count).sqrt()])  # (2, layers, rows)
        # each (layers, rows, 1) for lora_A, (layers, 1, rows) for lora_B
        step_size, root = factors.to(mean.dtype).unsqueeze(3 - self.dim)
        mean.lerp_(grads, 1 - beta1)
        square.mul_(beta2).addcmul_(grads, grads, value=1 - beta2)
        change = (square.sqrt() / root).add_(group["eps"])
        torch.div(mean, change, out=change).mul_(step_size)
        return (1 - decay * rates).to(mean.dtype).unsqueeze(1 - self.dim), change  # (rows, 1) or (1, rows)


def _runs(selected: Sequence[bool]) -> list[tuple[int, int]]:
    """The runs of selected rows, as (first, after the last).

    >>> _runs([True, True, False, True])
    [(0, 2), (3, 4)]
    """
    marks = [False, *selected, False]
    edges = [index for index in range(len(marks) - 1) if marks[index] != marks[index + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))
