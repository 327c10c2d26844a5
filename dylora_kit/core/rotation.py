"""A and B rotated: B·A stays what it is, and its first b rows and columns become its closest cut of rank b."""

import torch
from torch import Tensor


@torch.no_grad()
def ordered(lora_A: Tensor, lora_B: Tensor) -> tuple[Tensor, Tensor]:
    """A (r, d_in) and B (d_out, r) with the same product, whose rows and columns are ordered by singular value.

    With B·A = Σ sᵢ·uᵢ·vᵢᵀ, column i of the new B is √sᵢ·uᵢ, and row i of the new A is √sᵢ·vᵢᵀ. So B[:, :b]·A[:b] is the
    singular value decomposition cut to b; by the Eckart-Young theorem no matrix of rank b is closer to B·A.

    Where sᵢ is zero, as where B starts at zero, column i of B is zero and row i of A has length 1, so that it can still
    be trained. Rows beyond min(r, d_in) are zero.

    Computed in float64 on the CPU, which is where the result is.

    >>> A, B = ordered(torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), torch.eye(2))
    >>> (B @ A).round(), A.norm(dim=1).square()
    (tensor([[1., 0., 0.],
            [0., 2., 0.]], dtype=torch.float64), tensor([2.0000, 1.0000], dtype=torch.float64))
    """
    u, s, vh = svd_of_product(lora_A.detach().cpu(), lora_B.detach().cpu())
    return balanced(u, s, vh, len(lora_A))


def svd_of_product(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition of B·A, without B·A, in float64.

    The QR decompositions of both leave a matrix of at most (r, r), which has the same singular values. All three steps
    are exact but for rounding.

    Arguments:
        A: (r, d_in).
        B: (d_out, r).

    Returns u (d_out, m), s (k,) with the largest first, and vh (n, d_in), where m = min(d_out, r), n = min(d_in, r)
    and k = min(m, n).

    >>> _, s, _ = svd_of_product(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.eye(2))
    >>> s
    tensor([4., 3.], dtype=torch.float64)
    """
    q_b, r_b = torch.linalg.qr(B.double())  # (d_out, r) → (d_out, m), (m, r)
    q_a, r_a = torch.linalg.qr(A.double().T)  # (d_in, r) → (d_in, n), (n, r)
    u, s, vh = torch.linalg.svd(r_b @ r_a.T)  # (m, r) · (r, n) → (m, n)
    return q_b @ u, s, vh @ q_a.T  # (d_out, m) · (m, m), (n, n) · (n, d_in)


def balanced(u: Tensor, s: Tensor, vh: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """A (r, d_in) and B (d_out, r) from the first r parts of a singular value decomposition, √s in each of the two.

    Arguments:
        u, s, vh: shapes (d_out, at least k), (k,) and (at least k, d_in). What is missing of r rows is zero.

    A part whose s is zero but for rounding has no column in B, and a row of length 1 in A.
    """
    lora_A, lora_B = vh.new_zeros(r, vh.shape[1]), u.new_zeros(len(u), r)
    rows, k = min(r, len(vh)), min(r, len(s))
    root = s[:k].sqrt() * (s[:k] > len(s) * torch.finfo(s.dtype).eps * s[:1])
    lora_A[:rows] = vh[:rows]
    lora_A[:k] *= torch.where(root > 0, root, 1.0)[:, None]
    lora_B[:, :k] = u[:, :k] * root
    return lora_A, lora_B
