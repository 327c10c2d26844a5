"""python -m dylora_kit resize: a trained LoRA made smaller."""

import argparse
from typing import Any

from dylora_kit.resizing.resize import Resized, resize

EXAMPLE = """examples:
  python -m dylora_kit resize my-adapter --rank 4 --out smaller
  python -m dylora_kit resize my-adapter --energy 0.9 --out smaller
  python -m dylora_kit resize style.safetensors --budget 100000 --out smaller.safetensors"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of a command line."""
    command = commands.add_parser(
        "resize",
        help="make a trained LoRA smaller",
        description="Cuts a trained LoRA to lower ranks: of each layer's change of its weights, the largest singular "
        "values are kept. No base model is needed. The result is the closest that this rank allows, which need not be "
        "the best for your task: measure it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "adapter",
        metavar="ADAPTER",
        help="a folder of PEFT or of this kit, its name on the hub, or a .safetensors file of kohya's scripts",
    )
    how = command.add_mutually_exclusive_group(required=True)
    how.add_argument("--rank", type=int, metavar="R", help="the same rank for all layers")
    how.add_argument(
        "--energy", type=float, metavar="SHARE", help="the smallest rank of each layer that keeps this share, as 0.9"
    )
    how.add_argument(
        "--budget", type=int, metavar="N", help="a rank for each layer, with at most N parameters in all that are cut"
    )
    command.add_argument(
        "--out",
        required=True,
        metavar="OUT",
        help="a folder, or a .safetensors file if ADAPTER is one; an adapter that is there is replaced",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks for, and prints what was done."""
    done = resize(
        arguments.adapter, arguments.out, rank=arguments.rank, energy=arguments.energy, budget=arguments.budget
    )
    print("\n".join(_lines(done)))
    print(f"written: {arguments.out}")


def _lines(done: Resized) -> list[str]:
    """What was done, in words."""
    least = min(done.kept, key=lambda name: done.kept[name])
    layers = "1 layer" if len(done.after) == 1 else f"{len(done.after)} layers"
    lines = [
        f"{layers}: rank {_span(done.before)} → {_span(done.after)}, parameters {done.parameters_before:,} → "
        f"{done.parameters_after:,}",
        f"energy kept: {_percent(done.kept_in_all)} in all, least in {least}: {_percent(done.kept[least])}",
    ]
    if done.nested:
        lines.append(
            "this kit wrote ADAPTER: where its low ranks were trained, its own first rows may be better than this cut, "
            "and export_peft writes them"
        )
    if done.fixed:
        lines.append(f"copied as they are: {', '.join(done.fixed)}")
    return lines


def _span(ranks: dict[str, int]) -> str:
    """The ranks of all layers, as one number or from the least to the most.

    >>> _span({"up": 4, "down": 2})
    '2–4'
    """
    least, most = min(ranks.values()), max(ranks.values())
    return str(most) if least == most else f"{least}–{most}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
