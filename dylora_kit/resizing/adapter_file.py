"""What every file with a LoRA gives: its layers, their matrices one layer at a time, and the way back into a file."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dylora_kit.resizing.singular_values import singular_values_of_product
from dylora_kit.storage.files import TensorFile

Matrices = tuple[Tensor, Tensor]  # A (b, d_in) and B (d_out, b)


@dataclass(frozen=True)
class Layer:
    """One adapted layer of a file.

    Attributes:
        key_A, key_B: the names of its two tensors.
        shape_A, shape_B: (r, d_in) and (d_out, r); of a convolution (r, c, k, …) and (d_out, r, 1, …).
        lora_alpha: the scale is α/r, or α/√r under `rslora`.
    """

    key_A: str
    key_B: str
    shape_A: tuple[int, ...]
    shape_B: tuple[int, ...]
    lora_alpha: float
    rslora: bool = False

    @property
    def r(self) -> int:
        """The rank."""
        return self.shape_A[0]

    @property
    def parameters_per_rank(self) -> int:
        """What one more rank costs: d_in + d_out; d_in counts every weight of a convolution's window."""
        return math.prod(self.shape_A[1:]) + self.shape_B[0]

    @property
    def scale(self) -> float:
        """By what B·A is multiplied."""
        return self.lora_alpha / (math.sqrt(self.r) if self.rslora else self.r)

    def alpha_at(self, b: int) -> float:
        """The α that gives a cut of rank b the scale of the whole."""
        return self.lora_alpha * (math.sqrt(b / self.r) if self.rslora else b / self.r)

    @property
    def is_convolution(self) -> bool:
        """Whether it has more axes than a linear layer."""
        return len(self.shape_A) > 2

    @property
    def is_product(self) -> bool:
        """Whether ΔW is a plain product of two matrices, as it is not for a convolution with groups."""
        fits = len(self.shape_A) == len(self.shape_B) >= 2 and self.shape_B[1] == self.r
        return fits and set(self.shape_B[2:]) <= {1} and 0 not in (*self.shape_A, *self.shape_B)


class AdapterFile(ABC):
    """A LoRA in a file or folder, read one tensor at a time.

    Attributes:
        path: the file or folder.
        kind: what it is, in words.
        nested: whether this kit wrote it, so that the first b rows of each layer are an adapter too.
        tensors: all its tensors.
        layers: those that can be cut, by name.
        fixed: layers that stay as they are, such as convolutions with groups, by name.
    """

    kind: str
    nested = False

    def __init__(self, path: Path, tensors: TensorFile) -> None:
        self.path, self.tensors = path, tensors
        self.layers: dict[str, Layer] = {}
        self.fixed: dict[str, Layer] = {}

    @abstractmethod
    def check_out(self, out: Path) -> None:
        """Raises `ValueError` if `write` could not write there, or would replace what is read."""

    @abstractmethod
    def write(self, out: Path, cut: Mapping[str, Matrices]) -> None:
        """Writes the adapter with other matrices for its layers: whole, or not at all."""

    def matrices(self, name: str) -> Matrices:
        """A (r, d_in) and B (d_out, r) of one layer, without its scale; `ValueError` if they are not finite."""
        layer = self.layers[name]
        A, B = self.tensors.read(layer.key_A), self.tensors.read(layer.key_B)
        return A.flatten(1), B.flatten(1)  # (r, c, k, k) → (r, c·k·k), (d_out, r, 1, 1) → (d_out, r)

    def singular_values(self, name: str) -> Tensor:
        """The singular values of one layer's ΔW, its scale included, the largest first."""
        return singular_values_of_product(*self.matrices(name)) * abs(self.layers[name].scale)

    def parameters(self, ranks: Mapping[str, int] | None = None) -> int:
        """How many parameters the layers that can be cut have, as they are or at other ranks."""
        at = {name: layer.r for name, layer in self.layers.items()} | dict(ranks or {})
        return sum(at[name] * layer.parameters_per_rank for name, layer in self.layers.items())

    def _add(self, name: str, keys: tuple[str, str], lora_alpha: float, rslora: bool = False) -> None:
        """Enters a layer; `ValueError` if one of its two tensors is missing, or their shapes do not fit."""
        shapes = self.tensors.shapes
        for key, other in (keys, keys[::-1]):
            if key not in shapes:
                raise ValueError(f"{self.tensors.path} holds {other!r} without {key!r}: save the adapter again, whole")
        layer = Layer(*keys, shapes[keys[0]], shapes[keys[1]], lora_alpha, rslora)
        if not layer.is_product and not (layer.is_convolution and layer.r):
            raise ValueError(
                f"{self.tensors.path} holds {keys[0]!r} in shape {layer.shape_A} and {keys[1]!r} in shape "
                f"{layer.shape_B}: expected (r, d_in) and (d_out, r)"
            )
        (self.layers if layer.is_product else self.fixed)[name] = layer

    def _with(self, cut: Mapping[str, Matrices]) -> dict[str, Tensor]:
        """All tensors of the file, those of cut layers replaced, in the shapes that the file has them in."""
        tensors: dict[str, Tensor] = {}
        for name, (A, B) in cut.items():
            layer = self.layers[name]
            tensors[layer.key_A] = A.reshape(len(A), *layer.shape_A[1:])
            tensors[layer.key_B] = B.reshape(len(B), len(A), *layer.shape_B[2:])
        return {key: tensors[key] if key in tensors else self.tensors.read(key) for key in self.tensors.shapes}
