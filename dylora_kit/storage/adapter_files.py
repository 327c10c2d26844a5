"""This kit's adapters on disk: `adapter_config.json` and `adapter_model.safetensors`, named as PEFT names them."""

import json
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from dylora_kit.storage.files import read_json, read_tensors, tensors_as_bytes, write_files

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT's name for the model under an adapter
FIELDS: dict[str, tuple[type, ...]] = {  # the arguments of `attach`, and their types in JSON
    "r": (int,),
    "lora_alpha": (int, float),
    "scaling": (str,),
    "lora_dropout": (int, float),
    "target_modules": (str, list),
    "modules_to_save": (list,),
    "rank_pattern": (dict,),
    "split_fused": (bool,),
    "exclude_modules": (str, list),
    "layers_to_transform": (int, list, NoneType),
    "layers_pattern": (str, list, NoneType),
    "alpha_pattern": (dict,),
}
DEFAULTS: dict[str, Any] = {  # fields that files may lack, and the value they were written under
    "split_fused": True,
    "exclude_modules": [],
    "layers_to_transform": None,
    "layers_pattern": None,
    "alpha_pattern": {},
}


def write_adapter(
    path: str | PathLike[str],
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    modules_to_save: Sequence[str],
    alphas: Mapping[str, float] | None = None,
) -> None:
    """Writes adapters at their full rank, and the modules trained along, into a folder: both files or neither.

    Under `"alpha/b"` the folder is at the same time an ordinary PEFT LoRA adapter of rank r, unless a fused projection
    was split.

    Arguments:
        config: the arguments of `attach`.
        tensors: `{layer}.lora_A.weight` (r, d_in) and `{layer}.lora_B.weight` (d_out, r) of each layer, and whatever
            was trained along.
        modules_to_save: the whole names of the modules that were trained along.
        alphas: the α of each layer, where it may be another than the config's `lora_alpha`.

    Raises `ValueError` for a value that is not finite.
    """
    ranks = {name: len(tensors[f"{name}.lora_A.weight"]) for name in layers_of(tensors)}
    pattern = {pattern_of(name): alpha for name, alpha in (alphas or {}).items() if alpha != config["lora_alpha"]}
    content = {
        "peft_type": "LORA",
        "r": config["r"],
        "lora_alpha": config["lora_alpha"],
        "lora_dropout": config["lora_dropout"],
        "target_modules": list(ranks),
        "modules_to_save": list(modules_to_save) or None,
        "rank_pattern": {pattern_of(name): r for name, r in ranks.items() if r != config["r"]},
        **({"alpha_pattern": pattern} if pattern else {}),
        "use_rslora": config["scaling"] == "alpha/sqrt(b)",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "dylora": config,
    }
    # the config stands in both files, so that files of two different saves are noticed
    write_config_and_weights(Path(path), content, tensors, metadata=config)


def read_adapter(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors of an adapter that `write_adapter` wrote, each tensor by its name in the model.

    Raises `FileNotFoundError` for a missing file and `ValueError` for one that is damaged or foreign, and for files of
    two different adapters.
    """
    folder = Path(path)
    config = _read_config(folder)
    tensors, config_beside_tensors = read_tensors(folder / WEIGHTS)
    if config_beside_tensors is not None and DEFAULTS | config_beside_tensors != config:
        raise ValueError(
            f"{folder / WEIGHTS} was saved with other settings than {CONFIG}, so they are of two different adapters"
        )
    foreign = [name for name in tensors if not name.startswith(PREFIX)]
    if foreign:
        raise ValueError(f"{folder / WEIGHTS} holds {foreign[0]!r}: expected names that begin with {PREFIX!r}")
    return config, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def write_config_and_weights(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], metadata: Any = None
) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors` as PEFT lays them out: both or neither.

    Arguments:
        tensors: by name in the model; in the file `base_model.model.` stands before each name.
        metadata: any JSON value, kept in the header of the tensors' file.

    Raises `ValueError` for a value that is not finite.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"cannot save values that are not finite: there are some in {name!r}")
    files = {
        WEIGHTS: tensors_as_bytes({PREFIX + name: tensor for name, tensor in tensors.items()}, metadata),
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
    }
    write_files(folder, files)


def layers_of(tensors: Mapping[str, Tensor]) -> list[str]:
    """The layers that an adapter's tensors are of.

    >>> layers_of({"up.lora_A.weight": Tensor(), "up.lora_B.weight": Tensor()})
    ['up']
    """
    return [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]


def pattern_of(name: str) -> str:
    """PEFT's pattern for one whole name. Without the "^" PEFT also takes every name that ends so.

    >>> pattern_of("up")
    '^up'
    """
    return f"^{re.escape(name)}"


def difference(expected: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> str | None:
    """How tensors of a file differ from a model's own in names, types and shapes; None if they fit.

    >>> difference({"bias": torch.zeros(2)}, {"bias": torch.zeros(3)})
    "'bias' has shape (3,), expected (2,)"
    """
    for name in expected:
        if name not in read:
            return f"the file lacks {name!r}"
    for name, tensor in read.items():
        if name not in expected:
            return f"the file holds {name!r}, which the model does not have"
        dtype, shape = expected[name].dtype, expected[name].shape
        if tensor.is_floating_point() != dtype.is_floating_point:
            return f"{name!r} holds {str(tensor.dtype).removeprefix('torch.')}, expected {dtype}"
        if not bool(torch.isfinite(tensor.to(dtype)).all()):
            return f"{name!r} holds values too large for {dtype}"
        if tensor.shape != shape:
            return f"{name!r} has shape {tuple(tensor.shape)}, expected {tuple(shape)}"
    return None


def _read_config(folder: Path) -> dict[str, Any]:
    """The arguments of `attach` from the config file; `ValueError` if one is missing, unknown or of another type."""
    config = read_json(folder / CONFIG).get("dylora")
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} was not written by this kit: it has no 'dylora' section")
    config = DEFAULTS | config
    unexpected = sorted(FIELDS.keys() ^ config.keys())
    if unexpected:
        problem = "lacks" if unexpected[0] in FIELDS else "has an unknown field"
        raise ValueError(
            f"the 'dylora' section of {folder / CONFIG} {problem} {unexpected[0]!r}: expected {sorted(FIELDS)}"
        )
    for key, types in FIELDS.items():
        if not isinstance(config[key], types):
            expected = " or ".join(kind.__name__ for kind in types)
            raise ValueError(f"{folder / CONFIG} gives {key} = {config[key]!r}: expected {expected}")
    return config
