"""Flips single bits in saved files and reads them: `PYTHONPATH=.:tests python tests/flip_bits.py [flips]`.

A flip is noticed if reading raises `ValueError` and leaves the model as it was. It must never give another adapter, and
never an error of another kind.
"""

import collections
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from toys import R, adapted, examples, state_of, toy

import dylora_kit as dk
from dylora_kit.storage.adapter_files import CONFIG, WEIGHTS
from dylora_kit.training.checkpoint import FILE


def write_all(folder: Path) -> None:
    """An adapter, an export and a checkpoint of one training."""
    model = toy(norm=True)
    adapters = adapted(model, rank_pattern={"down": 3})
    train(model, adapters, folder / "checkpoint", resume=False)
    adapters.save(folder / "adapter")
    adapters.export_peft(folder / "export", rank=2)


def train(model: torch.nn.Module, adapters: dk.Adapters, folder: Path, resume: bool) -> None:
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
    settings = {"steps": 3, "batch_size": 4, "progress": False, "checkpoint": folder, "resume": resume}
    dk.train(model, adapters, examples(), sampler=sampler, **settings)


def resumed(model: torch.nn.Module, folder: Path) -> None:
    adapters = adapted(model, rank_pattern={"down": 3})
    before = state_of(model)
    try:
        train(model, adapters, folder, resume=True)
    except BaseException:
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        adapters.detach()
        raise


FILES: list[tuple[str, str, Callable[..., object]]] = [
    ("adapter", CONFIG, dk.load),
    ("adapter", WEIGHTS, dk.load),
    ("export", CONFIG, dk.import_peft),
    ("export", WEIGHTS, dk.import_peft),
    ("checkpoint", FILE, resumed),
]


def outcome(read: Callable[..., object], folder: Path, good: dict[str, torch.Tensor]) -> str:
    """What reading a folder with a flip came to."""
    model = toy(norm=True)
    before = state_of(model)
    try:
        read(model, folder)
    except ValueError:
        same = all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        return "noticed" if same and before.keys() == model.state_dict().keys() else "NOTICED, MODEL CHANGED"
    except Exception as error:
        return f"ANOTHER ERROR: {type(error).__name__}"
    now = model.state_dict()
    return "read as before" if all(torch.equal(now[name], value) for name, value in good.items()) else "ANOTHER ADAPTER"


def main(flips: int) -> int:
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_all(root)
        for folder, file, read in FILES:
            path, good_model, draw = root / folder / file, toy(norm=True), random.Random(0)
            read(good_model, root / folder)
            content, good, counts = path.read_bytes(), state_of(good_model), collections.Counter[str]()
            for _ in range(flips):
                changed = bytearray(content)
                changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
                path.write_bytes(changed)
                counts[outcome(read, root / folder, good)] += 1
            path.write_bytes(content)
            bad += sum(count for name, count in counts.items() if name.isupper() or ":" in name or "CHANGED" in name)
            print(f"{folder}/{file}: {dict(counts)}")
    return bad


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(1 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000) else 0)
