"""PEFT's LoRA adapters: read from a folder and attached."""

import math
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from dylora_kit.core.adapters import attach_quietly, warn_of_other_base
from dylora_kit.core.attention import is_linear
from dylora_kit.core.handle import Adapters
from dylora_kit.core.layer import sizes_of
from dylora_kit.core.targets import saved_by_peft
from dylora_kit.storage.adapter_files import WEIGHTS, layers_of
from dylora_kit.storage.peft_files import alpha_of, read_peft_adapter


def import_peft(model: nn.Module, path: str | PathLike[str], *, scaling: str | None = None) -> Adapters:
    """Attaches a PEFT LoRA adapter from a folder. At its rank r the model does what it does under PEFT.

    A fused projection stays one layer. Where PEFT gives a layer an α of its own, the difference goes into `lora_B`.
    Weights of the base that PEFT put into the file, as it does with embeddings and heads, must be those of this model.
    Warns if the file names another base.

    Arguments:
        scaling: what the scale is at lower ranks; default is `"alpha/b"`, or `"alpha/sqrt(b)"` for `use_rslora`.

    Raises `FileNotFoundError` for a missing file and `ValueError` for an adapter that is damaged, that has features
    which these adapters do not carry (such as DoRA or biases), or that was made for another model. The model is then as
    it was.
    """
    folder = Path(path)
    config, tensors, origin = read_peft_adapter(folder)
    names = layers_of(tensors)
    ranks = {name: len(tensors[f"{name}.lora_A.weight"]) for name in names}
    _check_layers(model, ranks, folder)
    r, rslora = max(ranks.values()), bool(config.get("use_rslora"))
    alphas = {name: alpha_of(config, name, folder) for name in names}
    saved = [
        name
        for name in saved_by_peft(model, config.get("modules_to_save") or [])
        if any(key.startswith(f"{name}.") for key in tensors)
    ]
    tensors = _without_base(model, saved, tensors, folder)
    _check_shared(model, saved, tensors, folder)
    alpha = next(alphas[name] for name in names if ranks[name] == r)
    try:
        adapters = attach_quietly(
            model,
            target_modules="|".join(map(re.escape, names)),
            r=r,
            lora_alpha=alpha,
            scaling=scaling or ("alpha/sqrt(b)" if rslora else "alpha/b"),
            lora_dropout=config.get("lora_dropout") or 0.0,
            modules_to_save=saved,
            rank_pattern={name: rank for name, rank in ranks.items() if rank != r},
            split_fused=False,
        )
    except TypeError as error:
        raise ValueError(f"{folder} does not fit this model: {error}") from None
    adapters.fill(tensors, folder / WEIGHTS)
    warn_of_other_base(adapters, origin, folder)
    with torch.no_grad():
        for name, layer in adapters.layers.items():
            peft_scale = alphas[name] / (math.sqrt(layer.r) if rslora else layer.r)
            layer.lora_B.mul_(peft_scale / layer.scale(layer.r))
    return adapters


def _check_layers(model: nn.Module, ranks: Mapping[str, int], folder: Path) -> None:
    """Raises `ValueError` if the model lacks a layer of the adapter, or one is narrower than its rank."""
    modules = dict(model.named_modules())
    for name, r in ranks.items():
        if name in modules and is_linear(modules[name]) and r > min(sizes_of(modules[name])):
            d_in, d_out = sizes_of(modules[name])
            raise ValueError(
                f"{folder} has rank {r} in {name!r}, a layer of {d_in} inputs and {d_out} outputs: PEFT allows more "
                "than the smaller of them, this kit does not"
            )
    lacking = [name for name in ranks if name not in modules]
    if lacking:
        raise ValueError(f"{folder} was made for another model: this one has no module {lacking[0]!r}")


def _without_base(model: nn.Module, saved: list[str], tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The tensors of a file without those that PEFT copied from the base, such as embeddings beside a grown vocabulary.

    Raises `ValueError` that names the weight if one is not that of this model.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    kept: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.replace(".base_layer.", ".")
        if name not in own or key.startswith(tuple(f"{module}." for module in saved)):
            kept[key] = tensor
            continue
        weight = own[name].detach().cpu()
        if tensor.shape != weight.shape:
            raise ValueError(
                f"{folder} was made on a base in which {name!r} has shape {tuple(tensor.shape)}, and here it has "
                f"{tuple(weight.shape)}: give the model that size first, as with resize_token_embeddings"
            )
        if not (torch.equal(tensor.to(weight.dtype), weight) or torch.equal(tensor, weight.to(tensor.dtype))):
            raise ValueError(
                f"{folder} holds other values for {name!r} than this model, and its modules_to_save does not name it: "
                "import it into the base that it was made on, or use it with PEFT"
            )
    return kept


def _check_shared(model: nn.Module, saved: list[str], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Raises `ValueError` if the file has its own value for one holder of a weight that this model shares."""
    holders: dict[nn.Parameter, list[str]] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            holders.setdefault(parameter, []).append(f"{name}.{key}")
    for keys in holders.values():
        if len(keys) > 1 and any(key.startswith(f"{name}.") for key in keys for name in saved):
            values = [tensors.get(key) for key in keys]
            if any(value is None or not torch.equal(value, values[0]) for value in values):  # type: ignore[arg-type]
                raise ValueError(
                    f"{folder} holds a weight for {next(key for key in keys if key in tensors)!r} alone, which this "
                    f"model shares between {' and '.join(keys)}: give each a copy of its own before importing"
                )
