"""The product of lora_A and lora_B at rank b, added to a layer's output, and its gradients (Eq. 7 and 10).

- `PlainProduct`: with a frozen linear layer underneath, which it computes too; the usual case.
- `LowRankProduct`: added to any h, also with one rank for each input.
- `low_rank_sum`: both, in torch's own operations, for derivatives of derivatives and torch's transforms.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

Gradients = tuple[Tensor | None, ...]
_unsafe_view = torch.ops.aten._unsafe_view.default


def through_operations() -> bool:
    """Whether torch looks into each operation: its transforms do not go through a function with a state of its own."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0 or torch.jit.is_tracing()


class PlainProduct(torch.autograd.Function):
    """x · weightᵀ + bias + scale · (x · A[:b]ᵀ) · B[:, :b]ᵀ, with gradients for the first b rows and columns.

    Arguments:
        x: shape (…, d_in): n inputs.
        weight, bias: of a frozen linear layer, (d_out, d_in) and (d_out,) or None; of the type of x, as A and B are.
        A, B: shapes (r, d_in) and (d_out, r).
        frozen: whether row and column b alone get gradients (Eq. 10).

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
        b: int,
        frozen: bool,
        scale: float,
    ) -> Tensor:
        h, z = plain_product(x, weight, bias, A, B, b, scale)
        ctx.save_for_backward(x, weight, A, B, z)
        ctx.numbers = b, frozen, scale
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        (grad,) = grads
        x, weight, A, B, z = ctx.saved_tensors
        b, frozen, scale = ctx.numbers
        needs_x, _, _, needs_a, needs_b = ctx.needs_input_grad[:5]
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            x, A, B = _apart(x, A, B)
            sum_again = low_rank_sum(None, x, weight, None, x.dtype, A, B, b, frozen, scale, None, None)
            grad_x, grad_a, grad_b = _by_operations(sum_again, (x, A, B), (needs_x, needs_a, needs_b), grad)
            return grad_x, None, None, grad_a, grad_b, None, None, None
        if autocasts(grad):
            with torch.autocast(grad.device.type, enabled=False):
                return PlainProduct.backward(ctx, grad)
        grad_x = grad_a = grad_b = grad_z = None
        flat = x.dim() == 2
        g = grad if flat else grad.reshape(-1, grad.shape[-1])  # (n, d_out)
        inputs = x if flat else x.reshape(-1, x.shape[-1])  # (n, d_in)
        if needs_a or (needs_x and z is not None):
            grad_z = g @ B[:, :b]  # (n, d_out) · (d_out, b) → (n, b), not scaled
        if needs_x:
            if z is None:
                grad_x = g @ _merged(weight, A, B, b, scale)  # (n, d_out) · (d_out, d_in) → (n, d_in)
            else:  # (n, d_out) · (d_out, d_in) + (n, b) · (b, d_in) → (n, d_in)
                grad_x = (g @ weight).addmm_(grad_z, A[:b], alpha=scale)
            grad_x = grad_x if flat else grad_x.view(x.shape)
        if needs_a:
            grad_a = _rows_of(grad_z.t(), inputs, scale, A, b, frozen)  # type: ignore[union-attr]
        if needs_b:
            z = A[:b] @ inputs.t() if z is None else z  # (b, d_in) · (d_in, n) → (b, n)
            grad_b = _columns_of(z, g, scale, B, b, frozen)
        return grad_x, None, None, grad_a, grad_b, None, None, None


def plain_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, B: Tensor, b: int, scale: float
) -> tuple[Tensor, Tensor | None]:
    """What `PlainProduct` computes, and z, transposed: shape (b, n); None where the weights were merged instead.

    To merge takes three passes over W, and saves one over x and two over h. In half precision ΔW would lose bits.
    """
    d_out, d_in = weight.shape
    flat = x.dim() == 2
    inputs = x if flat else x.reshape(-1, d_in)  # (n, d_in)
    if x.numel() * (d_in + d_out) > 3 * d_in * d_in * d_out and weight.dtype in (torch.float32, torch.float64):
        h, z = F.linear(inputs, _merged(weight, A, B, b, scale), bias), None  # (n, d_in) · (d_in, d_out) → (n, d_out)
    else:
        h = F.linear(inputs, weight, bias)  # (n, d_in) · (d_in, d_out) → (n, d_out)
        z = add_product(h, inputs, A, B, b, scale, None)
    return h if flat else _shaped(h, x), z


def add_product(h: Tensor, x: Tensor, A: Tensor, B: Tensor, b: int, scale: float, gate: Tensor | None) -> Tensor:
    """Adds the product to h (n, d_out), of the type of x and A, in place. Returns z, (b, n)."""
    z = A[:b] @ _flat(x).t()  # (b, d_in) · (d_in, n) → (b, n)
    if gate is not None:
        z = z * gate.t()
    h.addmm_(z.t(), B[:, :b].t(), alpha=scale)  # (n, b) · (b, d_out)
    return z


class LowRankProduct(torch.autograd.Function):
    """h + scale · (x · A[:b]ᵀ) · B[:, :b]ᵀ, with gradients for the first b rows and columns.

    Arguments:
        h: shape (…, d_out).
        x: shape (…, d_in): n inputs.
        dtype: the type of the products.
        A, B: shapes (r, d_in) and (d_out, r).
        frozen: whether row and column b alone get gradients (Eq. 10).
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
        b: int,
        frozen: bool,
        scale: float,
        gate: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        out, z = product(h, x, dtype, A, B, b, scale, gate)
        ctx.save_for_backward(x, A, B, z, gate, mask)
        ctx.numbers, ctx.dtype = (b, frozen, scale), dtype
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Gradients:
        (grad,) = grads
        x, A, B, z, gate, mask = ctx.saved_tensors
        (b, frozen, scale), dtype = ctx.numbers, ctx.dtype
        needs_h, needs_x, _, needs_a, needs_b = ctx.needs_input_grad[:5]
        grad_h = grad if needs_h else None
        if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
            x, A, B = _apart(x, A, B)
            nothing = torch.zeros_like(grad)
            sum_again = low_rank_sum(nothing, x, None, None, dtype, A, B, b, frozen, scale, gate, mask)
            grad_x, grad_a, grad_b = _by_operations(sum_again, (x, A, B), (needs_x, needs_a, needs_b), grad)
            return grad_h, grad_x, None, grad_a, grad_b, *[None] * 5
        if autocasts(grad):
            with torch.autocast(grad.device.type, enabled=False):
                return LowRankProduct.backward(ctx, grad)
        grad_x = grad_a = grad_b = None
        inputs, g = _cast(_flat(x), dtype), _cast(_flat(grad), dtype)  # (n, d_in), (n, d_out)
        grad_z = g @ _cast(B[:, :b], dtype)  # (n, d_out) · (d_out, b) → (n, b), not scaled
        grad_z = grad_z if gate is None else grad_z * gate.to(dtype)
        if needs_x:
            rows = _cast(A[:b], dtype)
            grad_x = _cast(_shaped((grad_z @ rows).mul_(scale), x), x.dtype)  # (n, b) · (b, d_in) → (n, d_in)
        if needs_a:
            grad_z = grad_z if mask is None else grad_z * mask
            grad_a = _rows_of(grad_z.t(), inputs, scale, A, b, frozen)
        if needs_b:
            z = z if mask is None else z * mask.t()
            grad_b = _columns_of(z, g, scale, B, b, frozen)
        return grad_h, grad_x, None, grad_a, grad_b, *[None] * 5


def product(
    h: Tensor, x: Tensor, dtype: torch.dtype, A: Tensor, B: Tensor, b: int, scale: float, gate: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What `LowRankProduct` computes, and z, transposed: shape (b, n)."""
    with _plain_types(x):
        columns = _cast(B[:, :b], dtype).t()  # (b, d_out)
        z = _cast(A[:b], dtype) @ _cast(_flat(x), dtype).t()  # (b, d_in) · (d_in, n) → (b, n)
        if gate is not None:
            z = z * gate.to(dtype).t()
        if h.dtype == dtype:  # h + (n, b) · (b, d_out)
            return _shaped(torch.addmm(_flat(h), z.t(), columns, alpha=scale), h), z
        return h + (z.t() @ columns * scale).view(h.shape).to(h.dtype), z  # the same, h of another type


def low_rank_sum(
    h: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    dtype: torch.dtype,
    A: Tensor,
    B: Tensor,
    b: int,
    frozen: bool,
    scale: float,
    gate: Tensor | None,
    mask: Tensor | None,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """What the two functions compute, in torch's own operations, which every derivative and transform goes through.

    Without h, it is x · weightᵀ + bias. Rows that get no gradient are constants here, also in second derivatives. An
    `activation` is applied to z, before the gate.
    """
    with _plain_types(x):
        rows, columns = A[:b], B[:, :b]  # (b, d_in), (d_out, b)
        if frozen:
            low = b - 1
            rows = torch.cat([A[:low].detach(), A[low:b]])
            columns = torch.cat([B[:, :low].detach(), B[:, low:b]], dim=1)
        inputs, rows, columns = _cast(x, dtype), _cast(rows, dtype), _cast(columns, dtype)
        z = F.linear(inputs, rows)  # (…, d_in) · (d_in, b) → (…, b)
        if mask is not None:
            mask = mask.view(z.shape)
            z = torch.where(mask, z, F.linear(inputs, rows.detach()))
        if activation is not None:
            z = activation(z)
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


def _flat(x: Tensor) -> Tensor:
    """x as (n, d)."""
    return x if x.dim() == 2 else x.reshape(-1, x.shape[-1])


def _shaped(flat: Tensor, like: Tensor) -> Tensor:
    """(n, d) as (…, d), with the leading sizes of `like`; no view, so that it may be changed in place."""
    return flat if like.dim() == 2 else _unsafe_view(flat, (*like.shape[:-1], flat.shape[-1]))


def _merged(weight: Tensor, A: Tensor, B: Tensor, b: int, scale: float) -> Tensor:
    """W + scale·B·A at rank b, (d_out, d_in)."""
    return torch.addmm(weight, B[:, :b], A[:b], alpha=scale)  # (d_out, b) · (b, d_in) → (d_out, d_in)


def _rows_of(grad_z: Tensor, inputs: Tensor, scale: float, A: Tensor, b: int, frozen: bool) -> Tensor:
    """The gradient of A, from that of z, (b, n), not scaled: zero beyond row b; frozen, above it too."""
    low = b - 1 if frozen else 0
    grad_z = grad_z[low:] if frozen else grad_z
    grad = torch.zeros_like(A, dtype=inputs.dtype)
    grad[low:b].addmm_(grad_z, inputs, beta=0, alpha=scale)  # (b − low, n) · (n, d_in) → (b − low, d_in)
    return _cast(grad, A.dtype)


def _columns_of(z: Tensor, g: Tensor, scale: float, B: Tensor, b: int, frozen: bool) -> Tensor:
    """The gradient of B, from z, (b, n), and that of the output: zero beyond column b; frozen, before it too."""
    low = b - 1 if frozen else 0
    part = ((z[low:] if frozen else z) @ g).mul_(scale)  # (b − low, n) · (n, d_out) → (b − low, d_out)
    return torch.constant_pad_nd(_cast(part.t(), B.dtype), (low, B.shape[1] - b))


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in a type; cheaper than `to` where it has that type."""
    return x if x.dtype == dtype else x.to(dtype)


def autocasts(x: Tensor) -> bool:
    """Whether autocast changes the types of operations on x; to ask for a device's name is slow."""
    return torch._C._is_any_autocast_enabled() and torch.is_autocast_enabled(x.device.type)


def _plain_types(x: Tensor) -> AbstractContextManager[Any]:
    """A block in which autocast changes nothing: the types are chosen before it."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else nullcontext()
