"""What models answer to one input of your own, as HTML: a line for each method, a column for each rank."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from dylora_kit.plots.drawing import looks

ALL_RANKS = 12  # up to this r each rank is shown, beyond it the powers of two

_RULES = """
& { font-family: var(--jp-ui-font-family, system-ui, sans-serif); color: var(--ink); overflow-x: auto;
  contain: inline-size; }
& table { border-collapse: collapse; font-size: 15px; color: inherit; margin: 0; border: 0; }
& thead { border: 0; }
& tbody tr:nth-child(n) { background: none; }
& caption { text-align: left; font-size: 13px; color: var(--soft); padding: 0 0 4px; caption-side: top; }
& th, & td { text-align: center; padding: 4px 9px; border: 0; background: none; font-weight: 400; min-width: 2em;
  max-width: none; line-height: 1.25; white-space: nowrap; }
& tbody th { text-align: left; font-weight: 700; padding-left: 0; }
& thead th { color: var(--soft); font-size: 13px; }
& td b { font-size: 20px; display: block; }
& .dk-long td b { font-size: 14px; }
& td small { font-size: 12px; color: var(--soft); }
& .dk-here:nth-child(n) { border: 0 solid var(--ink); border-width: 0 2px; }
& thead .dk-here:nth-child(n) { border-top-width: 2px; color: var(--ink); font-weight: 700; }
& tbody tr:last-child .dk-here { border-bottom-width: 2px; }
& .dk-here small { color: var(--ink); }
@media (max-width: 900px) {
  & th, & td { padding: 4px; min-width: 1.6em; }
  & tbody th { white-space: normal; max-width: 5em; }
  & td small { font-size: 11px; }
}
"""
STYLE = f"<style>{_RULES.replace('&', '.dk-explorer.dk-answers')}</style>"


@dataclass
class Answer:
    """What a model answers at a rank, and how sure it is: the share, of 1, that it gives to that answer."""

    name: str
    sure: float

    @property
    def told(self) -> str:
        """The answer in words.

        >>> Answer("7", 0.934).told
        '7, 93 % sure'
        """
        return f"{self.name}, {100 * self.sure:.0f} % sure" if math.isfinite(self.sure) else "not finite"


def answer(outputs: np.ndarray, classes: Sequence[str]) -> Answer:
    """The largest of a model's outputs (classes,), and its share.

    Arguments:
        classes: what the classes are called, 0 first; those without a name are called by their number.

    >>> answer(np.array([0.0, 0.0]), ["bad", "good"])
    Answer(name='bad', sure=0.5)
    """
    if not np.isfinite(outputs).all():
        return Answer("–", math.nan)
    shares = np.exp(outputs.astype(float) - outputs.max())
    first = int(outputs.argmax())
    return Answer(classes[first] if first < len(classes) else str(first), float(shares[first] / shares.sum()))


def shown_ranks(r: int) -> list[int]:
    """The ranks that have a place of their own where all are shown side by side.

    >>> shown_ranks(4), shown_ranks(24)
    ([1, 2, 3, 4], [1, 2, 4, 8, 16, 24])
    """
    return list(range(1, r + 1)) if r <= ALL_RANKS else sorted({2**power for power in range(r.bit_length())} | {r})


def answer_table(answers: Mapping[str, Mapping[int, Answer]], ranks: Sequence[int], rank: int) -> str:
    """The table as HTML.

    Arguments:
        answers: by method and by rank; without an answer, a dash is shown.
        ranks: the columns.
        rank: the active one, which is marked.
    """
    heads = "".join(f'<th scope="col"{_here(b, rank)}>{"▾ " if b == rank else ""}{b}</th>' for b in ranks)
    rows = []
    kinds = looks(list(answers))
    for method, known in answers.items():
        cells = "".join(f"<td{_here(b, rank)}>{_cell(known.get(b))}</td>" for b in ranks)
        rows.append(f'<tr><th scope="row" style="color:var(--dk-{kinds[method]})">{escape(method)}</th>{cells}</tr>')
    letters = max((len(answer.name) for known in answers.values() for answer in known.values()), default=0)
    wide = len(ranks) > 8 or letters > 8
    reached = ' role="group" aria-label="Answers" tabindex="0"' if wide else ""  # keys scroll a long line
    look = ' class="dk-long"' if letters > 8 else ""
    caption = "Answers at every rank b, and how sure they are"
    return (
        f'<div class="dk-explorer dk-answers"{reached}><table{look}><caption>{caption}</caption>'
        f'<thead><tr><th scope="col">b</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def in_a_sentence(answers: Mapping[str, Mapping[int, Answer]], rank: int) -> str:
    """What each method answers at the active rank.

    >>> in_a_sentence({"DyLoRA": {3: Answer("7", 0.9)}, "LoRA": {3: Answer("4", 0.5)}}, 3)
    'At rank 3, DyLoRA answers 7, 90 % sure; LoRA answers 4, 50 % sure.'
    """
    told = "; ".join(f"{method} answers {known[rank].told}" for method, known in answers.items())
    return f"At rank {rank}, {told}."


def _cell(known: Answer | None) -> str:
    if known is None:
        return "<b>–</b><small>&nbsp;</small>"
    sure = f"{100 * known.sure:.0f} %" if math.isfinite(known.sure) else "not finite"
    return f"<b>{escape(known.name)}</b><small>{sure}</small>"


def _here(b: int, rank: int) -> str:
    return ' class="dk-here" aria-current="true"' if b == rank else ""
