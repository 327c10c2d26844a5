"""The box that a student puts a guess into, before the model answers."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import ipywidgets
import traitlets

from dylora_kit.widgets.live_view import PLAIN, displayed

_GUESS = "That is my guess"


class Guess(ipywidgets.HBox):
    """What the student commits to before the model answers: a number, or one of a few answers.

    What `reveal` was told stands beside the guess as soon as there is one, also one that is made later.
    `RankExplorer(guess=…)` draws a guess in percent about a rank.

    Arguments:
        question: what is asked.
        rank: the rank the question is about.
        of: the method the question is about, as the explorer calls it.
        value: the number that the box shows first; it counts as no guess until it is changed, or the button is pressed.
        unit: what the number counts; with `"%"`, `reveal` takes a share of 1.
        most: the largest number that is a guess; the smallest is 0. Another one is none, and the box says so.
        choices: the answers to choose from, instead of a number.

    Attributes:
        number: the box, whose `value` is the guess; the row of answers, if there are `choices`.
        button: makes the number that stands there a guess.
        answer: what the page shows of the guess and the truth, as HTML.
        made: whether there is a guess.

    >>> guess = Guess("At rank 1 it gets right:", rank=1)
    >>> guess.reveal(0.85)
    >>> guess.said
    'the answer waits for your guess'
    >>> guess.number.value = 30
    >>> guess.said
    'you said 30 %, the answer is 85 %'
    >>> which = Guess("Which end rises first?", choices=["rank 1", "rank 8"])
    >>> which.number.value = "rank 1"
    >>> which.reveal("rank 8")
    >>> which.said
    'you said rank 1, the answer is rank 8'
    """

    _ipython_display_ = None  # by it ipywidgets 7 would cut the text
    made = traitlets.Bool(False)

    def __init__(
        self,
        question: str,
        *,
        rank: int | None = None,
        of: str = "",
        value: float = 0,
        unit: str = "%",
        most: int = 100,
        choices: Sequence[str] = (),
    ) -> None:
        if choices and (isinstance(choices, str) or len(set(choices)) != len(choices) or len(choices) < 2):
            raise ValueError(f"choices must be two different answers or more: got {choices!r}")
        self.rank, self.of, self.unit, self.most, self.choices = rank, of, unit, most, list(choices)
        self._truth: float | str | None = None
        self.button = ipywidgets.Button(description=_GUESS, layout={"width": "auto", "margin": "2px 12px"})
        self.button.add_class("dk-guess-button")
        self.answer = ipywidgets.HTML(layout={"margin": "2px 12px"})
        looks: dict[str, Any] = {"description": question, "style": PLAIN | {"button_width": "auto"}}
        looks["layout"] = {"width": "auto"}
        if choices:
            self.number = ipywidgets.ToggleButtons(options=self.choices, value=None, **looks)
        else:
            looks["style"] = PLAIN
            self.number = ipywidgets.FloatText(value=value, **looks)
        self.number.add_class("dk-guess")
        self.number.observe(self._make, "value")
        self.button.on_click(self._make)
        beside = [] if choices else [ipywidgets.Label(unit), self.button]
        super().__init__([self.number, *beside, self.answer], layout={"flex_flow": "row wrap"})

    def _make(self, _: Any) -> None:
        self.made = self._can_be
        self._show()

    @property
    def _can_be(self) -> bool:
        """Whether what stands there can be a guess."""
        return bool(self.choices) or 0 <= self.number.value <= self.most

    def reveal(self, truth: float | str) -> None:
        """Says what the answer is; the page shows it once there is a guess.

        Arguments:
            truth: one of the `choices`; else a number, which is a share of 1 where the unit is percent.

        Raises `ValueError` for an answer that could not be chosen.
        """
        if self.choices and truth not in self.choices:
            raise ValueError(f"there is no answer {truth!r} to choose: the answers are {', '.join(self.choices)}")
        if not self.choices and self.unit == "%" and isinstance(truth, int | float) and 100 * truth > self.most + 1e-6:
            raise ValueError(f"the answer in percent is a share of 1, up to {self.most / 100:g}: got {truth:g}")
        self._truth = truth
        self._show()

    @property
    def share(self) -> float | None:
        """The guess as a share of 1; None without one, and for another unit."""
        return self.number.value / 100 if self.made and self.unit == "%" and not self.choices else None

    @property
    def said(self) -> str:
        """The guess and the truth, as far as they are known, in words."""
        if not self._can_be:
            return f"a guess is from 0 to {self._in_words(self.most)}"
        if not self.made:
            return "no guess yet" if self._truth is None else "the answer waits for your guess"
        said = self.number.value
        told = f"you said {said if self.choices else f'{said:g} {self.unit}'.strip()}"
        if self._truth is None:
            return told
        truth = 100 * self._truth if self.unit == "%" and isinstance(self._truth, int | float) else self._truth
        return f"{told}, the answer is {self._in_words(truth)}"

    def _in_words(self, value: float | str) -> str:
        """A number with its unit, or an answer as it is."""
        if isinstance(value, str):
            return value
        if not math.isfinite(value):
            return "not finite"
        number = f"{value:.0f}" if self.unit == "%" else f"{value:.3g}"
        return f"{number} {self.unit}".strip()

    def _show(self) -> None:
        waits = self._truth is None and not self.made and self._can_be
        self.answer.value = "" if waits else f"<b>{escape(self.said)}</b>"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """What a saved notebook has: the box, and its text in full, which ipywidgets would cut."""
        return displayed(self)

    def __repr__(self) -> str:
        answers = " / ".join(self.choices) or f"… {self.unit}".strip()
        return f"A box for a guess (run the notebook to use it). {self.number.description} {answers}"
