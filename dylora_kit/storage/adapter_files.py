"""This kit's adapters on disk: `adapter_config.json` and `adapter_model.safetensors`, named as PEFT names them."""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

from torch import Tensor

from dylora_kit.storage.base_model import BaseModel, Fingerprint, Origin, is_fingerprint, opened_as
from dylora_kit.storage.expressions import check_expressions
from dylora_kit.storage.files import is_finite, read_json, read_tensors, tensors_as_bytes, write_files

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
    "bottleneck": (str, NoneType),
}
DEFAULTS: dict[str, Any] = {  # fields that files may lack, and the value they were written under
    "split_fused": True,
    "exclude_modules": [],
    "layers_to_transform": None,
    "layers_pattern": None,
    "alpha_pattern": {},
    "bottleneck": None,
}
EXPRESSIONS = {"target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern"}  # may hold some
LARGEST = sys.float_info.max  # whole numbers above it are no numbers to calculate with
LONG = 200  # characters of a value in an error
CONFIG_HASH, FINGERPRINT = "config", "base"  # in the header of the tensors' file


def write_adapter(
    path: str | PathLike[str],
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    modules_to_save: Sequence[str],
    base: BaseModel | None = None,
    alphas: Mapping[str, float] | None = None,
) -> None:
    """Writes adapters at their full rank, and the modules trained along, into a folder: both files or neither.

    Under `"alpha/b"` the folder is at the same time an ordinary PEFT LoRA adapter of rank r, unless a fused projection
    was split, the adapters are bottlenecks (a type that PEFT does not know, and refuses), a module trained along shares
    a weight with another or is inside of another, or the name of an adapted layer ends that of another module.

    Arguments:
        config: the arguments of `attach`.
        tensors: `{layer}.lora_A.weight` (r, d_in) and `{layer}.lora_B.weight` (d_out, r) of each layer, and whatever
            was trained along, or moved, such as the running statistics of a normalisation.
        modules_to_save: the whole names of the modules that were trained along.
        base: the model under the adapters, by which another one is told from it.
        alphas: the α of each layer, where it may be another than the config's `lora_alpha`.

    Raises `ValueError` for a value that is not finite.
    """
    ranks = {name: len(tensors[f"{name}.lora_A.weight"]) for name in layers_of(tensors)}
    pattern = {pattern_of(name): alpha for name, alpha in (alphas or {}).items() if alpha != config["lora_alpha"]}
    content = {
        "peft_type": "NESTED_BOTTLENECK" if config.get("bottleneck") else "LORA",
        **(opened_as(base, modules_to_save) if base else {}),
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
    write_config_and_weights(Path(path), content, tensors, base.fingerprint if base else {})


def read_adapter(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor], Origin]:
    """An adapter that `write_adapter` wrote: its config, its tensors by their names in the model, and its base.

    Raises `FileNotFoundError` for a missing file and `ValueError` for one that is damaged or foreign, and for files of
    two different adapters.
    """
    folder = Path(path)
    content = read_json(folder / CONFIG)
    config = _checked_config(content.get("dylora"), folder)
    tensors, metadata = read_tensors(folder / WEIGHTS)
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError(f"{folder / WEIGHTS} has {metadata!r} in its header: expected a JSON object")
    base = check_same_save(folder, content, metadata)
    # files of before the checksum have the config itself in both
    if metadata is not None and CONFIG_HASH not in metadata and DEFAULTS | metadata != config:
        raise _two_adapters(folder)
    foreign = [name for name in tensors if not name.startswith(PREFIX)]
    if foreign:
        raise ValueError(f"{folder / WEIGHTS} holds {foreign[0]!r}: expected names that begin with {PREFIX!r}")
    return config, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}, base


def write_config_and_weights(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fingerprint: Fingerprint
) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors` as PEFT lays them out: both or neither.

    Arguments:
        tensors: by name in the model; in the file `base_model.model.` stands before each name.
        fingerprint: of the base; kept in the header of the tensors' file, beside a hash of the config.

    Raises `ValueError` for a value that is not finite, and for a folder that holds a whole model, to which
    `from_pretrained` would add the adapter.
    """
    if (folder / "config.json").exists():
        raise ValueError(
            f"{folder} holds a whole model, and from_pretrained would add the adapter to it: choose another folder"
        )
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise ValueError(f"cannot save values that are not finite: there are some in {name!r}")
    metadata = {CONFIG_HASH: _hash_of(config), FINGERPRINT: fingerprint}
    files = {
        WEIGHTS: tensors_as_bytes({PREFIX + name: tensor for name, tensor in tensors.items()}, metadata),
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
    }
    write_files(folder, files)


def check_same_save(folder: Path, config: Mapping[str, Any], metadata: Any) -> Origin:
    """The base of an adapter, as its files name it.

    Arguments:
        config: the content of `adapter_config.json`.
        metadata: what stands in the header of the tensors' file.

    Raises `ValueError` if the two files were not written together. Files of other software, and those of older versions
    of this kit, say nothing of it.
    """
    name, fingerprint = config.get("base_model_name_or_path"), None
    if isinstance(metadata, dict) and CONFIG_HASH in metadata:
        fingerprint = metadata.get(FINGERPRINT)
        if metadata[CONFIG_HASH] != _hash_of(config):
            raise _two_adapters(folder)
        if not is_fingerprint(fingerprint):
            raise ValueError(f"{folder / WEIGHTS} has {fingerprint!r} in its header: expected values of the base model")
    return Origin(name if isinstance(name, str) else None, fingerprint)


def _two_adapters(folder: Path) -> ValueError:
    """The error for a config and tensors of two saves, or for a config that was changed by hand or by a fault."""
    return ValueError(
        f"{folder / WEIGHTS} was saved with other settings than {CONFIG}, so they are of two different adapters, or "
        "one of them was changed: save them again"
    )


def _hash_of(config: Mapping[str, Any]) -> str:
    """A hash of a config, without the name of the base, which may move to another folder."""
    content = {key: value for key, value in config.items() if key not in ("base_model_name_or_path", "revision")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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

    >>> difference({"bias": Tensor([0, 0])}, {"bias": Tensor([0, 0, 0])})
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
        if not is_finite(tensor.to(dtype)):
            return f"{name!r} holds values too large for {dtype}"
        if tensor.shape != shape:
            return f"{name!r} has shape {tuple(tensor.shape)}, expected {tuple(shape)}"
    return None


def _checked_config(config: Any, folder: Path) -> dict[str, Any]:
    """The arguments of `attach` from the config file; `ValueError` if one is missing, unknown or of another type."""
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
        check_type(config[key], types, f"{folder / CONFIG} gives {key}")
    for key in EXPRESSIONS & config.keys():
        value, where = config[key], f"{folder / CONFIG} gives {key}"
        if isinstance(value, str | dict) or (value and key == "layers_pattern"):  # other lists hold the ends of names
            check_expressions([value] if isinstance(value, str) else value, where, ends=key != "target_modules")
    return config


def check_type(value: Any, types: tuple[type, ...], where: str) -> None:
    """Raises `ValueError` for a value of a file that is of another type.

    In lists there must be text, or whole numbers where one may stand instead; in dicts numbers by name.

    >>> check_type(["up", 0], (str, list), "the file gives target_modules")
    Traceback (most recent call last):
    ...
    ValueError: the file gives target_modules = ['up', 0]: expected str or list of names
    """
    inside = int if int in types else str
    kinds = {
        list: "list of names" if inside is str else "list of whole numbers",
        dict: "names with numbers",
        type(None): "null",
    }
    fits = isinstance(value, types) and not (isinstance(value, bool) and bool not in types)
    if isinstance(value, int):
        fits = fits and abs(value) <= LARGEST
    if isinstance(value, list):
        fits = fits and all(type(element) is inside for element in value)
    if isinstance(value, dict):
        numbers = [element for element in value.values() if type(element) in (int, float)]
        fits = fits and len(numbers) == len(value) and all(abs(number) <= LARGEST for number in numbers)
    if not fits:
        expected = " or ".join(kinds.get(kind, kind.__name__) for kind in types)
        raise ValueError(f"{where} = {shown(value)}: expected {expected}")


def shown(value: Any) -> str:
    """A value of a file in an error: its beginning, if it is long.

    >>> shown(10**400)
    '10000000000000000000…'
    """
    text = repr(value)
    return text if len(text) <= LONG else f"{text[:20]}…"
