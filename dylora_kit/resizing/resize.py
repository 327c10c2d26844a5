"""Cuts an adapter by singular values, layer by layer, and writes what is left."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from dylora_kit.core.rotation import balanced, svd_of_product
from dylora_kit.resizing.adapter_file import AdapterFile, Matrices
from dylora_kit.resizing.opening import open_adapter
from dylora_kit.resizing.rank_choice import ranks_under_budget, smallest_rank_keeping
from dylora_kit.resizing.singular_values import energy_beyond
from dylora_kit.storage.files import is_finite

Choice = Callable[[str, Tensor], int]  # a layer's name and singular values → its new rank


@dataclass(frozen=True)
class Resized:
    """What `resize` did.

    Attributes:
        before, after: the rank of each layer.
        kept: the share of each layer's energy that is left.
        kept_in_all: the share of the energy of all layers together, their scales included.
        parameters_before, parameters_after: of these layers.
        fixed: layers that stay as they are.
        nested: whether this kit wrote the source, whose first rows may have been trained to be used alone.
    """

    before: dict[str, int]
    after: dict[str, int]
    kept: dict[str, float]
    kept_in_all: float
    parameters_before: int
    parameters_after: int
    fixed: list[str]
    nested: bool


def resize(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    rank: int | None = None,
    energy: float | None = None,
    budget: int | None = None,
) -> Resized:
    """Writes a trained LoRA at lower ranks: of each layer's ΔW the largest singular values are kept.

    By the Eckart-Young theorem no matrix of that rank is closer to ΔW; what is closest need not be best for the task,
    so measure what you get. The base model is not needed. Each layer keeps its scale (its α shrinks with its rank),
    `use_rslora`, and its type of number. Linear layers, embeddings and convolutions without groups are cut. Everything
    else in the file, such as heads and biases, is copied. One layer is read at a time.

    Arguments:
        source: as in `open_adapter`.
        out: a folder, or a `.safetensors` file if the source is one. An adapter that is there is replaced, once the
            new one is whole.
        rank: the same for all layers; one that has less keeps its rank.
        energy: the smallest rank of each layer that keeps this share of its energy, the sum of squared singular values.
        budget: a rank for each layer, so that all layers together have at most so many parameters, by energy gained
            per parameter.

    Raises `TypeError` unless one of the three is given; `ValueError` for one that is out of range, for a source that
    `open_adapter` refuses or that is not finite, and for an `out` that does not fit or is the source. Nothing is
    written then.
    """
    if not str(out):
        raise ValueError("the result has no name: name a folder, or a .safetensors file")
    adapter = open_adapter(source)
    adapter.check_out(Path(out))
    choice = _choice(adapter, rank, energy, budget)
    cut: dict[str, Matrices] = {}
    kept, energies, losses = {}, 0.0, 0.0
    for name, layer in adapter.layers.items():
        A, B = adapter.matrices(name)
        u, s, vh = svd_of_product(A, B)
        b = choice(name, s)
        new_A, new_B = balanced(u, s, vh, b)
        cut[name] = new_A.to(A.dtype), new_B.to(B.dtype)
        if not all(map(is_finite, cut[name])):
            raise ValueError(f"the matrices of {name!r}, once cut, have values too large for {A.dtype}")
        total, lost = energy_beyond(0, s), energy_beyond(b, s)
        kept[name] = 1 - lost / total if total else 1.0
        energies, losses = energies + total * layer.scale**2, losses + lost * layer.scale**2
    adapter.write(Path(out), cut)
    after = {name: len(A) for name, (A, _) in cut.items()}
    return Resized(
        before={name: layer.r for name, layer in adapter.layers.items()},
        after=after,
        kept=kept,
        kept_in_all=1 - losses / energies if energies else 1.0,
        parameters_before=adapter.parameters(),
        parameters_after=adapter.parameters(after),
        fixed=list(adapter.fixed),
        nested=adapter.nested,
    )


def _choice(adapter: AdapterFile, rank: int | None, energy: float | None, budget: int | None) -> Choice:
    """How the rank of each layer is chosen; raises as `resize` does."""
    if [rank, energy, budget].count(None) != 2:
        raise TypeError("resize() takes one of rank, energy and budget")
    if not adapter.layers:
        raise ValueError(f"{adapter.path} has no layer that can be cut, only convolutions with groups or three factors")
    if rank is not None:
        largest = max(layer.r for layer in adapter.layers.values())
        if not 1 <= rank <= largest:
            raise ValueError(f"rank {rank} is out of range: {adapter.path} has rank {largest}, so name 1 to {largest}")
        return lambda name, s: min(rank, len(s))
    if energy is not None:
        if not 0 < energy <= 1:
            raise ValueError(f"an energy of {energy:g} is out of range: name a share above 0 and up to 1, such as 0.9")
        return lambda name, s: smallest_rank_keeping(energy, s)
    assert budget is not None
    costs = {name: layer.parameters_per_rank for name, layer in adapter.layers.items()}
    ranks = ranks_under_budget(budget, {name: adapter.singular_values(name) for name in adapter.layers}, costs)
    return lambda name, s: ranks[name]
