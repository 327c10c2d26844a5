"""What a model with adapters writes and reads by itself: state dicts, and the `save_pretrained` of transformers.

| | not merged | merged |
| --- | --- | --- |
| `state_dict()` | its own names, with `base_layer` and `lora_A` | the plain model's, with ΔW in the weights |
| `load_state_dict(…)` | a state of its own names | refused |
| `save_pretrained(…)` | refused; adapters alone where a training loop calls it | the plain model |

A state of its own names is read by the same model with the same adapters, whatever wrote it: `torch.save`, accelerate's
`save_model`, or the `save_pretrained` of a model around this one. In it each adapted layer has a `weight` of one value,
so that whatever reads it as a plain model's raises for the shape, also where missing names are let pass
(not under FSDP: there write adapters with `adapters.save`).

While merged, torch's `get_model_state_dict` with `ignore_frozen_params=True` raises `KeyError`: nothing is trained.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dylora_kit.core.batch_axis import Generate
from dylora_kit.core.layer import Wrapper
from dylora_kit.storage.adapter_files import CONFIG
from dylora_kit.storage.files import tensors_as_bytes, write_files

HANDLE = "_dylora_adapters"  # the attribute under which a model keeps the handle on its adapters
TRAINED = "model.safetensors"  # where transformers' Trainer looks for weights when it resumes


def check_state_fits(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """A hook before `load_state_dict`: raises `ValueError`, before anything changes, for a state read wrongly."""
    for name, wrapper in module.named_modules(prefix=prefix.removesuffix(".")):
        if isinstance(wrapper, Wrapper):
            wrapper.check_loads(state, f"{name}.")


def mark(model: nn.Module, handle: Any) -> list[Any]:
    """Makes a model know its handle, and guards what it reads and writes. Returns the hooks, for `unmark`."""
    model.__dict__[HANDLE] = handle  # also for a copy of the model, which then has a copy of the handle
    for module in model.modules():
        holds = any(isinstance(inner, Wrapper) for inner in module.modules())
        if holds and callable(getattr(module, "save_pretrained", None)):
            module.__dict__["save_pretrained"] = SavePretrained(module)
    return [model.register_load_state_dict_pre_hook(check_state_fits)]


def unmark(model: nn.Module, hooks: list[Any]) -> None:
    """Takes back what `mark` and `watch` have put on a model."""
    for hook in hooks:
        hook.remove()
    model.__dict__.pop(HANDLE, None)
    for module in model.modules():
        for key, kind in (("save_pretrained", SavePretrained), ("generate", Generate)):
            if isinstance(module.__dict__.get(key), kind):
                del module.__dict__[key]


def handle_in(model: nn.Module) -> Any:
    """The handle that a model, or one inside of it, keeps; None if there is none."""
    found = (module.__dict__.get(HANDLE) for module in model.modules())
    return next((handle for handle in found if handle is not None), None)


class SavePretrained:
    """A model's `save_pretrained`, for as long as it has adapters.

    A file of the model as it is would hold names that `from_pretrained` does not know, and layers of random weights
    would come back. So it raises `ValueError` that says what to do. Merged adapters are in the weights, and the plain
    model is written. Training loops (transformers' Trainer, accelerate) give `is_main_process`: for them it writes the
    adapters, which `dylora_kit.load` reads, and everything that is trained, by the model's own names, from which
    Trainer resumes.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(
        self,
        save_directory: Any,
        is_main_process: bool | None = None,
        state_dict: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        if any(isinstance(module, Wrapper) and module.holds_merged for module in self.model.modules()):
            if (Path(save_directory) / CONFIG).exists():
                raise ValueError(
                    f"{save_directory} holds adapters, which from_pretrained would add to the merged weights again: "
                    "choose another folder"
                )
            main = is_main_process is None or is_main_process
            return type(self.model).save_pretrained(self.model, save_directory, main, state_dict, **options)
        adapters = self.model.__dict__.get(HANDLE)
        if adapters is None or is_main_process is None:
            raise ValueError(
                "this model has adapters, and from_pretrained would not read them: write adapters.save(path) for "
                "dylora_kit.load, adapters.export_peft(path, rank) for PEFT, or "
                "adapters.merge_and_unload(rank).save_pretrained(path) for a plain model"
            )
        if is_main_process:
            if (Path(save_directory) / "config.json").exists():
                raise ValueError(
                    f"{save_directory} holds a whole model, and adapters beside its config would be read wrongly: "
                    "choose another folder"
                )
            adapters.save(save_directory)
            write_files(Path(save_directory), {TRAINED: tensors_as_bytes(trained_tensors(self.model))})
        return None


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training changes, by its name in the model: trained parameters, and buffers that are saved with it.

    Adapters and the modules trained along with them are among them also while they are frozen, since they may have been
    trained before.
    """
    saved, adapters = model.state_dict(), handle_in(model)
    along = {id(tensor) for tensor in adapters.tensors().values()} if adapters is not None else set()
    tensors: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad or id(p) in along}
    return tensors | {name: buffer for name, buffer in model.named_buffers() if name in saved}
