"""What must hold before a model's adapters are saved, so that a file has all that was trained, and reads as it was."""

from collections.abc import Callable, Collection, Mapping

from torch import Tensor, nn

from dylora_kit.core.base_record import BaseRecord, name_in_base, saved_buffers, ties_of
from dylora_kit.core.base_weights import unreadable

EXTRA_STATE = "_extra_state"  # the end of torch's key for what a module's `get_extra_state` returns


def check_all_saved(
    model: nn.Module,
    record: BaseRecord,
    saved: Mapping[str, Tensor],
    along: Collection[str],
    remedy: Callable[[str], str],
) -> None:
    """Raises `ValueError` unless what was trained is what is saved, and will be read into the same places.

    Every tensor to be saved must be in the model; every parameter that requires a gradient, has changed since adapters
    were attached or was added since must be among them; these must be tied as they were; and all others must be there.

    Arguments:
        saved: what is to be saved, by name.
        along: the names of modules that are saved whole.
        remedy: gives the end of the sentence on a parameter that is not saved, by its name.
    """
    held = {id(tensor) for tensor in (*model.parameters(), *saved_buffers(model).values())}
    for name, tensor in saved.items():
        if id(tensor) not in held:
            raise ValueError(
                f"{name!r} is no longer in the model: the module that had it was taken out or replaced since adapters "
                "were attached, so put it back, or attach adapters again"
            )
    kept, ties = {id(tensor) for tensor in saved.values()}, ties_of(model)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        plain, problem = name_in_base(name), None
        if id(parameter) not in kept:
            trained = "is trained (it requires a gradient)" if parameter.requires_grad else None
            problem = trained or record.changed(name, parameter)
        other = record.tied_otherwise(name, ties) if problem or id(parameter) in kept else None
        if other:
            now = "are one weight now" if other in ties[plain] else "are two weights now"
            raise ValueError(
                f"{plain!r} and {other!r} {now}, and were not when adapters were attached, so that a file would be "
                "read wrongly: tie them as they were, or change that before attaching"
            )
        if problem:
            raise ValueError(f"{plain!r} {problem}, and would not be saved: {remedy(plain)}")
    gone = record.missing(ties, along)
    if gone:
        raise ValueError(
            f"{gone!r} was in the model when adapters were attached, and is not any more, so that a file would be read "
            "into another model: put it back, or attach adapters to the model as it is"
        )


def check_readable(tensors: Mapping[str, Tensor], purpose: str = "save") -> None:
    """Raises `ValueError` that names the first of these tensors of which this process has no values, or a part."""
    for name, tensor in tensors.items():
        kind = unreadable(tensor)
        if kind is not None:
            raise ValueError(
                f"cannot {purpose} {name!r}: it {kind}: bring its whole values back first, onto one device and "
                "unsharded"
            )


def check_no_extra_state(modules: Mapping[str, nn.Module]) -> None:
    """Raises `ValueError` if a module trained along has a state beside its tensors."""
    for name, module in modules.items():
        extra = [key for key in module.state_dict() if key.endswith(EXTRA_STATE)]
        if extra:
            place = f"{name}.{extra[0]}".removesuffix(f".{EXTRA_STATE}")
            raise ValueError(
                f"{place!r} has a state of its own (get_extra_state), which files of adapters do not hold: keep it in "
                "buffers, or train along modules without one"
            )
