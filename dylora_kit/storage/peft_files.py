"""PEFT's LoRA adapters on disk: written from one block for each layer, and read."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dylora_kit.storage.adapter_files import (
    CONFIG,
    PREFIX,
    WEIGHTS,
    layers_of,
    pattern_of,
    write_config_and_weights,
)
from dylora_kit.storage.files import read_json, read_tensors

Block = tuple[Tensor, Tensor, float]  # A (n, d_in), B (d_out, n) and a scale: ΔW = scale · B·A

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
HEADS = {"classifier", "score", "qa_outputs"}  # where PEFT looks for the head of a task
TASKS = {  # how transformers' class names end, and what PEFT calls their task
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}


@dataclass(frozen=True)
class BaseModel:
    """What PEFT's config says of the model under an adapter.

    Attributes:
        class_name, library: its class, and the module that has it.
        name: the name or folder it was loaded from, if that is known.
        transposed: whether adapted weights are (d_in, d_out), as of transformers' `Conv1D`.
    """

    class_name: str
    library: str
    name: str | None
    transposed: bool


def write_peft_adapter(
    path: str | PathLike[str],
    blocks: Mapping[str, Block],
    base: BaseModel,
    *,
    rslora: bool,
    lora_dropout: float,
    saved: Mapping[str, Mapping[str, Tensor]],
    serving: bool = False,
) -> None:
    """Writes an ordinary PEFT LoRA adapter into a folder: both files or neither.

    PEFT scales a layer by lora_alpha/r, under `rslora` by lora_alpha/√r: each block gets the lora_alpha that gives its
    own scale.

    Arguments:
        blocks: one for each layer, by its name in the model.
        saved: the modules trained along, by name, each with its tensors by name.
        serving: fold the scale into B and pad all ranks with zeros to the largest.

    Raises `ValueError` for a value that is not finite.
    """
    largest = max(len(A) for A, _, _ in blocks.values())
    if serving:
        blocks = {name: _padded(A, scale * B, largest) for name, (A, B, scale) in blocks.items()}
    alphas = {name: scale * (math.sqrt(len(A)) if rslora else len(A)) for name, (A, _, scale) in blocks.items()}
    alpha = alphas[next(name for name, (A, _, _) in blocks.items() if len(A) == largest)]
    content = {
        "peft_type": "LORA",
        **_opened_as(base, saved),
        "base_model_name_or_path": base.name,
        "r": largest,
        "lora_alpha": alpha,
        "rank_pattern": {pattern_of(name): len(A) for name, (A, _, _) in blocks.items() if len(A) != largest},
        "alpha_pattern": {
            pattern_of(name): layer_alpha
            for name, layer_alpha in alphas.items()
            if not math.isclose(layer_alpha, alpha)
        },
        "lora_dropout": lora_dropout,
        "target_modules": list(blocks),
        "modules_to_save": list(saved) or None,
        "use_rslora": rslora,
        "bias": "none",
        "fan_in_fan_out": base.transposed,
        "inference_mode": True,
    }
    tensors = {f"{name}.lora_A.weight": A for name, (A, _, _) in blocks.items()}
    tensors |= {f"{name}.lora_B.weight": B for name, (_, B, _) in blocks.items()}
    tensors |= {f"{name}.{key}": tensor for name, module in saved.items() for key, tensor in module.items()}
    write_config_and_weights(Path(path), content, tensors)


def read_peft_adapter(path: str | PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors of a PEFT LoRA adapter of linear layers, each tensor by its name in the model.

    Raises `FileNotFoundError` for a missing file, and `ValueError` for one that is damaged, or that has what these
    adapters do not carry, such as DoRA, biases or embeddings.
    """
    folder = Path(path)
    config = read_json(folder / CONFIG)
    _check_carried(config, folder)
    tensors, _ = read_tensors(folder / WEIGHTS)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    layers = layers_of(tensors)
    others = [key for key in tensors if "lora_" in key and key.rpartition(".lora_")[0] not in layers]
    others += [key for name in layers if tensors[key := f"{name}.lora_A.weight"].dim() != 2]
    if others:
        raise ValueError(f"{folder / WEIGHTS} holds {others[0]!r}: only adapters of linear layers can be imported")
    if not layers:
        raise ValueError(f"{folder / WEIGHTS} holds no adapter of a linear layer")
    return config, tensors


def alpha_of(config: Mapping[str, Any], name: str, folder: Path) -> float:
    """The α that PEFT takes for a module: of `alpha_pattern`, the first whose key matches the end of its name.

    Where none matches it is `lora_alpha`. Raises `ValueError`, which names the folder, for anything but a positive
    number.

    >>> alpha_of({"lora_alpha": 16, "alpha_pattern": {"value": 8}}, "layer.0.value", Path("adapter"))
    8
    """
    pattern = config.get("alpha_pattern") or {}
    try:
        matching = [alpha for key, alpha in pattern.items() if re.match(rf"(.*\.)?({key})$", name)]
    except (AttributeError, re.error):
        raise ValueError(f"{folder / CONFIG} gives alpha_pattern = {pattern!r}: expected names and numbers") from None
    alpha = [*matching, config.get("lora_alpha")][0]
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < math.inf:
        raise ValueError(f"{folder / CONFIG} gives {name!r} lora_alpha = {alpha!r}: expected a number greater than 0")
    return alpha


def _opened_as(base: BaseModel, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that tell PEFT's AutoPeft classes how to open the model: by its task, or by its class.

    By the class where the task is not known, and where PEFT would look for a head that is not saved.
    """
    task = next((task for end, task in TASKS.items() if base.class_name.endswith(end)), None)
    if task in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS") and not {name.rpartition(".")[2] for name in saved} & HEADS:
        task = None
    module = {"base_model_class": base.class_name, "parent_library": base.library}
    return {"task_type": task, "auto_mapping": None if task else module}


def _padded(A: Tensor, B: Tensor, rank: int) -> Block:
    """A and B, filled up with zeros to a rank; at scale 1, since the scale is in B already."""
    missing = rank - len(A)
    return F.pad(A, (0, 0, 0, missing)), F.pad(B, (0, missing)), 1.0


def _check_carried(config: Mapping[str, Any], folder: Path) -> None:
    """Raises `ValueError` for a config that is not of LoRA, or uses something of `NOT_CARRIED`."""
    if config.get("peft_type") != "LORA":
        raise ValueError(
            f"{folder / CONFIG} is of type {config.get('peft_type')!r}: only LORA adapters can be imported"
        )
    for field, unused in NOT_CARRIED.items():
        value = config.get(field)
        if value is not None and value not in unused:
            raise ValueError(f"{folder / CONFIG} uses {field} = {value!r}, {UNSUPPORTED}: use it with PEFT")
