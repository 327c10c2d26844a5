"""digits-vit: a vision transformer for 8 × 8 pixels, pretrained on upright digits."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dylora_kit.core.modes import evaluating
from dylora_kit.evaluation.metrics import accuracy
from dylora_kit.progress import progress_bar
from dylora_kit.storage.files import write_files
from dylora_kit.tasks import digits

PRETRAINING = {"seed": 0, "steps": 3000, "batch_size": 64, "lr": 2e-3, "weight_decay": 0.05}


def pretrain(name: str, folder: Path, *, progress: bool = True) -> dict[str, Any]:
    """Trains it from random weights and writes it into a folder. Returns its accuracy on validation and test images."""
    task, settings = digits.load("upright"), PRETRAINING
    steps = int(settings["steps"])
    with torch.random.fork_rng([]):
        torch.manual_seed(int(settings["seed"]))
        model = _model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"])
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=settings["lr"], total_steps=steps)
        start = time.perf_counter()
        model.train()
        bar = progress_bar(steps, f"pretraining {name}", show=progress)
        for _ in range(steps):
            index = torch.randint(len(task.train), (int(settings["batch_size"]),))
            pixels = _shift(task.train.pixel_values[index])
            loss = model(pixel_values=pixels, labels=task.train.labels[index]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
        bar.close()
        seconds = time.perf_counter() - start
    result = {part: _accuracy(model, getattr(task, part)) for part in ("validation", "test")}
    _write(model.eval(), folder, name, result | {"seconds": round(seconds)})
    return result


def _model() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=256,
        num_labels=10,
    )
    return ViTForImageClassification(config)


def _shift(pixels: torch.Tensor) -> torch.Tensor:
    """Moves each image by up to one pixel in each direction; the pixels that come in are background."""
    padded = nn.functional.pad(pixels, (1, 1, 1, 1), value=-1.0)
    moves = torch.randint(0, 3, (len(pixels), 2)).tolist()
    return torch.stack([image[:, y : y + 8, x : x + 8] for image, (y, x) in zip(padded, moves, strict=True)])


def _accuracy(model: nn.Module, data: digits.Digits) -> float:
    with evaluating(model):
        return accuracy(model(pixel_values=data.pixel_values).logits.numpy(), data.labels.numpy())


def _write(model: nn.Module, folder: Path, name: str, result: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)  # type: ignore[operator]
        files = {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
    numbers = f"{result['validation']:.1%} on 200 validation images, {result['test']:.1%} on 597 test images"
    card = f"""# {name}

A vision transformer for 8 × 8 pixels, {sum(p.numel() for p in model.parameters()):,} parameters, trained on upright
digits: 1,000 of scikit-learn's scans, each moved by up to one pixel. The lessons adapt it to altered digits.

- Made by `python -m dylora_kit.backbones {name}` in {result["seconds"]} s on two CPU cores.
- Settings: `{json.dumps(PRETRAINING)}`.
- Accuracy on upright digits: {numbers}.
- Licence: Apache-2.0. Data: Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), CC BY 4.0.
"""
    write_files(folder, files | {"README.md": card.encode()})
