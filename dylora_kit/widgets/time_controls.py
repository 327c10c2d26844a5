"""The slider and the player that take a live model back to a moment of its training."""

from collections.abc import Callable

import ipywidgets

from dylora_kit.widgets.live_view import PLAIN


class TimeControls:
    """A slider and a player over the moments of a training: two controls that stand at the same moment.

    Arguments:
        go_to: called with the index of a moment when a user moves the slider, or the player plays.

    Attributes:
        slider: from 0, the first moment, to 1, the latest.
        play: its value is the index of the moment.
    """

    # what moved                by                      _following   what happens
    # the slider or the player  a user, or playing      False        go_to that moment, which calls stand_at
    # both                      stand_at                True         nothing: the model is at that moment already

    def __init__(self, go_to: Callable[[int], None]) -> None:
        self._go_to, self._following = go_to, False
        # from 0 to 1, since the End key of ipywidgets' sliders goes to the maximum that they were made with
        self.slider = ipywidgets.FloatSlider(
            value=1, max=1, step=1, description="Moment of training", readout=False, style=PLAIN,
            layout={"width": "380px"},
        )  # fmt: skip
        self.play = ipywidgets.Play(max=0, interval=400, show_repeat=False, layout={"width": "auto"})
        self.slider.observe(lambda change: self._moved(round(change["new"] * self.play.max)), "value")
        self.play.observe(lambda change: self._moved(change["new"]), "value")

    def stand_at(self, index: int, count: int) -> None:
        """Moves both to one of `count` moments, and calls nothing."""
        last = count - 1
        self._following = True
        self.play.max = last
        self.slider.step = 1 / max(last, 1)
        self.slider.value, self.play.value = index / max(last, 1), index
        self._following = False

    def _moved(self, index: int) -> None:
        if not self._following:
            self._go_to(index)
