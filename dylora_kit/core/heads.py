"""Weights that are new in a model, such as a head, and that attaching adapters would freeze as they were drawn."""

import warnings
from collections.abc import Iterable, Iterator

from torch import nn

from dylora_kit.storage.base_model import HEADS


class NewWeightsWarning(UserWarning):
    """Weights that are new in a model are frozen as they were drawn."""


def warn_of_new_weights(model: nn.Module, saved: Iterable[nn.Module]) -> None:
    """Warns of weights that were drawn anew for this model, and are neither trained along nor frozen on purpose.

    They are drawn anew in the next session too, so that what was trained with these is lost. To be called before
    anything is frozen.

    Arguments:
        saved: the modules that are trained along.
    """
    kept = {parameter for module in saved for parameter in module.parameters()}
    new = {parameter for parameter in _new_weights(model) if parameter.requires_grad and parameter not in kept}
    names = list(_outermost(model, new)) if new else []
    if names:
        warnings.warn(
            f"{', '.join(names)}: new weights, which are frozen as they are and not saved with the adapters, so that "
            f"another session has other ones: pass modules_to_save={names} to train and save them, or freeze them with "
            "requires_grad_(False) before attaching if that is what you want",
            NewWeightsWarning,
            stacklevel=3,
        )


def _new_weights(model: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that are not pretrained, as far as a model of transformers tells.

    transformers marks each parameter that it read from a file. Where none is marked, those of a task's head are taken
    for new. One without values, as where accelerate offloads them, was not drawn.
    """
    parameters = [parameter for parameter in model.parameters() if not parameter.is_meta]
    if any(getattr(parameter, "_is_hf_initialized", False) for parameter in parameters):
        yield from (parameter for parameter in parameters if not getattr(parameter, "_is_hf_initialized", False))
        return
    prefix = getattr(model, "base_model_prefix", "")
    body = getattr(model, prefix, None) if prefix else None
    if isinstance(body, nn.Module) and not _predicts_tokens(model):
        yield from (p for child in model.children() if child is not body for p in child.parameters())
    elif prefix:
        heads = (module for name, module in model.named_modules() if name.rpartition(".")[2] in HEADS)
        yield from (p for head in heads for p in head.parameters())


def _predicts_tokens(model: nn.Module) -> bool:
    """Whether a model has the head of a language model, which is pretrained as the rest of it."""
    find = getattr(model, "get_output_embeddings", None)
    try:
        return find is not None and find() is not None
    except (AttributeError, NotImplementedError):
        return False


def _outermost(model: nn.Module, new: set[nn.Parameter], name: str = "") -> Iterator[str]:
    """The names of the outermost modules all of whose parameters are new, or of one that has such parameters itself."""
    own = list(model.parameters(recurse=False))
    if name and (all(parameter in new for parameter in model.parameters()) or any(p in new for p in own)):
        if own or any(True for _ in model.parameters()):
            yield name
        return
    for key, child in model.named_children():
        yield from _outermost(child, new, f"{name}.{key}" if name else key)
