"""Live views: a slider that sets the rank of the model in the kernel, and the cards that show what it then does."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
from torch import nn

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank import RankHandle
from dylora_kit.training.loop import train
from dylora_kit.widgets import svg_cards as cards
from dylora_kit.widgets.explorer_checks import SHOWN, check, check_texts
from dylora_kit.widgets.live_model import STRIP, Live, Moments
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.svg_cards.pictures import data_uri, side_by_side

if TYPE_CHECKING:
    import pandas as pd

_ROW = {"align_items": "center", "flex_flow": "row wrap", "width": "100%"}

_PLAIN = {"description_width": "initial"}
_OF_ONE_METHOD = {"matrices", "spectrum", "ordering", "predictions", "texts"}  # the switch chooses whose
_NOT_ALWAYS = ("method", "layer", "button", "time", "play", "moment")  # controls that some explorers do not show

# ipywidgets gives sliders' handles and the buttons of Play no name that a screen reader could say: added in the page
_NAMES = """<img alt="" src="data:," onerror="const all = this.closest('.dk-explorer-box');
for (const box of all.querySelectorAll('.widget-slider')) box.querySelector('[role=slider]')
?.setAttribute('aria-label', box.querySelector('.widget-label').textContent);
all.querySelectorAll('.dk-play button').forEach((button, index) =>
button.setAttribute('aria-label', ['Play the training', 'Stop playing', 'Repeat'][index])); this.remove()">"""


class RankExplorer(ipywidgets.VBox):
    """A slider over the inference rank of a live model.

    Moving it sets `adapters.rank` of the model in the kernel. What is shown was computed by that model: it is run on
    all data at every rank, and again as soon as its weights change, never more often.

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
            live model back to any moment of that training.

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
    ) -> None:
        of_adapters = isinstance(adapters, Adapters)
        if len(data) == 0:
            raise ValueError("the data is empty: there is nothing to show")
        if views is None:
            examples = ["texts"] if texts else ["predictions"] if "pixel_values" in data[0] else []
            views = ["accuracy", "matrices", "spectrum", *examples] if of_adapters else ["error", "reconstructions"]
        views = [views] if isinstance(views, str) else list(views)
        name = name or ("DyLoRA" if of_adapters else "autoencoder")
        methods = {name: adapters, **(rivals or {})}
        check(model, adapters, data, views, name, rivals or {}, guess, training)
        check_texts(data, views, collate, texts, classes)
        self._texts, self._classes = list(texts[:SHOWN]), list(classes)
        self._data, self._views, self._guess = data, views, guess
        self._training = dict(training or {})
        self._caption = caption or f"{len(data):,} examples, evaluated live at every {adapters.unit}"
        self._metric = "accuracy" if of_adapters else "error"
        self._live = {key: Live(one, data, self._metric, SHOWN, collate) for key, one in methods.items()}
        self._first = self._live[name]
        self._before: dict[int, float] = {}
        self._moments = Moments(adapters) if training else None
        self._pictures: list[str] = []
        self._real = side_by_side(data.pictures(data.pixel_values[:STRIP])) if "reconstructions" in views else ""
        if "predictions" in views:
            self._pictures = [
                data_uri(data[index]["pixel_values"].squeeze(0)) for index in range(min(SHOWN, len(data)))
            ]

        r, start = adapters.r, adapters.rank if isinstance(adapters.rank, int) else adapters.r
        knob = "Inference rank" if adapters.unit == "rank" else adapters.unit.capitalize()
        self.slider = ipywidgets.IntSlider(
            value=start, min=1, max=r, description=knob, readout=False, style=_PLAIN, layout={"width": "380px"}
        )
        self.number = ipywidgets.BoundedIntText(
            value=start, min=1, max=r, description="b =", layout={"width": "90px"}, style=_PLAIN
        )
        self.note = ipywidgets.HTML()
        self.method = ipywidgets.ToggleButtons(options=list(self._live), style={"button_width": "auto"})
        self.layer = ipywidgets.Dropdown(
            options=list(getattr(adapters, "layers", [])),
            description="Layer",
            layout={"width": "auto", "margin": "2px 12px"},
            style=_PLAIN,
        )
        self.button = ipywidgets.Button(description="Train 100 more steps", icon="play", layout={"width": "auto"})
        # from 0 to 1, since the End key of ipywidgets' sliders goes to the maximum that they were made with
        self.time = ipywidgets.FloatSlider(
            value=1, max=1, step=1, description="Moment of training", readout=False, style=_PLAIN,
            layout={"width": "380px"},
        )  # fmt: skip
        self.play = ipywidgets.Play(max=0, interval=400, show_repeat=False, layout={"width": "auto"})
        self.moment = ipywidgets.HTML(layout={"margin": "2px 0 2px 14px"})
        self.picture = ipywidgets.HTML(layout={"width": "100%", "max_width": f"{cards.WIDTH}px"})
        self.slider.observe(lambda _: self.refresh(), "value")  # before the link: the picture travels first
        ipywidgets.link((self.slider, "value"), (self.number, "value"))
        self._moving = False
        self.time.observe(lambda change: self._moved(round(change["new"] * self.play.max)), "value")
        self.play.observe(lambda change: self._moved(change["new"]), "value")
        self.method.observe(lambda _: self.refresh(), "value")
        self.layer.observe(lambda _: self.refresh(), "value")
        self.button.on_click(lambda _: self.train_more())
        for mark in ("slider", "number", "picture", "method", "layer", "button", "time", "play"):
            getattr(self, mark).add_class(f"dk-{mark}")
        second = [self.method] if len(self._live) > 1 and _OF_ONE_METHOD & set(views) else []
        second += [self.layer] if {"matrices", "spectrum"} & set(views) else []
        third = [self.button, self.play, self.time, self.moment] if self._training else []
        lines = [[self.slider, self.number, self.note], second, third]
        rows = [ipywidgets.HBox(line, layout=_ROW) for line in lines if line]
        style = ipywidgets.HTML(cards.STYLE + _NAMES, layout={"height": "0", "margin": "0"})
        super().__init__([*rows, self.picture, style], layout={"max_width": f"{cards.WIDTH}px"})
        self.add_class("dk-explorer-box")
        self.refresh()
        if self._moments is not None:
            self.go_to(-1)
        if guess is not None:
            guess.number.observe(self._guessed, "value")

    def refresh(self) -> None:
        """Sets every model to the slider's rank, evaluates what is not known yet, and draws."""
        rank = self.slider.value
        for live in self._live.values():
            live.handle.rank = rank
        scene = self._scene(rank)
        self.picture.value = cards.explorer(scene, self._views)
        handle = self._live[self.method.value].handle
        used, most = handle.num_parameters(rank), handle.num_parameters(handle.r)
        self.note.value = (
            f"of {handle.r} &nbsp;·&nbsp; {used:,} {handle.kind} parameters, "
            f"{100 * used / most:.0f} % of {handle.unit} {handle.r}"
        )

    def train_more(self, steps: int = 100) -> None:
        """Trains the model that the explorer was made for, from where it stood last, and redraws on the way."""
        if self._moments is None:
            raise ValueError("this explorer has nothing to train with: make it with training={…}")
        moments, handle = self._moments, self._first.handle
        if not moments.keep_unknown() and self.play.value < self.play.max:
            self.go_to(-1)
        self._before = dict(self._first.values)
        controls, done = (self.button, self.slider, self.number, self.time, self.play), moments.all[-1].step
        every = max(min(steps // 5, 50), 1)
        for control in controls:
            control.disabled = True

        def show(step: int) -> None:
            if step % 10 == 1:  # a front end that is busy drops what comes faster than it reads
                self.button.description = f"Training: {step} of {steps} steps"
            if step % every == 0 or step == steps:
                moments.keep(done + step)
                self.go_to(-1)

        try:
            given = {"schedule": "constant", "collate": self._first.collate, **self._training}
            given["seed"] = given.get("seed", 0) + done  # other batches at each press
            train(handle.model, handle, steps=steps, on_step=show, progress=False, **given)
        finally:
            for control in controls:
                control.disabled = False
            self.button.description = "Train 100 more steps"
            self.refresh()

    def go_to(self, index: int) -> None:
        """Puts the live model back to a moment of its training, counted from 0; −1 is the latest."""
        moments = self._moments
        if moments is None or not -len(moments) <= index < len(moments):
            raise ValueError(f"no moment {index!r} is kept: train_more() keeps some")
        index %= len(moments)
        moments.restore(index)
        last = len(moments) - 1
        self._moving = True  # the controls follow, and are not followed
        self.play.max = last
        self.time.step = 1 / max(last, 1)
        self.time.value, self.play.value = index / max(last, 1), index
        self._moving = False
        self.moment.value = f"the model is at step {moments.all[index].step:,} of {moments.all[-1].step:,}"
        self.refresh()
        moments.all[index].values = moments.all[index].values or dict(self._first.values)

    def _moved(self, index: int) -> None:
        if not self._moving:
            self.go_to(index)

    @property
    def values(self) -> dict[str, dict[int, float]]:
        """What the card with the curves shows: `{method: {rank: value}}`, values from 0 to 1."""
        return {name: dict(live.values) for name, live in self._live.items()}

    @property
    def history(self) -> "pd.DataFrame":
        """The curve at each moment of the training, as it was measured then: columns step, rank, metric, value."""
        import pandas as pd

        moments = self._moments
        if moments is None:
            raise ValueError("this explorer has nothing to train with: make it with training={…}")
        rows = [
            (moment.step, rank, self._metric, value) for moment in moments.all for rank, value in moment.values.items()
        ]
        return pd.DataFrame(rows, columns=["step", "rank", "metric", "value"])

    def summary(self) -> str:
        """What every method achieves at the slider's rank, as text."""
        return self._scene(self.slider.value).finding

    def _guessed(self, _: Any) -> None:
        self.refresh()

    def close(self) -> None:
        """Takes the view out of the page and out of memory."""
        guess = getattr(self, "_guess", None)
        if guess is not None:
            guess.number.unobserve(self._guessed, "value")
            self._guess = None
        not_always_shown = (getattr(self, name, None) for name in _NOT_ALWAYS)
        open_widgets: list[Any] = [*self.children, *(widget for widget in not_always_shown if widget is not None)]
        for widget in open_widgets:
            open_widgets.extend(getattr(widget, "children", ()))
            widget.close()
        super().close()

    def __repr__(self) -> str:
        return f"A live view (run the notebook to use it). {self.summary()}"

    def _scene(self, rank: int) -> cards.Scene:
        live, guess = self._live[self.method.value], self._guess
        for one in self._live.values():
            one.update()
        before = {name: self._before if one is self._first else {} for name, one in self._live.items()}
        said = list(zip(live.first[rank], live.labels, strict=False))
        drawn = {name: one.drawn(rank) for name, one in self._live.items()} if self._real else {}
        return cards.Scene(
            rank=rank,
            r=live.handle.r,
            series=[cards.Series(name, one.values, before[name]) for name, one in self._live.items()],
            active=list(self._live).index(self.method.value),
            metric=self._metric,
            subtitle=self._caption,
            unit=live.handle.unit,
            layer=self._layer(live, rank) if self.layer.value else None,
            ordering=live.ordering() if "ordering" in self._views else {},
            examples=[self._example(*one) for one in zip(self._pictures, said, strict=False)],
            texts=[self._example(*one) for one in zip(self._texts, said, strict=False)],
            rebuilt={"real": self._real} | drawn if drawn else {},
            guess=(guess.rank, guess.number.value / 100) if guess is not None and guess.made else None,
        )

    def _example(self, shown: str, said: tuple[np.ndarray, Any]) -> cards.Example:
        predicted, label = int(said[0].argmax()), int(said[1])
        return cards.Example(shown, self._name(predicted), self._name(label), predicted == label)

    def _name(self, number: int) -> str:
        return self._classes[number] if 0 <= number < len(self._classes) else str(number)

    def _layer(self, live: Live, rank: int) -> cards.Layer:
        assert isinstance(live.handle, Adapters)
        name, part = self.layer.value, live.handle.layers[self.layer.value]
        b = min(rank, part.r)
        return cards.Layer(
            name=name,
            rank=b,
            r=part.r,
            d_in=part.in_features,
            d_out=part.out_features,
            scaling=part.scaling.replace("alpha", "α"),
            scale=part.scale(b),
            now=live.spectrum(name, b),
            full=live.spectrum(name, part.r),
        )
