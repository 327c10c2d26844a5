"""Kills a process while it saves, again and again: `PYTHONPATH=.:tests python tests/kill_saves.py [kills]`.

A child saves one of two adapters over the other without a pause, with other settings each time, and a second child
writes checkpoints. Each is killed with SIGKILL at a moment of its own. After each kill the folder must hold an adapter
that loads and is one of the two, or a pair that is refused; and what the killed process left beside its files must be
gone after the next save.
"""

import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from toys import R, adapted, examples, toy

import dylora_kit as dk
from dylora_kit.training.checkpoint import FILE

SAVE = """
import sys, torch
from kill_saves import two_adapters
torch.set_num_threads(1)
both = two_adapters()
print("ready", flush=True)
while True:
    for adapters in both:
        adapters.save(sys.argv[1])
"""
TRAIN = """
import sys, torch
from kill_saves import train
torch.set_num_threads(1)
train(sys.argv[1], 1_000_000, resume=False)
"""


def two_adapters() -> list[dk.Adapters]:
    """Adapters of two settings, with weights that tell them apart."""
    return [adapted(toy(), seed=seed, lora_alpha=alpha) for seed, alpha in ((0, 8), (1, 32))]


def train(folder: str, steps: int, resume: bool) -> int:
    """A training that writes a checkpoint after each step; returns how many steps it has done in the end."""
    model = toy()
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=0)
    settings = {"steps": steps, "batch_size": 4, "schedule": "constant", "checkpoint_every": 1, "progress": False}
    done: list[int] = []

    def stop(step: int) -> None:
        if not (done or resume):
            print("ready", flush=True)
        done.append(step)
        if resume:
            raise KeyboardInterrupt

    try:
        settings |= {"checkpoint": folder, "resume": resume, "on_step": stop}
        dk.train(model, adapted(model), examples(), sampler=sampler, **settings)
    except KeyboardInterrupt:
        pass
    return done[-1]


def killed(code: str, folder: Path, delay: float) -> None:
    """Starts a child, and kills it after a while."""
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(delay)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def after_a_kill_of_save(folder: Path) -> str:
    """What the folder holds; it is saved into afterwards."""
    left = len(list(folder.iterdir())) - 2
    try:
        loaded = dk.load(toy(), folder)
    except ValueError as error:
        found = "a pair of two saves, refused" if "two different adapters" in str(error) else f"BAD: {error}"
    else:
        kinds = two_adapters()
        same = [
            loaded.config == kind.config
            and all(torch.equal(kind.tensors()[name], tensor) for name, tensor in loaded.tensors().items())
            for kind in kinds
        ]
        found = "a whole adapter" if any(same) else "BAD: a mixture"
    two_adapters()[0].save(folder)
    if len(list(folder.iterdir())) != 2:
        found = "BAD: files are left over"
    return f"{found}{', with files left beside it until the next save' if left else ''}"


def main(kills: int) -> int:
    counts, draw = collections.Counter[str](), random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "adapter"
        two_adapters()[0].save(folder)
        for _ in range(kills):
            killed(SAVE, folder, draw.uniform(0.0, 0.1))
            counts[f"save: {after_a_kill_of_save(folder)}"] += 1
        for number in range(kills):
            folder = Path(temporary) / f"checkpoint {number}"
            killed(TRAIN, folder, draw.uniform(0.0, 0.1))
            step = train(str(folder), 1_000_000, resume=True)
            left = [path.name for path in folder.iterdir() if path.name != FILE]
            counts["checkpoint: the run goes on" if step > 1 and not left else f"BAD: {step}, {left}"] += 1
    for name, count in counts.items():
        print(f"{count:4d} {name}")
    return sum(count for name, count in counts.items() if "BAD" in name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(1 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 30) else 0)
