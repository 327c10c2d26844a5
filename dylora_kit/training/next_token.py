"""Causal language models: what they say at a token is about the next one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.training.batches import IGNORED

NAMES = ("ForCausalLM", "LMHeadModel")  # ends of the names of transformers' classes
WRAPPERS = ("module", "_orig_mod")  # where DDP and torch.compile keep the model


class Shift:
    """Whether the outputs of one model are compared with the label of the next token: decided once, for all batches.

    Arguments:
        model: the model itself, not a wrapper.
        given: what the user says; None to let `predicts_next` decide on the first batch with labels that count.
    """

    def __init__(self, model: nn.Module, given: bool | None = None) -> None:
        self.model, self.decided = model, given

    def applied(self, outputs: Tensor | None, labels: Tensor, loss: Any) -> tuple[Tensor | None, Tensor]:
        """Outputs and labels of a batch that belong together."""
        shift = self.decided
        if shift is None:
            shift = predicts_next(self.model, outputs, labels, loss)
            if (labels != IGNORED).any():
                self.decided = shift
        return shifted(outputs, labels) if shift else (outputs, labels)

    def of_labels(self, labels: Tensor) -> Tensor:
        """The labels of a batch that are compared with an output; by the model's name while nothing is decided."""
        shift = named_causal(self.model) if self.decided is None else self.decided
        return labels[:, 1:] if shift and labels.dim() == 2 else labels


def predicts_next(model: nn.Module, outputs: Tensor | None, labels: Tensor, loss: Any = None) -> bool:
    """Whether the outputs at a token are about the label of the next token, as in a causal language model.

    Only for outputs (n, tokens, vocabulary) with labels (n, tokens). The model's own loss decides: it equals the
    cross-entropy with the labels as they stand, or with those of the next token. Where it equals neither, as with an
    added term, or there is none, the model's class decides by its name: `…ForCausalLM` or `…LMHeadModel`, unless it is
    an encoder-decoder, whose labels are shifted on the way in.

    Arguments:
        outputs: None if there are none: then the labels alone are (n, tokens).
        loss: what the model reports for these labels.
    """
    if not isinstance(outputs, Tensor):
        return labels.dim() == 2 and named_causal(model)
    if not per_token(outputs, labels):
        return False
    if isinstance(loss, Tensor) and torch.isfinite(loss).all():
        pairs = (outputs, labels), shifted(outputs, labels)
        same, following = (_near(_cross_entropy(*pair), float(loss.cpu().double().mean())) for pair in pairs)
        if same != following:
            return following
    return named_causal(model)


def named_causal(model: nn.Module) -> bool:
    """Whether the class of a model says that it is a causal language model.

    >>> class TinyForCausalLM(nn.Module): ...
    >>> named_causal(TinyForCausalLM()), named_causal(nn.Linear(2, 2))
    (True, False)
    """
    for name in WRAPPERS:
        model = getattr(model, name, model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    return any(kind.__name__.endswith(NAMES) for kind in type(model).__mro__)


def per_token(outputs: Any, labels: Any) -> bool:
    """Whether outputs are (n, tokens, classes) and labels are whole numbers (n, tokens)."""
    return len(outputs.shape) == 3 and tuple(outputs.shape[:2]) == tuple(labels.shape) and "int" in str(labels.dtype)


def shifted(outputs: Any, labels: Any) -> tuple[Any, Any]:
    """Outputs at all tokens but the last, and labels of all but the first: what belongs together in a causal model.

    Arguments:
        outputs: None if there are none.

    Raises `ValueError` for outputs and labels that are not per token.
    """
    if outputs is None and labels.ndim == 2:
        return None, labels[:, 1:]
    if outputs is None or not per_token(outputs, labels):
        raise ValueError(
            "shift=True needs logits (n, tokens, vocabulary) and labels (n, tokens): got "
            f"{None if outputs is None else tuple(outputs.shape)} and {tuple(labels.shape)}"
        )
    return outputs[:, :-1], labels[:, 1:]


def _cross_entropy(outputs: Tensor, labels: Tensor) -> float:
    """Its mean over the labels that count, one example after another, so that little memory is taken."""
    total, tokens = 0.0, int((labels != IGNORED).sum())
    for logits, targets in zip(outputs, labels, strict=True):
        total += float(F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum"))
    return total / tokens if tokens else float("nan")


def _near(value: float, other: float) -> bool:
    return abs(value - other) <= 1e-3 * abs(other) + 1e-6
