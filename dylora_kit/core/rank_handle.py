"""The handle on the rank of a model: what `train`, `sweep` and the slider take, whatever the rank counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from torch import nn

from dylora_kit.core.rank import ActiveRank, Rank


class RankHandle:
    """What sets the rank of one model: `Adapters`, or the `Code` of an autoencoder.

    `train`, `sweep`, `predict` and `RankExplorer` take any of them, so nested dropout and DyLoRA share their code.

    Attributes:
        model: the model whose rank it sets.
        unit: what b counts, for labels.
        kind: what the parameters it counts are called, for labels.
        resumes: whether a training of it can go on from a checkpoint.
    """

    model: nn.Module
    unit = "rank"
    kind = "adapter"
    resumes = True
    _active: ActiveRank

    @property
    def r(self) -> int:
        """The maximum rank."""
        return self._active.r

    @property
    def rank(self) -> Rank:
        """The active rank: an int, `{layer: int}` for every layer, or an integer tensor with one rank per example.

        With one rank per example, a batch has its examples along the first axis, and the model must keep their order:
        layers that get rows in another order, such as experts, are refused by name where the source of the model or
        the shape of the inputs tells, and a forward that sorts, flips or swaps examples in a way that neither tells is
        computed with wrong ranks. Also refused are learned queries, as many as there are examples, that the model
        repeats by `expand`: their shape does not tell examples from queries. Beams have the rank of their example in
        the `generate` of transformers; in one that a model has of its own, the batch must keep its size.

        Gradient checkpointing runs a forward again during backward: keep the rank until backward is done. There is one
        rank for the whole process: a thread that sets it changes it under the forward passes of all others. Threads
        that need ranks of their own need copies of the model of their own (see `handle_of`).
        """
        return self._active.value

    @rank.setter
    def rank(self, value: Rank) -> None:
        self.check_usable()
        self._active.value = value
        if self._active.per_example is not None:
            self._watch_batches()

    def _watch_batches(self) -> None:
        """Prepares the model for one rank per example."""

    @property
    def merged(self) -> bool:
        """Whether ΔW is at present added to the base weights."""
        return self._active.merged

    def check_unmerged(self, purpose: str) -> None:
        """Raises `ValueError` that names the purpose, such as `"saving"`, while ΔW is added to the base weights."""
        self._active.check_unmerged(purpose)

    @contextmanager
    def at(self, rank: Rank) -> Iterator[Self]:
        """Runs a block at another rank; afterwards, also after an error, the rank is what it was.

        Adapters that were merged in the block, and still are, keep the rank at which they were merged.
        """
        before = self.rank
        self.rank = rank
        try:
            yield self
        finally:
            if not self.merged:
                self._active.value = before  # also of a handle that was detached in the block

    def check_usable(self, model: nn.Module | None = None) -> None:
        """Raises `ValueError` if `model`, which is about to run and may be wrapped (DDP), does not run at these ranks.

        That is a model that the handle was not made for, or one in a `disabled()` block.
        """
        if model is None:
            return
        if not any(module is self.model for module in model.modules()):
            raise ValueError("this handle belongs to another model: pass the model that it was made for")
        self._active.check_enabled("running the model at its ranks")

    def num_parameters(self, rank: int | None = None) -> int:
        """How many of the parameters that depend on the rank are in use at a rank (default: the active one)."""
        raise NotImplementedError

    def nested_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters whose rows or columns the rank cuts."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What a training run depends on, as JSON: a run that resumes must find the same."""
        raise NotImplementedError
