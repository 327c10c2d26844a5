"""What a causal model writes of facts, and how good it is: BLEU, and facts that are missing, wrong or made up."""

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from dylora_kit.evaluation.facts import Fact
from dylora_kit.evaluation.writing import context_of, prompt_ids
from dylora_kit.evaluation.writing import write as continued
from dylora_kit.synthetic.facts import NAMES, VALUES
from dylora_kit.synthetic.names import Row
from dylora_kit.synthetic.read import facts_in, slot_errors
from dylora_kit.tasks.world import prompt_of

LONGEST = 80  # tokens of a text at most
SLOTS = {"name": NAMES, **VALUES}  # what facts can be about, and what they can say


def write(model: nn.Module, tokenizer: Any, rows: Sequence[Row], *, batch_size: int = 100) -> list[str]:
    """The texts that a causal model writes of the rows of `describe`, each token the most probable one.

    Arguments:
        tokenizer: of the model.
        rows: with `"first"`, as `texts("describe")` gives them.
        batch_size: how many texts are written together.

    A text ends after 80 tokens at the latest, and where the model has no more positions.
    """
    texts, limit = list[str](), context_of(model)
    for start in range(0, len(rows), batch_size):
        prompts = [prompt_of(row) for row in rows[start : start + batch_size]]
        longest = max(map(len, prompt_ids(tokenizer, prompts)))
        tokens = LONGEST if limit is None else min(LONGEST, limit - longest)
        texts += continued(model, tokenizer, prompts, max_new_tokens=tokens, batch_size=batch_size)
    return texts


def scores(written: Sequence[str], rows: Sequence[Row]) -> dict[str, float]:
    """How good written texts are: `"bleu"` over all references (1 is perfect) and `"slot error rate"` (0 is perfect).

    BLEU is sacrebleu's, in lower case, from 0 to 1. The slot error rate is the number of missing, changed and added
    facts over the number of facts to tell. Each row needs `"facts"` and the same number of `"references"`.

    Raises `ValueError` if there are more or fewer texts than rows.

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


def read_facts(text: str, first: str) -> list[Fact]:
    """What a text makes of the facts of an input, in their order, and then the facts that it adds.

    Raises `ValueError` for an input that is no list of facts.

    >>> [fact.label for fact in read_facts("The Red Fox is a bistro.", "name[the Red Fox] | kind[pub] | dogs[no]")]
    ['name: the Red Fox is said', 'kind: pub is wrong, it says bistro', 'dogs: no is missing']
    """
    return facts_in(text, parse_facts(first))


def parse_facts(first: str) -> dict[str, str]:
    """The facts that an input lists, by what they are about.

    Raises `ValueError` for a part that is no fact, and for two facts about the same thing.

    >>> parse_facts("name[the Red Fox] | kind[pub]")
    {'name': 'the Red Fox', 'kind': 'pub'}
    """
    facts: dict[str, str] = {}
    for part in first.strip().split("|"):
        match = re.fullmatch(r"([^\[\]]+)\[([^\[\]]+)\]", part.strip())
        name, value = (group.strip() for group in match.groups()) if match else ("", "")
        if not name or not value:
            raise ValueError(f"{part.strip()!r} is no fact: write facts as in name[the Red Fox] | kind[pub]")
        if name in facts:
            raise ValueError(f"{name} is given twice, as {facts[name]} and as {value}: give it once")
        facts[name] = value
    return facts
