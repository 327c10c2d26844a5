"""LoRA adapters in one file, as kohya's scripts write them for Stable Diffusion and other models of images.

A layer has `NAME.lora_down.weight` (r, d_in), `NAME.lora_up.weight` (d_out, r) and `NAME.alpha`; for a convolution of
a window of k × k they are (r, c, k, k) and (d_out, r, 1, 1). Without an alpha the scale is 1.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from dylora_kit.resizing.adapter_file import AdapterFile, Layer, Matrices
from dylora_kit.storage.files import TensorFile, tensors_as_bytes, write_files

DOWN, UP, MID, ALPHA = ".lora_down.weight", ".lora_up.weight", ".lora_mid.weight", ".alpha"
ELSEWHERE = "PEFT and diffusers"
# how the tensors of other kinds of adapters are called
OTHERS = {".dora_scale": "DoRA", ".hada_w1": "LoHa", ".lokr_w1": "LoKr", ".oft_": "OFT", ".lora_A.": ELSEWHERE}
HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")  # of the weights that were there
SEVERAL = "Dynamic"  # what kohya's scripts write where layers differ


class KohyaFile(AdapterFile):
    """One safetensors file with `lora_down` and `lora_up`.

    Raises `ValueError` for a file that is damaged, is no safetensors file, or holds another kind of adapter.
    """

    kind = "a LoRA in one file, as of kohya's scripts"

    def __init__(self, path: Path) -> None:
        if path.suffix != ".safetensors":
            raise ValueError(f"{path} is no .safetensors file: others can run code when opened, so they are not read")
        super().__init__(path, TensorFile(path))
        for mark, other in OTHERS.items():
            key = next((key for key in self.tensors.shapes if mark in key), None)
            if key is not None:
                remedy = (
                    f"pass a folder with adapter_config.json, or a file whose tensors end with {DOWN!r}"
                    if other == ELSEWHERE
                    else "only plain LoRA can be cut to a lower rank"
                )
                raise ValueError(f"{path} holds {key!r}, as files of {other} do: {remedy}")
        ends = (DOWN, UP)
        for name in {key.removesuffix(end): None for key in self.tensors.shapes for end in ends if key.endswith(end)}:
            self._add(name, (name + DOWN, name + UP), self._alpha(name))
            if name in self.layers and name + MID in self.tensors.shapes:  # three factors and not two
                self.fixed[name] = self.layers.pop(name)
        if not self.layers and not self.fixed:
            raise ValueError(f"{path} holds no layer of a LoRA: expected tensors whose names end with {DOWN!r}")

    def check_out(self, out: Path) -> None:
        if out.suffix != ".safetensors" or out.is_dir():
            raise ValueError(f"{self.path} is one file, so the result is one: name a .safetensors file and not {out}")
        if out.resolve() == self.path.resolve():
            raise ValueError(f"{out} is the adapter itself: name another file for the result")

    def write(self, out: Path, cut: Mapping[str, Matrices]) -> None:
        tensors = self._with(cut)
        for name, (A, _) in cut.items():
            if name + ALPHA in tensors:  # in float32, since in half precision the scale would be rounded
                tensors[name + ALPHA] = torch.tensor(self.layers[name].alpha_at(len(A)), dtype=torch.float32)
        ranks = {name: layer.r for name, layer in (self.layers | self.fixed).items()}
        texts = self._texts(ranks | {name: len(A) for name, (A, _) in cut.items()})
        write_files(out.parent, {out.name: tensors_as_bytes(tensors, self.tensors.metadata, texts)})

    def _alpha(self, name: str) -> float:
        """The α of a layer, in the file or, without it, the rank; `ValueError` if it is no number, or zero."""
        shapes = self.tensors.shapes
        if name + ALPHA not in shapes:
            return float(shapes.get(name + DOWN, (1,))[0])
        alpha = self.tensors.read(name + ALPHA)
        if alpha.numel() != 1 or not alpha.any():
            raise ValueError(f"{self.path} holds {name + ALPHA!r} = {alpha.tolist()}: expected a number other than 0")
        return float(alpha)

    def _texts(self, ranks: Mapping[str, int]) -> dict[str, str]:
        """The header's texts, with new ranks and alphas, and without the hashes of the old weights."""
        texts = {key: text for key, text in self.tensors.texts.items() if key not in HASHES}
        layers = self.layers | self.fixed
        # a convolution of 1 × 1 has the rank of linear layers there
        linear = {name: layer for name, layer in layers.items() if not self._has_window(name, layer)}
        convolutions = {name: layer for name, layer in layers.items() if name not in linear}
        own = _dim_and_alpha(linear, ranks)
        texts |= {key: own[key.removeprefix("ss_network_")] for key in ("ss_network_dim", "ss_network_alpha")
                  if linear and key in texts}  # fmt: skip
        try:
            arguments = json.loads(texts.get("ss_network_args", "null"))
        except ValueError:
            arguments = None
        if isinstance(arguments, dict) and convolutions:
            of_convolutions = _dim_and_alpha(convolutions, ranks)
            arguments |= {key: of_convolutions[key.removeprefix("conv_")] for key in ("conv_dim", "conv_alpha")
                          if key in arguments}  # fmt: skip
            texts["ss_network_args"] = json.dumps(arguments)
        return texts

    def _has_window(self, name: str, layer: Layer) -> bool:
        return name + MID in self.tensors.shapes or any(size > 1 for size in layer.shape_A[2:])


def _dim_and_alpha(layers: Mapping[str, Layer], ranks: Mapping[str, int]) -> dict[str, str]:
    """The rank and the α of some layers, as kohya's scripts name them, or that they differ."""
    dims = {f"{ranks[name]}" for name in layers}
    alphas = {f"{layer.alpha_at(ranks[name]):g}" for name, layer in layers.items()}
    return {key: text.pop() if len(text) == 1 else SEVERAL for key, text in (("dim", dims), ("alpha", alphas))}
