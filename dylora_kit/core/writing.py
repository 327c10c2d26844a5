"""The handle's part that fills adapters from files and writes them: save, export."""

from collections.abc import Mapping, Sequence
from os import PathLike

import torch
from torch import Tensor, nn

from dylora_kit.core.base_record import modules_in_base, name_in_base, saved_buffers
from dylora_kit.core.layer import Wrapper, stores_transposed
from dylora_kit.core.merging import MergingHandle
from dylora_kit.core.names import named_modules, plain_name
from dylora_kit.core.saving import EXTRA_STATE, check_all_saved, check_no_extra_state, check_readable
from dylora_kit.core.targets import check_kept_apart, holders_of_same_weights, match_saved, outermost, saved_by_peft
from dylora_kit.storage.adapter_files import difference, write_adapter
from dylora_kit.storage.base_model import BaseModel
from dylora_kit.storage.peft_files import Block, write_peft_adapter


class WritingHandle(MergingHandle):
    """What `Adapters` does with files; see there for the attributes."""

    @property
    def base(self) -> BaseModel:
        """The model under the adapters, as files name it."""
        base, name = self._base_model(), getattr(self.model, "name_or_path", None)
        return BaseModel(
            class_name=type(base).__name__,
            library=type(base).__module__,
            name=name if isinstance(name, str) and name else None,
            transposed=any(stores_transposed(wrapper.base_layer) for wrapper in self.wrappers),
            fingerprint=self._record.fingerprint,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The model's own tensors that go into a file, by name: lora_A, lora_B, and modules trained along.

        A module trained along that was replaced meanwhile, as by transformers' `resize_token_embeddings`, is the one
        that the model has now.
        """
        self._find_saved_modules()
        tensors: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            tensors[f"{name}.lora_A.weight"] = layer.lora_A
            tensors[f"{name}.lora_B.weight"] = layer.lora_B
        for name, module in self.saved_modules.items():
            state = module.state_dict(keep_vars=True)
            tensors |= {
                plain_name(f"{name}.{key}"): tensor
                for key, tensor in state.items()
                if not key.endswith(EXTRA_STATE)  # which `check_saved` refuses
            }
        return tensors

    def save_also(self, modules: Sequence[str]) -> None:
        """Adds modules to those that are saved with the adapters, such as norms that were unfrozen after `attach`.

        Arguments:
            modules: names as in `modules_to_save` of `attach`. `load` trains them along.

        Raises `ValueError` for a name that matches nothing, or that has an adapted layer in it.
        """
        self.check_usable()
        matched = match_saved(self.model, modules, list(self.layers))
        self.saved_modules |= matched
        known = self.config["modules_to_save"]
        self.config["modules_to_save"] = [*known, *(name for name in matched if name not in known)]

    def check_saved(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises `ValueError` unless what was trained is what is about to be saved.

        A parameter that requires a gradient, or has changed since adapters were attached, must be among the tensors,
        and each tensor must be in the model, at the place its name says, with its values.
        """
        check_readable(tensors)
        self._check_places()
        check_no_extra_state(self.saved_modules)
        check_all_saved(self.model, self._record, tensors, self.saved_modules, self._remedy)

    def moved_buffers(self) -> dict[str, Tensor]:
        """The buffers of the base that have moved since adapters were attached, by name."""
        return self._record.moved_buffers(self.model)

    def _to_save(self) -> dict[str, Tensor]:
        """All that goes into a file, by name; `ValueError` if something that was trained would be left out."""
        tensors = self.tensors()
        tensors |= {name: buffer for name, buffer in self.moved_buffers().items() if name not in tensors}
        self.check_saved(tensors)
        return tensors

    def _remedy(self, name: str) -> str:
        """What to do about a parameter that would not be saved."""
        module, modules = name.rpartition(".")[0], modules_in_base(self.model)
        if not module:
            return "put it into a module of its own, and name that in modules_to_save of attach, or in save_also"
        if not isinstance(modules[module], Wrapper):
            return f"name its module in modules_to_save of attach, or now in adapters.save_also([{module!r}])"
        return "give it back the values it had, and freeze it with requires_grad_(False)"

    def _find_saved_modules(self) -> None:
        """Looks up the modules trained along; `ValueError` if the model has none of a name any more."""
        modules = modules_in_base(self.model)
        for name in self.saved_modules:
            if name_in_base(name) not in modules:
                raise ValueError(f"{name!r} is trained along, and no longer in the model: put it back, or attach again")
            self.saved_modules[name] = modules[name_in_base(name)]

    def _check_places(self) -> None:
        """Raises `ValueError` if an adapter is no longer where its name says."""
        modules = modules_in_base(self.model)
        for name, layer in self.layers.items():
            place = modules.get(name) or modules.get(name.rpartition(".")[0])  # a part of a fused projection is inside
            if place is None or not any(module is layer for module in place.modules()):
                raise ValueError(
                    f"the adapter of {name!r} is no longer at its place in the model: its layer was taken out or "
                    "replaced since adapters were attached, so put it back, or attach adapters again"
                )

    @torch.no_grad()
    def fill(self, tensors: Mapping[str, Tensor], file: PathLike[str]) -> None:
        """Copies tensors that were read from a file into the model's own, also into buffers that the file has.

        Raises `ValueError` that names the file if they do not fit in names, types or shapes; the adapters are detached
        then, as after any other error.
        """
        try:
            expected = self.tensors()
            buffers = saved_buffers(self.model)
            expected |= {name: buffers[name] for name in tensors if name in buffers and name not in expected}
            problem = difference(expected, tensors)
            if problem:
                raise ValueError(f"{file} does not fit this model: {problem}")
            empty = [name for name, tensor in expected.items() if tensor.is_meta]
            if empty:
                raise ValueError(f"{empty[0]!r} of this model has no values (device meta): move it to a device first")
            for name, tensor in expected.items():
                tensor.copy_(tensors[name])
        except BaseException:
            self.detach()
            raise

    def save(self, path: str | PathLike[str]) -> None:
        """Writes adapters at their full rank, and the modules trained along, into a folder; see `dylora_kit.load`.

        The files are `adapter_config.json` and `adapter_model.safetensors`; both are written or neither is. Under
        `"alpha/b"` the folder is at the same time an ordinary PEFT LoRA adapter of rank r, unless a fused projection
        was split; `export_peft` writes one in any case.

        What was trained is what is saved: also buffers of the base that moved in training, such as the running
        statistics of a normalisation. Raises `ValueError` for a parameter that was trained, or has changed since
        `attach`, and is not in `modules_to_save`, and for weights that are tied in another way since (what is not
        noticed: see `core.base_record.BaseRecord`); for a layer that is no longer in the model; for adapters on the
        meta device or divided among processes; while they are merged; and for a weight that is not finite.
        """
        self.check_usable()
        self.check_unmerged("saving")
        alphas = {name: layer.lora_alpha for name, layer in self.layers.items()}
        write_adapter(path, self.config, self._to_save(), list(self.saved_modules), self.base, alphas)

    def export_peft(
        self, path: str | PathLike[str], rank: int | Mapping[str, int] | None = None, *, serving: bool = False
    ) -> None:
        """Writes adapters, cut to one rank, as an ordinary PEFT LoRA adapter, with the modules trained along.

        PEFT scales by α/r, so what is written depends on the scaling: at rank b, `"alpha/b"` keeps α, `"alpha/r"`
        writes α·b/r, and `"alpha/sqrt(b)"` sets `use_rslora`. The n adapters of a fused projection become one adapter
        of block structure, with n times the rank and n times the α (√n times under `use_rslora`).

        Arguments:
            path: a folder; `adapter_config.json` and `adapter_model.safetensors` go there, both or neither.
            rank: an int, or `{layer: rank}` for every layer; default is the active rank.
            serving: for engines that take one rank and one scale: the scale is multiplied into `lora_B`, ranks are
                padded with zeros to the largest, and nothing but adapters is written.

        Raises `ValueError` for a rank out of range, while merged, for a weight that is not finite, and, unless it is
        for serving, for something trained that would be left out, as `save` does.
        """
        self.check_usable()
        self.check_unmerged("exporting")
        self._active.check_not_mixed("say which rank to export, as in export_peft(path, rank=3)", rank)
        self._check_exportable()
        check_readable(self.tensors())
        trained = {} if serving else self._to_save()
        write_peft_adapter(
            path,
            self.blocks(rank),
            self.base,
            rslora=self.config["scaling"] == "alpha/sqrt(b)" and not serving,
            lora_dropout=self.config["lora_dropout"],
            saved={} if serving else {name: module.state_dict() for name, module in self._saved_for_peft().items()},
            buffers={name: tensor for name, tensor in trained.items() if name not in self.tensors()},
            modules=modules_in_base(self.model),
            serving=serving,
        )

    def blocks(self, rank: int | Mapping[str, int] | None = None) -> dict[str, Block]:
        """What `export_peft` writes of each layer that PEFT would adapt, by name: A (n, d_in), B (d_out, n), a scale.

        Arguments:
            rank: an int, or `{layer: rank}` for every layer; default is the active rank. n is the rank of the layer,
                and for a fused projection the sum of its parts' ranks.
        """
        with self.at(self.rank if rank is None else rank):
            return self._blocks()

    def _check_exportable(self) -> None:
        """Raises `ValueError` if a PEFT adapter could not hold all of these: PEFT adapts each module by one name."""
        names: dict[nn.Module, str] = {}
        for name, module in named_modules(self.model, remove_duplicate=False):
            if isinstance(module, Wrapper) and names.setdefault(module, name) != name:
                raise ValueError(
                    f"cannot export: {names[module]!r} and {name!r} are one module, of which PEFT would adapt one name "
                    "alone"
                )

    def _blocks(self) -> dict[str, Block]:
        """One block for each layer that PEFT would adapt, by name, at the active rank."""
        return {name: module.block() for name, module in named_modules(self.model) if isinstance(module, Wrapper)}

    def _saved_for_peft(self) -> dict[str, nn.Module]:
        """The modules whose weights a PEFT adapter must hold, by name, so that PEFT gives back what was trained.

        PEFT keeps a copy of each saved module: where it shares a weight with another, the other one needs a copy too.
        Of modules one inside another it is the outer one. Raises `ValueError` where PEFT could not do that.
        """
        saved = saved_by_peft(self.model, list(self.saved_modules))
        while more := holders_of_same_weights(self.model, saved):
            saved |= more
        saved = outermost(saved)
        check_kept_apart(self.model, saved)
        return saved
