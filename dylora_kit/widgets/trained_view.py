"""A live view whose model can be trained, and taken back to any moment of that training."""

from typing import TYPE_CHECKING

import ipywidgets

from dylora_kit.widgets.live_training import LiveTraining
from dylora_kit.widgets.live_view import LiveView

if TYPE_CHECKING:
    import pandas as pd


class TrainedView(LiveView):
    """What a view has that trains its model. A subclass makes `_training`, or leaves it None.

    Attributes:
        button, play, time, moment: the controls of the training, and the words beside them; None without one.
    """

    _training: LiveTraining | None = None
    _metric: str

    @property
    def button(self) -> ipywidgets.Button | None:
        """Trains for 100 more steps."""
        return self._training.button if self._training else None

    @property
    def play(self) -> ipywidgets.Play | None:
        """Plays the moments of the training."""
        return self._training.play if self._training else None

    @property
    def time(self) -> ipywidgets.FloatSlider | None:
        """Goes to a moment of the training."""
        return self._training.time if self._training else None

    @property
    def moment(self) -> ipywidgets.HTML | None:
        """The words that say which moment is on show."""
        return self._training.moment if self._training else None

    def resting(self) -> list[ipywidgets.Widget]:
        """The controls that rest while the model is trained, beside those of the training."""
        return [self.slider, self.number]

    def train_more(self, steps: int = 100) -> None:
        """Trains the model that the view was made for, from its latest moment, and redraws on the way.

        All controls rest meanwhile. Jupyter's stop button ends it after the step under way, and the model stays where
        that step brought it.

        Raises `ValueError` if the view was made without `training`.
        """
        self._trained.more(steps, self.resting())

    def go_to(self, index: int) -> None:
        """Puts the live model back to a moment of its training, counted from 0; −1 is the latest.

        Raises `ValueError` if there is no such moment, while merged, and if other parameters are trained now.
        """
        if self._training is None:
            raise ValueError(f"no moment {index!r} is kept: train_more() keeps some")
        self._training.go_to(index)

    @property
    def history(self) -> "pd.DataFrame":
        """The curve at each moment of the training, as it was measured then: columns step, rank, metric, value.

        Raises `ValueError` if the view was made without `training`.
        """
        return self._trained.history(self._metric)

    @property
    def _trained(self) -> LiveTraining:
        """What there is to train with; `ValueError` if there is nothing."""
        if self._training is None:
            raise ValueError("this explorer has nothing to train with: make it with training={…}")
        return self._training

    def close(self) -> None:
        """Takes the view out of the page and out of memory."""
        for control in (self.button, self.play, self.time, self.moment):
            if control is not None:
                control.close()
        super().close()
