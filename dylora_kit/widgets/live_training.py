"""The training of a live model from its explorer: a hundred steps at a press, and the way back to every moment."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
from torch.optim.optimizer import register_optimizer_step_post_hook

from dylora_kit.training.loop import train
from dylora_kit.widgets.live_model import LiveModel
from dylora_kit.widgets.snapshots import Moments
from dylora_kit.widgets.time_controls import TimeControls

if TYPE_CHECKING:
    import pandas as pd

_TRAIN = "Train 100 more steps"


class LiveTraining:
    """What an explorer trains its first model with, the controls for it, and the moments that are kept.

    Arguments:
        live: the model that is trained.
        settings: arguments for `dylora_kit.train`.
        redraw: draws the explorer anew.

    Attributes:
        button, play, time, moment: the controls, and the words beside them.
        moments: what the model was, the latest last.
        running: whether a training is under way.
    """

    def __init__(self, live: LiveModel, settings: Mapping[str, Any], redraw: Callable[[], None]) -> None:
        self._live, self._settings, self._redraw = live, dict(settings), redraw
        self.moments = Moments(live.handle)
        self.running = False
        self._first_states = [(part, copy.deepcopy(part.state_dict())) for part in self._stateful()]
        self.button = ipywidgets.Button(description=_TRAIN, icon="plus", layout={"width": "auto"})
        self._controls = TimeControls(self.go_to)
        self.time, self.play = self._controls.slider, self._controls.play
        self.moment = ipywidgets.HTML(layout={"margin": "2px 0 2px 14px"})

    def _stateful(self) -> list[Any]:
        """The sampler, and the optimizer if there is one: what goes on from press to press."""
        return [self._settings[name] for name in ("sampler", "optimizer") if self._settings.get(name) is not None]

    def more(self, steps: int, others: Sequence[ipywidgets.Widget]) -> None:
        """Trains from the latest moment, and redraws on the way; `others` are controls that rest meanwhile."""
        moments, handle = self.moments, self._live.handle
        if not moments.keep_unknown() and self.play.value < self.play.max:
            self.go_to(-1)
        self._live.keep_curve()
        controls = (self.button, self.time, self.play, *others)
        steps_before = moments.all[-1].step
        every, told, finished = max(min(steps // 5, 50), 1), 0, 0
        nested = set(handle.nested_parameters())
        for control in controls:
            control.disabled = True

        def moved(optimizer: Any, *_: Any) -> None:
            nonlocal finished
            if any(nested.intersection(group["params"]) for group in optimizer.param_groups):
                finished = told + 1

        def show(step: int) -> None:
            nonlocal told, finished
            told = finished = step
            if step % 10 == 1:  # a front end that is busy drops what comes faster than it reads
                self.button.description = f"Training: {step} of {steps} steps"
            if step % every == 0 or step == steps:
                moments.keep(steps_before + step)
                self.go_to(-1)

        watch = register_optimizer_step_post_hook(moved)  # a stop may come before train tells of the step
        try:
            self.running = True
            settings = {"schedule": "constant", "collate": self._live.collate, **self._settings}
            settings["seed"] = settings.get("seed", 0) + steps_before  # other batches at each press
            train(handle.model, handle, steps=steps, on_step=show, progress=False, **settings)
        finally:
            self.running = False
            watch.remove()
            for control in controls:
                control.disabled = False
            self.button.description = _TRAIN
            if moments.all[-1].step < steps_before + finished:  # stopped between two moments
                moments.keep(steps_before + finished)
                self.go_to(-1)
            self._redraw()

    def go_to(self, index: int) -> None:
        """Puts the model back to a moment, counted from 0; −1 is the latest. Errors are those of `Moments.restore`."""
        moments = self.moments
        if not -len(moments) <= index < len(moments):
            raise ValueError(f"no moment {index!r} is kept: train_more() keeps some")
        index %= len(moments)
        moments.restore(index)
        self._controls.stand_at(index, len(moments))
        self._redraw()  # before the words, which say that the picture is that of the moment
        self.moment.value = f"the model is at step {moments.all[index].step:,} of {moments.all[-1].step:,}"
        moments.all[index].values = moments.all[index].values or dict(self._live.values)

    def start_again(self) -> None:
        """Puts model, optimizer and sampler back to what they were at first, and forgets all other moments."""
        self.moments.start_again()
        for part, state in self._first_states:
            part.load_state_dict(copy.deepcopy(state))
        self.go_to(0)

    def history(self, metric: str) -> "pd.DataFrame":
        """The curve at each moment, as it was measured then: columns step, rank, metric, value."""
        import pandas as pd

        rows = [
            (moment.step, rank, metric, value)
            for moment in self.moments.all
            for rank, value in moment.values.items()
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["step", "rank", "metric", "value"])
