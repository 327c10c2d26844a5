"""The handle's part that puts layers into a model and takes them out: merge, unmerge, merge_and_unload, detach."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from dylora_kit.core.base_record import BaseRecord
from dylora_kit.core.base_weights import check_finite, check_mergeable, check_untied, untie
from dylora_kit.core.batch_axis import batch_axes, watch
from dylora_kit.core.layer import Wrapper, replace_module
from dylora_kit.core.low_rank import LowRankAdapter
from dylora_kit.core.names import named_modules
from dylora_kit.core.rank import ActiveRank, Rank, check_rank
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.core.saved_states import mark, unmark
from dylora_kit.core.torch_layers import slow_paths


class MergingHandle(RankHandle):
    """What `Adapters` does with the layers themselves; see there for the attributes."""

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, LowRankAdapter],
        wrappers: list[Wrapper],
        saved_modules: dict[str, nn.Module],
        config: dict[str, Any],
        requires_grad: dict[nn.Parameter, bool],
        record: BaseRecord,
    ) -> None:
        self.model, self.layers, self.saved_modules, self.config = model, layers, saved_modules, config
        self.wrappers = wrappers
        self._requires_grad, self._record = requires_grad, record
        self._attached = True
        self._active = ActiveRank({name: layer.r for name, layer in layers.items()})
        for name, layer in layers.items():
            layer.name, layer.active = name, self._active
        for wrapper in wrappers:
            wrapper.train(wrapper.base_layer.training)
            replace_module(model, wrapper.base_layer, wrapper)
        self._hooks = mark(model, self)
        self._slow_paths = slow_paths(model)

    def merge(self, rank: int | None = None) -> None:
        """Adds every ΔW at a rank (default: the active one) to the base weights, so that inference costs nothing extra.

        The original weights are kept until `unmerge`. Until then, setting a rank, training, saving the adapters and
        loading a state raise, while the model's `state_dict` and `save_pretrained` are those of the plain model.

        Raises `ValueError` while merged or in a `disabled()` block; for a rank out of range; for a layer that is not
        known to be a linear one with a plain weight in floating point (quantised, computed from others, sharded,
        offloaded, with a hook or a forward of its own), or whose weight other modules share; for a merged weight that
        is not finite; and for layers that were taken out or copied since adapters were attached.
        """
        self._check_before_merging()
        if self.merged:
            raise ValueError("the adapters are merged already: call unmerge() first")
        for name, wrapper, holders in self._base_weights():
            check_mergeable(wrapper.base_layer, name)
            if len(holders) > 1:
                raise ValueError(
                    f"cannot merge {name!r}: its weight is shared by {', '.join(holders)}: merge_and_unload gives a "
                    "plain model in which it is not, where that can be done"
                )
        merged = self._merged_weights(rank)
        for wrapper, weight in merged.items():
            wrapper.swap_in(weight)
        self._active.merged = True

    def merge_and_unload(self, rank: int | None = None) -> nn.Module:
        """Makes a plain model: ΔW at a rank (default: the active one) in the weights, and no adapters.

        The modules are the model's own, with the names and the `requires_grad` that they had before `attach`; what was
        trained along stays as it is. Where a transformers model ties its output layer to its input embedding, and the
        output layer has an adapter, the two are separate afterwards, and the config says so (`tie_word_embeddings`).
        Save the model into a folder without adapters: from one with an `adapter_config.json`, transformers would add
        those adapters to the merged weights.
        This handle cannot be used any more.

        Returns the model, ready for `save_pretrained` or `state_dict`. Raises `ValueError`, and changes nothing, where
        `merge` would, for weights shared in other ways, and for a model that computes otherwise where the output layer
        is separate (UMT5, Switch Transformers).

        >>> from dylora_kit.core.adapters import attach
        >>> model = nn.Sequential(nn.Linear(6, 5))
        >>> list(attach(model, r=2, target_modules=["0"]).merge_and_unload(rank=1).state_dict())
        ['0.weight', '0.bias']
        """
        self._check_before_merging()
        if self.merged:
            if rank not in (None, self.rank):
                raise ValueError(f"the adapters are merged at rank {self.rank}: call unmerge() first")
            merged = {wrapper: wrapper.weight.data for wrapper in self.wrappers}
        else:
            tied = []
            for name, wrapper, holders in self._base_weights():
                check_mergeable(wrapper.base_layer, name)
                if len(holders) > 1:
                    check_untied(self.model, wrapper.base_layer, name, holders)
                    tied.append((name, wrapper, holders))
            merged = self._merged_weights(rank)
            for name, wrapper, holders in tied:
                flags = [self._requires_grad.get(p, True) for p in wrapper.base_layer.parameters()]
                untie(self.model, wrapper.base_layer, name, holders)
                self._requires_grad |= zip(wrapper.base_layer.parameters(), flags, strict=True)
        for wrapper, weight in merged.items():
            wrapper.unwrapped(weight)
        self._active.merged = False
        return self._take_out()

    def _check_before_merging(self) -> None:
        """Raises `ValueError` unless these adapters, and no others, are in the model and run."""
        self.check_usable()
        self._active.check_enabled("merging")
        self._check_places()
        self._check_no_copies()

    def _check_places(self) -> None:
        """Raises `ValueError` if an adapter is no longer where its name says."""
        raise NotImplementedError

    def _check_no_copies(self) -> None:
        """Raises `ValueError` for adapted layers in the model that are not this handle's, as in a copied block."""
        own = set(self.wrappers)
        for name, module in named_modules(self.model):
            if isinstance(module, Wrapper) and module not in own:
                raise ValueError(
                    f"{name!r} is a copy of an adapted layer, which does not follow this handle: take it out of the "
                    "model, or copy the block before adapters are attached"
                )

    def _base_weights(self) -> Iterator[tuple[str, Wrapper, list[str]]]:
        """Each wrapper's name in the model, the wrapper, and the names of all modules that have its base weight."""
        holders: dict[Any, list[str]] = {}
        names: dict[nn.Module, str] = {}
        for name, module in named_modules(self.model):
            names[module] = name
            for parameter in module.parameters(recurse=False):
                holders.setdefault(parameter, []).append(name)
        for wrapper in self.wrappers:
            weight = wrapper.base_layer._parameters.get("weight")
            yield names[wrapper], wrapper, holders.get(weight, [])

    def _merged_weights(self, rank: Rank | None) -> dict[Wrapper, Tensor]:
        """Every base weight with ΔW at a rank, which is set; an error changes nothing."""
        rank = self.rank if rank is None else check_rank(rank, self.r)
        self._active.check_not_mixed("say which rank to merge, as in merge(rank=3)", rank)
        names = {module: name for name, module in named_modules(self.model)}
        merged = {}
        with self.at(rank):
            for wrapper in self.wrappers:
                with torch.inference_mode(False):  # whose tensors could not be trained afterwards
                    merged[wrapper] = wrapper.merged_weight()
                check_finite(merged[wrapper], names[wrapper])
        self.rank = rank
        return merged

    def unmerge(self) -> None:
        """Puts the original base weights back, bit for bit."""
        if not self.merged:
            raise ValueError("the adapters are not merged: call merge() first")
        for wrapper in self.wrappers:
            wrapper.swap_out()
        self._active.merged = False

    @contextmanager
    def disabled(self) -> Iterator[Self]:
        """Runs a block without the adapters: the model gives the base's output, as DPO and a KL term need it.

        Afterwards, also after an error, the adapters run again, at the rank that is then set: one that was set in the
        block stays. As the rank is, this is one setting for all threads; where blocks of several threads overlap, the
        adapters run again when the last one ends. A copy of the model that is made in the block has its adapters on.
        `train`, `sweep`, `predict` and merging raise in the block. Backward passes of what was computed in the block
        belong into the block if layers are checkpointed.

        Raises `ValueError` while merged, and where anything else was trained or changed too (a head in
        `modules_to_save`, norms unfrozen after `attach`, running statistics), since its values before are not kept. The
        first call reads all weights; later ones look only at those of which torch has counted a change, so that a
        change through `.data` after the first call is not noticed.
        """
        self.check_usable()
        self.check_unmerged("disabling them")
        self._check_base_unchanged()
        with self._active.switched_off(self._switch_also):
            yield self

    def _switch_also(self, off: bool) -> None:
        """Switches what is trained along off, and on again, where its values before are kept."""

    def _check_base_unchanged(self) -> None:
        """Raises `ValueError` if more than adapters was, or may have been, trained or changed."""
        off = self._switched_off()
        may_train = off | {p for module in self.saved_modules.values() for p in module.parameters()}
        trained = [name for name, p in self.model.named_parameters() if p.requires_grad and p not in may_train]
        found = (trained[0], "is trained too") if trained else self._record.difference(self.model, off)
        if found:
            name, problem = found
            raise ValueError(
                f"without adapters this is not the base model, since {name!r} {problem}, and its values before are not "
                "kept: compute the base's output with a second model"
            )

    def _switched_off(self) -> set[nn.Parameter]:
        """The parameters that take no part in the model while the adapters are disabled."""
        return {p for layer in self.layers.values() for p in (layer.lora_A, layer.lora_B)}

    def detach(self) -> nn.Module:
        """Takes the adapters out: the model gets its own modules and their `requires_grad` back. Returns the model.

        Buffers that moved in training, such as the running statistics of a normalisation, get back what they held.

        Raises `ValueError` if adapted layers were copied since adapters were attached: the copies would stay.
        """
        self.check_usable()
        self._check_no_copies()
        if self.merged:
            self.unmerge()
        self._record.restore_buffers(self.model)
        return self._take_out()

    def _take_out(self) -> nn.Module:
        """Puts the base layers back where the wrappers stand. Returns the model."""
        for wrapper in self.wrappers:
            replace_module(self.model, wrapper, wrapper.base_layer)
        for parameter, flag in self._requires_grad.items():
            parameter.requires_grad_(flag)
        self._let_go()
        return self.model

    def check_usable(self, model: nn.Module | None = None) -> None:
        """Raises `ValueError` if these adapters were detached, or if `model` does not run at their ranks.

        That is a model that they are not in (`model` may be a wrapper), one in a `disabled()` block, or one in which
        adapted layers were copied.
        """
        if not self._attached:
            raise ValueError("these adapters were detached from their model: attach or load them again")
        super().check_usable(model)
        if model is not None:
            self._check_no_copies()

    def _let_go(self) -> None:
        """Takes away what this handle has put on the model beside its layers."""
        unmark(self.model, self._hooks)
        for path in self._slow_paths:
            path.remove()
        self._attached = False

    def _watch_batches(self) -> None:
        if len(self._hooks) == 1:
            model = self._base_model()
            self._active.axes = batch_axes(model, self.layers)
            self._hooks.append(watch(model, self._active))

    def _base_model(self) -> nn.Module:
        """The model itself, to which PEFT would add the adapter."""
        return self.model
