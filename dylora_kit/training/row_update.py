"""AdamW on some rows of many parameters at once, each row with its own step count."""

from typing import Any

import torch
from torch import Tensor


class Stack:
    """Adapter parameters of one shape, with their moments stacked, so that one kernel updates them all.

    Attributes:
        params: the parameters, all of one shape.
        dim: the dimension along which rows are counted: 0 for lora_A, and 1 for lora_B, where they are columns.
        steps: how often each row was updated, shape (layers, rows).
        exp_avg, exp_avg_sq: AdamW's moments, shape (layers, *shape). The optimizer's state holds views of these.
    """

    def __init__(self, params: list[Tensor], dim: int, state: dict[Any, Any]) -> None:
        self.params, self.dim = params, dim
        first = params[0]
        stacks = {
            # on the CPU, as torch's own step counts
            "step": torch.zeros(len(params), first.shape[dim], dtype=torch.float32, device="cpu"),
            "exp_avg": torch.zeros(len(params), *first.shape, dtype=first.dtype, device=first.device),
            "exp_avg_sq": torch.zeros(len(params), *first.shape, dtype=first.dtype, device=first.device),
        }
        for key, stack in stacks.items():
            for p, view in zip(params, stack, strict=True):
                if key in state[p]:
                    view.copy_(state[p][key])
                state[p][key] = view
        self.steps, self.exp_avg, self.exp_avg_sq = stacks.values()

    def step(self, group: dict[str, Any], reached: list[Tensor | None]) -> None:
        """Updates, in each parameter, the rows that `reached` marks; parameters with the same run of rows together."""
        members_of: dict[tuple[int, int], list[int]] = {}
        for index, (p, rows) in enumerate(zip(self.params, reached, strict=True)):
            if p.grad is not None and rows is not None:
                for run in _runs(rows):
                    members_of.setdefault(run, []).append(index)
        for (low, high), members in members_of.items():
            self._step_rows(group, low, high, members)

    def _step_rows(self, group: dict[str, Any], low: int, high: int, members: list[int]) -> None:
        """AdamW on the rows low+1 … high of those parameters, each row with its own step count."""
        (beta1, beta2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
        params = [self.params[index] for index in members]
        whole = len(members) == len(self.params)  # then the stacks are updated in place, else a copy of these layers
        steps = self.steps[:, low:high] if whole else self.steps[members, low:high]
        moments = [stack.narrow(self.dim + 1, low, high - low) for stack in (self.exp_avg, self.exp_avg_sq)]
        mean, square = moments if whole else (moment[members] for moment in moments)
        rows = [p.detach().narrow(self.dim, low, high - low) for p in params]
        grads = torch.stack([p.grad.narrow(self.dim, low, high - low) for p in params])  # type: ignore[union-attr]

        steps += 1
        count = steps.double()
        rates = torch.tensor(group["row_lr"][low:high] if group["row_lr"] else [1.0], dtype=torch.float64) * lr
        factors = torch.stack([rates / (1 - beta1**count), (1 - beta2**count).sqrt()])  # (2, layers, rows)
        # each (layers, rows, 1) for lora_A, (layers, 1, rows) for lora_B
        step_size, root = factors.to(mean.device, mean.dtype, non_blocking=True).unsqueeze(3 - self.dim)
        mean.lerp_(grads, 1 - beta1)
        square.mul_(beta2).addcmul_(grads, grads, value=1 - beta2)
        change = (square.sqrt() / root).add_(group["eps"])
        torch.div(mean, change, out=change).mul_(step_size)
        if decay:
            shrinkage = (1 - decay * rates).to(mean.device, mean.dtype)  # (rows,), or (1,) for all
            torch._foreach_mul_(rows, [shrinkage.unsqueeze(1 - self.dim)] * len(rows))
        torch._foreach_sub_(rows, list(change))
        if not whole:
            self.steps[members, low:high] = steps
            for moment, new in zip(moments, (mean, square), strict=True):
                moment[members] = new


def _runs(rows: Tensor) -> list[tuple[int, int]]:
    """The runs of marked rows, as (first, after the last).

    >>> _runs(torch.tensor([1.0, 1.0, 0.0, 1.0]))
    [(0, 2), (3, 4)]
    """
    marks = [0.0, *rows.tolist(), 0.0]
    edges = [index for index in range(len(marks) - 1) if marks[index] != marks[index + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))
