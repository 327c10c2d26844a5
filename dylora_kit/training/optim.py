"""AdamW that updates the rows and columns Algorithm 1 selects, and leaves every other one exactly as it is."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from dylora_kit.core.base_weights import check_unsharded
from dylora_kit.core.growing import padded
from dylora_kit.core.handle import Adapters
from dylora_kit.core.low_rank import LowRankAdapter
from dylora_kit.training.row_update import Rows


class NestedAdamW(Optimizer):
    """AdamW for adapters that are trained at a changing rank.

    With `update="exact"` a step updates the rows of `lora_A` and the columns of `lora_B` that the gradients reach: 1 …
    b, or only b when the adapters are `frozen` (Eq. 10). Every other row keeps its weight, moments and step count bit
    for bit. Bias correction counts a row's own steps. A row is reached if its row of `lora_A.grad` or its column of
    `lora_B.grad` holds a nonzero, so it does not matter how gradients were cleared, accumulated or averaged. A row that
    ran, but whose gradients are all exactly zero (a loss that does not depend on it), counts as not reached.

    With `update="authors"` it is plain AdamW, as in the paper's code: rows that were not reached have zero gradients,
    and momentum and weight decay still move them.

    Everything else that requires a gradient (a classifier head, layer norms) gets ordinary AdamW.

    Arguments:
        adapters: the handle from `attach` or `load`.
        lr: learning rate.
        betas, eps, weight_decay: as in `torch.optim.AdamW`.
        head_lr: learning rate of everything else; `None` means `lr`.
        update: `"exact"` or `"authors"`.
        row_lr: for the exact update, a factor of `lr` for each row, first to last. Rows that are drawn seldom move
            seldom; `sampler.distribution.update_frequencies(r)` says how often, and 1/√frequency evens it out.

    Two parameter groups: the adapters, and, if there is any, everything else. Learning-rate schedulers and
    `state_dict` work as usual; a row's step count is kept under `"step"`, shape (r,).

    >>> from torch import nn
    >>> from dylora_kit.core.adapters import attach
    >>> model = nn.Sequential(nn.Linear(6, 5))
    >>> adapters = attach(model, r=3, target_modules=["0"])
    >>> optimizer = NestedAdamW(adapters, lr=0.01)
    >>> adapters.rank = 1
    >>> model(torch.randn(2, 6)).sum().backward()
    >>> optimizer.step()
    >>> adapters.layers["0"].lora_B.ne(0).any(0)  # only the first column moved
    tensor([ True, False, False])
    """

    def __init__(
        self,
        adapters: Adapters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        head_lr: float | None = None,
        update: str = "exact",
        row_lr: Sequence[float] | None = None,
    ) -> None:
        if update not in ("exact", "authors"):
            raise ValueError(f"unknown update {update!r}: expected 'exact' or 'authors'")
        row_lr = None if row_lr is None else _checked_row_lr(row_lr, update, adapters.r)
        _check_numbers({"lr": lr, "head_lr": head_lr or 0.0, "eps": eps, "weight_decay": weight_decay}, betas)
        adapters.check_usable()
        check_unsharded((name, p) for name, p in adapters.model.named_parameters() if p.requires_grad)
        layers = list(adapters.layers.values())
        rows_along = {
            p: dim for layer in layers for dim, p in enumerate((layer.lora_A, layer.lora_B)) if p.requires_grad
        }
        nested = list(rows_along)
        others = [p for p in adapters.model.parameters() if p.requires_grad and p not in rows_along]
        if not nested:
            raise ValueError(
                "no adapter parameter requires a gradient, so there is nothing to train: set requires_grad, or load "
                "PEFT's adapter with is_trainable=True"
            )
        groups: list[dict[str, Any]] = [{"params": nested, "nested": True, "row_lr": row_lr}]
        if others:
            groups.append({"params": others, "nested": False, "lr": lr if head_lr is None else head_lr})
        elif head_lr is not None:
            raise ValueError("head_lr is given, but nothing beside the adapters is trained: see modules_to_save")
        self.update = update
        self._adapters, self._orderings = adapters, adapters.orderings
        self._rows_along = rows_along  # the dimension along which a parameter's rows or columns are counted
        self._rows: list[Rows] | None = None
        super().__init__(
            groups,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "nested": False, "row_lr": None},
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds other parameters. `ValueError` for more that are trained row by row: one group has all the adapters."""
        if param_group.get("nested") and self.param_groups:
            raise ValueError(
                "the adapters are one group, updated row by row, in which row_lr can tell rows apart: add other "
                "parameters without 'nested'"
            )
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("this optimizer is bound to its adapters: copy or save its state_dict() instead")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients at hand."""
        self._adapters.check_usable()
        self._adapters.check_unmerged("training")
        self._check_own()
        self._grow_state()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["nested"] and self.update == "exact":
                for rows in self._ready_rows(group):
                    rows.step(group)
            else:
                self._plain_step(group)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """As of any optimizer; after `adapters.grow` with the new rows."""
        self._grow_state()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a saved state.

        Raises `ValueError`, and changes nothing, for the state of another kind of optimizer or update, or other ranks.
        """
        if any("nested" not in group for group in state_dict["param_groups"]):
            raise ValueError("the saved state is that of another kind of optimizer: expected one of NestedAdamW")
        every = [p for group in self.param_groups for p in group["params"]]
        nested = [p for group in self.param_groups for p in group["params"] if group["nested"]]
        for index, state in state_dict["state"].items():
            if not {"step", "exp_avg", "exp_avg_sq"} <= state.keys():
                raise ValueError("the saved state is that of another kind of optimizer: expected one of NestedAdamW")
            by_row = self.update == "exact" and index < len(nested)
            shape = tuple(torch.as_tensor(state["step"]).shape)
            expected = (nested[index].shape[self._rows_along[nested[index]]],) if by_row else ()
            if by_row and shape != expected:
                raise ValueError(
                    f"the saved state counts steps in shape {shape}, expected {expected}: it comes from "
                    "update='authors' or from another rank"
                )
            if self.update == "authors" and shape != ():
                raise ValueError("the saved state counts steps per row: it comes from update='exact'")
            if index < len(every) and any(state[key].shape != every[index].shape for key in ("exp_avg", "exp_avg_sq")):
                raise ValueError(
                    f"the saved state has moments of shape {tuple(state['exp_avg'].shape)} for parameter {index}, "
                    f"expected {tuple(every[index].shape)}: it comes from other adapters"
                )
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.setdefault("row_lr", None)
        self._rows = None

    def _check_own(self) -> None:
        """Raises `RuntimeError` if the adapters have other matrices by now, which no step would move, or other rows."""
        if self.state and self._orderings != self._adapters.orderings:
            raise RuntimeError(
                "the adapters' rows were rotated by order() since this optimizer began, and its moments are those of "
                "the rows before: make the optimizer anew"
            )
        self._orderings = self._adapters.orderings
        for layer in self._adapters.layers.values():
            own = layer._parameters  # a module's own lookup is slow
            for p in (own["lora_A"], own["lora_B"]):
                if p is not None and p not in self._rows_along and p.requires_grad:
                    raise RuntimeError(
                        f"the adapter of {layer.name!r} has other matrices than when this optimizer was made (as after "
                        "fully_shard, load_state_dict(assign=True), or when more is trained): make the optimizer anew"
                    )

    def _grow_state(self) -> None:
        """Gives new rows, which `adapters.grow` made, moments and step counts: zero."""
        for p, dim in self._rows_along.items():
            state, r = self.state.get(p), p.shape[dim]
            if state and state["exp_avg"].shape != p.shape:
                grown = {key: padded(state[key], r, dim) for key in ("exp_avg", "exp_avg_sq")}
                self.state[p] |= grown | ({"step": padded(state["step"], r)} if state["step"].dim() else {})
                self._rows = None

    def _ready_rows(self, group: dict[str, Any]) -> list[Rows]:
        """The adapters by maximum rank, device and type."""
        if self._rows is not None and all(rows.fits(self.state) for rows in self._rows):
            return self._rows
        trained = set(group["params"])
        kinds: dict[Any, list[LowRankAdapter]] = {}
        for layer in self._adapters.layers.values():
            own = [p for p in (layer.lora_A, layer.lora_B) if p in trained]
            if len({(p.device, p.dtype) for p in own}) > 1:
                raise ValueError(f"lora_A and lora_B of {layer.name!r} differ in device or type: give both the same")
            if own:
                kinds.setdefault((layer.r, own[0].device, own[0].dtype), []).append(layer)
        if group["row_lr"]:
            _checked_row_lr(group["row_lr"], self.update, self._adapters.r)
        self._rows = [Rows(layers, trained, self.state) for layers in kinds.values()]
        return self._rows

    def _plain_step(self, group: dict[str, Any]) -> None:
        """AdamW on whole parameters, as torch's own does it."""
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.zeros((), dtype=torch.float32, device="cpu"),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        states = [self.state[p] for p in params]
        adamw(
            params,
            [p.grad for p in params if p.grad is not None],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _checked_row_lr(row_lr: Sequence[float], update: str, r: int) -> list[float]:
    """The factors as floats; `ValueError` if they are not r finite ones, at least 0, or the update is not exact."""
    factors = [float(factor) for factor in row_lr]
    if update != "exact":
        raise ValueError("row_lr needs update='exact': plain AdamW has one learning rate for all rows")
    if len(factors) != r or not all(0 <= factor < math.inf for factor in factors):
        raise ValueError(f"row_lr must be {r} finite factors, at least 0, one per row: got {factors}")
    return factors


def _check_numbers(at_least_zero: dict[str, float], betas: Sequence[float]) -> None:
    """Raises `ValueError` for a number that is negative or not finite, and for betas that are not two from 0 to 1."""
    for name, value in at_least_zero.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and at least 0: got {value!r}")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas must be at least 0 and less than 1: got {betas!r}")
    if len(betas) != 2:
        raise ValueError(f"betas must be two numbers: got {betas!r}")
