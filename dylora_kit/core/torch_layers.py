"""Torch's own transformer layers, which in evaluation compute from the weights of their children past any adapter."""

from typing import Any

from torch import nn

from dylora_kit.core.layer import Wrapper


class SlowPath:
    """Keeps one of torch's modules from its fast path, by an attribute on which the path depends, until `remove`.

    A copy of a model has a copy of it, which belongs to the module in the copy.
    """

    def __init__(self, module: nn.Module, attribute: str, value: Any) -> None:
        self.module, self.attribute, self.before = module, attribute, getattr(module, attribute)
        setattr(module, attribute, value)

    def remove(self) -> None:
        """Gives the module back what it had."""
        setattr(self.module, self.attribute, self.before)


def slow_paths(model: nn.Module) -> list[SlowPath]:
    """Has torch's encoder layers with adapters in them call their children also in evaluation.

    Their fast path computes from the weights of the children, and so without adapters; `nn.TransformerEncoder` packs
    padded batches for it.

    >>> from dylora_kit.core.layer import DyLoRALinear
    >>> layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    >>> layer.linear1 = DyLoRALinear(layer.linear1, r=2)
    >>> [path.attribute for path in slow_paths(layer)]
    ['activation_relu_or_gelu']
    """
    kinds = (
        (nn.TransformerEncoderLayer, "activation_relu_or_gelu", 0),
        (nn.TransformerEncoder, "use_nested_tensor", False),
    )
    return [
        SlowPath(module, attribute, value)
        for module in model.modules()
        for kind, attribute, value in kinds
        if isinstance(module, kind) and any(isinstance(inner, Wrapper) for inner in module.modules())
    ]
