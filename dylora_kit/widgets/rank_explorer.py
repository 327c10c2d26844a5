"""The rank slider: it sets the rank of the model in the kernel, and cards show what that model then does."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
from torch import nn

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.widgets import svg_cards
from dylora_kit.widgets.explorer_checks import SHOWN, check, check_texts, check_writing
from dylora_kit.widgets.language_explorer import LanguageExplorer
from dylora_kit.widgets.live_model import LiveModel
from dylora_kit.widgets.live_scene import LiveScene
from dylora_kit.widgets.live_training import LiveTraining
from dylora_kit.widgets.live_view import PLAIN, LiveView
from dylora_kit.widgets.own_forward import OwnForward, check_own_forward, run_as_before, run_through, whose
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.snapshots import Start

if TYPE_CHECKING:
    import pandas as pd

_ABOUT_ONE_METHOD = {"matrices", "spectrum", "ordering", "predictions", "texts"}  # the switch chooses which one
_ABOUT_ONE_LAYER = {"matrices", "spectrum"}
_MARKED = ("slider", "number", "picture", "method", "layer", "button", "time", "play", "start")  # by a class, dk-…


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
        guess: a `Guess` in percent about a rank, or several, drawn on the card with the curves beside what turned out.
        training: arguments for `dylora_kit.train` (`train_data`, `sampler`, `optimizer`, `step`, …). With them there is
            a button that trains the model for 100 more steps while the curve moves, and a second slider that takes the
            live model back to any moment of that training. Those moments are in memory: `checkpoint` is refused.
        forward: a forward pass of your own, `(x, W, A, B, b, alpha) → (n, d_out)`, by which the adapted layers of the
            model compute until the explorer is closed: rows x (n, d_in), W (d_out, d_in), and all of A and B.
        writing: what the model writes, below the cards: a `LanguageExplorer` of the same adapters.
        actions: buttons, `{name: function}`: one that is pressed calls its function, which may change the model, and
            the cards are drawn anew. `press(name)` does the same.

    *Reset* brings all models back to the weights and the rank that they had when the explorer was made.

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
        guess: Guess | Sequence[Guess] | None = None,
        training: Mapping[str, Any] | None = None,
        forward: OwnForward | None = None,
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
        guesses = [guess] if isinstance(guess, Guess) else list(guess or ())
        check(model, adapters, data, views, name, rivals or {}, guesses, training)
        check_texts(data, views, collate, texts, classes)
        check_writing(adapters, writing)
        check_own_forward(adapters, forward)
        self._views, self._guesses, self._writing, self._forward = views, guesses, writing, forward
        self._metric = "accuracy" if of_adapters else "error"
        methods = {name: adapters, **(rivals or {})}
        self._live = {key: LiveModel(handle, data, self._metric, SHOWN, collate) for key, handle in methods.items()}
        self._first = self._live[name]
        self._evaluate_first(adapters)
        self._starts = [Start(live.handle) for live in self._live.values()]
        self._training = LiveTraining(self._first, training, self.refresh) if training else None
        names = ("button", "play", "time", "moment")
        self.button, self.play, self.time, self.moment = (getattr(self._training, name, None) for name in names)
        self._shown = LiveScene(
            self._live,
            views,
            data,
            metric=self._metric,
            caption=caption or f"{len(data):,} examples, evaluated live at every {adapters.unit}",
            guesses=guesses,
            texts=texts,
            classes=classes,
        )
        self._make_rank_controls(adapters)
        self._make_method_controls(adapters)
        self._make_actions(actions or {})
        self._own = ipywidgets.HTML(whose(forward=forward, step=(training or {}).get("step")))
        super().__init__(self._rows(), css_class="dk-explorer-box")
        self.children += () if writing is None else (writing,)
        for control in _MARKED:
            if (shown := getattr(self, control)) is not None:
                shown.add_class(f"dk-{control}")
        self._observe_controls()
        self.refresh()
        if self._training is not None:
            self.go_to(-1)

    def _evaluate_first(self, adapters: RankHandle) -> None:
        """Runs every model once: what does not fit is refused here, before any rank is set."""
        if self._forward is not None:
            assert isinstance(adapters, Adapters)
            run_through(adapters, self._forward)
        try:
            for live in self._live.values():
                live.update()
        except BaseException:
            self._forget_forward()
            raise

    def _forget_forward(self) -> None:
        """Lets the model compute as the kit does again."""
        if getattr(self, "_forward", None) is not None:
            run_as_before(self._first.handle)
            self._forward = None

    def _make_rank_controls(self, adapters: RankHandle) -> None:
        """A slider and a box for the rank, at the rank that the model has, and the note beside them."""
        start = adapters.rank if isinstance(adapters.rank, int) else adapters.r
        limits = {"value": start, "min": 1, "max": adapters.r, "style": PLAIN}
        label = "Inference rank" if adapters.unit == "rank" else adapters.unit.capitalize()
        self.slider = ipywidgets.IntSlider(**limits, description=label, readout=False, layout={"width": "380px"})
        self.number = ipywidgets.BoundedIntText(**limits, description="b =", layout={"width": "90px"})
        self.note = ipywidgets.HTML()
        self.start = ipywidgets.Button(
            description="Reset", icon="undo", layout={"width": "auto", "margin": "2px 0 2px 14px"}
        )
        self._start_rank = start

    def _make_method_controls(self, adapters: RankHandle) -> None:
        """The switch between methods, and the list of layers."""
        self.method = ipywidgets.ToggleButtons(options=list(self._live), style={"button_width": "auto"})
        self.layer = ipywidgets.Dropdown(
            options=list(getattr(adapters, "layers", [])),
            description="Layer",
            layout={"width": "auto", "margin": "2px 12px"},
            style=PLAIN,
        )

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
        own = [self._own] if self._own.value else []
        return [[self.slider, self.number, self.note, *self.buttons.values(), self.start], about, training, own]

    def _observe_controls(self) -> None:
        """What the controls do that do not turn the rank, nor go to another moment."""
        self.method.observe(lambda _: self.refresh(), "value")
        self.layer.observe(lambda _: self.refresh(), "value")
        self.start.on_click(lambda _: self.reset())
        if self.button is not None:
            self.button.on_click(lambda _: self.train_more())
        for guess in self._guesses:
            guess.number.observe(self._guessed, "value")
            guess.observe(self._guessed, "made")

    def _guessed(self, _: Any) -> None:
        self.refresh()

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
        trained = self._training is not None and len(self._training.moments) > 1
        back = ": go back to an earlier moment" if trained else ""
        return f" &nbsp;·&nbsp; <b>{escape(broken[0])} gives answers that are not finite{back}</b>"

    def train_more(self, steps: int = 100) -> None:
        """Trains the model that the explorer was made for, from its latest moment, and redraws on the way.

        Jupyter's stop button ends it after the step under way, and the model stays where that step brought it.

        Raises `ValueError` if the explorer was made without `training`.
        """
        self._trained.more(steps, [self.slider, self.number, self.start, *self.buttons.values()])

    def go_to(self, index: int) -> None:
        """Puts the live model back to a moment of its training, counted from 0; −1 is the latest.

        Raises `ValueError` if there is no such moment, while merged, and if other parameters are trained now.
        """
        if self._training is None:
            raise ValueError(f"no moment {index!r} is kept: train_more() keeps some")
        self._training.go_to(index)

    def reset(self) -> None:
        """Brings all models back to the weights and the rank that they had when the explorer was made.

        A training starts anew: its moments are forgotten, and optimizer and sampler are what they were.

        Raises `ValueError` while merged, and if other parameters are trained now; then nothing is changed.
        """
        for start in self._starts:
            start.check()
        for start in self._starts:
            start.put_back()
        if self._training is not None:
            self._training.start_again()
        self.method.value = self.method.options[0]
        self.slider.value = self._start_rank
        self.refresh()

    @property
    def _trained(self) -> LiveTraining:
        """What there is to train with; `ValueError` if there is nothing."""
        if self._training is None:
            raise ValueError("this explorer has nothing to train with: make it with training={…}")
        return self._training

    @property
    def values(self) -> dict[str, dict[int, float]]:
        """What the card with the curves shows: `{method: {rank: value}}`, values from 0 to 1."""
        return {name: dict(live.values) for name, live in self._live.items()}

    @property
    def history(self) -> "pd.DataFrame":
        """The curve at each moment of the training, as it was measured then: columns step, rank, metric, value.

        Raises `ValueError` if the explorer was made without `training`.
        """
        return self._trained.history(self._metric)

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
        for guess in getattr(self, "_guesses", ()):  # Python also closes an explorer whose arguments were refused
            guess.number.unobserve(self._guessed, "value")
            guess.unobserve(self._guessed, "made")
        self._guesses = []
        self._forget_forward()
        for control in ("method", "layer", "button", "time", "play", "moment", "start", "_own"):  # not always shown
            if (widget := getattr(self, control, None)) is not None:
                widget.close()
        for button in getattr(self, "buttons", {}).values():
            button.close()
        self._actions = {}
        super().close()

    def _scene(self, rank: int) -> svg_cards.Scene:
        """What the cards show at a rank, as numbers. Models whose weights changed are evaluated first."""
        before = self._training.before if self._training is not None else {}
        return self._shown.at(rank, self.method.value, self.layer.value, before)


def _chosen_views(views: Sequence[str] | None, of_adapters: bool, data: Any, texts: Sequence[str]) -> list[str]:
    """The views as a list; those that the data has, where none are named."""
    if views is None:
        examples = ["texts"] if texts else ["predictions"] if "pixel_values" in data[0] else []
        return ["accuracy", "matrices", "spectrum", *examples] if of_adapters else ["error", "reconstructions"]
    return [views] if isinstance(views, str) else list(views)
