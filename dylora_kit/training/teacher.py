"""The answers of a model at rank r as it was at first, and how far those at other ranks, and later, are from them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.core.handle import Adapters
from dylora_kit.core.modes import evaluating, modes_kept
from dylora_kit.core.offload import input_device
from dylora_kit.storage.checksum import checksum
from dylora_kit.training.batches import IGNORED, LABELS, Batch, Collate, call, labels_of, on_device, stacked
from dylora_kit.training.data_fingerprint import hash_of
from dylora_kit.training.next_token import named_causal


class KeptAdapters:
    """The values and the scale that adapters, and modules trained along, have now."""

    def __init__(self, adapters: Adapters) -> None:
        self.adapters = adapters
        self.values = {tensor: tensor.detach().clone() for tensor in adapters.tensors().values()}
        self._alphas = {layer: layer.lora_alpha for layer in adapters.layers.values()}
        self._scaling, self._config = adapters.scaling, dict(adapters.config)

    @property
    def digest(self) -> str:
        """A hash of the values."""
        return hash_of([checksum(values) for values in self.values.values()])

    @torch.no_grad()
    def put_back(self) -> None:
        """Gives the adapters these values again, in place; `ValueError` while merged, and if they have grown since."""
        self.adapters.check_unmerged("putting other values into the adapters")
        if any(tensor.shape != values.shape for tensor, values in self.values.items()):
            raise ValueError("the adapters have other sizes than before: they were grown since")
        for tensor, values in self.values.items():
            tensor.copy_(values)
        self.adapters.scaling = self._scaling
        self.adapters.config |= self._config
        for layer, alpha in self._alphas.items():
            layer._lora_alpha = alpha
        self.adapters.orderings += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A block in which the adapters have these values, and after which they have those that they had."""
        now = {tensor: tensor.data for tensor in self.values}
        for tensor, values in self.values.items():
            tensor.data = values
        try:
            yield
        finally:
            for tensor, values in now.items():
                tensor.data = values


class Teacher:
    """A loss for `train`: how far a model is, at its present rank, from what it answered at rank r at first.

    The answers are the model's logits with the adapters and modules trained along that it has now: a copy of these is
    kept, and the rest of the model is shared. Answers and outputs are those of evaluation mode, without dropout. What
    is minimised is the mean divergence KL(answers ‖ outputs) over classes: of each example, or of each token that
    counts. Those are the tokens of `attention_mask` whose label, if there are labels, is not −100; in a causal language
    model those for which that holds of the next token. No label is used otherwise. Of a single output, a score, what is
    minimised is half the squared difference, which is KL between normal distributions of variance 1.

    Arguments:
        adapters: a handle on a model with logits (n, classes) or (n, tokens, classes), or (n, 1) for a score.
        start: says in a checkpoint what the answers are made of.
    """

    def __init__(self, adapters: Adapters, start: str = "") -> None:
        self.adapters, self.kept = adapters, KeptAdapters(adapters)
        self.__name__ = f"divergence from the answers of {start or self.kept.digest}"
        self._causal = named_causal(adapters.model)
        self._makes_inputs = bool(getattr(getattr(adapters.model, "config", None), "is_encoder_decoder", False))
        self._batch, self._counted, self._answers = Batch(), torch.empty(0), torch.empty(0)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean divergence of a batch."""
        with modes_kept(model):
            model.eval()  # with dropout, rank r would not be what it is, and running statistics would move
            total, counted = self.divergence(model, batch)
        return total / max(counted, 1)

    def divergence(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """The sum of the divergences of a batch, and how many examples or tokens count.

        Raises `ValueError` for outputs without logits, and for answers that are not finite.
        """
        if self._batch is not batch:  # the terms of an objective share the answers
            self._answer(batch)
        outputs = self._logits(model, batch)[self._counted].float()  # (m, classes)
        if outputs.shape[-1] == 1:
            return (outputs - self._answers).square().sum() / 2, len(outputs)
        return F.kl_div(outputs.log_softmax(-1), self._answers, reduction="sum", log_target=True), len(outputs)

    def _answer(self, batch: Batch) -> None:
        """Computes the answers for a batch, (m, classes) of the m rows that count: log-probabilities, or scores."""
        with self.kept.in_place(), self.adapters.at(self.adapters.r), evaluating(self.adapters.model):
            logits = self._logits(self.adapters.model, batch)
            self._counted = self._counts(batch, logits)
            answers = logits[self._counted]
            if not bool(answers.isfinite().all()):
                raise ValueError(
                    f"the model's answers at rank {self.adapters.r}, which all ranks are to learn, are not finite: "
                    "look at the adapter and the data"
                )
            self._answers = answers.float() if answers.shape[-1] == 1 else answers.float().log_softmax(-1)
        self._batch = batch

    def divergences(
        self, model: nn.Module, data: Any, ranks: Sequence[int], *, batch_size: int, collate: Collate | None
    ) -> dict[int, float]:
        """The mean divergence at each rank over a map-style dataset; `ValueError` if no token of it counts."""
        from torch.utils.data import DataLoader

        totals, counted, device = dict.fromkeys(ranks, 0.0), 0, input_device(self.adapters.model)
        loader: DataLoader[Any] = DataLoader(
            data, batch_size, collate_fn=collate or stacked, generator=torch.Generator()
        )
        with evaluating(model):
            for examples in loader:
                batch = on_device(examples, device)
                for rank in ranks:
                    with self.adapters.at(rank):
                        total, number = self.divergence(model, batch)
                    totals[rank] += float(total)
                counted += number
        if not counted:
            raise ValueError(
                "no token of the examples held out counts, whose labels are all −100: give labels, or leave them out"
            )
        return {rank: total / counted for rank, total in totals.items()}

    def _logits(self, model: nn.Module, batch: Batch) -> Tensor:
        given = {name: value for name, value in batch.items() if self._makes_inputs or name not in LABELS}
        output = call(model, given, "pass collate=…, which leaves it out")
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor) or logits.dim() not in (2, 3) or logits.shape[-1] < logits.dim() - 1:
            kind = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
            raise ValueError(f"expected logits (n, classes), (n, tokens, classes) or a score (n, 1): got {kind}")
        return logits

    def _counts(self, batch: Mapping[str, Any], logits: Tensor) -> Tensor:
        """Which of the rows of logits count, (n,) or (n, tokens)."""
        tokens = torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
        if tokens.dim() < 2:
            return tokens
        attention, labels = batch.get("attention_mask"), labels_of(batch)
        if isinstance(attention, Tensor) and attention.shape == tokens.shape and not self._makes_inputs:
            tokens &= attention.bool()
        labelled = tokens
        if labels is not None and labels.shape == tokens.shape:
            labelled = tokens & (labels != IGNORED)
        if not self._causal:
            return labelled
        following = torch.zeros_like(tokens)
        following[:, :-1] = labelled[:, 1:]
        return tokens & following
