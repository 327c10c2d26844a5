"""Lesson 06: a model that writes, its fused projection, and a difference that may be chance; facts that are counted."""

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dylora_kit.evaluation.facts import STATES
from dylora_kit.lessons.exercise import Exercise, random

if TYPE_CHECKING:
    import pandas as pd

_LEFT = "text-align:left;vertical-align:baseline;padding:4px 14px 4px 0"
IGNORED = -100  # a label that does not count, as in torch's cross-entropy


def _sentences() -> list[tuple[Any, ...]]:
    """The ids of a prompt and of a text, and of the token that ends a text."""
    return [([11, 12, 13], [12, 22, 13], 2), ([31], [41, 42, 43, 44], 0), ([51, 7, 52], [61], 7)]


def labels(prompt: list[int], text: list[int], end: int) -> list[int]:
    """One label for each id of prompt, text and end: those of the prompt do not count."""
    return [IGNORED] * len(prompt) + text + [end]


LABELS = Exercise(
    cases=_sentences,
    solution=labels,
    mistakes={
        "the prompt counts here too: the model would learn to write facts": lambda prompt, text, end: [
            *prompt,
            *text,
            end,
        ],
        "a word of the prompt counts where the text has it again: go by the place, not by the id": (
            lambda prompt, text, end: [IGNORED if one in prompt else one for one in [*prompt, *text, end]]
        ),
        "the end is missing: without it the model never learns to stop": lambda prompt, text, end: [
            *[IGNORED] * len(prompt),
            *text,
        ],
        "the end has to count, so that the model learns to stop": lambda prompt, text, end: [
            *[IGNORED] * len(prompt),
            *text,
            IGNORED,
        ],
        "the prompt needs labels too, one for each id: -100 says that it does not count": lambda prompt, text, end: [
            *text,
            end,
        ],
        "-1 is no special label: it is -100 that does not count": lambda prompt, text, end: [
            *[-1] * len(prompt),
            *text,
            end,
        ],
        "0 is a token like any other: it is -100 that does not count": lambda prompt, text, end: [
            *[0] * len(prompt),
            *text,
            end,
        ],
        "you shift the labels: the model's own loss does that": lambda prompt, text, end: [
            *[IGNORED] * (len(prompt) - 1),
            *text,
            end,
            IGNORED,
        ],
        "you hide the text and keep the prompt: it is the other way round": lambda prompt, text, end: [
            *prompt,
            *[IGNORED] * (len(text) + 1),
        ],
    },
    shapes="prompt and text are lists of whole numbers, and there are no shapes in them",
)


def _updates() -> list[tuple[Any, ...]]:
    """ΔW of query and of value, (d, d_in) each with d ≠ d_in."""
    return [(random(3, 5, seed=1), random(3, 5, seed=2)), (random(4, 2, seed=3), random(4, 2, seed=4))]


def fused(delta_q: Tensor, delta_v: Tensor) -> Tensor:
    """What query's and value's ΔW add to the fused weight, which is stored as (d_in, 3 · d)."""
    return torch.cat([delta_q.T, torch.zeros_like(delta_q.T), delta_v.T], dim=1)


def _joined(*parts: Callable[[Tensor, Tensor], Tensor], dim: int = 1) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda q, v: torch.cat([part(q, v) for part in parts], dim=dim)


def _q(q: Tensor, v: Tensor) -> Tensor:
    return q.T


def _v(q: Tensor, v: Tensor) -> Tensor:
    return v.T


def _zeros(q: Tensor, v: Tensor) -> Tensor:
    return torch.zeros_like(q.T)


FUSED = Exercise(
    cases=_updates,
    solution=fused,
    mistakes={
        "GPT-2 stores its weights transposed, (d_in, 3 · d): transpose ΔW": lambda q, v: torch.cat(
            [q, torch.zeros_like(q), v]
        ),
        "the key's columns are missing: they stay as they are, so put zeros there": _joined(_q, _v),
        "the value's columns come last, after those of the key": _joined(_q, _v, _zeros),
        "the query's columns come first": _joined(_zeros, _q, _v),
        "query and value are in each other's place: the order is query, key, value": _joined(_v, _zeros, _q),
        "you put the parts one below another: they stand side by side, along dim=1": _joined(_q, _zeros, _v, dim=0),
        "the key gets no adapter: its columns are zeros": _joined(_q, _q, _v),
    },
    shapes="each ΔW is (d, d_in), the fused weight (d_in, 3 · d)",
)


def _errors() -> list[tuple[Any, ...]]:
    """The errors in some texts of each of two models, and which texts each draw takes."""
    draws = torch.tensor([[0, 1, 1, 3], [2, 2, 0, 1], [3, 3, 3, 0]])
    more = torch.tensor([[4, 4, 2, 0, 3], [1, 2, 1, 0, 1]])
    return [
        (torch.tensor([2.0, 0.0, 1.0, 5.0]), torch.tensor([1.0, 3.0, 0.0, 2.0]), draws),
        (torch.tensor([0.0, 2.0, 1.0, 1.0, 3.0]), torch.tensor([1.0, 3.0, 0.0, 2.0, 0.0]), more),
    ]


def differences(errors: Tensor, others: Tensor, draws: Tensor) -> Tensor:
    """How much more errors the first model makes on average in each draw, (draws,)."""
    return (errors - others)[draws].mean(1)


DIFFERENCES = Exercise(
    cases=_errors,
    solution=differences,
    mistakes={
        "this is the difference on all texts: take it anew in each draw": lambda errors, others, draws: (
            errors - others
        ).mean(),
        "you take the draws' mean: keep one difference for each draw": lambda errors, others, draws: (errors - others)[
            draws
        ].mean(),
        "your sign is turned: first model minus second": lambda errors, others, draws: (others - errors)[draws].mean(1),
        "you average over the draws: average over the texts of each draw, along dim 1": lambda errors, others, draws: (
            errors - others
        )[draws].mean(0),
        "you add up the errors: take their average": lambda errors, others, draws: (errors - others)[draws].sum(1),
        "only the first model is drawn: draw the same texts for both": lambda errors, others, draws: (
            errors[draws].mean(1) - others.mean()
        ),
        "this is the first model alone: subtract the second": lambda errors, others, draws: errors[draws].mean(1),
        "the sign tells who is better: leave abs() out": lambda errors, others, draws: (
            (errors - others)[draws].mean(1).abs()
        ),
        "this has a difference for each text: average over the texts of a draw": lambda errors, others, draws: (
            errors - others
        )[draws],
    },
    shapes="errors[draws] has a line for each draw, (draws, texts)",
)


def shares_of_states(facts: "pd.DataFrame") -> "pd.DataFrame":
    """How often each state of a fact occurs at each rank, as a share of the facts that are given there.

    Arguments:
        facts: with the columns rank and state, one row for each fact that an input gives or a text adds.

    Returns a frame for `plots.rank_curves`, with the states as methods. A state that never occurs is there with 0.

    >>> import pandas as pd
    >>> facts = pd.DataFrame({"rank": [1, 1, 2, 2], "state": ["said", "missing", "said", "said"]})
    >>> shares_of_states(facts).query("method == 'missing'").value.tolist()
    [0.5, 0.0]
    """
    import pandas as pd

    counts = pd.crosstab(facts["rank"], facts["state"]).reindex(columns=list(STATES), fill_value=0)
    shares = counts.div(counts.drop(columns="added").sum(axis=1), axis=0)
    long = shares.rename_axis(columns="method").unstack().rename("value").reset_index()
    return long.assign(metric="share of facts", seed=0)


def errors_of_texts(facts: "pd.DataFrame", rows: int) -> "pd.DataFrame":
    """How many facts each text gets wrong, leaves out or adds: ranks down, rows across.

    Arguments:
        facts: with the columns rank, row (counted from 0) and state.
        rows: how many inputs there are. A text without an error, or of an input without facts, is there with 0.

    >>> import pandas as pd
    >>> facts = pd.DataFrame({"rank": [1, 1, 2], "row": [0, 0, 1], "state": ["wrong", "added", "said"]})
    >>> errors_of_texts(facts, 3).to_numpy().tolist()
    [[2, 0, 0], [0, 0, 0]]
    """
    errors = facts.assign(error=facts["state"] != "said").groupby(["rank", "row"])["error"].sum()
    return errors.unstack().reindex(columns=range(rows)).fillna(0).astype(int)


def read_aloud(texts: "pd.DataFrame", rows: Sequence[int], cuts: Sequence[tuple[str, int]]) -> None:
    """Shows what a model wrote about some inputs, a line for each way of cutting, large enough to be read in a room.

    Arguments:
        texts: with the columns row, method, rank and text.
        rows: the inputs, by their number in the column row.
        cuts: method and rank of each line, from the top.
    """
    from IPython.display import display

    wrote = texts.set_index(["row", "method", "rank"])["text"]
    lines, plain = [], []
    for row in rows:
        for number, (method, rank) in enumerate(cuts):
            gap = ' style="border-top:2px solid #8a8a8a"' if number == 0 else ""
            cells = f'<td style="{_LEFT};white-space:nowrap;opacity:.8">{escape(method)}, rank {rank}</td>'
            cells += f'<td style="{_LEFT};font-size:1.25em">{escape(wrote[row, method, rank])}</td>'
            lines.append(f"<tr{gap}>{cells}</tr>")
            plain.append(f"rank {rank}, {method}: {wrote[row, method, rank]}")
    table = f'<table class="dk-aloud" style="font-size:1em"><tbody>{"".join(lines)}</tbody></table>'
    display({"text/html": table, "text/plain": "\n".join(plain)}, raw=True)
