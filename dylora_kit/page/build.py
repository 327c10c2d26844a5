"""The page as one file: the weights, the digits, the style and the scripts, put into the template."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dylora_kit import backbones
from dylora_kit.core.adapters import load
from dylora_kit.evaluation.sweep import predict
from dylora_kit.page.curves import curves
from dylora_kit.storage.files import data_folder
from dylora_kit.tasks import digits

SOURCES = Path(__file__).parent
SCRIPTS = ("model.js", "drawing.js", "answers.js", "painting.js", "pad.js", "page.js")
ADAPTERS = {"dylora": "digits-turned-dylora", "lora": "digits-turned-lora"}
BACKBONE = "digits-vit"


def page() -> str:
    """The page as HTML that needs no other file. The same model, adapters and digits give the same text.

    Raises `FileNotFoundError` where one of them is missing, and `ValueError` where one is damaged.
    """
    test = digits.load("turned").test
    model = backbones.load(BACKBONE)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("classifier.")}
    adapted: dict[str, dict[str, Any]] = {}
    for name, folder in ADAPTERS.items():
        tensors_of_adapter, adapted[name] = _adapter(folder, test)
        tensors |= {f"{name}.{key}": tensor for key, tensor in tensors_of_adapter.items()}
    labels = test.labels.tolist()
    facts = {"sizes": _sizes(model.config), "adapters": adapted, "labels": labels, "tensors": _places(tensors)}
    right = {name: known["right"] for name, known in adapted.items()}
    style, script = _source("page.css"), "\n".join(_source(name) for name in SCRIPTS)
    parts = {
        "policy": _policy(style, script),
        "style": style,
        "curves": curves(right, len(test), kind="wide", width=1600, height=340, letter=26)
        + curves(right, len(test), kind="tall", width=800, height=600, letter=40),
        "facts": json.dumps(facts, separators=(",", ":")),
        "weights": _base64(np.concatenate([tensor.detach().flatten().numpy() for tensor in tensors.values()]), "<f4"),
        "pixels": _base64((8 * (test.pixel_values + 1)).round().numpy(), "u1"),  # 0 to 16, as they were scanned
        "script": script,
    }
    return _filled(_source("index.html"), parts)


def _adapter(folder: str, test: digits.Digits) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a shipped adapter, and what the page has to know of it.

    That is its rank and α, and how many of the test digits it reads rightly at rank 1 to r.
    """
    model = backbones.load(BACKBONE)
    adapters = load(model, data_folder() / "adapters" / folder)
    ranks = range(1, adapters.r + 1)
    logits, labels = predict(model, adapters, test, ranks=ranks)
    right = [int((logits[b].argmax(1) == labels).sum()) for b in ranks]
    return adapters.tensors(), {"r": adapters.r, "alpha": adapters.config["lora_alpha"], "right": right}


def _sizes(config: Any) -> dict[str, Any]:
    """The sizes of the network that its weights do not tell."""
    return {
        "image": config.image_size,
        "patch": config.patch_size,
        "heads": config.num_attention_heads,
        "layers": config.num_hidden_layers,
        "epsilon": config.layer_norm_eps,
    }


def _places(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Where each tensor begins and how long it is, among all numbers one after another."""
    places: dict[str, list[int]] = {}
    start = 0
    for name, tensor in tensors.items():
        places[name] = [start, tensor.numel()]
        start += tensor.numel()
    return places


def _policy(style: str, script: str) -> str:
    """What the browser may do: run this script, use this style, and nothing from anywhere else."""
    allowed = {"script": _fingerprint(script), "style": _fingerprint(style)}
    rules = [f"{kind}-src 'sha256-{digest}'" for kind, digest in allowed.items()]
    return "; ".join(["default-src 'none'", *rules, "img-src data:", "base-uri 'none'", "form-action 'none'"])


def _fingerprint(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _base64(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(values.astype(dtype).tobytes()).decode()


def _source(name: str) -> str:
    return (SOURCES / name).read_text(encoding="utf-8")


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with each part in the place that is named for it.

    >>> _filled("<style>{{style}}</style>", {"style": "p { margin: 0 }"})
    '<style>p { margin: 0 }</style>'
    """
    for name, text in parts.items():
        template = template.replace("{{" + name + "}}", text)
    return template
