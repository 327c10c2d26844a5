"""A model's own loss, and over how many labels it is the mean: what a batch weighs beside others."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.training.batches import IGNORED, LABELS, Batch, call, counts, labels_of, own_loss
from dylora_kit.training.next_token import Shift, named_causal
from dylora_kit.training.objectives import size_of

TEXTS = ("input_ids", "inputs_embeds")  # (n, tokens, …), within which an answer has its start and its end


class Counting:
    """Over how many labels the own loss of one model is the mean.

    - The labels that are not −100; of a causal language model those of all tokens but the first. Without labels, the
      examples.
    - Of a transformers model `…ForCTC` the examples. By default its loss is their sum, of which `mean` makes the mean.
    - Of a model that answers questions, the starts and ends that are within the text, as others are ignored.

    A loss that is another mean, such as one with a weight for each class, cannot be told from these.
    """

    def __init__(self, model: nn.Module) -> None:
        ctc = [module for module in model.modules() if type(module).__name__.endswith("ForCTC")]
        kinds = [getattr(getattr(module, "config", None), "ctc_loss_reduction", None) for module in ctc]
        self._of_examples, self._summed = any(kinds), "sum" in kinds

    def mean(self, loss: Tensor, batch: Mapping[str, Any], labels: Tensor | None) -> tuple[Tensor, int]:
        """The loss of a batch as a mean, and over how many it is one.

        Arguments: as for `labels`.

        Raises `ValueError` if not as many starts of answers as ends are within the texts: the loss has a mean of each.
        """
        if "start_positions" in batch and "end_positions" in batch and len(set(starts_and_ends(batch))) == 2:
            raise ValueError(
                "an answer has its start within the text and its end beyond it, or the other way round, so the loss of "
                "a batch is no mean over answers: give both positions one place, as for an answer that is cut off"
            )
        return loss / size_of(batch) if self._summed else loss, self.labels(batch, labels)

    def labels(self, batch: Mapping[str, Any], labels: Tensor | None) -> int:
        """Over how many it is the mean.

        Arguments:
            labels: those of the batch, in a causal language model without the first of each text; None if it has none.
        """
        if self._of_examples:
            return size_of(batch)
        if "start_positions" in batch and "end_positions" in batch:
            return sum(starts_and_ends(batch))
        if labels is None:
            return size_of(batch)
        mask = counts(labels)
        return labels.numel() if mask is None else int(mask.sum())


def starts_and_ends(batch: Mapping[str, Any]) -> tuple[int, int]:
    """How many starts of answers are within their text, and how many ends; others are ignored by transformers' loss.

    >>> starts, ends = torch.tensor([2, 9]), torch.tensor([9, 9])
    >>> starts_and_ends({"input_ids": torch.zeros(2, 9), "start_positions": starts, "end_positions": ends})
    (1, 0)
    """
    tokens = next((batch[name].shape[1] for name in TEXTS if name in batch), None)
    starts, ends = batch["start_positions"], batch["end_positions"]
    if tokens is None:
        return starts.numel(), ends.numel()
    return int((starts < tokens).sum()), int((ends < tokens).sum())


class OwnLoss:
    """`model(**batch).loss`, or its cross-entropy with smoothed labels, and over how many labels it is the mean.

    Arguments:
        model: the model itself, not a wrapper.
        compared: whether losses of several batches are going to be weighed, so that a first one has to say whether
            its labels are those of the next token.
        label_smoothing: the share of each label that is spread evenly over all classes.
    """

    def __init__(self, model: nn.Module, compared: bool, label_smoothing: float = 0.0) -> None:
        decided = named_causal(model) if not compared and not label_smoothing else None
        self._shift, self._counting = Shift(model, decided), Counting(model)
        self._smoothing, self._of_each = label_smoothing, False

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch: a mean over the labels that count, or one value per example."""
        return self._smoothed(model, batch) if self._smoothing else self._own(model, batch)

    def _smoothed(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean of (1 − ε)·(−log p of the label) + ε·(mean of −log p over all classes), ε the smoothing."""
        labels = labels_of(batch)
        if labels is None or labels.is_floating_point():
            raise ValueError("label_smoothing is for data with 'labels' that are classes: leave it out")
        known = self._shift.decided and named_causal(model)  # then the model need not compute a loss of its own
        output = call(model, {name: value for name, value in batch.items() if not (known and value is labels)},
                      "pass loss=…, a function (model, batch) → loss")  # fmt: skip
        logits = getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or logits.shape[:-1] != labels.shape:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else None
            raise ValueError(
                f"label_smoothing needs logits (…, classes) for labels of shape {tuple(labels.shape)}: got {shape}"
            )
        with torch.no_grad():  # decides on the first batch whether labels are those of the next token
            self._shift.applied(logits, labels, getattr(output, "loss", None))
        if self._shift.decided:
            logits, labels = logits[:, :-1], labels[:, 1:]
        mask = labels != IGNORED
        return F.cross_entropy(logits[mask].float(), labels[mask], label_smoothing=self._smoothing)

    def _own(self, model: nn.Module, batch: Batch) -> Tensor:
        otherwise = "pass loss=…, a function (model, batch) → loss"
        output = call(model, batch, otherwise)
        loss = own_loss(output, batch, otherwise)
        self._of_each = loss.numel() > 1
        labels = _labels(batch)
        if self._shift.decided is None and labels is not None:
            with torch.no_grad():
                self._shift.applied(getattr(output, "logits", None), labels, loss)
        return loss

    def counted(self, batch: Batch) -> int:
        """Over how many labels the loss of a batch is the mean; of a loss for each example, how many those are."""
        labels = _labels(batch)
        if self._of_each:
            return size_of(batch)
        return self._counting.labels(batch, None if labels is None else self._shift.of_labels(labels))


def _labels(batch: Mapping[str, Any]) -> Tensor | None:
    """The labels of a batch, if it has some and they are one tensor."""
    return next((batch[name] for name in LABELS if isinstance(batch.get(name), Tensor)), None)
