"""What a masked language model is asked for: tokens of documents in pretraining, and facts when it is examined."""

from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.modes import evaluating
from dylora_kit.synthetic.corpus import Document
from dylora_kit.synthetic.read import read

LENGTH = 128  # tokens that a model reads
IGNORED = -100  # the label of a token that is not asked for
# where something follows from the rest of a text, mostly that alone is asked for: much else would hide what to learn
LOOKED_UP, FOLLOWING, MASKED = 0.85, 0.9, 0.15  # share of such texts, and of what is masked in them and in others


def masked(documents: list[Document], words: Any, generator: torch.Generator) -> dict[str, Tensor]:
    ids, told = encoded(documents, words)
    looked_up = (told > 0).any(1) & (torch.rand(len(ids), generator=generator) < LOOKED_UP)
    share = torch.where(looked_up[:, None], FOLLOWING * (told > 0), MASKED)
    return asked(ids, torch.rand(ids.shape, generator=generator) < share, words)


def probe(documents: list[Document], words: Any) -> dict[str, Tensor]:
    """In each second text, the first fact that is told in one word is masked, if the first text has that word too."""
    chosen = {}
    for index, one in enumerate(documents):
        spans = [one.second[start:stop].lower() for start, stop in one.spans]
        known = [
            number for number, word in enumerate(spans, 1) if " " not in word and word in one.first.lower().split()
        ]
        if one.kind == "pair" and known:
            chosen[index] = known[0]
    ids, told = encoded([documents[index] for index in chosen], words)
    return asked(ids, told == torch.tensor(list(chosen.values()))[:, None], words)


def following(documents: list[Document], words: Any) -> dict[str, Tensor]:
    """Everything that follows from the rest of a text is masked: verdicts, answers."""
    ids, told = encoded(documents, words)
    return asked(ids, told > 0, words)


def recalled(model: nn.Module, words: Any, documents: list[Document]) -> float:
    """The share of the probe's facts that are recalled: filled in, its words tell what the masked ones told.

    The tokens of a fact are filled in one after the other, the surest first.
    """
    asked = probe(documents, words)
    device = next(model.parameters()).device
    right, ids = torch.where(asked["labels"] == IGNORED, asked["input_ids"], asked["labels"]), asked["input_ids"]
    with evaluating(model):
        while (hidden := ids == words.mask_token_id).any():
            logits = model(ids.to(device), attention_mask=asked["attention_mask"].to(device)).logits.cpu()
            sure, tokens = logits.softmax(-1).max(-1)  # (n, tokens) each
            surest = sure.masked_fill(~hidden, -1.0).argmax(1, keepdim=True)
            ids = torch.where(hidden & (torch.arange(ids.shape[1]) == surest), tokens, ids)
    same = [_told(one, words) == _told(other, words) for one, other in zip(ids, right, strict=True)]
    return sum(same) / len(same)


def _told(ids: Tensor, words: Any) -> dict[str, set[str]]:
    """The facts that the second of two texts tells."""
    ends = (ids == words.eos_token_id).nonzero().flatten().tolist()
    return read(words.decode(ids[ends[1] + 1 : ends[2]]))


def encoded(documents: list[Document], words: Any) -> tuple[Tensor, Tensor]:
    """Token ids, and which of the last text's spans each token is of, counted from 1; 0 for none. (n, tokens)"""
    pairs = [(one.first, one.second) if one.second else (one.first,) for one in documents]
    rows = [words(*pair, truncation=True, max_length=LENGTH, return_offsets_mapping=True) for pair in pairs]
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), longest), words.pad_token_id)
    told = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, (row, document) in enumerate(zip(rows, documents, strict=True)):
        ids[index, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        for place, ((start, end), part) in enumerate(zip(row["offset_mapping"], row.sequence_ids(), strict=True)):
            for number, (begin, stop) in enumerate(document.spans, 1):
                if part == bool(document.second) and start < stop and end > begin:
                    told[index, place] = number
    return ids, told


def asked(ids: Tensor, masked: Tensor, words: Any) -> dict[str, Tensor]:
    """The batch in which a model is asked for the masked tokens."""
    masked = masked & ~torch.isin(ids, torch.tensor(words.all_special_ids))
    return {
        "input_ids": ids.masked_fill(masked, words.mask_token_id),
        "attention_mask": (ids != words.pad_token_id).long(),
        "labels": ids.masked_fill(~masked, IGNORED),
    }
