"""What the files of an adapter say of the model under it: how it is opened, and how another one is told from it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

HEADS = {"classifier", "score", "qa_outputs"}  # where PEFT looks for the head of a task
TASKS = {  # how transformers' class names end, and what PEFT calls their task
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}
VALUES, VALUES_BEFORE = 3, 8  # of each weight in a fingerprint, and in one of before the checksum
SAME, CLOSE = {"rtol": 1e-5, "atol": 1e-8}, {"rtol": 0.01, "atol": 1e-4}  # in the same precision, and in another

# the name of a weight, and its shape, type, checksum and some of its values as text
Fingerprint = dict[str, str]
BLOCK = re.compile(r"(.*?\.)??\d+(?=\.)")  # the beginning of a weight's name, up to the number of the block it is in


@dataclass(frozen=True)
class BaseModel:
    """The model under an adapter.

    Attributes:
        class_name, library: its class, and the module that has it.
        name: the name or folder it was loaded from, if that is known.
        transposed: whether adapted weights are (d_in, d_out), as of transformers' `Conv1D`.
        fingerprint: a checksum and a few values of each of its weights.
    """

    class_name: str
    library: str
    name: str | None
    transposed: bool
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Origin:
    """The base of an adapter as its files name it: its name and fingerprint, each None if it is not there."""

    name: str | None
    fingerprint: Fingerprint | None


def opened_as(base: BaseModel, saved: Iterable[str]) -> dict[str, Any]:
    """The fields that tell PEFT's AutoPeft classes how to open the model: by its task, or by its class.

    By the class where the task is not known, and where PEFT would look for a head that is not saved.
    """
    task = next((task for end, task in TASKS.items() if base.class_name.endswith(end)), None)
    if task in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS") and not {name.rpartition(".")[2] for name in saved} & HEADS:
        task = None
    module = {"base_model_class": base.class_name, "parent_library": base.library}
    return {
        "task_type": task,
        "auto_mapping": None if task else module,
        "base_model_name_or_path": base.name,
    }


def fingerprint_of(
    weights: Mapping[str, Tensor], checksums: Mapping[str, str], others: Mapping[str, Tensor] | None = None
) -> Fingerprint:
    """Shape, type, checksum and a few values of each weight of a model, as text that tells one base from another.

    Arguments:
        others: weights of which only shape and type are given, as of quantised and offloaded ones.

    >>> fingerprint_of({"up": torch.tensor([[0.5, -2.0]])}, {"up": "0a1b2c3d4e5f"})
    {'up': '1x2 float32 #0a1b2c3d4e5f 0.5 -2'}
    """
    prints = {}
    for name, weight in weights.items():
        if weight.numel():
            values = [f"{value:.6g}" for value in _some_values(weight, VALUES).tolist()]
            prints[name] = " ".join([*_kind(weight), f"#{checksums[name]}", *values])
    return prints | {name: " ".join(_kind(weight)) for name, weight in (others or {}).items()}


def other_base(fingerprint: Fingerprint, here: Fingerprint, weights: Mapping[str, Tensor]) -> str | None:
    """How a model differs from the one that a fingerprint is of; None if it does not.

    A weight of the same type is compared whole, by its checksum. One of another type is compared in a few values, up
    to half precision: changes of single rows are not seen then. Fingerprints of before the checksum hold some values
    of some weights, and only these are compared. A weight that one of the two does not have in floating point, such as
    one that is quantised, is not compared; but both must have the same blocks, by the first number in their names.

    Arguments:
        here: the fingerprint of this model.
        weights: of this model.

    >>> other_base({"up": "1x2 float32 0.5 -2"}, {}, {"up": torch.tensor([[0.5, 2.0]])})
    "'up' has other values"
    """
    if any("#" in text for text in fingerprint.values()):
        blocks, blocks_here = _blocks(fingerprint), _blocks(here)
        for block in sorted(blocks ^ blocks_here):
            return f"it has no {block!r}" if block in blocks else f"it has {block!r}, which that one did not have"
    for name, text in fingerprint.items():
        weight = weights.get(name)
        if weight is None or len(text.split()) == 2:
            continue
        (shape, dtype), (shape_then, dtype_then, *values) = _kind(weight), text.split()
        if shape != shape_then:
            return f"{name!r} has shape {shape}, and had {shape_then}"
        sums = [word for word in (*values, *here.get(name, "").split()) if word.startswith("#")]
        if dtype == dtype_then and len(sums) == 2:
            same = sums[0] == sums[1]
        else:
            then = torch.tensor([float(value) for value in values if not value.startswith("#")])
            now = _some_values(weight, VALUES if values[0].startswith("#") else VALUES_BEFORE)
            same = torch.allclose(now, then, equal_nan=True, **(SAME if dtype == dtype_then else CLOSE))
        if not same:
            return f"{name!r} has other values"
    return None


def is_fingerprint(value: Any) -> bool:
    """Whether a value of a file is a fingerprint."""
    pattern = re.compile(r"(\d+(x\d+)*|scalar) \w+(( #[0-9a-f]{12})?( -?[\d.]+(e[+-]?\d+)?| nan| -?inf)+)?")
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(text, str) and pattern.fullmatch(text) for name, text in value.items()
    )


def _blocks(fingerprint: Fingerprint) -> set[str]:
    """The blocks of a model, such as `encoder.layer.0`.

    >>> sorted(_blocks({"embed.weight": "", "h.0.attn.up": "", "h.1.mlp.3.up": ""}))
    ['h.0', 'h.1']
    """
    return {block[0] for block in map(BLOCK.match, fingerprint) if block}


def same_name(one: str, other: str) -> bool:
    """Whether two names of a model may mean one: a name on the hub, its copy in the cache, or a folder called so.

    >>> same_name("org/model", "/home/me/model/"), same_name("org/model", "org/other")
    (True, False)
    """

    def last(name: str) -> str:
        cached = re.search(r"models--(?:.*--)?([^/\\]+)", name)
        return (cached[1] if cached else re.split(r"[/\\]", name.rstrip("/\\"))[-1]).lower()

    return last(one) == last(other)


def _kind(weight: Tensor) -> tuple[str, str]:
    """Shape and type of a weight as text."""
    return "x".join(map(str, weight.shape)) or "scalar", str(weight.dtype).removeprefix("torch.")


def _some_values(weight: Tensor, n: int) -> Tensor:
    """Up to n values of a weight, from all over it, both ends among them, on the CPU in float32."""
    last = weight.numel() - 1
    chosen = sorted({round(index * last / (n - 1)) for index in range(n)}) if last >= 0 else []
    return weight.detach().reshape(-1)[torch.tensor(chosen, dtype=torch.long, device=weight.device)].float().cpu()
