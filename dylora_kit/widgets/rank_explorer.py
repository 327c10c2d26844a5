"""The rank slider: it sets the rank of the model in the kernel, and cards show what that model then does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets
from torch import nn

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.widgets import explorer_checks, same_model, svg_cards
from dylora_kit.widgets.answer_table import STYLE as TABLE_STYLE
from dylora_kit.widgets.answer_table import Answer
from dylora_kit.widgets.compared_models import ComparedModels
from dylora_kit.widgets.language_explorer import LanguageExplorer
from dylora_kit.widgets.live_scene import LiveScene
from dylora_kit.widgets.live_training import LiveTraining
from dylora_kit.widgets.own_forward import OwnForward, check_own_forward, whose
from dylora_kit.widgets.own_input import STYLE, OwnDrawing, OwnInput, OwnSentence, Read
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.rank_controls import RankControls, size_in_words
from dylora_kit.widgets.trained_view import TrainedView

_MARKED = ("slider", "number", "method", "layer", "button", "time", "play", "start")  # by a class, dk-…


class RankExplorer(TrainedView):
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
            The curves wait for all guesses, or for the first move.
        training: arguments for `dylora_kit.train` (`train_data`, `sampler`, `optimizer`, `step`, …). With them there is
            a button that trains the model for 100 more steps while the curve moves, and a second slider that takes the
            live model back to any moment of that training. Those moments are in memory: `checkpoint` is refused.
        forward: a forward pass of your own, `(x, W, A, B, b, alpha) → (n, d_out)`, by which the adapted layers of the
            model compute until the explorer is closed: rows x (n, d_in), W (d_out, d_in), and all of A and B.
        draw: whether there is a grid to draw in, whose picture every method reads at every rank. For data with
            `pixel_values` of shape (1, rows, columns), from −1 (no ink) to 1.
        read: makes of a text what the model reads, `text → example` without a label, or a tokenizer. With it there is a
            field for a sentence, which every method reads at every rank.
        writing: what the model writes, below the cards: a `LanguageExplorer` of the same adapters.
        actions: buttons, `{name: function}`: one that is pressed calls its function, which may change the model, and
            the cards are drawn anew, with the curve as it was before. `press(name)` does the same.

    All explorers of one model follow it: what one of them does to it, the others show.

    *Reset* brings all models back to the weights and the rank that they had when the explorer was made, and empties the
    grid and the field.

    Raises `ValueError` for what does not fit together, and changes nothing then.

    `summary()` gives the numbers on show as text, `answers` what the methods say to your drawing or sentence.

        dk.RankExplorer(model, adapters, turned.test, rivals={"LoRA": lora}, draw=True)
        dk.RankExplorer(model, adapters, task.test, collate=task.collate, classes=["bad", "good"], read=tokenizer)
    """

    drawing: OwnDrawing | None = None
    sentence: OwnSentence | None = None

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
        draw: bool = False,
        read: Read | None = None,
        writing: LanguageExplorer | None = None,
        actions: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        if len(data) == 0:
            raise ValueError("the data is empty: there is nothing to show")
        of_adapters = isinstance(adapters, Adapters)
        views = explorer_checks.chosen_views(views, [adapters, *(rivals or {}).values()], data, texts)
        name = name or ("DyLoRA" if of_adapters else "autoencoder")
        guesses = [guess] if isinstance(guess, Guess) else list(guess or ())
        explorer_checks.check(model, adapters, data, views, name, rivals or {}, guesses, training)
        explorer_checks.check_texts(data, views, collate, texts, classes)
        explorer_checks.check_own_input(data, of_adapters, draw, read)
        explorer_checks.check_writing(adapters, writing)
        check_own_forward(adapters, forward)
        self._views, self._guesses, self._writing = views, guesses, writing
        self._metric = "accuracy" if of_adapters else "error"
        self._models = ComparedModels({name: adapters, **(rivals or {})}, data, metric=self._metric, collate=collate,
                                      forward=forward, one_answer=bool(draw or read))  # fmt: skip
        self._live, self._first = self._models.live, self._models.first
        self._training = LiveTraining(self._first, training, self.refresh) if training else None
        caption = caption or f"{len(data):,} examples, evaluated live at every {adapters.unit}"
        self._shown = LiveScene(self._live, views, data, metric=self._metric, caption=caption, guesses=guesses,
                                texts=texts, classes=classes)  # fmt: skip
        self._make_controls(adapters, actions or {})
        self._make_own_inputs(data, classes, draw, read)
        self._own = ipywidgets.HTML(whose(forward=forward, step=(training or {}).get("step")))
        super().__init__(self._rows(), css_class="dk-explorer-box", style=STYLE + TABLE_STYLE)
        self.children += (*self._own_inputs, *([] if writing is None else [writing]))
        same_model.join(self, self._models.handles)
        self._observe_controls()
        self.refresh()
        if self._training is not None:
            self.go_to(-1)

    def _make_controls(self, adapters: RankHandle, actions: Mapping[str, Callable[[], object]]) -> None:
        """The controls of rank, method, layer and training, and a button for each action."""
        self._actions = dict(actions)
        self._controls = controls = RankControls(adapters, self._live, actions, self.press)
        self.slider, self.number, self.note, self.start = (
            controls.slider, controls.number, controls.note, controls.reset
        )  # fmt: skip
        self.method, self.layer, self.buttons = controls.method, controls.layer, controls.buttons
        self._moved = self._training is not None  # a curve that is trained is to be seen
        self.slider.observe(self._note_move, "value")  # before what draws
        for name in _MARKED:
            if (control := getattr(self, name)) is not None:
                control.add_class(f"dk-{name}")

    def _make_own_inputs(self, data: Any, classes: Sequence[str], draw: bool, read: Read | None) -> None:
        """The grid to draw in and the field for a sentence, if they are wanted."""
        if draw:
            self.drawing = OwnDrawing(data[0]["pixel_values"].shape, self._live, classes, self._input_changed)
        if read is not None:
            self.sentence = OwnSentence(read, self._live, classes, self._input_changed)
        self._own_inputs: list[OwnInput] = [own for own in (self.drawing, self.sentence) if own is not None]

    def _input_changed(self) -> None:
        self._draw(tell=False)  # the models are what they were

    def _rows(self) -> list[list[ipywidgets.Widget]]:
        """The controls that this explorer shows, row by row."""
        training = [self.button, self.play, self.time, self.moment] if self._training else []
        return [*self._controls.rows(self._views), training, [self._own] if self._own.value else []]

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

    def _note_move(self, _: Any) -> None:
        self._moved = True

    def _guessed(self, _: Any) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Sets every model to the slider's rank, evaluates what is not known yet, and draws.

        Other explorers of the same models do so too.
        """
        self._draw(tell=self._training is None or not self._training.running)

    def _draw(self, tell: bool) -> None:
        rank = self.slider.value
        with same_model.turning(self, rank, tell):
            self._models.turn(rank)
            scene = replace(self._scene(rank), waits=self._waits())
            self.picture.value = svg_cards.explorer(scene, self._views)
            trained = self._training is not None and len(self._training.moments) > 1
            self.note.value = size_in_words(self._live[self.method.value].handle, rank, self._live, trained)
            for own in self._own_inputs:
                own.show(rank)
            if self._writing is not None:
                self._writing.follow(rank)

    def _waits(self) -> bool:
        """Whether the curves are not drawn yet: a guess is still to be made, and nobody has moved the rank."""
        return not self._moved and not all(guess.made for guess in self._guesses)

    def press(self, name: str) -> None:
        """Does what the button of this name does; `ValueError` if there is none."""
        if name not in self._actions:
            names = ", ".join(self._actions) or "none"
            raise ValueError(f"there is no button {name!r}: the buttons are {names}")
        button = self._controls.buttons[name]
        self._first.keep_curve()
        button.icon = "hourglass-half"
        try:
            self._actions[name]()
        finally:
            button.icon = ""
            self.refresh()  # also where the action stopped half-way: the cards show the model as it is

    def resting(self) -> list[ipywidgets.Widget]:
        """The controls that rest while the model is trained: all, also those of a drawing or a sentence."""
        return [*self._controls.all, *(control for own in self._own_inputs for control in own.controls)]

    def reset(self) -> None:
        """Brings all models back to the weights and the rank that they had when the explorer was made.

        The grid and the field are emptied. A training starts anew: its moments are forgotten, and optimizer and sampler
        are what they were.

        Raises `ValueError` while merged, and if other parameters are trained now; then nothing is changed.
        """
        self._models.put_back()
        if self._training is not None:
            self._training.start_again()
        self.method.value = self.method.options[0]
        self.slider.value = self._controls.start_rank
        for own in self._own_inputs:
            own.empty()
        self._shown.start_again()
        self._first.before = {}
        self.refresh()

    @property
    def values(self) -> dict[str, dict[int, float]]:
        """What the card with the curves shows: `{method: {rank: value}}`, values from 0 to 1."""
        return {name: dict(live.values) for name, live in self._live.items()}

    @property
    def answers(self) -> dict[str, dict[int, Answer]]:
        """What every method says to your sentence, or else to your drawing: `{method: {rank: answer}}`, empty if none.

        An answer has a `name`, and is `sure` by a share of 1.
        """
        known = [own.answers for own in reversed(self._own_inputs) if own.answers]
        return known[0] if known else {}

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
        self._guesses, self._actions = [], {}
        for part in ("_models", "_controls", "_own"):
            if (made := getattr(self, part, None)) is not None:
                made.close()
        super().close()

    def _scene(self, rank: int) -> svg_cards.Scene:
        """What the cards show at a rank, as numbers. Models whose weights changed are evaluated first."""
        return self._shown.at(rank, self.method.value, self.layer.value)
