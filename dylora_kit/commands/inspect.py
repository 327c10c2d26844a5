"""python -m dylora_kit inspect: what ranks a trained LoRA uses."""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from dylora_kit.resizing.adapter_file import AdapterFile
from dylora_kit.resizing.opening import open_adapter
from dylora_kit.resizing.singular_values import effective_rank, energy_beyond

EXAMPLE = """examples:
  python -m dylora_kit inspect my-adapter
  python -m dylora_kit inspect style.safetensors --ranks 2 8 24"""
NAME, BARS, COLUMNS = 32, 12, 7  # characters of a name, bars of a layer, ranks of a table: 100 characters in all
HEIGHTS = "▁▂▃▄▅▆▇█"


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of a command line."""
    command = commands.add_parser(
        "inspect",
        help="show what ranks a trained LoRA uses",
        description="Shows each layer of a trained LoRA: its rank, its singular values, how many of them it uses, and "
        "how much a cut to a lower rank would lose. No base model is needed.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "adapter",
        metavar="ADAPTER",
        help="a folder of PEFT or of this kit, its name on the hub, or a .safetensors file of kohya's scripts",
    )
    command.add_argument(
        "--ranks", type=int, nargs="+", metavar="B", help=f"show what these would lose, at most {COLUMNS} of them"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints what the command line asks for. Raises `ValueError` for ranks out of range."""
    adapter = open_adapter(arguments.adapter)
    print("\n".join(described(adapter, arguments.ranks)))


def described(adapter: AdapterFile, ranks: Sequence[int] | None = None) -> list[str]:
    """The lines of a table of an adapter's layers, and of one of its kinds of module.

    Arguments:
        ranks: at which the loss is shown; default is every rank below the adapter's or, if it has many, powers of two.

    Raises `ValueError` for ranks out of range.
    """
    if not adapter.layers:
        raise ValueError(f"{adapter.path} has no layer that can be cut, only convolutions with groups or three factors")
    largest = max(layer.r for layer in adapter.layers.values())
    ranks = _checked(ranks, largest) if ranks else _some_ranks(largest)
    values = {name: adapter.singular_values(name) for name in sorted(adapter.layers, key=_natural)}
    lines = [_head(adapter, largest), "", *_table(adapter, values, ranks), "", *_summary(adapter, values, ranks), ""]
    lines += [
        "b: how much of ΔW's energy, Σ σ², a cut to its b largest singular values loses, in percent",
        "uses: the effective rank, exp of the entropy of σ / Σ σ (Roy and Vetterli, 2007)",
        f"σ: the singular values of ΔW, the largest on the left; at most {BARS} of them, evenly chosen",
    ]
    if adapter.nested:
        lines.append("At rank b this kit's adapters use their first b rows, which dylora_kit.ordering measures.")
    return lines


def _head(adapter: AdapterFile, largest: int) -> str:
    layers = "1 layer" if len(adapter.layers) == 1 else f"{len(adapter.layers)} layers"
    fixed = f"; {len(adapter.fixed)} more that cannot be cut" if adapter.fixed else ""
    return f"{adapter.path}: {adapter.kind}\n{layers}, rank {largest}, {adapter.parameters():,} parameters{fixed}"


def _table(adapter: AdapterFile, values: Mapping[str, Tensor], ranks: Sequence[int]) -> list[str]:
    """One line for each layer."""
    lines = [_row("layer", "rank", "uses", "σ", [f"b={b}" for b in ranks])]
    for name, s in values.items():
        lost = _lost([s], ranks)
        lines.append(_row(name, str(adapter.layers[name].r), f"{effective_rank(s):.1f}", _bars(s), lost))
    return lines


def _summary(adapter: AdapterFile, values: Mapping[str, Tensor], ranks: Sequence[int]) -> list[str]:
    """One line for each kind of module: how many there are, the mean of the ranks they use, their loss together."""
    kinds: dict[str, list[str]] = {}
    for name in values:
        kinds.setdefault(_kind(name), []).append(name)
    lines = [_row("kind of module", "rank", "uses", "layers", [f"b={b}" for b in ranks])]
    for kind, names in [*kinds.items(), ("all", list(values))]:
        own = [adapter.layers[name].r for name in names]
        span = str(max(own)) if min(own) == max(own) else f"{min(own)}–{max(own)}"
        uses = sum(effective_rank(values[name]) for name in names) / len(names)
        lines.append(_row(kind, span, f"{uses:.1f}", str(len(names)), _lost([values[name] for name in names], ranks)))
    return lines


def _row(name: str, rank: str, uses: str, middle: str, lost: Sequence[str]) -> str:
    """One line of at most 100 characters.

    >>> _row("h.0.attn.c_attn", "8", "3.2", "█▃▁", ["12.0"])
    'h.0.attn.c_attn                      8   3.2  █▃▁           12.0'
    """
    cells = " ".join(f"{cell:>5}" for cell in lost)
    return f"{_short(name):<{NAME}} {rank:>5} {uses:>5}  {middle:<{BARS}} {cells}".rstrip()


def _short(name: str) -> str:
    """A name of at most `NAME` characters: of its first words one letter, of as many as needed.

    >>> _short("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q")
    'l_u_d_b_1_a_0_t_b_0_attn1_to_q'
    """
    words = re.split(r"([._])", name)
    for place, word in enumerate(words):
        if len("".join(words)) <= NAME:
            break
        words[place] = word if word.isdigit() else word[:1]
    return "".join(words)[-NAME:]


def _bars(s: Tensor) -> str:
    """Singular values as bars, the largest of them full.

    >>> import torch
    >>> _bars(torch.tensor([8.0, 4.0, 0.1]))
    '█▄▁'
    """
    chosen = s if len(s) <= BARS else s[[round(i * (len(s) - 1) / (BARS - 1)) for i in range(BARS)]]
    largest = float(s[0]) or 1.0
    return "".join(HEIGHTS[max(round(len(HEIGHTS) * float(value) / largest), 1) - 1] for value in chosen)


def _lost(layers: Sequence[Tensor], ranks: Sequence[int]) -> list[str]:
    """The share of the energy of some layers that a cut to each rank loses, in percent."""
    total = sum(energy_beyond(0, s) for s in layers)
    return [f"{100 * sum(energy_beyond(b, s) for s in layers) / (total or 1.0):.1f}" for b in ranks]


def _some_ranks(largest: int) -> list[int]:
    """The ranks that are shown if none are named.

    >>> _some_ranks(4), _some_ranks(128)
    ([1, 2, 3], [1, 2, 4, 8, 16, 32, 64])
    """
    if largest - 1 <= COLUMNS:
        return list(range(1, largest))
    return [2**power for power in range(largest.bit_length()) if 2**power < largest][-COLUMNS:]


def _checked(ranks: Sequence[int], largest: int) -> list[int]:
    if len(ranks) > COLUMNS or not all(1 <= b <= largest for b in ranks):
        raise ValueError(f"--ranks is {' '.join(map(str, ranks))}: name up to {COLUMNS} ranks from 1 to {largest}")
    return list(ranks)


def _kind(name: str) -> str:
    """The kind of a module: what its name says after the number of its block.

    >>> _kind("encoder.layer.0.attention.self.query"), _kind("lora_unet_down_blocks_1_attentions_0_proj_in")
    ('attention.self.query', 'proj_in')
    """
    shortened = re.sub(r"([._]\d+)+$", "", name)
    return re.split(r"(?:^|[._])\d+[._]", shortened)[-1]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers inside of names by their value.

    >>> sorted(["h.10.up", "h.2.up"], key=_natural)
    ['h.2.up', 'h.10.up']
    """
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
