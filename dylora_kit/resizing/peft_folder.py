"""LoRA adapters in PEFT's folders, and those of this kit, which are PEFT's at their full rank."""

from collections.abc import Mapping
from pathlib import Path

from dylora_kit.core.splits import SPLITS
from dylora_kit.resizing.adapter_file import AdapterFile, Layer, Matrices
from dylora_kit.storage.adapter_files import (
    CONFIG,
    PREFIX,
    WEIGHTS,
    check_same_save,
    pattern_of,
    write_config_and_weights,
)
from dylora_kit.storage.files import TensorFile, read_json
from dylora_kit.storage.peft_files import alpha_of, check_safe, check_values, not_carried, of_pattern

PAIRS = ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B"))
BIAS = ".lora_B.bias"
# what is copied as it is, and means the same at any rank, since the scale stays the same
COPIED = {"bias", "lora_bias", "trainable_token_indices", "alora_invocation_tokens", "layer_replication"}
# what says how it was trained, and not what it is: PEFT starts a LoRA anew by it before it reads the weights, and some
# starts allow even ranks alone
NOT_COPIED = {"dylora", "init_lora_weights", "eva_config", "lora_ga_config"}
FUSED = {projection for _, projection in SPLITS}
PARTS = {"q", "k", "v", "z", "gate"}


class PeftFolder(AdapterFile):
    """A folder with `adapter_config.json` and `adapter_model.safetensors`.

    Raises `FileNotFoundError` for a missing file, and `ValueError` for one that is damaged, for an adapter that is no
    plain LoRA, such as DoRA, and for weights that only `adapter_model.bin` has.
    """

    def __init__(self, path: Path) -> None:
        written = read_json(path / CONFIG)
        self.config = {"r": 8} | written  # what PEFT takes where none is given
        self._check_plain_lora(path)
        check_values(self.config, path)
        check_safe(path)
        super().__init__(path, TensorFile(path / WEIGHTS))
        self._base = check_same_save(path, written, self.tensors.metadata)
        self.nested = "dylora" in self.config
        self.kind = "an adapter of this kit" if self.nested else "a LoRA of PEFT"
        self._find_layers()

    def check_out(self, out: Path) -> None:
        if out.suffix == ".safetensors" or out.is_file():
            raise ValueError(f"{self.path} is a folder, so the result is one: name a folder and not the file {out}")
        if out.resolve() == self.path.resolve():
            raise ValueError(f"{out} is the adapter itself: name another folder for the result")
        split = [name for name in self.layers if _is_part(name)]
        if self.nested and split:
            raise ValueError(
                f"{self.path} adapts {split[0]!r}, a part of a fused projection, which PEFT cannot open: load it with "
                "dylora_kit.load and write it with export_peft first"
            )

    def write(self, out: Path, cut: Mapping[str, Matrices]) -> None:
        layers = self.layers | self.fixed
        ranks = {name: len(cut[name][0]) if name in cut else layer.r for name, layer in layers.items()}
        alphas = {name: _tidy(layer.alpha_at(ranks[name])) for name, layer in layers.items()}
        largest = max(ranks.values())
        alpha = next(alphas[name] for name in layers if ranks[name] == largest)
        config = {
            **{field: value for field, value in self.config.items() if field not in NOT_COPIED},
            "r": largest,
            "lora_alpha": alpha,
            "rank_pattern": {pattern_of(name): r for name, r in ranks.items() if r != largest},
            "alpha_pattern": {pattern_of(name): own for name, own in alphas.items() if own != alpha},
        }
        tensors = {key.removeprefix(PREFIX): tensor for key, tensor in self._with(cut).items()}
        write_config_and_weights(out, config, tensors, self._base.fingerprint or {})

    def _check_plain_lora(self, path: Path) -> None:
        if self.config.get("peft_type") != "LORA":
            raise ValueError(
                f"{path / CONFIG} is of type {self.config.get('peft_type')!r}: only LORA adapters can be cut to a "
                "lower rank"
            )
        for field in not_carried(self.config):
            if field not in COPIED:
                raise ValueError(
                    f"{path / CONFIG} uses {field} = {self.config[field]!r}: only plain LoRA can be cut to a lower rank"
                )

    def _find_layers(self) -> None:
        """Enters every layer; `ValueError` for tensors that are of no plain LoRA, or of another rank than the config's.

        PEFT gives a layer the first rank and α of a pattern that matches its name.
        """
        pairs: dict[str, tuple[str, str]] = {}
        for key in self.tensors.shapes:
            if not key.startswith(PREFIX):
                raise ValueError(f"{self.tensors.path} holds {key!r}: expected names that begin with {PREFIX!r}")
            name, pair = _layer_of(key)
            if pair is not None:
                pairs[name] = (f"{PREFIX}{name}{pair[0]}", f"{PREFIX}{name}{pair[1]}")
            elif ".lora_" in key and not key.endswith(BIAS):
                raise ValueError(f"{self.tensors.path} holds {key!r}: only plain LoRA can be cut to a lower rank")
        if not pairs:
            raise ValueError(f"{self.tensors.path} holds no layer of a LoRA")
        for name, keys in pairs.items():
            self._add(name, keys, alpha_of(self.config, name, self.path), bool(self.config.get("use_rslora")))
        for name, layer in (self.layers | self.fixed).items():
            self._check_rank(name, layer)

    def _check_rank(self, name: str, layer: Layer) -> None:
        r = of_pattern(self.config, "rank_pattern", "r", name, self.path)
        if r != layer.r:
            raise ValueError(
                f"{self.path / CONFIG} gives {name!r} rank {r!r}, but {WEIGHTS} holds {layer.r} rows for it"
            )


def _layer_of(key: str) -> tuple[str, tuple[str, str] | None]:
    """The layer that a tensor is of, and how the names of its two tensors end; None if it is of none.

    >>> _layer_of("base_model.model.up.lora_B.weight")
    ('up', ('.lora_A.weight', '.lora_B.weight'))
    """
    for pair in PAIRS:
        for end in pair:
            if key.endswith(end):
                return key.removeprefix(PREFIX).removesuffix(end), pair
    return key, None


def _is_part(name: str) -> bool:
    """Whether a layer is a part of a fused projection, as this kit names it.

    >>> _is_part("h.0.attn.c_attn.q"), _is_part("h.0.attn.c_attn")
    (True, False)
    """
    module, _, part = name.rpartition(".")
    return part in PARTS and module.rpartition(".")[2] in FUSED


def _tidy(number: float) -> float:
    """A whole number as an int, as PEFT writes α."""
    return int(number) if float(number).is_integer() else number
