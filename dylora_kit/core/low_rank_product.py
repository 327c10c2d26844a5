"""The product of lora_A and lora_B at rank b, added to a layer's output, and its gradients (Eq. 7 and 10).

- `PlainProduct`: with a frozen linear layer underneath, which it computes too; the usual case.
- `LowRankProduct`: added to any h, also with one rank for each input.
- `low_rank_sum`: both, in torch's own operations, for derivatives of derivatives and torch's transforms.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

Gradients = tuple[Tensor | None, ...]


def through_operations() -> bool:
    """Whether torch looks into each operation: its transforms do not go through a function with a state of its own."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0 or torch.jit.is_tracing()


class PlainProduct(torch.autograd.Function):
    """x · weightᵀ + bias + scale · (x · A[:b]ᵀ) · B[:, :b]ᵀ, with gradients for rows and columns low+1 … b only.

    Arguments:
        x: shape (…, d_in): n inputs.
        weight, bias: of a frozen linear layer, (d_out, d_in) and (d_out,) or None; of the type of x, as A and B are.
        A, B: shapes (r, d_in) and (d_out, r).

    It is one function, so that slices, scale and sums need no pass over memory of their own. Which matrix of a product
    is transposed is a matter of speed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        low: int,
        b: int,
        scale: float,
    ) -> Tensor:
        h, z = plain_product(x, weight, bias, A, B, b, scale)
        ctx.save_for_backward(x, weight, A, B, z)
        ctx.low, ctx.b, ctx.scale = low, b, scale
        return _own(h)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        (grad,) = grads
        x, weight, A, B, z = ctx.saved_tensors
        low, b, scale = ctx.low, ctx.b, ctx.scale
        needs_x, _, _, needs_a, needs_b = ctx.needs_input_grad[:5]
        if torch.is_grad_enabled() or through_operations():
            x, A, B = _apart(x, A, B)
            sum_again = low_rank_sum(None, x, weight, None, x.dtype, A, B, low, b, scale, None, None)
            grad_x, grad_a, grad_b = _by_operations(sum_again, (x, A, B), (needs_x, needs_a, needs_b), grad)
            return grad_x, None, None, grad_a, grad_b, None, None, None
        grad_x = grad_a = grad_b = grad_z = None
        with _plain_types(grad):
            g, inputs = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])  # (n, d_out), (n, d_in)
            if needs_a or (needs_x and z is not None):
                grad_z = (B[:, :b].t() * scale).contiguous() @ g.t()  # (b, d_out) · (d_out, n) → (b, n)
            if needs_x and z is None:
                grad_x = (g @ _merged(weight, A, B, b, scale)).view(x.shape)  # (n, d_out) · (d_out, d_in)
            elif needs_x and grad_z is not None:
                # (n, d_out) · (d_out, d_in) + (n, b) · (b, d_in) → (n, d_in)
                grad_x = (g @ weight).addmm_(grad_z.t(), A[:b]).view(x.shape)
            if needs_a and grad_z is not None:
                grad_a = _with_zeros(grad_z[low:] @ inputs, A, 0, low, b)  # (b − low, n) · (n, d_in) → (b − low, d_in)
            if needs_b:
                z = A[low:b] @ inputs.t() if z is None else z[low:]  # (b − low, d_in) · (d_in, n) → (b − low, n)
                grad_b = _with_zeros((z @ g).mul_(scale).t(), B, 1, low, b)  # (b − low, n) · (n, d_out), transposed
        return grad_x, None, None, grad_a, grad_b, None, None, None


def plain_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor, b: int, scale: float
) -> tuple[Tensor, Tensor | None]:
    """What `PlainProduct` computes, and z, transposed: shape (b, n); None where the weights were merged instead.

    To merge takes three passes over W, and saves one over x and two over h. In half precision ΔW would lose bits.
    """
    d_out, d_in = weight.shape
    if x.numel() * (d_in + d_out) > 3 * d_in * d_in * d_out and weight.dtype in (torch.float32, torch.float64):
        return F.linear(x, _merged(weight, A, B, b, scale), bias), None  # (…, d_in) · (d_in, d_out) → (…, d_out)
    h = F.linear(x, weight, bias)  # (…, d_in) · (d_in, d_out) → (…, d_out)
    z = A[:b] @ x.reshape(-1, d_in).t()  # (b, d_in) · (d_in, n) → (b, n)
    h.view(-1, d_out).addmm_(z.t(), B[:, :b].t(), alpha=scale)  # (n, b) · (b, d_out), added in place
    return h, z


class LowRankProduct(torch.autograd.Function):
    """h + scale · (x · A[:b]ᵀ) · B[:, :b]ᵀ, with gradients for rows and columns low+1 … b only (Eq. 7 and 10).

    Arguments:
        h: shape (…, d_out).
        x: shape (…, d_in): n inputs.
        dtype: the type of the products.
        A, B: shapes (r, d_in) and (d_out, r).
        gate: shape (n, b): what each input multiplies z, its b intermediate values, by; None for no change.
        mask: shape (n, b): which entries of the gradient of z reach A and B; None for all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        x: Tensor,
        dtype: torch.dtype,
        A: Tensor,
        B: Tensor,
        low: int,
        b: int,
        scale: float,
        gate: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        out, z = product(h, x, dtype, A, B, b, scale, gate)
        ctx.save_for_backward(x, A, B, z, gate, mask)
        ctx.low, ctx.b, ctx.scale, ctx.dtype = low, b, scale, dtype
        return _own(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        (grad,) = grads
        x, A, B, z, gate, mask = ctx.saved_tensors
        low, b, scale, dtype = ctx.low, ctx.b, ctx.scale, ctx.dtype
        needs_h, needs_x, _, needs_a, needs_b = ctx.needs_input_grad[:5]
        grad_h = grad if needs_h else None
        if torch.is_grad_enabled() or through_operations():
            x, A, B = _apart(x, A, B)
            nothing = torch.zeros_like(grad)
            sum_again = low_rank_sum(nothing, x, None, None, dtype, A, B, low, b, scale, gate, mask)
            grad_x, grad_a, grad_b = _by_operations(sum_again, (x, A, B), (needs_x, needs_a, needs_b), grad)
            return grad_h, grad_x, None, grad_a, grad_b, *[None] * 5
        grad_x = grad_a = grad_b = None
        with _plain_types(grad):
            inputs = _cast(x.reshape(-1, x.shape[-1]), dtype)  # (n, d_in)
            g = _cast(grad.reshape(-1, grad.shape[-1]), dtype)  # (n, d_out)
            grad_z = _cast((B[:, :b].t() * scale).contiguous(), dtype) @ g.t()  # (b, d_out) · (d_out, n) → (b, n)
            grad_z = grad_z if gate is None else grad_z * gate.to(dtype).t()
            if needs_x:
                grad_x = grad_z.t() @ _cast(A[:b], dtype)  # (n, b) · (b, d_in) → (n, d_in)
                grad_x = _cast(grad_x.view(x.shape), x.dtype)
            if needs_a:
                grad_z = grad_z if mask is None else grad_z * mask.t()
                grad_a = _with_zeros(grad_z[low:] @ inputs, A, 0, low, b)  # (b − low, n) · (n, d_in) → (b − low, d_in)
            if needs_b:
                z = z if mask is None else z * mask.t()
                grad_b = _with_zeros((z[low:] @ g).mul_(scale).t(), B, 1, low, b)  # (b − low, n) · (n, d_out)
        return grad_h, grad_x, None, grad_a, grad_b, *[None] * 5


def product(
    h: Tensor, x: Tensor, dtype: torch.dtype, A: Tensor, B: Tensor, b: int, scale: float, gate: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What `LowRankProduct` computes, and z, transposed: shape (b, n)."""
    with _plain_types(x):
        columns = _cast(B[:, :b], dtype).t()  # (b, d_out)
        z = _cast(A[:b], dtype) @ _cast(x.reshape(-1, x.shape[-1]), dtype).t()  # (b, d_in) · (d_in, n) → (b, n)
        if gate is not None:
            z = z * gate.to(dtype).t()
        if h.dtype == dtype:  # h + (n, b) · (b, d_out)
            return torch.addmm(h.reshape(-1, h.shape[-1]), z.t(), columns, alpha=scale).view(h.shape), z
        return h + (z.t() @ columns * scale).view(h.shape).to(h.dtype), z  # the same, h of another type


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
    """What the two functions compute, in torch's own operations, which every derivative and transform goes through.

    Without h, it is x · weightᵀ + bias. Rows that get no gradient are constants here, also in second derivatives.
    """
    with _plain_types(x):
        rows, columns = A[:b], B[:, :b]  # (b, d_in), (d_out, b)
        if low:
            rows = torch.cat([A[:low].detach(), A[low:b]])
            columns = torch.cat([B[:, :low].detach(), B[:, low:b]], dim=1)
        inputs, rows, columns = _cast(x, dtype), _cast(rows, dtype), _cast(columns, dtype)
        z = F.linear(inputs, rows)  # (…, d_in) · (d_in, b) → (…, b)
        if mask is not None:
            mask = mask.view(z.shape)
            z = torch.where(mask, z, F.linear(inputs, rows.detach()))
        if gate is not None:
            z = z * _cast(gate, dtype).view(z.shape)
        if mask is None:
            added = scale * F.linear(z, columns)  # (…, b) · (b, d_out) → (…, d_out)
        else:
            added = scale * (F.linear(z * mask, columns) + F.linear(z * ~mask, columns.detach()))
        base = F.linear(x, weight, bias) if h is None else h  # type: ignore[arg-type]
        return base + _cast(added, base.dtype)


def _by_operations(total: Tensor, inputs: tuple[Tensor, ...], needed: tuple[bool, ...], grad: Tensor) -> Gradients:
    """Gradients for those of the inputs that need one, which can be differentiated again; None for the others."""
    wanted = [tensor for tensor, needs in zip(inputs, needed, strict=True) if needs]
    found = iter(torch.autograd.grad(total, wanted, grad, create_graph=True) if wanted else ())
    return tuple(next(found) if needs else None for needs in needed)


def _apart(*tensors: Tensor) -> list[Tensor]:
    """Aliases of tensors, none of which depends on another, as x does on A in a layer that is called twice."""
    return [tensor.view_as(tensor) for tensor in tensors]


def _own(h: Tensor) -> Tensor:
    """h as no view, so that the next operation may change it in place, as after a plain layer."""
    return torch.ops.aten._unsafe_view(h, h.shape)


def _merged(weight: Tensor, A: Tensor, B: Tensor, b: int, scale: float) -> Tensor:
    """W + scale·B·A at rank b, (d_out, d_in)."""
    return torch.addmm(weight, B[:, :b], A[:b], alpha=scale)  # (d_out, b) · (b, d_in) → (d_out, d_in)


def _with_zeros(part: Tensor, like: Tensor, dim: int, low: int, b: int) -> Tensor:
    """The gradient of a whole matrix from that of its rows or columns low+1 … b: zero elsewhere."""
    if dim:
        return F.pad(_cast(part, like.dtype), (low, like.shape[1] - b))
    return F.pad(_cast(part, like.dtype), (0, 0, low, like.shape[0] - b))


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in a type; cheaper than `to` where it has that type."""
    return x if x.dtype == dtype else x.to(dtype)


def _plain_types(x: Tensor) -> AbstractContextManager[Any]:
    """A block in which autocast changes nothing: the types are chosen before it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
