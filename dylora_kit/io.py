"""Adapters on disk: `adapter_config.json` and `adapter_model.safetensors`, named as PEFT names them."""

import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.adapt import Adapters, attach
from dylora_kit.files import read_json, read_tensors, tensors_as_bytes, write_files

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
FIELDS: dict[str, tuple[type, ...]] = {
    "r": (int,),
    "lora_alpha": (int, float),
    "scaling": (str,),
    "lora_dropout": (int, float),
    "target_modules": (str, list),
    "modules_to_save": (list,),
    "rank_pattern": (dict,),
    "split_fused": (bool,),
}
LATER = {"split_fused": True}  # fields that older files lack, and what they meant


def save(adapters: Adapters, path: str | PathLike[str]) -> None:
    """Writes adapters at their full rank, and the modules trained along, into a folder.

    Under `"alpha/b"` the folder is at the same time an ordinary PEFT LoRA adapter of rank r, unless a fused projection
    was split; `export_peft` writes one in any case. Both files are written or neither is. Raises `ValueError` while the
    adapters are merged, and for a weight that is not finite.
    """
    adapters.check_usable()
    if adapters.merged:
        raise ValueError("the adapters are merged into the base weights: call unmerge() before saving")
    tensors = _tensors(adapters)
    check_finite(tensors)
    config = adapters.config
    content = {
        "peft_type": "LORA",
        "r": config["r"],
        "lora_alpha": config["lora_alpha"],
        "lora_dropout": config["lora_dropout"],
        "target_modules": list(adapters.layers),
        "modules_to_save": list(adapters.saved_modules) or None,
        "rank_pattern": {f"^{re.escape(name)}": la.r for name, la in adapters.layers.items() if la.r != config["r"]},
        "use_rslora": config["scaling"] == "alpha/sqrt(b)",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "dylora": config,
    }
    files = {
        # the config stands in both files, so that a pair of two different saves is noticed
        WEIGHTS: tensors_as_bytes({PREFIX + name: tensor for name, tensor in tensors.items()}, config),
        CONFIG: (json.dumps(content, indent=2) + "\n").encode(),
    }
    write_files(Path(path), files)


def load(model: nn.Module, path: str | PathLike[str]) -> Adapters:
    """Attaches the adapters that `adapters.save` wrote into a folder. Returns the handle, with the rank set to r.

    Raises `FileNotFoundError` for a missing file and `ValueError` for one that is damaged, foreign or made for
    another model: every tensor must be there, have the right shape and be finite. The model is then as it was.
    """
    folder = Path(path)
    config = _read_config(folder)
    tensors, saved_with = read_tensors(folder / WEIGHTS)
    adapters = attach(model, **config)
    own = {PREFIX + name: tensor for name, tensor in _tensors(adapters).items()}
    problem = difference(own, tensors)
    if not problem and saved_with is not None and LATER | saved_with != config:
        problem = f"it was saved with other settings than {CONFIG}, so they are of two different adapters"
    if problem:
        adapters.detach()
        raise ValueError(f"{folder / WEIGHTS} does not fit this model: {problem}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    return adapters


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG).get("dylora")
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} was not written by this kit: it has no 'dylora' section")
    config = LATER | config
    odd = sorted(FIELDS.keys() ^ config.keys())
    if odd:
        what = "lacks" if odd[0] in FIELDS else "has an unknown field"
        raise ValueError(f"the 'dylora' section of {folder / CONFIG} {what} {odd[0]!r}: expected {sorted(FIELDS)}")
    for key, kinds in FIELDS.items():
        if not isinstance(config[key], kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{folder / CONFIG} gives {key} = {config[key]!r}: expected {expected}")
    return config


def _tensors(adapters: Adapters) -> dict[str, Tensor]:
    """The model's own tensors that belong into the file, by name."""
    tensors: dict[str, Tensor] = {}
    for name, layer in adapters.layers.items():
        tensors[f"{name}.lora_A.weight"] = layer.lora_A
        tensors[f"{name}.lora_B.weight"] = layer.lora_B
    return tensors | saved_tensors(adapters.saved_modules)


def saved_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors of modules that are trained along, by name."""
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict(keep_vars=True).items()
    }


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raises `ValueError` if one of the tensors holds a value that is not finite."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"cannot save values that are not finite: there are some in {name!r}")


def difference(own: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> str | None:
    """What tensors of a file differ in from a model's own, in names, types and shapes; None if they fit."""
    for name in own:
        if name not in read:
            return f"the file lacks {name!r}"
    for name, tensor in read.items():
        if name not in own:
            return f"the file holds {name!r}, which the model does not have"
        if tensor.is_floating_point() != own[name].is_floating_point():
            return f"{name!r} holds {str(tensor.dtype).removeprefix('torch.')}, expected {own[name].dtype}"
        if not bool(torch.isfinite(tensor.to(own[name].dtype)).all()):
            return f"{name!r} holds values too large for {own[name].dtype}"
        if tensor.shape != own[name].shape:
            return f"{name!r} has shape {tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
    return None
