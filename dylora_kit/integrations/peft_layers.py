"""A model that PEFT adapted, nested in place: PEFT's own layers run at any rank, and stay PEFT's."""

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.base_record import BaseRecord
from dylora_kit.core.handle import Adapters
from dylora_kit.core.layer import Wrapper
from dylora_kit.core.low_rank import LowRankAdapter
from dylora_kit.storage.adapter_files import PREFIX
from dylora_kit.storage.peft_files import LEAVES_BASE, UNSUPPORTED, Block

# PEFT's layers that read the two weights without calling the modules which hold them
BYPASSING = ("ParamWrapper", "MultiheadAttention")


def nest_peft(model: nn.Module, *, scaling: str | None = None) -> "PeftAdapters":
    """Makes the LoRA layers of a PEFT model run at the rank that the returned handle sets.

    At rank r the model computes what it did before. Sampler, optimizers, `train`, `sweep` and `RankExplorer` work as
    with `attach`. Parameters keep their names, so PEFT's `save_pretrained` works as before. `detach()` gives PEFT's
    layers their own forward back. PEFT's own merging is at rank r and at its own scale. While PEFT has the adapter
    merged or switched off, setting a rank raises, since it would change nothing.

    Arguments:
        model: a `PeftModel`, or any model with PEFT's LoRA layers in it, such as one of diffusers; also quantised.
        scaling: what the scale is at lower ranks; default is `"alpha/b"`, or `"alpha/sqrt(b)"` for `use_rslora`. What
            was ordered or nested before PEFT saved it needs `"alpha/r"` here, since PEFT's files do not tell it.

    Raises `ValueError` or `TypeError`, and leaves the model as it was, if there is no LoRA layer, if several adapters
    are active, or if one is merged, switched off, or has a feature that these adapters do not carry (DoRA, biases,
    embeddings, convolutions).
    """
    from peft.tuners.lora import LoraLayer

    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model with PEFT's LoRA layers: got a {type(model).__name__}")
    peft_layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    active = {
        adapter
        for layer in peft_layers.values()
        for adapter in layer.active_adapters
        if adapter in layer.lora_A or adapter in layer.lora_embedding_A
    }
    if len(active) != 1:
        if peft_layers:
            problem = f"{len(active)} are: {sorted(active)}"
        elif any(isinstance(module, Wrapper) for module in model.modules()):
            problem = "it has adapters of this kit, whose handle attach returned"
        else:
            problem = "it has no LoRA layer"
        raise ValueError(f"expected a model in which one LoRA adapter of PEFT is active: {problem}")
    (adapter,) = active
    layers: dict[str, LowRankAdapter] = {}
    rslora = False
    _check_beside(model, adapter)
    for name, layer in peft_layers.items():
        if adapter in layer.lora_embedding_A:
            raise TypeError(f"cannot nest {name!r}: it adapts an embedding, {UNSUPPORTED}")
        if adapter not in layer.lora_A:
            continue
        _check_plain(name, layer, adapter)
        down: Any = layer.lora_A[adapter]
        up: Any = layer.lora_B[adapter]
        rslora |= bool(getattr(layer, "use_rslora", {}).get(adapter))
        kind = scaling or ("alpha/sqrt(b)" if rslora else "alpha/b")
        power = 0.5 if kind == "alpha/sqrt(b)" else 1.0
        alpha = layer.scaling[adapter] * layer.r[adapter] ** power
        layers[name.removeprefix(PREFIX)] = LowRankAdapter(down.weight, up.weight, alpha, kind, 0.0)
    return PeftAdapters(model, layers, peft_layers, adapter)


class PeftAdapters(Adapters):
    """The handle on PEFT's own LoRA layers, made by `nest_peft`.

    In each of PEFT's layers, lora_A and lora_B get another class until `detach`: `_Down` and `_Up`. So they stay the
    same modules with the same parameters, which PEFT saves and optimizers hold. A wrapper around them would change the
    parameters' names, and a forward hook would come after products that are not needed.
    """

    def __init__(self, model: nn.Module, layers: dict[str, LowRankAdapter], peft_layers: Any, adapter: str) -> None:
        from peft.utils import ModulesToSaveWrapper

        self._adapter = adapter
        first = next(iter(layers.values()))
        first_peft = next(layer for layer in peft_layers.values() if adapter in layer.lora_A)
        r = max(layer.r for layer in layers.values())
        saved = {
            name.removeprefix(PREFIX): module.modules_to_save[adapter]
            for name, module in model.named_modules()
            if isinstance(module, ModulesToSaveWrapper) and adapter in module.modules_to_save
        }
        config = {
            "r": r,
            "lora_alpha": first.lora_alpha,
            "scaling": first.scaling,
            "lora_dropout": float(getattr(first_peft.lora_dropout[adapter], "p", 0.0)),  # PEFT applies it
            "target_modules": list(layers),
            "modules_to_save": list(saved),
            "rank_pattern": {name: layer.r for name, layer in layers.items() if layer.r != r},
            "split_fused": False,
        }
        super().__init__(model, layers, [], saved, config, {}, BaseRecord(model, saved))
        self._copies = [
            module
            for module in model.modules()
            if isinstance(module, ModulesToSaveWrapper) and adapter in module.modules_to_save
        ]
        self._originals = [module.original_module for module in self._copies]
        self._pairs: list[tuple[nn.Linear, nn.Linear]] = []
        self._places: list[tuple[nn.Module, str, Any]] = []  # where each of PEFT's layers stands
        for name, layer in peft_layers.items():
            short = name.removeprefix(PREFIX)
            if short in layers:
                down, up = layer.lora_A[adapter], layer.lora_B[adapter]
                down.__class__, up.__class__ = _Down, _Up
                # in a tuple, so that the adapter and PEFT's layer are not registered as submodules of lora_B
                up.__dict__["nested"] = (layers[short], layer, adapter)
                self._pairs.append((down, up))
                parent, _, child = name.rpartition(".")
                self._places.append((model.get_submodule(parent), child, layer))

    def check_usable(self, model: nn.Module | None = None) -> None:
        """Raises `ValueError` if the rank has no effect: detached, or merged, switched off or removed by PEFT."""
        super().check_usable(model)
        for parent, child, layer in self._places:
            if id(parent._modules.get(child)) != id(layer) or self._adapter not in layer.lora_A:
                raise ValueError(f"PEFT has taken the adapter {self._adapter!r} out of this model: nest it again")
            if layer.merged:
                raise ValueError("PEFT has merged adapters into the base weights: call its unmerge_adapter() first")
            if layer.disable_adapters or self._adapter not in layer.active_adapters:
                raise ValueError(f"the adapter {self._adapter!r} is not active in PEFT: call its set_adapter first")

    def _base_model(self) -> nn.Module:
        get: Any = getattr(self.model, "get_base_model", None)
        return self.model if get is None else get()

    def _blocks(self) -> dict[str, Block]:
        return {name: layer.block() for name, layer in self.layers.items()}

    def _saved_for_peft(self) -> dict[str, nn.Module]:
        return self.saved_modules

    def _scale_by_r(self) -> None:
        """Makes the scale the same at every rank: PEFT's own, at which it saves these matrices."""
        if self.scaling == "alpha/sqrt(b)":
            for layer in self.layers.values():
                layer._lora_alpha = layer.scale(layer.r) * layer.r
            self.config["lora_alpha"] = next(iter(self.layers.values())).lora_alpha
        super()._scale_by_r()

    def _check_exportable(self) -> None:
        """Raises `ValueError` if PEFT changed the model itself, so that the adapter alone would not bring it back."""
        config = getattr(self.model, "peft_config", {}).get(self._adapter)
        for field, unused in (("init_lora_weights", LEAVES_BASE), ("layer_replication", (None,))):
            value = getattr(config, field, unused[0])
            if value not in unused:
                raise ValueError(
                    f"PEFT's {field} = {value!r} changed the base model, so that an adapter alone would not bring this "
                    "model back: use PEFT's save_pretrained"
                )

    def save_also(self, modules: Sequence[str]) -> None:
        """Raises `ValueError`: PEFT trains and saves the modules that its own config names."""
        raise ValueError("what PEFT trains along is set in LoraConfig: name it in modules_to_save there")

    def _remedy(self, name: str) -> str:
        return "name its module in modules_to_save of PEFT's LoraConfig, or freeze it with the values it had"

    def _find_saved_modules(self) -> None:
        """PEFT keeps modules trained along under names of its own."""

    def _check_places(self) -> None:
        """`check_usable` looks at the places of PEFT's layers."""

    def merge(self, rank: int | None = None) -> None:
        """Raises `ValueError`: export at a rank with `export_peft`, or merge at r with PEFT's `merge_and_unload`."""
        raise ValueError(
            "PEFT's layers cannot be merged at a rank: use export_peft(path, rank) and merge that with PEFT"
        )

    def merge_and_unload(self, rank: int | None = None) -> nn.Module:
        """Raises `ValueError`, as `merge` does."""
        self.merge(rank)
        raise AssertionError

    def grow(self, r: int, *, seed: int = 0) -> None:
        """Raises `ValueError`: PEFT keeps the sizes of its layers in several places."""
        raise ValueError(
            "PEFT's layers keep their rank: write the adapter with export_peft(path), open it with import_peft, and "
            "grow that"
        )

    def _switch_also(self, off: bool) -> None:
        """Switches PEFT's copies of modules trained along, so that without adapters the model is the base."""
        for wrapper in self._copies:
            wrapper._disable_adapters = off  # its enable_adapters would change requires_grad

    def __getstate__(self) -> dict[str, Any]:
        """Raises `ValueError` for a copy made in a `disabled()` block, in which PEFT's modules would stay off."""
        if self._copies:
            self._active.check_enabled("copying this model")
        return self.__dict__

    def _switched_off(self) -> set[nn.Parameter]:
        copied = {p for module in self.saved_modules.values() for p in module.parameters()}
        return super()._switched_off() | copied

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the adapters as those of `attach`; see `dylora_kit.load`. PEFT's `save_pretrained` works as before.

        Raises `ValueError` for what only PEFT's own format holds.
        """
        self.check_usable()
        self._check_exportable()
        copied = {id(parameter) for module in self._originals for parameter in module.parameters()}
        if any(copied & {id(p) for p in module.parameters(recurse=False)} for module in self._beside_originals()):
            raise ValueError("PEFT trains a copy of a weight that the base model shares: use save_pretrained")
        alphas = {layer.lora_alpha for layer in self.layers.values()}
        if len(alphas) > 1:
            raise ValueError(
                f"the layers have different values of lora_alpha ({', '.join(map(str, sorted(alphas)))}), which this "
                "format does not hold: use PEFT's save_pretrained, or export_peft(path, rank)"
            )
        super().save(path)

    def detach(self) -> nn.Module:
        """Gives PEFT's layers their own forward back. Returns the model."""
        super().check_usable()
        for down, up in self._pairs:
            down.__class__, up.__class__ = nn.Linear, nn.Linear
            del up.__dict__["nested"]
        self._let_go()
        return self.model

    def _beside_originals(self) -> Iterator[nn.Module]:
        """Every module of the model but those that PEFT trains a copy of."""
        within = {id(module) for original in self._originals for module in original.modules()}
        return (module for module in self.model.modules() if id(module) not in within)


class _Down(nn.Linear):
    """PEFT's lora_A: returns its input, since `_Up` computes both products."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Up(nn.Linear):
    """PEFT's lora_B: both products at the active rank, over PEFT's scale, by which PEFT multiplies afterwards."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps the layer's input (…, d_in) to (…, d_out)."""
        adapter, layer, name = self.__dict__["nested"]
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        h = x.new_zeros((*x.shape[:-1], adapter.out_features), dtype=dtype)
        return h if adapter.active.disabled else adapter.add_to(h, x) / layer.scaling[name]


def _check_beside(model: nn.Module, adapter: str) -> None:
    """Raises `ValueError` for what PEFT trains beside its layers and modules_to_save."""
    config = getattr(model, "peft_config", {}).get(adapter)
    for field, unused in (("bias", "none"), ("trainable_token_indices", None)):
        value = getattr(config, field, unused)
        if value != unused:
            raise ValueError(f"cannot nest {adapter!r}: it has {field} = {value!r}, {UNSUPPORTED}")


def _check_plain(name: str, layer: Any, adapter: str) -> None:
    """Raises `ValueError` or `TypeError` for a layer whose output is not that of two linear layers and a scale."""
    if type(layer).__name__ in BYPASSING:
        raise TypeError(f"cannot nest {name!r}: PEFT's {type(layer).__name__} never calls lora_A and lora_B")
    down, up = layer.lora_A[adapter], layer.lora_B[adapter]
    if type(up) is _Up:
        raise ValueError("this model is nested already: call detach() on its handle first (copy both to copy a model)")
    if type(down) is not nn.Linear or type(up) is not nn.Linear:
        raise TypeError(f"cannot nest {name!r}: its lora_A is a {type(down).__name__}, expected an nn.Linear")
    if down.bias is not None or up.bias is not None:
        raise ValueError(f"cannot nest {name!r}: its lora_A or lora_B has a bias")
    if adapter in getattr(layer, "lora_variant", {}):
        kind = type(layer.lora_variant[adapter]).__name__
        raise ValueError(f"cannot nest {name!r}: it uses {kind}, {UNSUPPORTED}")
    if layer.merged:
        raise ValueError(f"{name!r} is merged into its base weight: call PEFT's unmerge_adapter() first")
    if layer.disable_adapters:
        raise ValueError(f"the adapters of {name!r} are switched off: call PEFT's enable_adapter_layers() first")
    if layer.scaling[adapter] <= 0:
        raise ValueError(f"cannot nest {name!r}: PEFT scales it by {layer.scaling[adapter]}, expected more than 0")
