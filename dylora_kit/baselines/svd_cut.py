"""The best possible cut of a LoRA that was trained at one rank: a singular value decomposition of each ΔW."""

import copy

import torch
from torch import nn

from dylora_kit.adapt import Adapters


def svd_cut(adapters: Adapters) -> tuple[nn.Module, Adapters]:
    """A copy of an adapted model in which every prefix is a best cut.

    ΔW at rank b is the singular value decomposition of ΔW at rank r, cut to b. By the Eckart-Young theorem no matrix
    of rank b is closer to ΔW. At rank r the copy does what the original does. Its scaling is `"alpha/r"`, since a
    singular value must not grow when others are cut away.

    Returns the copied model and its handle. The original is not touched.

    >>> from dylora_kit.adapt import attach
    >>> adapters = attach(nn.Sequential(nn.Linear(6, 5)), r=3, target_modules=["0"])
    >>> model, cut = svd_cut(adapters)
    >>> cut.rank = 1
    """
    adapters.check_usable()
    if adapters.merged:
        raise ValueError("the adapters are merged into the base weights: call unmerge() before cutting")
    model, cut = copy.deepcopy((adapters.model, adapters))
    cut.scaling = "alpha/r"
    with torch.no_grad():
        for name, layer in cut.layers.items():
            delta = adapters.delta(name, adapters.layers[name].r).double() / layer.scale(layer.r)  # (d_out, d_in)
            u, s, vh = torch.linalg.svd(delta, full_matrices=False)
            root = s[: layer.r].sqrt()
            layer.lora_B.copy_(u[:, : layer.r] * root)  # (d_out, r)
            layer.lora_A.copy_(root[:, None] * vh[: layer.r])  # (r, d_in)
    return model, cut
