"""Live views: a slider that sets the rank of the model in the kernel, and the cards that show what it then does."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from torch import Tensor, nn

from dylora_kit import cards
from dylora_kit.adapt import Adapters
from dylora_kit.evaluate import METRICS, predict
from dylora_kit.train import train

_ROW = {"align_items": "center", "flex_flow": "row wrap", "width": "100%"}

# ipywidgets gives the handle of its slider no name that a screen reader could say; this adds it in the page
_NAME_SLIDER = """<img alt="" src="data:," onerror="this.closest('.dk-explorer-box')
.querySelector('[role=slider]').setAttribute('aria-label', 'Inference rank'); this.remove()">"""

SHOWN = 10  # example pictures


class Guess(ipywidgets.HBox):
    """A number that the student commits to before the model answers, from 0 to 100. `RankExplorer(guess=…)` draws it.

    Arguments:
        question: what is asked.
        rank: the rank the question is about.
        value: where the number starts.
    """

    def __init__(self, question: str, *, rank: int, value: int = 50) -> None:
        self.rank = rank
        self.number = ipywidgets.BoundedIntText(
            value=value,
            min=0,
            max=100,
            description=question,
            layout={"width": "auto"},
            style={"description_width": "initial"},
        )
        self.number.add_class("dk-guess")
        self.made = False  # the number it starts with is nobody's guess
        self.number.observe(lambda _: setattr(self, "made", True), "value")
        super().__init__([self.number, ipywidgets.Label("%")])

    def __repr__(self) -> str:
        return (
            f"A box to type a guess into (run the notebook to use it): {self.number.description} {self.number.value} %"
        )


class RankExplorer(ipywidgets.VBox):
    """A slider over the inference rank of a live model.

    Moving it sets `adapters.rank` of the model in the kernel. What is shown was computed by that model: it is run on
    all data at every rank, and again as soon as its weights change, never more often.

    Arguments:
        model, adapters: the model and its handle.
        data: a map-style dataset of dicts with `"labels"`; `"pixel_values"` are shown as pictures.
        views: any of `"accuracy"`, `"matrices"`, `"spectrum"`, `"predictions"`.
        name: what the model's method is called.
        rivals: other adapted models to compare with, `{name: adapters}`. A switch chooses which one the cards show.
        caption: a line about the data.
        guess: a `Guess`, drawn on the accuracy card.
        training: arguments for `dylora_kit.train` (`train_data`, `sampler`, `optimizer`, …). With them there is a
            button that trains the model for 100 more steps while the curve moves.

    `summary()` gives the numbers on show as text.
    """

    def __init__(
        self,
        model: nn.Module,
        adapters: Adapters,
        data: Any,
        *,
        views: Sequence[str] = ("accuracy", "matrices", "spectrum", "predictions"),
        name: str = "DyLoRA",
        rivals: Mapping[str, Adapters] | None = None,
        caption: str = "",
        guess: Guess | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        views = [views] if isinstance(views, str) else list(views)
        unknown = [view for view in views if view not in cards.VIEWS]
        if unknown or not views:
            raise ValueError(f"unknown view {unknown or views!r}: choose from {', '.join(map(repr, cards.VIEWS))}")
        adapters.check_usable(model)
        if name in (rivals or {}):
            raise ValueError(f"a rival is called {name!r} too: give every method a name of its own")
        methods = {name: adapters, **(rivals or {})}
        if len(methods) > 4:
            raise ValueError(f"the explorer compares up to four methods: got {len(methods)}")
        if guess is not None and guess.rank > adapters.r:
            raise ValueError(f"the guess is about rank {guess.rank}, but the adapters have r = {adapters.r}")
        odd = [
            key for key, rival in methods.items() if rival.r != adapters.r or set(rival.layers) != set(adapters.layers)
        ]
        if odd:
            raise ValueError(
                f"{odd[0]!r} has other layers or another r: the explorer compares adapters of the same layers"
            )
        self._data, self._views, self._guess = data, list(views), guess
        self._training = dict(training or {})
        self._caption = caption or f"{len(data):,} examples, evaluated live at every rank"
        self._live = {key: _Live(one, data) for key, one in methods.items()}
        self._first = self._live[name]
        self._before: dict[int, float] = {}
        self._steps = 0
        self._pictures: list[str] = []
        if "predictions" in views:
            self._pictures = [_picture(data[index]["pixel_values"]) for index in range(min(SHOWN, len(data)))]

        r, start = adapters.r, adapters.rank if isinstance(adapters.rank, int) else adapters.r
        self.slider = ipywidgets.IntSlider(
            value=start, min=1, max=r, description="Inference rank", readout=False,
            style={"description_width": "initial"}, layout={"width": "380px"},
        )  # fmt: skip
        self.number = ipywidgets.BoundedIntText(
            value=start,
            min=1,
            max=r,
            description="b =",
            layout={"width": "90px"},
            style={"description_width": "initial"},
        )
        self.note = ipywidgets.HTML()
        self.method = ipywidgets.ToggleButtons(options=list(self._live), style={"button_width": "auto"})
        self.layer = ipywidgets.Dropdown(
            options=list(adapters.layers),
            description="Layer",
            layout={"width": "auto", "margin": "2px 12px"},
            style={"description_width": "initial"},
        )
        self.button = ipywidgets.Button(description="Train 100 more steps", icon="play", layout={"width": "auto"})
        self.picture = ipywidgets.HTML(layout={"width": "100%", "max_width": f"{cards.WIDTH}px"})
        self.slider.observe(lambda _: self.refresh(), "value")  # before the link: the picture travels first
        ipywidgets.link((self.slider, "value"), (self.number, "value"))
        self.method.observe(lambda _: self.refresh(), "value")
        self.layer.observe(lambda _: self.refresh(), "value")
        self.button.on_click(lambda _: self.train_more())
        if guess is not None:
            guess.number.observe(lambda _: self.refresh(), "value")
        for mark in ("slider", "number", "picture", "method", "layer", "button"):
            getattr(self, mark).add_class(f"dk-{mark}")
        second = [self.method] if len(self._live) > 1 else []
        second += [self.layer] if {"matrices", "spectrum"} & set(views) else []
        second += [self.button] if self._training else []
        rows = [ipywidgets.HBox([self.slider, self.number, self.note], layout=_ROW)]
        rows += [ipywidgets.HBox(second, layout=_ROW)] if second else []
        style = ipywidgets.HTML(cards.STYLE + _NAME_SLIDER, layout={"height": "0", "margin": "0"})
        super().__init__([*rows, self.picture, style], layout={"max_width": f"{cards.WIDTH}px"})
        self.add_class("dk-explorer-box")
        self.refresh()

    def refresh(self) -> None:
        """Sets every model to the slider's rank, evaluates what is not known yet, and draws."""
        rank = self.slider.value
        for live in self._live.values():
            live.adapters.rank = rank
        scene = self._scene(rank)
        self.picture.value = f'<div class="dk-explorer">{cards.explorer(scene, self._views)}</div>'
        adapters = self._live[self.method.value].adapters
        used = adapters.num_parameters(rank)
        share = used / adapters.num_parameters(adapters.r)
        self.note.value = (
            f"of {adapters.r} &nbsp;·&nbsp; {used:,} adapter parameters, {100 * share:.0f} % of rank {adapters.r}"
        )

    def train_more(self, steps: int = 100) -> None:
        """Trains the model that the explorer was made for, and redraws its curve on the way."""
        if not self._training:
            raise ValueError("this explorer has nothing to train with: make it with training={…}")
        adapters = self._first.adapters
        self._before = dict(self._first.values)
        controls, done = (self.button, self.slider, self.number), self._steps
        for control in controls:
            control.disabled = True

        def show(step: int) -> None:
            self._steps = done + step
            self.button.description = f"Training: {step} of {steps} steps"
            if step % max(steps // 5, 1) == 0:
                self.refresh()

        try:
            train(adapters.model, adapters, steps=steps, on_step=show, progress=False,
                  **{"schedule": "constant", "seed": done, **self._training})  # fmt: skip
        finally:
            for control in controls:
                control.disabled = False
            self.button.description = "Train 100 more steps"
            self.refresh()

    @property
    def values(self) -> dict[str, dict[int, float]]:
        """What the accuracy card shows: `{method: {rank: value}}`, values from 0 to 1."""
        return {name: dict(live.values) for name, live in self._live.items()}

    def summary(self) -> str:
        """The accuracy of every method at the slider's rank, as text."""
        return cards.finding(self._scene(self.slider.value))

    def close(self) -> None:
        """Takes the view out of the page and out of memory."""
        not_always_shown = (getattr(self, name, None) for name in ("method", "layer", "button"))
        open_widgets: list[Any] = [*self.children, *(widget for widget in not_always_shown if widget is not None)]
        for widget in open_widgets:
            open_widgets.extend(getattr(widget, "children", ()))
            widget.close()
        super().close()

    def __repr__(self) -> str:
        return f"A live view (run the notebook to use it). {self.summary()}"

    def _scene(self, rank: int) -> cards.Scene:
        chosen, layer = self.method.value, self.layer.value
        live = self._live[chosen]
        part, guess = live.adapters.layers[layer], self._guess
        b = min(rank, part.r)
        for one in self._live.values():
            one.update()
        before = {name: self._before if one is self._first else {} for name, one in self._live.items()}
        return cards.Scene(
            rank=rank,
            r=live.adapters.r,
            series=[cards.Series(name, one.values, before[name]) for name, one in self._live.items()],
            active=list(self._live).index(chosen),
            metric="accuracy",
            subtitle=self._caption,
            layer=layer,
            layer_rank=b,
            layer_r=part.r,
            d_in=part.in_features,
            d_out=part.out_features,
            scaling=part.scaling.replace("alpha", "α"),
            scale=part.scale(b),
            now=live.spectrum(layer, b),
            full=live.spectrum(layer, part.r),
            examples=live.examples(rank, self._pictures),
            guess=(guess.rank, guess.number.value / 100) if guess is not None and guess.made else None,
        )


class _Live:
    """One model's answers on the data, by rank, kept until its weights change."""

    def __init__(self, adapters: Adapters, data: Any) -> None:
        self.adapters, self._data = adapters, data
        self._weights = ""
        self._logits: dict[int, np.ndarray] = {}
        self._spectra: dict[tuple[str, int], list[float]] = {}
        self.labels = np.zeros(0)
        self.values: dict[int, float] = {}

    def update(self) -> None:
        """Evaluates every rank that is not known for the weights as they are."""
        weights = _fingerprint(self.adapters)
        if weights != self._weights:
            self._weights, self.values = weights, {}
            self._logits.clear()
            self._spectra.clear()
        missing = [rank for rank in range(1, self.adapters.r + 1) if rank not in self._logits]
        if missing:
            logits, self.labels = predict(self.adapters.model, self.adapters, self._data, ranks=missing)
            self._logits |= logits
            self.values |= {rank: METRICS["accuracy"](logits[rank], self.labels) for rank in missing}

    def examples(self, rank: int, pictures: Sequence[str]) -> list[cards.Example]:
        predicted = self._logits[rank][: len(pictures)].argmax(-1)
        return [
            cards.Example(picture, str(said), str(label))
            for picture, said, label in zip(pictures, predicted, self.labels, strict=False)
        ]

    def spectrum(self, layer: str, rank: int) -> list[float]:
        """The singular values of ΔW at a rank, largest first: `rank` numbers."""
        if (layer, rank) not in self._spectra:
            delta = self.adapters.delta(layer, rank).float().cpu()  # (d_out, d_in)
            self._spectra[layer, rank] = torch.linalg.svdvals(delta)[:rank].tolist()
        return self._spectra[layer, rank]


def _fingerprint(adapters: Adapters) -> str:
    """Changes when the model's weights do: trained ones by their content, frozen ones by torch's record of changes."""
    digest = hashlib.blake2b(adapters.scaling.encode(), digest_size=16)
    for name, parameter in adapters.model.named_parameters():
        if parameter.requires_grad:
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(f"{name} {parameter.data_ptr()} {parameter._version}".encode())
    return digest.hexdigest()


def _picture(pixels: Tensor) -> str:
    """An image of shape (1, height, width) as a data URI: background dark, ink light."""
    from matplotlib.pyplot import imsave

    file = io.BytesIO()
    imsave(file, pixels.squeeze(0).numpy(), cmap="gray", format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
