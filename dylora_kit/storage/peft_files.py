"""PEFT's LoRA adapters on disk: written from one block for each layer, and read."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dylora_kit.storage.adapter_files import (
    CONFIG,
    LARGEST,
    PREFIX,
    WEIGHTS,
    check_same_save,
    check_type,
    layers_of,
    pattern_of,
    shown,
    write_config_and_weights,
)
from dylora_kit.storage.base_model import BaseModel, Origin, opened_as
from dylora_kit.storage.expressions import check_expressions
from dylora_kit.storage.files import read_json, read_tensors

Block = tuple[Tensor, Tensor, float]  # A (n, d_in), B (d_out, n) and a scale: ΔW = scale · B·A

NOT_USED: tuple[Any, ...] = (
    False,
    "",
    [],
    {},
)  # values of a field that nobody knows, besides None, under which it changes nothing
LEAVES_BASE = (True, False, "gaussian", "orthogonal", "eva")  # PEFT's starts of lora_A that don't change base weights
UNSUPPORTED = "which these adapters do not carry"
# what PEFT can do that these adapters do not carry: field and the values that mean "not used"
NOT_CARRIED: dict[str, tuple[Any, ...]] = {
    "use_dora": (False,),
    "lora_bias": (False,),
    "bias": ("none",),
    "use_qalora": (False,),
    "alora_invocation_tokens": (),
    "arrow_config": (),
    "trainable_token_indices": (),
    "layer_replication": (),
    "megatron_config": (),
    "target_parameters": ([],),
    "corda_config": (),
    "loftq_config": ({},),
    "kasa_config": (),
    "use_bdlora": (),
    "velora_config": (),
    "monteclora_config": (),
    "init_lora_weights": LEAVES_BASE,
}
# fields of PEFT's LoRA configs that may hold anything: what is written under them does not depend on them, or they are
# read here
KNOWN = {
    "peft_type",
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "r",
    "target_modules",
    "exclude_modules",
    "lora_alpha",
    "lora_dropout",
    "fan_in_fan_out",
    "use_rslora",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "megatron_core",
    "eva_config",
    "lora_ga_config",
    "qalora_group_size",
    "runtime_config",
    "ensure_weight_tying",
    "dylora",
}
NUMBER = (int, float)
TYPES: dict[str, tuple[type, ...]] = {  # of the fields that are read here
    "r": (int,),
    "lora_dropout": (*NUMBER, type(None)),
    "modules_to_save": (list, type(None)),
    "use_rslora": (bool, type(None)),
    "base_model_name_or_path": (str, type(None)),
}


def write_peft_adapter(
    path: str | PathLike[str],
    blocks: Mapping[str, Block],
    base: BaseModel,
    *,
    rslora: bool,
    lora_dropout: float,
    saved: Mapping[str, Mapping[str, Tensor]],
    buffers: Mapping[str, Tensor],
    modules: Iterable[str],
    serving: bool = False,
) -> None:
    """Writes an ordinary PEFT LoRA adapter into a folder: both files or neither.

    Each block gets the lora_alpha that gives its own scale.

    Arguments:
        blocks: one for each layer, by its name in the model.
        saved: the modules trained along, by name, each with its tensors by name.
        buffers: what else goes into the file, by name: buffers of the base that moved in training.
        modules: the names of all modules of the base.
        serving: fold the scale into B and pad all ranks with zeros to the largest.

    Raises `ValueError` for a value that is not finite.
    """
    if serving:
        largest = max(len(A) for A, _, _ in blocks.values())
        blocks = {name: _padded(A, scale * B, largest) for name, (A, B, scale) in blocks.items()}
    content = {
        "peft_type": "LORA",
        **opened_as(base, saved),
        **ranks_and_alphas({name: (len(A), scale) for name, (A, _, scale) in blocks.items()}, rslora=rslora),
        "lora_dropout": lora_dropout,
        "target_modules": targets_for_peft(list(blocks), modules),
        "modules_to_save": list(saved) or None,
        "use_rslora": rslora,
        "bias": "none",
        "fan_in_fan_out": base.transposed,
        "inference_mode": True,
    }
    tensors = {f"{name}.lora_A.weight": A for name, (A, _, _) in blocks.items()}
    tensors |= {f"{name}.lora_B.weight": B for name, (_, B, _) in blocks.items()}
    tensors |= {f"{name}.{key}": tensor for name, module in saved.items() for key, tensor in module.items()}
    write_config_and_weights(Path(path), content, tensors | dict(buffers), base.fingerprint)


def targets_for_peft(layers: Sequence[str], modules: Iterable[str]) -> list[str] | str:
    """What PEFT is told to adapt: the names of layers, or a pattern where a name would not do.

    PEFT takes a name for every module whose own name ends so.

    >>> targets_for_peft(["up"], ["up", "down"]), targets_for_peft(["up"], ["up", "one.up"])
    (['up'], 'up')
    """
    ends, own = tuple(f".{name}" for name in layers), set(layers)
    if any(name.endswith(ends) and name not in own for name in modules):
        return "|".join(map(re.escape, layers))
    return list(layers)


def ranks_and_alphas(layers: Mapping[str, tuple[int, float]], *, rslora: bool) -> dict[str, Any]:
    """The fields of a LoRA config that give each layer its rank and its scale: r, lora_alpha, and a pattern for each.

    PEFT scales a layer by lora_alpha/r, under `rslora` by lora_alpha/√r.

    Arguments:
        layers: the rank and the scale of each layer, by its name in the model.

    >>> ranks_and_alphas({"up": (2, 8.0), "down": (1, 8.0)}, rslora=False)
    {'r': 2, 'lora_alpha': 16.0, 'rank_pattern': {'^down': 1}, 'alpha_pattern': {'^down': 8.0}}
    """
    largest = max(rank for rank, _ in layers.values())
    alphas = {name: scale * (math.sqrt(rank) if rslora else rank) for name, (rank, scale) in layers.items()}
    alpha = alphas[next(name for name, (rank, _) in layers.items() if rank == largest)]
    return {
        "r": largest,
        "lora_alpha": alpha,
        "rank_pattern": {pattern_of(name): rank for name, (rank, _) in layers.items() if rank != largest},
        "alpha_pattern": {
            pattern_of(name): layer_alpha
            for name, layer_alpha in alphas.items()
            if not math.isclose(layer_alpha, alpha)
        },
    }


def read_peft_adapter(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor], Origin]:
    """A PEFT LoRA adapter of linear layers: its config, its tensors by their names in the model, and its base.

    Raises `FileNotFoundError` for a missing file, and `ValueError` for one that is damaged, or that has what these
    adapters do not carry, such as DoRA, biases or embeddings.
    """
    folder = Path(path)
    config = read_json(folder / CONFIG)
    _check_carried(config, folder)
    check_safe(folder)
    tensors, metadata = read_tensors(folder / WEIGHTS)
    base = check_same_save(folder, config, metadata)
    config = {"r": 8} | config  # what PEFT takes where none is given
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    layers = layers_of(tensors)
    others = [key for key in tensors if "lora_" in key and key.rpartition(".lora_")[0] not in layers]
    others += [key for name in layers if tensors[key := f"{name}.lora_A.weight"].dim() != 2]
    if others:
        raise ValueError(f"{folder / WEIGHTS} holds {others[0]!r}: only adapters of linear layers can be imported")
    if not layers:
        raise ValueError(f"{folder / WEIGHTS} holds no adapter of a linear layer")
    for name in layers:
        r, rows = of_pattern(config, "rank_pattern", "r", name, folder), len(tensors[f"{name}.lora_A.weight"])
        if r != rows:
            raise ValueError(f"{folder / CONFIG} gives {name!r} rank {r!r}, but {WEIGHTS} holds {rows} rows for it")
    return config, tensors, base


def check_safe(folder: Path) -> None:
    """Raises `ValueError` for a folder whose weights are in a file that can run code when it is opened."""
    if not (folder / WEIGHTS).exists() and (folder / "adapter_model.bin").exists():
        raise ValueError(
            f"{folder} has its weights in adapter_model.bin, which can run code when it is opened: open it with PEFT "
            "and save it again, as safetensors"
        )


def alpha_of(config: Mapping[str, Any], name: str, folder: Path) -> float:
    """The α that PEFT takes for a module: of `alpha_pattern`, the first whose key matches the end of its name.

    Where none matches it is `lora_alpha`. Raises `ValueError`, which names the folder, for anything but a positive
    number.

    >>> alpha_of({"lora_alpha": 16, "alpha_pattern": {"value": 8}}, "layer.0.value", Path("adapter"))
    8
    """
    alpha = of_pattern(config, "alpha_pattern", "lora_alpha", name, folder)
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= LARGEST:
        where = f"{folder / CONFIG} gives {name!r}"
        raise ValueError(f"{where} lora_alpha = {shown(alpha)}: expected a number greater than 0, and finite")
    return alpha


def of_pattern(config: Mapping[str, Any], pattern: str, default: str, name: str, folder: Path) -> Any:
    """What PEFT takes for a module: the first value of a pattern whose key ends its name, or a default.

    Raises `ValueError`, which names the folder, for a pattern that is none.

    >>> of_pattern({"r": 8, "rank_pattern": {"up": 4}}, "rank_pattern", "r", "mlp.up", Path("adapter"))
    4
    """
    values = config.get(pattern) or {}
    try:
        matching = [value for key, value in values.items() if re.match(rf"(.*\.)?({key})$", name)]
    except (AttributeError, re.error):
        raise ValueError(f"{folder / CONFIG} gives {pattern} = {values!r}: expected names and numbers") from None
    return [*matching, config.get(default)][0]


def _padded(A: Tensor, B: Tensor, rank: int) -> Block:
    """A and B, filled up with zeros to a rank; at scale 1, since the scale is in B already."""
    missing = rank - len(A)
    return F.pad(A, (0, 0, 0, missing)), F.pad(B, (0, missing)), 1.0


def _check_carried(config: Mapping[str, Any], folder: Path) -> None:
    """Raises `ValueError` for a config that is not of LoRA, that uses what is not carried, or has bad values."""
    if config.get("peft_type") != "LORA":
        raise ValueError(
            f"{folder / CONFIG} is of type {config.get('peft_type')!r}: only LORA adapters can be imported"
        )
    for field in not_carried(config):
        known = UNSUPPORTED if field in NOT_CARRIED else "which this kit does not know"
        raise ValueError(f"{folder / CONFIG} uses {field} = {config[field]!r}, {known}: use it with PEFT")
    check_values(config, folder)


def not_carried(config: Mapping[str, Any]) -> list[str]:
    """The fields of a PEFT LoRA config that ask for what these adapters do not carry, or that are not known here.

    >>> not_carried({"r": 4, "use_dora": True, "bias": "none"})
    ['use_dora']
    """
    unused = {field: (None, *NOT_CARRIED.get(field, NOT_USED)) for field in config}
    return [field for field, value in config.items() if field not in KNOWN and value not in unused[field]]


def check_values(config: Mapping[str, Any], folder: Path) -> None:
    """Raises `ValueError` for a field of a PEFT LoRA config whose value is of another type, or no pattern."""
    for field, types in TYPES.items():
        if field in config:
            check_type(config[field], types, f"{folder / CONFIG} gives {field}")
    for field in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(field) or {}
        if isinstance(pattern, dict):
            check_expressions(pattern, f"{folder / CONFIG} gives {field}", ends=True)
