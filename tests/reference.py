"""The paper's Eq. 7 and 10 in float64, written from the paper and not from the library."""

import math

import torch

SCALES = {
    "alpha/b": lambda alpha, b, r: alpha / b,
    "alpha/r": lambda alpha, b, r: alpha / r,
    "alpha/sqrt(b)": lambda alpha, b, r: alpha / math.sqrt(b),
}


def forward(x, weight, bias, w_dw, w_up, b, alpha, scaling="alpha/b"):
    """Eq. 7, h = W0 x + (alpha/b) W_up[:, 1:b] W_dw[1:b, :] x (+ bias), for x (..., d_in)."""
    x, weight, w_dw, w_up = (t.detach().double() for t in (x, weight, w_dw, w_up))
    h = x @ weight.T + delta(w_dw, w_up, b, alpha, scaling).matmul(x.unsqueeze(-1)).squeeze(-1)
    return h if bias is None else h + bias.detach().double()


def delta(w_dw, w_up, b, alpha, scaling="alpha/b"):
    """(alpha/b) W_up[:, 1:b] W_dw[1:b, :], shape (d_out, d_in)."""
    w_dw, w_up = w_dw.detach().double(), w_up.detach().double()
    scale = SCALES[scaling](alpha, b, len(w_dw))
    return scale * sum(torch.outer(w_up[:, i], w_dw[i]) for i in range(b))


def gradients(x, grad_h, w_dw, w_up, b, alpha, scaling="alpha/b", frozen=False):
    """dL/dW_dw and dL/dW_up by hand from dL/dh, for x (n, d_in) and grad_h (n, d_out); Eq. 10 keeps only row b."""
    x, g, w_dw, w_up = (t.detach().double() for t in (x, grad_h, w_dw, w_up))
    scale = SCALES[scaling](alpha, b, len(w_dw))
    grad_dw, grad_up = torch.zeros_like(w_dw), torch.zeros_like(w_up)
    for i in range(b - 1 if frozen else 0, b):
        grad_dw[i] = scale * (g @ w_up[:, i]) @ x
        grad_up[:, i] = scale * (x @ w_dw[i]) @ g
    return grad_dw, grad_up
