"""Weights that no adapter can be added to since they are plain Parameters, such as those of a mixture of experts."""

from collections.abc import Sequence

from torch import nn

from dylora_kit.core.attention import is_linear
from dylora_kit.core.names import named_modules


def plain_weights(model: nn.Module) -> list[str]:
    """The names of weight matrices that are a Parameter of a block, and no layer of their own.

    A stack of matrices, such as (experts, d_out, d_in), and whatever has two dimensions in a block called "Experts".

    >>> import torch
    >>> class Experts(nn.Module):
    ...     pass
    >>> experts = Experts()
    >>> experts.down = nn.Parameter(torch.zeros(4, 6, 5))
    >>> plain_weights(nn.ModuleDict({"experts": experts}))
    ['experts.down']
    """
    return [
        f"{name}.{key}" if name else key
        for name, module in named_modules(model)
        if not is_linear(module) and not type(module).__module__.startswith("torch.nn.")
        for key, parameter in module.named_parameters(recurse=False)
        if (parameter.dim() == 3 and parameter.shape[0] > 1)
        or (parameter.dim() == 2 and "Expert" in type(module).__name__ and not key.endswith("bias"))
    ]


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a sentence: the first ones, and how many there are beside them.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
