"""Which tokens a masked language model is asked for: at random in pretraining, facts when it is examined.

A batch is a dict of tensors (n, tokens): `input_ids`, `attention_mask`, and `labels`, which are −100 for all tokens
that are not asked for.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dylora_kit.core.modes import evaluating
from dylora_kit.synthetic.document_kinds import Document
from dylora_kit.synthetic.read import read

LENGTH = 128  # how many tokens a model reads at most
IGNORED = -100  # the label of a token that is not asked for
# in most documents that have spans, only tokens of spans are masked: they can be told from the tokens that stay
LOOKED_UP = 0.85  # share of these documents among those that have spans
FOLLOWING, MASKED = 0.9, 0.15  # share of the spans' tokens that is masked in them, and of all tokens in the others


def masked(documents: list[Document], tokenizer: Any, generator: torch.Generator) -> dict[str, Tensor]:
    """A batch to pretrain on, masked at random: see `LOOKED_UP`, `FOLLOWING` and `MASKED`."""
    ids, spans = encoded(documents, tokenizer)
    looked_up = (spans > 0).any(1) & (torch.rand(len(ids), generator=generator) < LOOKED_UP)
    share = torch.where(looked_up[:, None], FOLLOWING * (spans > 0), MASKED)
    return asked(ids, torch.rand(ids.shape, generator=generator) < share, tokenizer)


def probe(documents: list[Document], tokenizer: Any) -> dict[str, Tensor]:
    """A batch of the pairs of descriptions in which a fact can be looked up; it is the only one that is masked.

    It is the first span of the second text that is a single word and stands in the first text too.
    """
    first_known = {}
    for index, document in enumerate(documents):
        marked = [document.second[start:stop].lower() for start, stop in document.spans]
        words = document.first.lower().split()
        known = [number for number, text in enumerate(marked, 1) if " " not in text and text in words]
        if document.kind == "pair" and known:
            first_known[index] = known[0]
    ids, spans = encoded([documents[index] for index in first_known], tokenizer)
    return asked(ids, spans == torch.tensor(list(first_known.values()))[:, None], tokenizer)


def following(documents: list[Document], tokenizer: Any) -> dict[str, Tensor]:
    """A batch in which all spans are masked, such as verdicts and answers, and nothing else."""
    ids, spans = encoded(documents, tokenizer)
    return asked(ids, spans > 0, tokenizer)


def recalled(model: nn.Module, tokenizer: Any, documents: list[Document]) -> float:
    """The share of the facts of `probe` that are recalled: the text that the model fills in tells the same facts.

    The tokens of a fact are filled in one after the other, the most probable first.
    """
    batch = probe(documents, tokenizer)
    device = next(model.parameters()).device
    right, ids = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"]), batch["input_ids"]
    with evaluating(model):
        while (hidden := ids == tokenizer.mask_token_id).any():
            logits = model(ids.to(device), attention_mask=batch["attention_mask"].to(device)).logits.cpu()
            probabilities, tokens = logits.softmax(-1).max(-1)  # (n, tokens) each
            place = probabilities.masked_fill(~hidden, -1.0).argmax(1, keepdim=True)
            ids = torch.where(hidden & (torch.arange(ids.shape[1]) == place), tokens, ids)
    same = [
        _second_facts(filled_in, tokenizer) == _second_facts(original, tokenizer)
        for filled_in, original in zip(ids, right, strict=True)
    ]
    return sum(same) / len(same)


def _second_facts(ids: Tensor, tokenizer: Any) -> dict[str, set[str]]:
    """The facts that the second of two texts tells."""
    ends = (ids == tokenizer.eos_token_id).nonzero().flatten().tolist()
    return read(tokenizer.decode(ids[ends[1] + 1 : ends[2]]))


def encoded(documents: list[Document], tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Token ids of documents and, for each token, the number of the span that it is in, from 1, or 0: (n, tokens)."""
    pairs = [(document.first, document.second) if document.second else (document.first,) for document in documents]
    rows = [tokenizer(*pair, truncation=True, max_length=LENGTH, return_offsets_mapping=True) for pair in pairs]
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    spans = torch.zeros(len(rows), longest, dtype=torch.long)
    for index, (row, document) in enumerate(zip(rows, documents, strict=True)):
        ids[index, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        for place, ((start, end), part) in enumerate(zip(row["offset_mapping"], row.sequence_ids(), strict=True)):
            for number, (begin, stop) in enumerate(document.spans, 1):
                if part == bool(document.second) and start < stop and end > begin:
                    spans[index, place] = number
    return ids, spans


def asked(ids: Tensor, masked: Tensor, tokenizer: Any) -> dict[str, Tensor]:
    """The batch in which a model is asked for the masked tokens; special tokens are never masked.

    Arguments:
        ids: token ids (n, tokens).
        masked: whether each is to be masked (n, tokens).
    """
    masked = masked & ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    return {
        "input_ids": ids.masked_fill(masked, tokenizer.mask_token_id),
        "attention_mask": (ids != tokenizer.pad_token_id).long(),
        "labels": ids.masked_fill(~masked, IGNORED),
    }
