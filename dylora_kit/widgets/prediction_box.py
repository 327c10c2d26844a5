"""The box that a student types a guess into, before the model answers."""

import ipywidgets

from dylora_kit.widgets.live_view import PLAIN


class Guess(ipywidgets.HBox):
    """A number that the student commits to before the model answers, from 0 to 100. `RankExplorer(guess=…)` draws it.

    Arguments:
        question: what is asked.
        rank: the rank the question is about.
        value: the number that the box shows first; it counts as no guess until it is changed.

    Attributes:
        number: the box, whose `value` is the guess.
        made: whether the number was changed, so that it is a guess.
    """

    def __init__(self, question: str, *, rank: int, value: int = 0) -> None:
        self.rank = rank
        self.number = ipywidgets.BoundedIntText(
            value=value,
            min=0,
            max=100,
            description=question,
            layout={"width": "auto"},
            style=PLAIN,
        )
        self.number.add_class("dk-guess")
        self.made = False
        self.number.observe(lambda _: setattr(self, "made", True), "value")
        super().__init__([self.number, ipywidgets.Label("%")])

    def __repr__(self) -> str:
        return (
            f"A box to type a guess into (run the notebook to use it): {self.number.description} {self.number.value} %"
        )
