"""What a causal model writes of facts, and how good it is: BLEU, and slots that are missing, wrong or made up."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dylora_kit.core.modes import evaluating
from dylora_kit.synthetic.examples import Row
from dylora_kit.synthetic.read import slot_errors
from dylora_kit.tasks.world import prompt_of

LONGEST = 80  # tokens


def write(model: nn.Module, tokenizer: Any, rows: Sequence[Row], *, batch_size: int = 100) -> list[str]:
    """The texts that a model gives rows of `describe`, each token the likeliest one, as long as its positions allow."""
    device = next(model.parameters()).device
    tokenizer.padding_side = "left"
    limit, written = model.config.max_position_embeddings, list[str]()  # type: ignore[union-attr]
    with evaluating(model):
        for start in range(0, len(rows), batch_size):
            prompts = [prompt_of(row) for row in rows[start : start + batch_size]]
            batch = tokenizer(prompts, padding=True, add_special_tokens=False, return_tensors="pt").to(device)
            asked = {key: batch[key] for key in ("input_ids", "attention_mask")}
            most = min(LONGEST, limit - asked["input_ids"].shape[1])
            found: Tensor = model.generate(  # type: ignore[operator]
                **asked, max_new_tokens=most, do_sample=False, pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )  # fmt: skip
            texts = tokenizer.batch_decode(found[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
            written += [text.strip() for text in texts]
    return written


def scores(written: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
    """Two numbers from 0 up: `"bleu"` over all references (1 is perfect) and `"slot error rate"` (0 is perfect).

    BLEU is sacrebleu's, on lower-case words. The slot error rate is the number of missing, changed and added facts
    over the number of facts to tell. Each row has the same number of references.

    >>> row = {"facts": {"name": "the Red Fox", "kind": "pub"}, "references": ["The Red Fox is a pub."]}
    >>> scores(["The Red Fox is a pub."], [row])
    {'bleu': 1.0, 'slot error rate': 0.0}
    """
    from sacrebleu import corpus_bleu

    if len(written) != len(rows):
        raise ValueError(f"{len(written)} texts for {len(rows)} rows: expected one for each")
    columns = [list(column) for column in zip(*(row["references"] for row in rows), strict=True)]
    errors = sum(slot_errors(text, row["facts"]) for text, row in zip(written, rows, strict=True))
    return {
        "bleu": round(corpus_bleu(list(written), columns, lowercase=True).score / 100, 6),
        "slot error rate": errors / sum(len(row["facts"]) for row in rows),
    }
