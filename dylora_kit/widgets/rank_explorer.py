"""The rank slider: it sets the rank of the model in the kernel, and cards show what that model then does."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.training.loop import train
from dylora_kit.widgets import svg_cards
from dylora_kit.widgets.explorer_checks import SHOWN, check, check_texts, check_writing
from dylora_kit.widgets.language_explorer import LanguageExplorer
from dylora_kit.widgets.live_model import STRIP, LiveModel
from dylora_kit.widgets.live_view import PLAIN, LiveView
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.snapshots import Moments
from dylora_kit.widgets.svg_cards.pictures import data_uri, side_by_side
from dylora_kit.widgets.time_controls import TimeControls

if TYPE_CHECKING:
    import pandas as pd

_ABOUT_ONE_METHOD = {"matrices", "spectrum", "ordering", "predictions", "texts"}  # the switch chooses which one
_ABOUT_ONE_LAYER = {"matrices", "spectrum"}
_NOT_ALWAYS_SHOWN = ("method", "layer", "button", "time", "play", "moment")
_MARKED = ("slider", "number", "picture", "method", "layer", "button", "time", "play")  # by a class, dk-…
_TRAIN = "Train 100 more steps"


class RankExplorer(LiveView):
    """A slider over the inference rank of a live model.

    Moving it sets `adapters.rank` of the model in the kernel. What is shown was computed by that model: it is run on
    all data at every rank, and again as soon as its weights change, never more often. After a change of the data, or of
    a hook, make a new explorer.

    Arguments:
        model, adapters: the model and its handle: `Adapters`, or the code of an autoencoder.
        data: a map-style dataset of dicts with `"labels"`; `"pixel_values"` are shown as pictures.
        views: any of `"accuracy"`, `"matrices"`, `"spectrum"`, `"ordering"`, `"predictions"` of pictures and `"texts"`;
            for an autoencoder `"error"` and `"reconstructions"`. Default: what the data has, without `"ordering"`.
        collate: makes a batch of a list of examples, as in `sweep`.
        texts: the first examples in words, of which the view `"texts"` shows as many as fit.
        classes: what the classes are called, 0 first.
        name: what the model's method is called.
        rivals: other models to compare with, `{name: handle}`. A switch chooses which one the cards show.
        caption: a line about the data.
        guess: a `Guess`, drawn on the card with the curves.
        training: arguments for `dylora_kit.train` (`train_data`, `sampler`, `optimizer`, …). With them there is a
            button that trains the model for 100 more steps while the curve moves, and a second slider that takes the
            live model back to any moment of that training. Those moments are in memory: `checkpoint` is refused.
        writing: what the model writes, below the cards: a `LanguageExplorer` of the same adapters.
        actions: buttons, `{name: function}`: one that is pressed calls its function, which may change the model, and
            the cards are drawn anew. `press(name)` does the same.

    Raises `ValueError` for what does not fit together, and changes nothing then.

    `summary()` gives the numbers on show as text.
    """

    def __init__(
        self,
        model: nn.Module,
        adapters: RankHandle,
        data: Any,
        *,
        views: Sequence[str] | None = None,
        name: str | None = None,
        rivals: Mapping[str, RankHandle] | None = None,
        caption: str = "",
        guess: Guess | None = None,
        training: Mapping[str, Any] | None = None,
        collate: Callable[[list[Any]], dict[str, Any]] | None = None,
        texts: Sequence[str] = (),
        classes: Sequence[str] = (),
        writing: LanguageExplorer | None = None,
        actions: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        if len(data) == 0:
            raise ValueError("the data is empty: there is nothing to show")
        of_adapters = isinstance(adapters, Adapters)
        views = _chosen_views(views, of_adapters, data, texts)
        name = name or ("DyLoRA" if of_adapters else "autoencoder")
        check(model, adapters, data, views, name, rivals or {}, guess, training)
        check_texts(data, views, collate, texts, classes)
        check_writing(adapters, writing)
        self._views, self._guess, self._training, self._writing = views, guess, dict(training or {}), writing
        self._caption = caption or f"{len(data):,} examples, evaluated live at every {adapters.unit}"
        self._metric = "accuracy" if of_adapters else "error"
        methods = {name: adapters, **(rivals or {})}
        self._live = {key: LiveModel(handle, data, self._metric, SHOWN, collate) for key, handle in methods.items()}
        self._first = self._live[name]
        for live in self._live.values():
            live.update()  # what does not fit is refused here, before any rank is set
        self._before: dict[int, float] = {}  # the first model's curve before its latest training
        self._moments = Moments(adapters) if training else None
        self._prepare_examples(data, texts, classes)
        self._make_rank_controls(adapters)
        self._make_method_controls(adapters)
        self._make_training_controls()
        self._make_actions(actions or {})
        super().__init__(self._rows(), css_class="dk-explorer-box")
        self.children += () if writing is None else (writing,)
        for control in _MARKED:
            getattr(self, control).add_class(f"dk-{control}")
        self._observe_controls()
        self.refresh()
        if self._moments is not None:
            self.go_to(-1)
        if guess is not None:
            guess.number.observe(self._guessed, "value")
            guess.observe(self._guessed, "made")

    def _prepare_examples(self, data: Any, texts: Sequence[str], classes: Sequence[str]) -> None:
        """What the cards show of the first examples, which is the same at every rank."""
        self._texts, self._classes = list(texts[:SHOWN]), list(classes)
        self._pictures, self._real_strip = [], ""
        if "predictions" in self._views:
            first = range(min(SHOWN, len(data)))
            self._pictures = [data_uri(data[index]["pixel_values"].squeeze(0)) for index in first]
        if "reconstructions" in self._views:
            self._real_strip = side_by_side(data.pictures(data.pixel_values[:STRIP]))

    def _make_rank_controls(self, adapters: RankHandle) -> None:
        """A slider and a box for the rank, at the rank that the model has, and the note beside them."""
        start = adapters.rank if isinstance(adapters.rank, int) else adapters.r
        limits = {"value": start, "min": 1, "max": adapters.r, "style": PLAIN}
        label = "Inference rank" if adapters.unit == "rank" else adapters.unit.capitalize()
        self.slider = ipywidgets.IntSlider(**limits, description=label, readout=False, layout={"width": "380px"})
        self.number = ipywidgets.BoundedIntText(**limits, description="b =", layout={"width": "90px"})
        self.note = ipywidgets.HTML()

    def _make_method_controls(self, adapters: RankHandle) -> None:
        """The switch between methods, and the list of layers."""
        self.method = ipywidgets.ToggleButtons(options=list(self._live), style={"button_width": "auto"})
        self.layer = ipywidgets.Dropdown(
            options=list(getattr(adapters, "layers", [])),
            description="Layer",
            layout={"width": "auto", "margin": "2px 12px"},
            style=PLAIN,
        )

    def _make_training_controls(self) -> None:
        """The button that trains, and the slider and the player that go back in the training."""
        self.button = ipywidgets.Button(description=_TRAIN, icon="play", layout={"width": "auto"})
        self._time = TimeControls(self.go_to)
        self.time, self.play = self._time.slider, self._time.play
        self.moment = ipywidgets.HTML(layout={"margin": "2px 0 2px 14px"})

    def _make_actions(self, actions: Mapping[str, Callable[[], object]]) -> None:
        """A button for each action."""
        self._actions = dict(actions)
        self.buttons = {name: ipywidgets.Button(description=name, layout={"width": "auto"}) for name in self._actions}
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self.press(name))

    def press(self, name: str) -> None:
        """Does what the button of this name does; `ValueError` if there is none."""
        if name not in self._actions:
            names = ", ".join(self._actions) or "none"
            raise ValueError(f"there is no button {name!r}: the buttons are {names}")
        try:
            self._actions[name]()
        finally:
            self.refresh()  # also where the action stopped half-way: the cards show the model as it is

    def _rows(self) -> list[list[ipywidgets.Widget]]:
        """The controls that this explorer shows, row by row."""
        views = set(self._views)
        about = [self.method] if len(self._live) > 1 and _ABOUT_ONE_METHOD & views else []
        about += [self.layer] if _ABOUT_ONE_LAYER & views else []
        training = [self.button, self.play, self.time, self.moment] if self._training else []
        return [[self.slider, self.number, self.note, *self.buttons.values()], about, training]

    def _observe_controls(self) -> None:
        """What the controls do that do not turn the rank, nor go to another moment."""
        self.method.observe(lambda _: self.refresh(), "value")
        self.layer.observe(lambda _: self.refresh(), "value")
        self.button.on_click(lambda _: self.train_more())

    def refresh(self) -> None:
        """Sets every model to the slider's rank, evaluates what is not known yet, and draws."""
        rank = self.slider.value
        for live in self._live.values():
            live.handle.rank = rank
        self.picture.value = svg_cards.explorer(self._scene(rank), self._views)
        handle = self._live[self.method.value].handle
        used, most = handle.num_parameters(rank), handle.num_parameters(handle.r)
        self.note.value = (
            f"of {handle.r} &nbsp;·&nbsp; {used:,} {handle.kind} parameters, "
            f"{100 * used / most:.0f} % of {handle.unit} {handle.r}{self._warning()}"
        )
        if self._writing is not None:
            self._writing.follow(rank)

    def _warning(self) -> str:
        """A sentence for the page if some model's answers are not finite, else nothing."""
        broken = [name for name, live in self._live.items() if not np.isfinite(list(live.values.values())).all()]
        if not broken:
            return ""
        back = ": go back to an earlier moment" if self._moments is not None and len(self._moments) > 1 else ""
        return f" &nbsp;·&nbsp; <b>{escape(broken[0])} gives answers that are not finite{back}</b>"

    def train_more(self, steps: int = 100) -> None:
        """Trains the model that the explorer was made for, from its latest moment, and redraws on the way.

        Jupyter's stop button ends it after the step under way, and the model stays where that step brought it.

        Raises `ValueError` if the explorer was made without `training`.
        """
        if self._moments is None:
            raise ValueError("this explorer has nothing to train with: make it with training={…}")
        moments, handle = self._moments, self._first.handle
        if not moments.keep_unknown() and self.play.value < self.play.max:
            self.go_to(-1)
        self._before = dict(self._first.values)
        controls = (self.button, self.slider, self.number, self.time, self.play, *self.buttons.values())
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
            settings = {"schedule": "constant", "collate": self._first.collate, **self._training}
            settings["seed"] = settings.get("seed", 0) + steps_before  # other batches at each press
            train(handle.model, handle, steps=steps, on_step=show, progress=False, **settings)
        finally:
            watch.remove()
            for control in controls:
                control.disabled = False
            self.button.description = _TRAIN
            if moments.all[-1].step < steps_before + finished:  # stopped between two moments
                moments.keep(steps_before + finished)
                self.go_to(-1)
            self.refresh()

    def go_to(self, index: int) -> None:
        """Puts the live model back to a moment of its training, counted from 0; −1 is the latest.

        Raises `ValueError` if there is no such moment, while merged, and if other parameters are trained now.
        """
        moments = self._moments
        if moments is None or not -len(moments) <= index < len(moments):
            raise ValueError(f"no moment {index!r} is kept: train_more() keeps some")
        index %= len(moments)
        moments.restore(index)
        self._time.stand_at(index, len(moments))
        self.refresh()  # before the words, which say that the picture is that of the moment
        self.moment.value = f"the model is at step {moments.all[index].step:,} of {moments.all[-1].step:,}"
        moments.all[index].values = moments.all[index].values or dict(self._first.values)

    def _guessed(self, _: Any) -> None:
        self.refresh()

    @property
    def values(self) -> dict[str, dict[int, float]]:
        """What the card with the curves shows: `{method: {rank: value}}`, values from 0 to 1."""
        return {name: dict(live.values) for name, live in self._live.items()}

    @property
    def history(self) -> "pd.DataFrame":
        """The curve at each moment of the training, as it was measured then: columns step, rank, metric, value.

        Raises `ValueError` if the explorer was made without `training`.
        """
        import pandas as pd

        if self._moments is None:
            raise ValueError("this explorer has nothing to train with: make it with training={…}")
        rows = [
            (moment.step, rank, self._metric, value)
            for moment in self._moments.all
            for rank, value in moment.values.items()
        ]
        return pd.DataFrame(rows, columns=["step", "rank", "metric", "value"])

    def summary(self) -> str:
        """What every method achieves at the slider's rank, as text."""
        return self._scene(self.slider.value).finding

    def in_saved_notebook(self) -> dict[str, str]:
        """A picture of the explorer at its rank, without what the model writes."""
        scene, slider = self._scene(self.slider.value), self.slider
        cards = svg_cards.cards_of(scene, self._views)
        still = svg_cards.still(cards, scene.finding, slider.description, scene.rank, slider.min, slider.max)
        return {"image/svg+xml": still}

    def close(self) -> None:
        """Takes the view out of the page and out of memory."""
        guess = getattr(self, "_guess", None)  # Python also closes an explorer whose arguments were refused
        if guess is not None:
            guess.number.unobserve(self._guessed, "value")
            guess.unobserve(self._guessed, "made")
            self._guess = None
        for name in _NOT_ALWAYS_SHOWN:
            if (control := getattr(self, name, None)) is not None:
                control.close()
        for button in getattr(self, "buttons", {}).values():
            button.close()
        self._actions = {}
        super().close()

    def _scene(self, rank: int) -> svg_cards.Scene:
        """What the cards show at a rank, as numbers. Models whose weights changed are evaluated first."""
        for live in self._live.values():
            live.update()
        shown, guess, rebuilt = self._live[self.method.value], self._guess, {}
        if self._real_strip:
            rebuilt = {name: live.reconstructions(rank) for name, live in self._live.items()}
            rebuilt = {"real": self._real_strip} | rebuilt
        return svg_cards.Scene(
            rank=rank,
            r=shown.handle.r,
            series=[
                svg_cards.Series(name, live.values, self._before if live is self._first else {})
                for name, live in self._live.items()
            ],
            active=list(self._live).index(self.method.value),
            metric=self._metric,
            subtitle=self._caption,
            unit=shown.handle.unit,
            layer=shown.layer(self.layer.value, rank) if self.layer.value else None,
            ordering=shown.ordering() if "ordering" in self._views else {},
            examples=shown.examples(rank, self._pictures, self._classes),
            texts=shown.examples(rank, self._texts, self._classes),
            rebuilt=rebuilt,
            guess=(guess.rank, guess.number.value / 100) if guess is not None and guess.made else None,
        )


def _chosen_views(views: Sequence[str] | None, of_adapters: bool, data: Any, texts: Sequence[str]) -> list[str]:
    """The views as a list; those that the data has, where none are named."""
    if views is None:
        examples = ["texts"] if texts else ["predictions"] if "pixel_values" in data[0] else []
        return ["accuracy", "matrices", "spectrum", *examples] if of_adapters else ["error", "reconstructions"]
    return [views] if isinstance(views, str) else list(views)
