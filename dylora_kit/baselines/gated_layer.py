"""A linear layer as a sum of rank-1 parts, and random gates that switch them off (Louizos, Welling and Kingma 2018)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOW, HIGH, TEMPERATURE = -0.1, 1.1, 2 / 3  # the stretch of the hard concrete distribution, and its temperature
OPEN = 3.0  # where log α starts: such a gate is 1 in evaluation, and rarely 0 in training


class HardConcrete(nn.Module):
    """Gates between 0 and 1, each exactly 0 or 1 with some probability (Louizos, Welling and Kingma 2018).

    Arguments:
        n: the number of gates.

    Attributes:
        log_alpha: how far each is open, shape (n,); the only parameter.

    >>> gates = HardConcrete(4).eval()
    >>> gates(), round(float(gates.expected_size()))
    (tensor([1., 1., 1., 1.], grad_fn=<MulBackward0>), 4)
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((n,), OPEN))

    def forward(self) -> Tensor:
        """The gates, shape (n,): drawn in training, fixed in evaluation."""
        if self.training:
            noise = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6)
            return self._stretched((torch.logit(noise) + self.log_alpha) / TEMPERATURE)
        return self._stretched(self.log_alpha) * self.kept()

    def expected_size(self) -> Tensor:
        """The expected number of gates that are not 0: the L0 norm."""
        return torch.sigmoid(self.log_alpha - TEMPERATURE * math.log(-LOW / HIGH)).sum()

    def kept(self) -> Tensor:
        """1 for gates that stay in evaluation, else 0, shape (n,).

        They are the most open ones, as many as are expected not to be 0, and at least one.
        """
        count = max(round(self.expected_size().item()), 1)
        most_open = self.log_alpha.detach().argsort(descending=True, stable=True)[:count]
        return torch.zeros_like(self.log_alpha, requires_grad=False).index_fill(0, most_open, 1.0)

    @staticmethod
    def _stretched(value: Tensor) -> Tensor:
        return (torch.sigmoid(value) * (HIGH - LOW) + LOW).clamp(0, 1)


class GatedLinear(nn.Module):
    """x ↦ base(x) + scale · ((x · Qᵀ) · diag(z)) · Pᵀ, with gates z.

    For FLOP on a weight the base is its bias alone and P·Q is the weight; for gates on a LoRA block the base is the
    frozen layer, Q is lora_A and P is lora_B.

    Arguments:
        q: shape (n, d_in).
        p: shape (d_out, n).
        scale: what the product is multiplied by.
        base_layer: a frozen layer to add to.
        bias: a bias to add, shape (d_out,).
    """

    def __init__(
        self,
        q: Tensor,
        p: Tensor,
        *,
        scale: float = 1.0,
        base_layer: nn.Module | None = None,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.q, self.p = nn.Parameter(q), nn.Parameter(p)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.scale, self.base_layer = scale, base_layer
        self.gates = HardConcrete(len(q)).to(q.device)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x of shape (…, d_in) to (…, d_out)."""
        inner = F.linear(x.to(self.q.dtype), self.q)  # (…, d_in) · (d_in, n) → (…, n)
        inner = inner * (self.scale * self.gates()).to(self.q.dtype)
        h = F.linear(inner, self.p, self.bias).to(x.dtype)  # (…, n) · (n, d_out) → (…, d_out)
        return h if self.base_layer is None else self.base_layer(x) + h

    @property
    def size_of_part(self) -> int:
        """The parameters of one rank-1 part: d_in + d_out."""
        return self.q.shape[1] + self.p.shape[0]

    @torch.no_grad()
    def pruned(self) -> nn.Module:
        """A module that computes the same without gates: two linear layers, and the base layer if there is one."""
        kept = self.gates.kept().bool()
        fixed = self.scale * self.gates._stretched(self.gates.log_alpha)[kept]
        count, d_in, d_out = int(kept.sum()), self.q.shape[1], self.p.shape[0]
        down = nn.Linear(d_in, count, bias=False, device=self.q.device, dtype=self.q.dtype)
        up = nn.Linear(count, d_out, bias=self.bias is not None, device=self.q.device, dtype=self.q.dtype)
        down.weight.copy_(self.q[kept])
        up.weight.copy_(self.p[:, kept] * fixed)
        if self.bias is not None:
            up.bias.copy_(self.bias)
        product = nn.Sequential(down, up)
        return product if self.base_layer is None else Sum(self.base_layer, product)


class Sum(nn.Module):
    """The sum of what two modules return."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """Maps x of shape (…, d_in) to (…, d_out)."""
        return self.first(x) + self.second(x)
