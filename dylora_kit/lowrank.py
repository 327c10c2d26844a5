"""The low-rank product of Eq. 7 and its gradients (Eq. 10), as one function."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class LowRank(torch.autograd.Function):
    """h + scale · (x · A[:b]ᵀ) · B[:, :b]ᵀ, with gradients for rows and columns low+1 … b only.

    Without `h` it is computed here, as x · weightᵀ + bias with a frozen weight. With `gate` (n, b) each of the n inputs
    weighs the b rows for itself, and `own` (n, b) says which get its gradient. `reached` gets a gradient of ones for
    the rows that the backward pass reached. All in one function, so that slices, scale and sums cost no pass over
    memory of their own, and each thin matrix stands on the fast side of its product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor | None,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        dtype: torch.dtype,
        A: Tensor,
        B: Tensor,
        reached: Tensor,
        low: int,
        b: int,
        scale: float,
        gate: Tensor | None,
        own: Tensor | None,
    ) -> Tensor:
        with _plain_types(x):
            inputs = _cast(x.reshape(-1, x.shape[-1]), dtype)  # (n, d_in)
            columns = _cast(B[:, :b], dtype).T  # (b, d_out)
            z = inputs @ _cast(A[:b], dtype).T  # (n, d_in) · (d_in, b) → (n, b)
            if gate is not None:
                z = z * gate.to(dtype)
            ctx.save_for_backward(inputs, weight, A, B, z, gate, own)
            ctx.low, ctx.b, ctx.scale, ctx.x, ctx.dtype = low, b, scale, (x.shape, x.dtype), dtype
            if h is None:
                h = F.linear(x, weight, bias)  # type: ignore[arg-type]  # (…, d_in) · (d_in, d_out) → (…, d_out)
                h.view(-1, h.shape[-1]).addmm_(z, columns, alpha=scale)  # (n, b) · (b, d_out), added in place
                return h
            if h.dtype == dtype:
                return torch.addmm(h.reshape(-1, h.shape[-1]), z, columns, alpha=scale).view(h.shape)
            return h + (z @ columns * scale).view(h.shape).to(h.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        inputs, weight, A, B, z, gate, own = ctx.saved_tensors
        low, b, (shape, x_dtype) = ctx.low, ctx.b, ctx.x
        needs_h, needs_x, _, _, _, needs_a, needs_b, needs_reached = ctx.needs_input_grad[:8]
        grad_x = grad_a = grad_b = grad_reached = None
        with _plain_types(grad):
            g = _cast(grad.reshape(-1, grad.shape[-1]), ctx.dtype)  # (n, d_out)
            if needs_x or needs_a:
                gz = (_cast(B[:, :b].T.contiguous(), ctx.dtype) @ g.T).mul_(
                    ctx.scale
                )  # (b, d_out) · (d_out, n) → (b, n)
                gz = gz if gate is None else gz * gate.to(ctx.dtype).T
            if needs_x:
                rows = _cast(A[:b], ctx.dtype)  # (n, b) · (b, d_in) → (n, d_in), beside (n, d_out) · (d_out, d_in)
                grad_x = gz.T @ rows if weight is None else (g @ weight).addmm_(gz.T, rows)
                grad_x = _cast(grad_x.view(shape), x_dtype)
            if needs_a:
                gz = gz if own is None else gz * own.T
                new = (gz[low:] if low else gz) @ inputs  # (b − low, n) · (n, d_in) → (b − low, d_in)
                grad_a = F.pad(_cast(new, A.dtype), (0, 0, low, A.shape[0] - b))
            if needs_b:
                z = z if own is None else z * own
                new = ((z[:, low:] if low else z).T @ g).mul_(ctx.scale).T  # (b − low, n) · (n, d_out), transposed
                grad_b = F.pad(_cast(new, B.dtype), (low, B.shape[1] - b))
            if needs_reached:
                grad_reached = torch.zeros(A.shape[0], dtype=torch.float32, device="cpu")
                grad_reached[low:b] = 1.0 if own is None else own.any(0).to(grad_reached)
        return grad if needs_h else None, grad_x, None, None, None, grad_a, grad_b, grad_reached, *[None] * 5


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in a type; cheaper than `to` where it has that type."""
    return x if x.dtype == dtype else x.to(dtype)


def _plain_types(x: Tensor) -> AbstractContextManager[Any]:
    """A block in which autocast changes nothing: the types are chosen before it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
