"""PEFT's LoRA adapters: read from a folder and attached."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.adapters import attach_quietly, check_no_adapters, warn_of_other_base
from dylora_kit.core.handle import Adapters
from dylora_kit.core.low_rank import LowRankAdapter
from dylora_kit.core.names import named_modules
from dylora_kit.core.targets import holders_of_same_weights, saved_by_peft
from dylora_kit.storage.adapter_files import CONFIG, WEIGHTS, layers_of
from dylora_kit.storage.files import is_finite
from dylora_kit.storage.peft_files import alpha_of, read_peft_adapter


def import_peft(model: nn.Module, path: str | PathLike[str], *, scaling: str | None = None) -> Adapters:
    """Attaches a PEFT LoRA adapter from a folder. At its rank r the model does what it does under PEFT.

    Adapters are float32, also those of a file in 16 bits, and so is what `export_peft` writes of them. A fused
    projection stays one layer. Where PEFT gives a layer an α of its own, the difference goes into `lora_B`.
    Weights of the base that PEFT put into the file, as it does with embeddings and heads, must be those of this model.
    Warns if the file names another base.

    Arguments:
        scaling: what the scale is at lower ranks; default is what the file says if this kit wrote it, else `"alpha/b"`,
            or `"alpha/sqrt(b)"` for `use_rslora`.

    Raises `FileNotFoundError` for a missing file and `ValueError` for an adapter that is damaged, that has features
    which these adapters do not carry (such as DoRA or biases), or that was made for another model. The model is then as
    it was.
    """
    folder = Path(path)
    check_no_adapters(model)
    config, tensors, origin = read_peft_adapter(folder)
    names = layers_of(tensors)
    ranks = {name: len(tensors[f"{name}.lora_A.weight"]) for name in names}
    _check_layers(model, names, folder, ours="dylora" in config)
    r, rslora = max(ranks.values()), bool(config.get("use_rslora"))
    alphas = {name: alpha_of(config, name, folder) for name in names}
    saved = _saved(model, config, tensors)
    tensors = _without_base(model, saved, tensors, folder)
    _check_shared(model, saved, tensors, folder)
    alpha = next(alphas[name] for name in names if ranks[name] == r)
    own = config.get("dylora")  # ordered and nested rows keep the scale of the full rank
    scaling = scaling or (own.get("scaling") if isinstance(own, dict) else None)
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
    try:
        factors: dict[LowRankAdapter, float] = {}
        for name, layer in adapters.layers.items():
            scale, peft_scale = layer.scale(layer.r), alphas[name] / (math.sqrt(layer.r) if rslora else layer.r)
            factors[layer] = peft_scale / scale if scale else math.inf
            lora_B = tensors.get(f"{name}.lora_B.weight")
            _check_multiplied(lora_B, layer.lora_B.dtype, factors[layer], f"{folder / CONFIG} gives {name!r}")
        warn_of_other_base(adapters, origin, folder)
    except BaseException:
        adapters.detach()
        raise
    adapters.fill(tensors, folder / WEIGHTS)
    with torch.no_grad():
        for layer, factor in factors.items():
            layer.lora_B.mul_(factor)
    return adapters


def _check_multiplied(lora_B: Tensor | None, dtype: torch.dtype, factor: float, where: str) -> None:
    """Raises `ValueError` if values of a file, times a factor, would be too large, or all of them too small."""
    if lora_B is None:
        return
    values = lora_B.to(dtype)
    product = values * factor
    if is_finite(values) and (not is_finite(product) or (values.any() and not product.any())):
        raise ValueError(f"{where} a lora_alpha that is too far from those of other layers: use it with PEFT")


def _saved(model: nn.Module, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """The modules that a file holds whole, by name: those of modules_to_save, and those that share a weight with one.

    PEFT writes the latter too under `ensure_weight_tying`.
    """
    saved = {
        name: module
        for name, module in saved_by_peft(model, config.get("modules_to_save") or []).items()
        if any(key.startswith(f"{name}.") for key in tensors)
    }
    tied = {
        name: module
        for name, module in holders_of_same_weights(model, saved).items()
        if all(f"{name}.{key}" in tensors for key, _ in module.named_parameters())
    }
    return [*saved, *tied]


def _check_layers(model: nn.Module, names: Iterable[str], folder: Path, ours: bool) -> None:
    """Raises `ValueError` if the model lacks a layer of the adapter; `ours` says that this kit wrote it."""
    modules = dict(named_modules(model, remove_duplicate=False))
    for name in names:
        if name not in modules:
            remedy = (
                ", and this kit wrote it: open it with dylora_kit.load, or write it with export_peft" if ours else ""
            )
            raise ValueError(f"{folder} was made for another model: this one has no module {name!r}{remedy}")


def _without_base(model: nn.Module, saved: list[str], tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The tensors of a file without those that PEFT copied from the base, such as embeddings beside a grown vocabulary.

    Raises `ValueError` that names the weight if one is not that of this model.
    """
    own = dict(_parameters(model, every_name=True))
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
    for name, parameter in _parameters(model):
        holders.setdefault(parameter, []).append(name)
    for keys in holders.values():
        if len(keys) > 1 and any(key.startswith(f"{name}.") for key in keys for name in saved):
            values = [tensors.get(key) for key in keys]
            if any(value is None or not torch.equal(value, values[0]) for value in values):  # type: ignore[arg-type]
                raise ValueError(
                    f"{folder} holds a weight for {next(key for key in keys if key in tensors)!r} alone, which this "
                    f"model shares between {' and '.join(keys)}: give each a copy of its own before importing"
                )


def _parameters(model: nn.Module, every_name: bool = False) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of a model and their names, compiled or not: one for each module that holds it.

    Arguments:
        every_name: also those by further names of one module.
    """
    for name, module in named_modules(model, remove_duplicate=not every_name):
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield (f"{name}.{key}" if name else key), parameter
