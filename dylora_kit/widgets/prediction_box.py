"""The box that a student types a guess into, before the model answers."""

import math
from html import escape
from typing import Any

import ipywidgets
import traitlets

from dylora_kit.widgets.live_view import PLAIN

_GUESS = "That is my guess"


class Guess(ipywidgets.HBox):
    """A number that the student commits to before the model answers, from 0 to 100. `RankExplorer(guess=…)` draws it.

    What `reveal` was told stands beside the number as soon as there is a guess, also one that is made later.

    Arguments:
        question: what is asked.
        rank: the rank the question is about.
        value: the number that the box shows first; it counts as no guess until it is changed, or the button is pressed.

    Attributes:
        number: the box, whose `value` is the guess.
        button: makes the number that stands there a guess.
        answer: what the page shows of the guess and the truth, as HTML.
        made: whether there is a guess.

    >>> guess = Guess("At rank 1 it gets right:", rank=1)
    >>> guess.reveal(0.85)
    >>> guess.said
    'the answer waits for your guess'
    >>> guess.number.value = 30
    >>> guess.said
    'you said 30 %, it is 85 %'
    """

    made = traitlets.Bool(False)

    def __init__(self, question: str, *, rank: int, value: int = 0) -> None:
        self.rank = rank
        self._truth: float | None = None
        self.number = ipywidgets.BoundedIntText(
            value=value,
            min=0,
            max=100,
            description=question,
            layout={"width": "auto"},
            style=PLAIN,
        )
        self.button = ipywidgets.Button(description=_GUESS, layout={"width": "auto", "margin": "2px 12px"})
        self.answer = ipywidgets.HTML()
        self.number.add_class("dk-guess")
        self.button.add_class("dk-guess-button")
        self.number.observe(self._make, "value")
        self.button.on_click(self._make)
        super().__init__(
            [self.number, ipywidgets.Label("%"), self.button, self.answer], layout={"flex_flow": "row wrap"}
        )

    def _make(self, _: Any) -> None:
        self.made = True
        self._show()

    def reveal(self, share: float) -> None:
        """Says what the answer is, as a share of 1; the page shows it once there is a guess."""
        self._truth = share
        self._show()

    @property
    def said(self) -> str:
        """The guess and the truth, as far as they are known, in words."""
        if not self.made:
            return "no guess yet" if self._truth is None else "the answer waits for your guess"
        told = f"you said {self.number.value} %"
        if self._truth is None:
            return told
        return f"{told}, it is {100 * self._truth:.0f} %" if math.isfinite(self._truth) else f"{told}, it is not finite"

    def _show(self) -> None:
        waits = self._truth is None and not self.made
        self.answer.value = "" if waits else f"<b>{escape(self.said)}</b>"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """What a saved notebook has: the box, and its text in full, which ipywidgets would cut."""
        return {**super()._repr_mimebundle_(**options), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"A box for a guess (run the notebook to use it). {self.number.description} … %"
