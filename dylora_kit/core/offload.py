"""Models whose weights accelerate keeps on the CPU or on disk: where they take batches, and where adapters fit."""

from collections.abc import Mapping

import torch
from torch import nn

from dylora_kit.core.base_weights import NO_VALUES, device_hooks, device_of


def input_device(model: nn.Module) -> torch.device:
    """Where a model takes its batches: the device of its first weight.

    Of a model that accelerate offloads, whose first weight may have no values, it is where its first module computes.
    Raises `ValueError` if the weights have no values and nothing will fetch them.

    >>> input_device(nn.Linear(6, 4))
    device(type='cpu')
    """
    device = next(model.parameters()).device
    if device.type != "meta":
        return device
    for module in model.modules():
        for hook in device_hooks(module):
            if isinstance(hook.execution_device, int | str | torch.device):
                return torch.device(hook.execution_device)
    raise ValueError(f"the model {NO_VALUES}: load its weights, or have accelerate offload it, before it is called")


def check_offload(model: nn.Module, adapted: Mapping[str, nn.Module], trained: Mapping[str, nn.Module]) -> None:
    """Raises `ValueError` for a model whose weights accelerate offloads in a way that adapters cannot stand beside.

    Arguments:
        adapted: the layers that get an adapter, by name.
        trained: the modules that are trained along, by name.
    """
    if not any("_hf_hook" in module.__dict__ for module in model.modules()):
        return
    for name, module in trained.items():
        if any(parameter.is_meta for parameter in module.parameters()):
            raise ValueError(
                f"{name!r} cannot be trained along: accelerate offloads its weights, so that what a step changes is "
                "lost, and it must stay on a device"
            )
    for name, module in adapted.items():
        if device_of(module).type == "meta":
            raise ValueError(
                f"cannot adapt {name!r}: accelerate offloads its weight together with those around it: dispatch the "
                "model without preload_module_classes"
            )
