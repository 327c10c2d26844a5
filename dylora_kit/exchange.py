"""PEFT's LoRA adapters: written at any one rank, and read."""

import json
import math
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.adapt import Adapters, attach
from dylora_kit.adapter import LowRankAdapter
from dylora_kit.files import read_json, read_tensors, tensors_as_bytes, write_files
from dylora_kit.io import CONFIG, PREFIX, WEIGHTS, check_finite, difference, saved_tensors
from dylora_kit.layer import DyLoRAFused, DyLoRALinear, Wrapper, sizes_of, stores_transposed
from dylora_kit.nest import LEAVES_BASE, PeftAdapters
from dylora_kit.targets import sizes_fit

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


def export_peft(
    adapters: Adapters, path: str | PathLike[str], rank: int | Mapping[str, int] | None = None, *, serving: bool = False
) -> None:
    """Writes adapters, cut to one rank, as an ordinary PEFT LoRA adapter, with the modules trained along.

    PEFT scales by α/r, so each scaling finds its α: at rank b, `"alpha/b"` keeps it, `"alpha/r"` writes α·b/r, and
    `"alpha/sqrt(b)"` sets `use_rslora`. The adapters of one fused projection become one adapter of block structure,
    whose rank and α are so many times larger.

    Arguments:
        path: a folder; `adapter_config.json` and `adapter_model.safetensors` go there, both or neither.
        rank: an int, or `{layer: rank}` for every layer; default is the active rank.
        serving: for engines that want one rank and one scale: the scale is folded into `lora_B`, ranks are padded
            with zeros to the largest, and nothing but adapters is written.

    Raises `ValueError` for a rank out of range, while merged, and for a weight that is not finite.
    """
    adapters.check_usable()
    if adapters.merged:
        raise ValueError("the adapters are merged into the base weights: call unmerge() before exporting")
    if isinstance(rank, Tensor) or (rank is None and isinstance(adapters.rank, Tensor)):
        raise ValueError("each example has its own rank: say which rank to export, as in export_peft(path, rank=3)")
    if isinstance(adapters, PeftAdapters):
        adapters.check_original_base()
    else:
        _check_one_name(adapters.model)
    blocks: dict[str, tuple[Tensor, Tensor, float]] = {}
    transposed = False
    with adapters.at(adapters.rank if rank is None else rank):
        if isinstance(adapters, PeftAdapters):
            blocks = {name: _cut(layer) for name, layer in adapters.layers.items()}
        for name, module in adapters.model.named_modules():
            if isinstance(module, DyLoRALinear | DyLoRAFused):
                blocks[name] = _block(module)
                transposed |= stores_transposed(module.base_layer)
    largest = max(len(A) for A, _, _ in blocks.values())
    if serving:
        blocks = {name: _padded(A, scale * B, largest) for name, (A, B, scale) in blocks.items()}
    rslora = adapters.scaling == "alpha/sqrt(b)" and not serving
    alphas = {name: scale * (math.sqrt(len(A)) if rslora else len(A)) for name, (A, _, scale) in blocks.items()}
    alpha = alphas[next(name for name, (A, _, _) in blocks.items() if len(A) == largest)]
    saved = {} if serving else adapters.saved_modules
    if not isinstance(adapters, PeftAdapters):
        saved = _saved_by_peft(adapters.model, list(saved))
        saved |= _sharing(adapters.model, saved)  # PEFT trains copies: each holder of a shared weight needs its own
    content = {
        "peft_type": "LORA",
        **_opened_as(adapters, list(saved)),
        "base_model_name_or_path": getattr(adapters.model, "name_or_path", None) or None,
        "r": largest,
        "lora_alpha": alpha,
        # "^", since PEFT takes a name that begins nowhere for the end of others
        "rank_pattern": {f"^{re.escape(name)}": len(A) for name, (A, _, _) in blocks.items() if len(A) != largest},
        "alpha_pattern": {f"^{re.escape(name)}": one for name, one in alphas.items() if not math.isclose(one, alpha)},
        "lora_dropout": adapters.config["lora_dropout"],
        "target_modules": list(blocks),
        "modules_to_save": list(saved) or None,
        "use_rslora": rslora,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "inference_mode": True,
    }
    tensors = {f"{name}.lora_A.weight": A for name, (A, _, _) in blocks.items()}
    tensors |= {f"{name}.lora_B.weight": B for name, (_, B, _) in blocks.items()}
    tensors |= saved_tensors(saved)
    check_finite(tensors)
    files = {
        WEIGHTS: tensors_as_bytes({PREFIX + name: tensor for name, tensor in tensors.items()}, None),
        CONFIG: (json.dumps(content, indent=2) + "\n").encode(),
    }
    write_files(Path(path), files)


def import_peft(model: nn.Module, path: str | PathLike[str], *, scaling: str | None = None) -> Adapters:
    """Attaches a PEFT LoRA adapter from a folder. At its rank r the model does what it does under PEFT.

    A fused projection stays one layer. Where PEFT gives a layer an α of its own, the difference goes into `lora_B`.

    Arguments:
        scaling: what the scale is at lower ranks; default is `"alpha/b"`, or `"alpha/sqrt(b)"` for `use_rslora`.

    Raises `ValueError`, and leaves the model as it was, for an adapter with features that are not carried here (such as
    DoRA or biases), that is damaged, or that was made for another model.
    """
    folder = Path(path)
    config = read_json(folder / CONFIG)
    _check_carried(config, folder)
    tensors, _ = read_tensors(folder / WEIGHTS)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    names = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    odd = [key for key in tensors if "lora_" in key and key.rpartition(".lora_")[0] not in names]
    odd += [key for name in names if tensors[key := f"{name}.lora_A.weight"].dim() != 2]
    if odd:
        raise ValueError(f"{folder / WEIGHTS} holds {odd[0]!r}: only adapters of linear layers can be imported")
    if not names:
        raise ValueError(f"{folder / WEIGHTS} holds no adapter of a linear layer")
    ranks = {name: len(tensors[f"{name}.lora_A.weight"]) for name in names}
    modules = dict(model.named_modules())
    for name in names:
        if name in modules and sizes_fit(modules[name]) and ranks[name] > min(sizes_of(modules[name])):
            raise ValueError(
                f"{folder} has rank {ranks[name]} in {name!r}, a layer of {sizes_of(modules[name])[0]} inputs and "
                f"{sizes_of(modules[name])[1]} outputs: PEFT allows more than the smaller of them, this kit does not"
            )
    r, rslora = max(ranks.values()), bool(config.get("use_rslora"))
    lacking = [name for name in names if name not in modules]
    if lacking:
        raise ValueError(f"{folder} was made for another model: this one has no module {lacking[0]!r}")
    alphas = {name: _alpha_of(config, name, folder) for name in names}
    saved = [
        name
        for name in _saved_by_peft(model, config.get("modules_to_save") or [])
        if any(key.startswith(f"{name}.") for key in tensors)
    ]
    _check_shared(model, saved, tensors, folder)
    alpha = next(alphas[name] for name in names if ranks[name] == r)
    try:
        adapters = attach(
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
    own = {f"{name}.lora_{letter}.weight": getattr(layer, f"lora_{letter}")
           for name, layer in adapters.layers.items() for letter in "AB"}  # fmt: skip
    own |= saved_tensors(adapters.saved_modules)
    problem = difference(own, tensors)
    if problem:
        adapters.detach()
        raise ValueError(f"{folder / WEIGHTS} does not fit this model: {problem}")
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(tensors[key])
        for name, layer in adapters.layers.items():
            wanted = alphas[name] / (math.sqrt(layer.r) if rslora else layer.r)
            layer.lora_B.mul_(wanted / layer.scale(layer.r))
    return adapters


def _cut(layer: LowRankAdapter) -> tuple[Tensor, Tensor, float]:
    b = layer.active.of(layer.name)
    return layer.lora_A.detach()[:b], layer.lora_B.detach()[:, :b], layer.scale(b)


def _block(module: DyLoRALinear | DyLoRAFused) -> tuple[Tensor, Tensor, float]:
    """A, B and the scale of a layer at its active rank: A (n, d_in), B (d_out, n), scale · B·A = ΔW."""
    if isinstance(module, DyLoRALinear):
        return _cut(module)
    parts = {name: module.part(name) for name in module.parts}
    ranks = {name: part.active.of(part.name) for name, part in parts.items()}
    scales = {name: part.scale(ranks[name]) for name, part in parts.items()}
    scale = max(scales.values())
    _, d_out = sizes_of(module.base_layer)
    A = torch.cat([parts[name].lora_A.detach()[:b] for name, b in ranks.items()])  # (Σ b, d_in)
    B, done = A.new_zeros(d_out, len(A)), 0
    for name, b in ranks.items():
        columns = parts[name].lora_B.detach()[:, :b] * (scales[name] / scale)  # 1 where all parts have one rank
        B[module.parts[name], done : done + b] = columns
        done += b
    return A, B, scale


def _saved_by_peft(model: nn.Module, names: list[str]) -> dict[str, nn.Module]:
    """What PEFT takes for the modules of these names: all whose name ends so; `pre_classifier` for `classifier`."""
    return {name: module for name, module in model.named_modules() if name and any(name.endswith(end) for end in names)}


HEADS = {"classifier", "score", "qa_outputs"}
TASKS = {  # how transformers' class names end, and what PEFT calls their task
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}


def _opened_as(adapters: Adapters, saved: list[str]) -> dict[str, Any]:
    """What PEFT's AutoPeft classes go by: the task, or the model's class where PEFT would look for a head in vain."""
    model = adapters.model.get_base_model() if isinstance(adapters, PeftAdapters) else adapters.model  # type: ignore[operator]
    task = next((task for end, task in TASKS.items() if type(model).__name__.endswith(end)), None)
    if task in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS") and not {name.rpartition(".")[2] for name in saved} & HEADS:
        task = None
    module = {"base_model_class": type(model).__name__, "parent_library": type(model).__module__}
    return {"task_type": task, "auto_mapping": None if task else module}


def _check_one_name(model: nn.Module) -> None:
    seen: dict[nn.Module, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Wrapper) and seen.setdefault(module, name) != name:
            raise ValueError(
                f"cannot export: {seen[module]!r} and {name!r} are one module, of which PEFT would adapt one name alone"
            )


def _sharing(model: nn.Module, saved: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules besides `saved` that hold a parameter of theirs."""
    held = {parameter for module in saved.values() for parameter in module.parameters()}
    within = {module for one in saved.values() for module in one.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if module not in within and any(parameter in held for parameter in module.parameters(recurse=False))
    }


def _padded(A: Tensor, B: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    more = rank - len(A)
    return F.pad(A, (0, 0, 0, more)), F.pad(B, (0, more)), 1.0


def _alpha_of(config: Mapping[str, Any], name: str, folder: Path) -> float:
    """The α that PEFT takes for a module: of `alpha_pattern`, the first whose key matches the end of its name."""
    pattern = config.get("alpha_pattern") or {}
    try:
        found = [alpha for key, alpha in pattern.items() if re.match(rf"(.*\.)?({key})$", name)]
    except (AttributeError, re.error):
        raise ValueError(f"{folder / CONFIG} gives alpha_pattern = {pattern!r}: expected names and numbers") from None
    alpha = [*found, config.get("lora_alpha")][0]
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha < math.inf:
        raise ValueError(f"{folder / CONFIG} gives {name!r} lora_alpha = {alpha!r}: expected a number greater than 0")
    return alpha


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


def _check_carried(config: Mapping[str, Any], folder: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise ValueError(
            f"{folder / CONFIG} is of type {config.get('peft_type')!r}: only LORA adapters can be imported"
        )
    for field, unused in NOT_CARRIED.items():
        value = config.get(field)
        if value is not None and value not in unused:
            raise ValueError(
                f"{folder / CONFIG} uses {field} = {value!r}, which these adapters do not carry: use it with PEFT"
            )
