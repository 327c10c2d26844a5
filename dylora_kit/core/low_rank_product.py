"""The product of lora_A and lora_B at rank b, added to a layer's output, and its gradients (Eq. 7 and 10)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class LowRankProduct(torch.autograd.Function):
    """h + scale · (x · A[:b]ᵀ) · B[:, :b]ᵀ, with gradients for rows and columns low+1 … b only (Eq. 7 and 10).

    Arguments:
        h: shape (…, d_out). Without it, it is computed here as x · weightᵀ + bias, with a frozen weight.
        x: shape (…, d_in): n inputs.
        dtype: the type of the products.
        A, B: shapes (r, d_in) and (d_out, r).
        gate: shape (n, b): what each input multiplies z, its b intermediate values, by; None for no change.
        mask: shape (n, b): which entries of the gradient of z reach A and B; None for all.

    It is one function, so that slices, scale and sums need no pass over memory of their own. Which matrix of a product
    is transposed is a matter of speed. Its derivative can be differentiated again.
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
            ctx.save_for_backward(x, weight, A, B, z, gate, mask)
            ctx.low, ctx.b, ctx.scale, ctx.dtype = low, b, scale, dtype
            if h is None:
                h = F.linear(x, weight, bias)  # type: ignore[arg-type]  # (…, d_in) · (d_in, d_out) → (…, d_out)
                h.view(-1, h.shape[-1]).addmm_(z, columns, alpha=scale)  # (n, b) · (b, d_out), added in place
                return h
            if h.dtype == dtype:  # h + (n, b) · (b, d_out)
                return torch.addmm(h.reshape(-1, h.shape[-1]), z, columns, alpha=scale).view(h.shape)
            return h + (z @ columns * scale).view(h.shape).to(h.dtype)  # the same, h of another type

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight, A, B, z, gate, mask = ctx.saved_tensors
        low, b = ctx.low, ctx.b
        needs_h, needs_x, _, _, _, needs_a, needs_b = ctx.needs_input_grad[:7]
        grad_x = grad_a = grad_b = None
        with _plain_types(grad):
            inputs = _cast(x.reshape(-1, x.shape[-1]), ctx.dtype)  # (n, d_in)
            if torch.is_grad_enabled():  # for a second derivative, z is no constant
                z = inputs @ _cast(A[:b], ctx.dtype).T  # (n, d_in) · (d_in, b) → (n, b)
                z = z if gate is None else z * gate.to(ctx.dtype)
            g = _cast(grad.reshape(-1, grad.shape[-1]), ctx.dtype)  # (n, d_out)
            if needs_x or needs_a:  # the gradient of z, transposed
                columns = _cast(B[:, :b].T.contiguous(), ctx.dtype)  # (b, d_out)
                grad_z = (columns @ g.T).mul_(ctx.scale)  # (b, d_out) · (d_out, n) → (b, n)
                grad_z = grad_z if gate is None else grad_z * gate.to(ctx.dtype).T
            if needs_x:
                rows = _cast(A[:b], ctx.dtype)  # (b, d_in)
                # (n, b) · (b, d_in) → (n, d_in), where h was computed here added to (n, d_out) · (d_out, d_in)
                grad_x = grad_z.T @ rows if weight is None else (g @ weight).addmm_(grad_z.T, rows)
                grad_x = _cast(grad_x.view(x.shape), x.dtype)
            if needs_a:
                grad_z = grad_z if mask is None else grad_z * mask.T
                grad_rows = (grad_z[low:] if low else grad_z) @ inputs  # (b − low, n) · (n, d_in) → (b − low, d_in)
                grad_a = F.pad(_cast(grad_rows, A.dtype), (0, 0, low, A.shape[0] - b))
            if needs_b:
                z = z if mask is None else z * mask
                grad_columns = ((z[:, low:] if low else z).T @ g).mul_(ctx.scale)  # (b − low, n) · (n, d_out)
                grad_b = F.pad(_cast(grad_columns.T, B.dtype), (low, B.shape[1] - b))
        return grad if needs_h else None, grad_x, None, None, None, grad_a, grad_b, *[None] * 5


def low_rank_sum(
    h: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    dtype: torch.dtype,
    A: Tensor,
    B: Tensor,
    low: int,
    b: int,
    scale: float,
    gate: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """What `LowRankProduct` computes, in torch's own operations, so that every transform of `torch.func` works.

    Raises `NotImplementedError` for one rank per example, since a transform may have taken the batch away.
    """
    if gate is not None:
        raise NotImplementedError(
            "one rank for each example does not go through torch.func: set one rank, as in adapters.rank = 3"
        )
    with _plain_types(x):
        rows = torch.cat([A[:low].detach(), A[low:b]])  # (b, d_in)
        columns = torch.cat([B[:, :low].detach(), B[:, low:b]], dim=1)  # (d_out, b)
        z = F.linear(_cast(x, dtype), _cast(rows, dtype))  # (…, d_in) · (d_in, b) → (…, b)
        added = scale * F.linear(z, _cast(columns, dtype))  # (…, b) · (b, d_out) → (…, d_out)
        base = F.linear(x, weight, bias) if h is None else h  # type: ignore[arg-type]
        return base + _cast(added, base.dtype)


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in a type; cheaper than `to` where it has that type."""
    return x if x.dtype == dtype else x.to(dtype)


def _plain_types(x: Tensor) -> AbstractContextManager[Any]:
    """A block in which autocast changes nothing: the types are chosen before it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
