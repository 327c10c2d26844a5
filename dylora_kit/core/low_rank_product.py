"""The product of lora_A and lora_B at rank b, added to a layer's output, and its gradients (Eq. 7 and 10)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class LowRankProduct(torch.autograd.Function):
    """h + scale · (x · A[:b]ᵀ) · B[:, :b]ᵀ, with gradients for rows and columns low+1 … b only (Eq. 7 and 10).

    Arguments:
        h: shape (…, d_out). Without it, it is computed here as x · weightᵀ + bias, with a frozen weight.
        x: shape (…, d_in): n inputs.
        dtype: the type of the products.
        A, B: shapes (r, d_in) and (d_out, r).
        reached: shape (r,); its gradient is one at the rows that the backward pass reached, else zero.
        gate: shape (n, b): what each input multiplies z, its b intermediate values, by; None for no change.
        mask: shape (n, b): which entries of the gradient of z reach A and B; None for all.

    It is one function, so that slices, scale and sums need no pass over memory of their own. Which matrix of a product
    is transposed is a matter of speed.
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
        mask: Tensor | None,
    ) -> Tensor:
        with _plain_types(x):
            inputs = _cast(x.reshape(-1, x.shape[-1]), dtype)  # (n, d_in)
            columns = _cast(B[:, :b], dtype).T  # (b, d_out)
            z = inputs @ _cast(A[:b], dtype).T  # (n, d_in) · (d_in, b) → (n, b)
            if gate is not None:
                z = z * gate.to(dtype)
            ctx.save_for_backward(inputs, weight, A, B, z, gate, mask)
            ctx.low, ctx.b, ctx.scale, ctx.x, ctx.dtype = low, b, scale, (x.shape, x.dtype), dtype
            if h is None:
                h = F.linear(x, weight, bias)  # type: ignore[arg-type]  # (…, d_in) · (d_in, d_out) → (…, d_out)
                h.view(-1, h.shape[-1]).addmm_(z, columns, alpha=scale)  # (n, b) · (b, d_out), added in place
                return h
            if h.dtype == dtype:  # h + (n, b) · (b, d_out)
                return torch.addmm(h.reshape(-1, h.shape[-1]), z, columns, alpha=scale).view(h.shape)
            return h + (z @ columns * scale).view(h.shape).to(h.dtype)  # the same, h of another type

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        inputs, weight, A, B, z, gate, mask = ctx.saved_tensors
        low, b, (shape, x_dtype) = ctx.low, ctx.b, ctx.x
        needs_h, needs_x, _, _, _, needs_a, needs_b, needs_reached = ctx.needs_input_grad[:8]
        grad_x = grad_a = grad_b = grad_reached = None
        with _plain_types(grad):
            g = _cast(grad.reshape(-1, grad.shape[-1]), ctx.dtype)  # (n, d_out)
            if needs_x or needs_a:  # the gradient of z, transposed
                columns = _cast(B[:, :b].T.contiguous(), ctx.dtype)  # (b, d_out)
                grad_z = (columns @ g.T).mul_(ctx.scale)  # (b, d_out) · (d_out, n) → (b, n)
                grad_z = grad_z if gate is None else grad_z * gate.to(ctx.dtype).T
            if needs_x:
                rows = _cast(A[:b], ctx.dtype)  # (b, d_in)
                # (n, b) · (b, d_in) → (n, d_in), where h was computed here added to (n, d_out) · (d_out, d_in)
                grad_x = grad_z.T @ rows if weight is None else (g @ weight).addmm_(grad_z.T, rows)
                grad_x = _cast(grad_x.view(shape), x_dtype)
            if needs_a:
                grad_z = grad_z if mask is None else grad_z * mask.T
                grad_rows = (grad_z[low:] if low else grad_z) @ inputs  # (b − low, n) · (n, d_in) → (b − low, d_in)
                grad_a = F.pad(_cast(grad_rows, A.dtype), (0, 0, low, A.shape[0] - b))
            if needs_b:
                z = z if mask is None else z * mask
                grad_columns = ((z[:, low:] if low else z).T @ g).mul_(ctx.scale)  # (b − low, n) · (n, d_out)
                grad_b = F.pad(_cast(grad_columns.T, B.dtype), (low, B.shape[1] - b))
            if needs_reached:
                grad_reached = torch.zeros(A.shape[0], dtype=torch.float32, device="cpu")
                grad_reached[low:b] = 1.0 if mask is None else mask.any(0).to(grad_reached)
        return grad if needs_h else None, grad_x, None, None, None, grad_a, grad_b, grad_reached, *[None] * 5


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in a type; cheaper than `to` where it has that type."""
    return x if x.dtype == dtype else x.to(dtype)


def _plain_types(x: Tensor) -> AbstractContextManager[Any]:
    """A block in which autocast changes nothing: the types are chosen before it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
