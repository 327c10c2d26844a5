"""Exercises of lesson 03: DyLoRA."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dylora_kit.lessons.exercise import NO_GRADIENT, Exercise, is_same, random
from dylora_kit.lessons.sandbox import three_steps, what_went_wrong


def _ranked_layers() -> list[tuple[Any, ...]]:
    """x (4, 6), W (5, 6), A (4, 6), B (5, 4), b, alpha, which b does not always divide."""
    return [
        (random(4, 6, seed=b), random(5, 6, seed=b + 10), random(4, 6, seed=b + 20), random(5, 4, seed=b + 30), b, 7)
        for b in (1, 2, 3)
    ]  # fmt: skip


def _with_gradients(function: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    """What a forward pass returns; `NO_GRADIENT` if that is right, and no gradient comes through to both A and B."""
    x, W, A, B, b, alpha = case
    A, B = A.requires_grad_(), B.requires_grad_()
    right = dylora(x, W, A, B, b, alpha)
    out = function(x.clone(), W.clone(), A.clone(), B.clone(), b, alpha)  # copies, which may be changed in place
    if not is_same(out, right):
        return out
    reached = isinstance(out, Tensor) and out.requires_grad
    found = torch.autograd.grad(out.sum(), (A, B), allow_unused=True) if reached else (None, None)
    return NO_GRADIENT if any(gradient is None for gradient in found) else out


def _gradient_stops(outcomes: list[Any]) -> str | None:
    return NO_GRADIENT if NO_GRADIENT in [outcome for outcome in outcomes if isinstance(outcome, str)] else None


def dylora(x: Tensor, W: Tensor, A: Tensor, B: Tensor, b: int, alpha: float) -> Tensor:
    """Eq. 7, shapes (n, d_in), (d_out, d_in), (r, d_in), (d_out, r) → (n, d_out)."""
    return x @ W.T + alpha / b * (x @ A[:b].T) @ B[:, :b].T


FORWARD = Exercise(
    cases=_ranked_layers,
    solution=dylora,
    mistakes={
        "your scale is α/r, and at rank b it is α/b (Eq. 7)": lambda x, W, A, B, b, alpha: dylora(
            x, W, A, B, b, alpha * b / len(A)
        ),
        "you divide α by 8, whatever r and b are: at rank b the scale is α/b": lambda x, W, A, B, b, alpha: dylora(
            x, W, A, B, b, alpha * b / 8
        ),
        "you round α/b to a whole number: // drops the rest, / keeps it": lambda x, W, A, B, b, alpha: dylora(
            x, W, A, B, b, alpha // b * b
        ),
        "the scale is missing: multiply the adapter's part by α/b": lambda x, W, A, B, b, alpha: dylora(
            x, W, A, B, b, b
        ),
        "the scale is α, and Eq. 7 has α/b": lambda x, W, A, B, b, alpha: dylora(x, W, A, B, b, alpha * b),
        "you use one row too few: ranks count from 1, so b = 1 uses one row": lambda x, W, A, B, b, alpha: (
            x @ W.T + alpha / b * (x @ A[: b - 1].T) @ B[:, : b - 1].T
        ),
        "you use one row too many: a Python slice [:b] already stops before index b": lambda x, W, A, B, b, alpha: (
            x @ W.T + alpha / b * (x @ A[: b + 1].T) @ B[:, : b + 1].T
        ),
        "you use all rows: cut A to A[:b] and B to B[:, :b]": lambda x, W, A, B, b, alpha: (
            x @ W.T + alpha / b * (x @ A.T) @ B.T
        ),
        "you use the last b rows: the prefix is the first b": lambda x, W, A, B, b, alpha: (
            x @ W.T + alpha / b * (x @ A[-b:].T) @ B[:, -b:].T
        ),
        "you slice the wrong axis of B: B has the shape (d_out, r), so its rank is the second axis, B[:, :b]": (
            lambda x, W, A, B, b, alpha: x @ W.T + alpha / b * (x @ A[:b].T) @ B[:b].T
        ),
        "this is the LoRA of lesson 02, at full rank: cut to A[:b] and B[:, :b], with the scale α/b": (
            lambda x, W, A, B, b, alpha: dylora(x, W, A, B, len(A), alpha)
        ),
        "the scale multiplies W x as well: it belongs to the adapter's part alone": lambda x, W, A, B, b, alpha: (
            alpha / b * (x @ W.T + (x @ A[:b].T) @ B[:, :b].T)
        ),
        "you leave row 1 out: ranks count from 1, and a Python slice from 0": lambda x, W, A, B, b, alpha: (
            x @ W.T + alpha / b * (x @ A[1:b].T) @ B[:, 1:b].T
        ),
        "you use row b alone: rank b uses every row up to b": lambda x, W, A, B, b, alpha: (
            x @ W.T + alpha / b * (x @ A[b - 1 : b].T) @ B[:, b - 1 : b].T
        ),
        "W x is missing: the adapter's part is added to what the frozen layer computes": lambda x, W, A, B, b, alpha: (
            dylora(x, 0 * W, A, B, b, alpha)
        ),
    },
    shapes="the shapes do not fit: cut both A[:b] and B[:, :b], leave W whole, and transpose all three for rows x",
    watch=_with_gradients,
    diagnose=_gradient_stops,
    trained_through=True,
)


def training_step(adapters: Any, sampler: Any, optimizer: Any, loss: Any, x: Tensor) -> None:
    """Algorithm 1, one step: draw b, run at b, backpropagate, update, clear."""
    b = sampler.draw()
    adapters.rank = b
    loss(x).backward()
    optimizer.step()
    optimizer.zero_grad()


def _at_r(adapters: Any, sampler: Any, optimizer: Any, loss: Any, x: Tensor) -> None:
    sampler.draw()
    loss(x).backward()
    optimizer.step()
    optimizer.zero_grad()


def _too_late(adapters: Any, sampler: Any, optimizer: Any, loss: Any, x: Tensor) -> None:
    value = loss(x)
    b = sampler.draw()
    adapters.rank = b
    value.backward()
    optimizer.step()
    optimizer.zero_grad()


def _never_cleared(adapters: Any, sampler: Any, optimizer: Any, loss: Any, x: Tensor) -> None:
    b = sampler.draw()
    adapters.rank = b
    loss(x).backward()
    optimizer.step()


def _twice(adapters: Any, sampler: Any, optimizer: Any, loss: Any, x: Tensor) -> None:
    sampler.draw()
    training_step(adapters, sampler, optimizer, loss, x)


def _one_less(adapters: Any, sampler: Any, optimizer: Any, loss: Any, x: Tensor) -> None:
    b = sampler.draw()
    adapters.rank = max(b - 1, 1)
    loss(x).backward()
    optimizer.step()
    optimizer.zero_grad()


def _no_draw(adapters: Any, sampler: Any, optimizer: Any, loss: Any, x: Tensor) -> None:
    adapters.rank = adapters.r
    loss(x).backward()
    optimizer.step()
    optimizer.zero_grad()


STEP = Exercise(
    cases=lambda: [()],
    solution=training_step,
    mistakes={
        "nothing is drawn: ask the sampler for b before the forward pass": _no_draw,
        "you draw b but the model does not know: set adapters.rank = b before the forward pass": _at_r,
        "the rank is set after the loss was computed: set it before the forward pass": _too_late,
        "the gradients of earlier steps stay: clear them with optimizer.zero_grad()": _never_cleared,
        "you draw twice: one b for each optimizer step, and every layer uses it": _twice,
        "b is off by one: the sampler and adapters.rank both count from 1": _one_less,
    },
    shapes="the shapes do not fit: call loss(x) with the batch as it is",
    watch=three_steps,
    nothing="after three calls nothing has happened",
    diagnose=what_went_wrong,
)


def _updates() -> list[tuple[Any, ...]]:
    """A (4, 6), B (5, 4), their gradients at rank b, b, lr, decay. In the last case gradients of other steps remain."""
    cases: list[tuple[Any, ...]] = []
    for b, lr in ((1, 0.1), (2, 0.2), (3, 0.1), (2, 0.1)):
        grad_A, grad_B = random(4, 6, seed=b + 20), random(5, 4, seed=b + 30)
        if len(cases) < 3:
            grad_A[b:], grad_B[:, b:] = 0, 0
        grad_A[b - 1], grad_B[0, 0] = 0, 0  # a row that is used can have a gradient of zero, and decays all the same
        cases.append((random(4, 6, seed=b), random(5, 4, seed=b + 10), grad_A, grad_B, b, lr, 0.5))
    return cases


def _moved(W: Tensor, grad: Tensor, lr: float, decay: float) -> Tensor:
    """One step of gradient descent with weight decay."""
    return W - lr * (grad + decay * W)


def update(
    A: Tensor, B: Tensor, grad_A: Tensor, grad_B: Tensor, b: int, lr: float, decay: float
) -> tuple[Tensor, Tensor]:
    """Gradient descent with weight decay on the first b rows of A and columns of B; the others keep their bits."""
    return _update_of(lambda b: slice(b), lambda b: slice(b))(A, B, grad_A, grad_B, b, lr, decay)


def _update_of(rows: Callable[[int], slice], columns: Callable[[int], slice]) -> Callable[..., tuple[Tensor, Tensor]]:
    """An update of the rows of A and the columns of B that `rows` and `columns` name for each b."""

    def moved(
        A: Tensor, B: Tensor, grad_A: Tensor, grad_B: Tensor, b: int, lr: float, decay: float
    ) -> tuple[Tensor, Tensor]:
        A, B, of_A, of_B = A.clone(), B.clone(), rows(b), columns(b)
        A[of_A] = _moved(A[of_A], grad_A[of_A], lr, decay)
        B[:, of_B] = _moved(B[:, of_B], grad_B[:, of_B], lr, decay)
        return A, B

    return moved


def _wrong_axis(
    A: Tensor, B: Tensor, grad_A: Tensor, grad_B: Tensor, b: int, lr: float, decay: float
) -> tuple[Tensor, Tensor]:
    A, _ = update(A, B, grad_A, grad_B, b, lr, decay)
    B = B.clone()
    B[:b] = _moved(B[:b], grad_B[:b], lr, decay)
    return A, B


UPDATE = Exercise(
    cases=_updates,
    solution=update,
    mistakes={
        "you update all rows: the decay shrinks rows that this step did not use, so leave those beyond b alone": (
            _update_of(lambda b: slice(None), lambda b: slice(None))
        ),
        "you update row b alone, which is the frozen variant (Eq. 10): here rows 1 to b move": _update_of(
            lambda b: slice(b - 1, b), lambda b: slice(b - 1, b)
        ),
        "you update one row too few: ranks count from 1, so b = 1 updates one row": _update_of(
            lambda b: slice(b - 1), lambda b: slice(b - 1)
        ),
        "you update one row too many: a Python slice [:b] already stops before index b": _update_of(
            lambda b: slice(b + 1), lambda b: slice(b + 1)
        ),
        "you slice the wrong axis of B: B has the shape (d_out, r), so its rank is the second axis, B[:, :b]": (
            _wrong_axis
        ),
        "you ask the gradient which rows to move: a row that was used can have a gradient of zero, so ask b": (
            lambda A, B, gA, gB, b, lr, decay: (
                torch.where(gA.ne(0).any(1, keepdim=True), _moved(A, gA, lr, decay), A),
                torch.where(gB.ne(0).any(0, keepdim=True), _moved(B, gB, lr, decay), B),
            )
        ),
        "you ask each number's gradient whether to decay it: within rows 1 to b all numbers decay": (
            lambda A, B, gA, gB, b, lr, decay: (
                A - lr * (gA + decay * A * gA.ne(0)),
                B - lr * (gB + decay * B * gB.ne(0)),
            )
        ),
        "you count on gradients that are zero beyond row b: ask b for the whole change, not only for the decay": (
            lambda A, B, gA, gB, b, lr, decay: (
                A - lr * (gA + decay * A * (torch.arange(len(A)) < b)[:, None]),
                B - lr * (gB + decay * B * (torch.arange(len(A)) < b)),
            )
        ),
        "the decay has the wrong sign: subtract lr · (gradient + decay · weight)": lambda A, B, gA, gB, b, lr, decay: (
            update(A, B, gA, gB, b, lr, -decay)
        ),
        "A and B are swapped: return the new A first": lambda *args: update(*args)[::-1],
        "B is not returned: return both, A and B": lambda *args: update(*args)[0],
        "B is right, A is updated in all its rows": _update_of(lambda b: slice(None), lambda b: slice(b)),
        "A is right, B is updated in all its columns": _update_of(lambda b: slice(b), lambda b: slice(None)),
        "B is missing: update its first b columns as well": _update_of(lambda b: slice(b), lambda b: slice(0)),
        "the decay is missing: subtract lr · (gradient + decay · weight)": lambda A, B, gA, gB, b, lr, decay: update(
            A, B, gA, gB, b, lr, 0.0
        ),
        "the decay is missing, and rows beyond b may not move: subtract lr · (gradient + decay · weight)": (
            lambda A, B, gA, gB, b, lr, decay: (A - lr * gA, B - lr * gB)
        ),
        "A is missing: update its first b rows as well": _update_of(lambda b: slice(0), lambda b: slice(b)),
        "lr multiplies the decay as well: subtract lr · (gradient + decay · weight)": lambda A, B, gA, gB, b, lr, wd: (
            update(A, B, gA, gB, b, lr, wd / lr)
        ),
        "lr is missing: subtract lr · (gradient + decay · weight)": lambda A, B, gA, gB, b, lr, wd: update(
            A, B, gA, gB, b, 1.0, wd
        ),
        "you move the rows beyond b, and leave the first b": _update_of(
            lambda b: slice(b, None), lambda b: slice(b, None)
        ),
        "the sign is wrong: go against the gradient": lambda A, B, gA, gB, b, lr, decay: update(
            A, B, gA, gB, b, -lr, decay
        ),
    },
    shapes="the shapes do not fit: A[:b] takes rows of A, B[:, :b] takes columns of B",
)
