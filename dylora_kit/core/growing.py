"""Adapters of a larger maximum rank: their matrices get more rows, behind those that they have."""

import torch
from torch import Tensor, nn

from dylora_kit.core.low_rank import LowRankAdapter, new_matrices


def grow_layer(layer: LowRankAdapter, r: int, generator: torch.Generator) -> None:
    """Gives an adapter the maximum rank r, in place: new rows of `lora_A` as in a new adapter, new columns of B zero.

    Its parameters stay the same objects, so optimizers hold them still. Their gradients go.

    Arguments:
        generator: as many numbers are drawn as for a new adapter of rank r, and the last rows taken. So a generator
            that starts as that of `attach` did does not give this layer rows again that it had at its start.
    """
    old, like = layer.r, layer.lora_A
    with torch.inference_mode(False), torch.no_grad():  # whose tensors could not be trained
        lora_A, _ = new_matrices(layer.in_features, 1, r, generator, like)
        _replace_values(layer.lora_A, torch.cat([like, lora_A[old:].to(like)]))  # (r, d_in)
        _replace_values(layer.lora_B, padded(layer.lora_B, r, dim=1))  # (d_out, r)
    layer.r = r


def padded(tensor: Tensor, r: int, dim: int = 0) -> Tensor:
    """A tensor with r entries along a dimension, the new ones zero.

    >>> padded(torch.ones(1, 2), 3, dim=1)
    tensor([[1., 1., 0.]])
    """
    shape = [*tensor.shape]
    shape[dim] = r - shape[dim]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim)


def _replace_values(parameter: nn.Parameter, values: Tensor) -> None:
    """Gives a parameter values of another shape."""
    parameter.grad = None
    # a graph that is still alive, as of a loss that a notebook keeps, would have the old shape checked in the next
    # backward pass: torch forgets that graph's end at this parameter where the type changes
    other = torch.float64 if parameter.dtype != torch.float64 else torch.float32
    parameter.data = values.new_empty(0, dtype=other)
    parameter.data = values
