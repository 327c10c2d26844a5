"""Training and evaluation mode: changed for a block, and restored module by module."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """A block after which each module is in the mode, training or evaluation, that it had before."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A block in evaluation mode and without gradients, after which each module has the mode that it had before."""
    with modes_kept(model), torch.no_grad():
        model.eval()
        yield
