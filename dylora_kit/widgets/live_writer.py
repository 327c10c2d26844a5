"""A live model that writes: its texts at every rank, token by token, kept until its weights change."""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dylora_kit.core.handle import Adapters
from dylora_kit.evaluation.writing import context_of, prompt_ids, write
from dylora_kit.widgets.fingerprint import fingerprint
from dylora_kit.widgets.live_model import KEPT

PAUSE = 0.06  # seconds between two pictures of a text that grows


@dataclass(frozen=True)
class Written:
    """A text, and whether the model ended it, rather than a limit."""

    text: str
    ended: bool


Show = Callable[[dict[int, Written]], None]


class LiveWriter:
    """What one model writes, by prompt and rank: written by that model, once for each state of its weights.

    Arguments:
        handle: the adapters of a causal language model.
        tokenizer: the model's.
        max_new_tokens: a text ends after so many tokens at the latest, and where the model has no more positions.
        adapted: whether the adapters are on; without them a text is the same at every rank.
    """

    def __init__(self, handle: Adapters, tokenizer: Any, max_new_tokens: int, *, adapted: bool = True) -> None:
        self.handle, self.adapted = handle, adapted
        self._tokenizer, self._max_new_tokens = tokenizer, max_new_tokens
        self._texts: dict[tuple[str, str], dict[int, Written]] = {}  # by fingerprint and prompt, the oldest first

    def texts(self, prompt: str, ranks: Iterable[int], show: Show | None = None) -> dict[int, Written]:
        """The texts that follow a prompt at some ranks: those that are not known yet, in one batch.

        Arguments:
            prompt: as the model is to get it.
            show: called with the texts as far as they are written, at the first token, and then about every
                `PAUSE` seconds.

        Raises `ValueError` for a prompt that is empty or leaves no room for a text, and while the adapters are merged
        or switched off.
        """
        self.handle.check_usable(self.handle.model)
        self.handle.check_unmerged("writing")
        known = self._texts.setdefault((fingerprint(self.handle), prompt), {})
        if len(self._texts) > KEPT:
            del self._texts[next(iter(self._texts))]
        wanted = list(ranks)
        missing = [rank for rank in wanted if rank not in known]
        if missing:
            new = self._write(prompt, missing, lambda texts: show(known | texts) if show else None)
            known |= new
        return {rank: known[rank] for rank in wanted}

    def _write(self, prompt: str, ranks: list[int], show: Show) -> dict[int, Written]:
        """The texts at some ranks. An error, or a stop, leaves nothing behind."""
        batch = ranks if self.adapted else [ranks[0]]

        def by_rank(texts: list[Written]) -> dict[int, Written]:
            return dict(zip(ranks, texts if self.adapted else texts * len(ranks), strict=True))

        streamer = _Streamer(self._tokenizer, lambda texts: show(by_rank(texts)))
        with nullcontext() if self.adapted else self.handle.disabled():
            write(
                self.handle.model,
                self._tokenizer,
                [prompt] * len(batch),
                max_new_tokens=self._room(prompt),
                batch_size=len(batch),
                ranks=batch if self.adapted else None,
                streamer=streamer,
            )
        return by_rank(streamer.texts())

    def _room(self, prompt: str) -> int:
        """How many tokens may follow a prompt."""
        limit, length = context_of(self.handle.model), len(prompt_ids(self._tokenizer, prompt))
        room = self._max_new_tokens if limit is None else min(self._max_new_tokens, limit - length)
        if room < 1:
            raise ValueError(
                f"this input has {length} tokens, and the model can see {limit}, its own text among them: shorten it"
            )
        return room


class _Streamer:
    """Takes a batch of new tokens at a time, as `generate` hands them out, and passes the texts on."""

    def __init__(self, tokenizer: Any, show: Callable[[list[Written]], None]) -> None:
        self._tokenizer, self._show = tokenizer, show
        self._columns: list[Tensor] | None = None  # (n,) each; None before the prompt has come
        self._next = 0.0

    def put(self, ids: Tensor) -> None:
        """The ids of the prompts (n, tokens) first, then a new token for each (n,)."""
        if self._columns is None:
            self._columns = []
            return
        self._columns.append(ids.reshape(-1).cpu())
        if time.monotonic() >= self._next:
            self._show(self.texts())
            self._next = time.monotonic() + PAUSE

    def end(self) -> None:
        """Nothing is left to come."""

    def texts(self) -> list[Written]:
        """The texts as far as they are written."""
        rows = torch.stack(self._columns or [torch.zeros(0)], dim=1)
        texts = self._tokenizer.batch_decode(rows, skip_special_tokens=True)
        ended = (rows == self._tokenizer.eos_token_id).any(1).tolist()
        return [Written(text.strip(), end) for text, end in zip(texts, ended, strict=True)]
