"""What a model and an optimizer held before a checkpoint was loaded into them, for a run that is then refused."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.saved_states import handle_in, trained_tensors

ADAPTER = (".lora_A", ".lora_B")  # ends of the names of an adapter's parameters


class BeforeLoading:
    """A hook before a model's `load_state_dict`, and a watch on that of an optimizer.

    transformers' Trainer loads a checkpoint before any callback can look at it. So this keeps what is about to be
    overwritten, until `forget`, and refuses a state that this run cannot go on from before anything is loaded. A copy
    of the model gets a hook that has kept nothing.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}  # by name in the state that was loaded
        self._tensors: dict[str, Tensor] = {}  # of the model, by the same names
        self._optimizers: dict[Any, dict[str, Any]] = {}

    def __reduce__(self) -> Any:
        return type(self), ()

    def __call__(self, model: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Before a model loads a state.

        Raises `ValueError` if the state has something that is trained here in another shape, and if it holds adapters
        without the base, as a checkpoint does, and not just what is trained here.
        """
        handle = handle_in(model)
        if handle is None:
            return
        tensors: dict[str, Tensor] = dict(model.named_parameters(prefix.removesuffix("."), remove_duplicate=False))
        tensors |= dict(model.named_buffers(prefix.removesuffix("."), remove_duplicate=False))
        trained = {f"{prefix}{name}": tensor for name, tensor in trained_tensors(model).items()}
        for name, tensor in trained.items():
            if name in state and state[name].shape != tensor.shape:
                raise ValueError(
                    f"the state holds {name!r} in shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}: "
                    "attach adapters of the rank, and give the model the sizes, that it was saved with"
                )
        own = [name for name in state if name.startswith(prefix)]
        holds_base = any(".base_layer." in name for name in own)
        if handle.wrappers and not holds_base and any(name.endswith(ADAPTER) for name in own):
            _check_same_parameters(tensors, trained, own)
        for name in tensors.keys() & state.keys():
            then, now = state[name], tensors[name].detach()
            if then.dtype != now.dtype or not torch.equal(then.to(now.device), now):
                self._kept[name], self._tensors[name] = now.to("cpu", copy=True), tensors[name]

    def watch(self, optimizer: Any) -> None:
        """From here on, the model gets back what it held if a state does not fit the optimizer."""
        load = optimizer.load_state_dict

        def watched(state: dict[str, Any]) -> None:
            self._optimizers.setdefault(optimizer, copy.deepcopy(optimizer.state_dict()))
            try:
                load(state)
            except BaseException:
                self._optimizers.pop(optimizer)
                self.give_back()
                raise

        optimizer.load_state_dict = watched

    @torch.no_grad()
    def give_back(self) -> None:
        """Puts model and optimizer into the state that they had before the loading."""
        for name, tensor in self._tensors.items():
            tensor.copy_(self._kept[name])
        for optimizer, state in list(self._optimizers.items()):
            optimizer.load_state_dict(state)
        self.forget()

    def forget(self) -> None:
        """Lets go of what was kept."""
        for kept in (self._kept, self._tensors, self._optimizers):
            kept.clear()


def _check_same_parameters(tensors: Mapping[str, Tensor], trained: Mapping[str, Tensor], saved: Iterable[str]) -> None:
    """Raises `ValueError` unless a state, whose names are given, has just those parameters that are trained."""
    held = {id(tensors[name]) for name in saved if name in tensors}
    lacking = [name for name, tensor in trained.items() if isinstance(tensor, nn.Parameter) and id(tensor) not in held]
    kept = {id(tensor) for tensor in trained.values()}
    others = [name for name in saved if id(tensors.get(name)) not in kept]
    surplus = [name for name in others if isinstance(tensors.get(name), nn.Parameter) or name.endswith(ADAPTER)]
    for name in (*lacking, *surplus):
        problem = f"lacks {name!r}, which this run trains" if lacking else f"holds {name!r}, which is not trained here"
        raise ValueError(f"the checkpoint {problem}: attach adapters and modules_to_save as for the run that wrote it")
