"""The controls of a rank explorer that choose what is shown: the rank, the method, the layer, and buttons."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

import ipywidgets
import numpy as np

from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.widgets.live_model import LiveModel
from dylora_kit.widgets.live_view import PLAIN

ABOUT_ONE_METHOD = {"matrices", "spectrum", "ordering", "predictions", "texts"}  # the switch chooses which one
ABOUT_ONE_LAYER = {"matrices", "spectrum"}


class RankControls:
    """The controls of a rank explorer.

    Arguments:
        adapters: the handle on the model that the explorer was made for.
        methods: the names of all methods.
        actions: the names of buttons.
        press: called with the name of a button that is pressed.

    Attributes:
        slider, number, note: the rank, and the words beside it.
        reset: the button that brings all models back.
        buttons: those of `actions`, by name.
        method, layer: the switch between methods, and the list of layers.
        start_rank: the rank that the slider has at first, which is that of the model.
    """

    def __init__(
        self, adapters: RankHandle, methods: Iterable[str], actions: Iterable[str], press: Callable[[str], None]
    ) -> None:
        self.start_rank = adapters.rank if isinstance(adapters.rank, int) else adapters.r
        limits = {"value": self.start_rank, "min": 1, "max": adapters.r, "style": PLAIN}
        label = "Inference rank" if adapters.unit == "rank" else adapters.unit.capitalize()
        self.slider = ipywidgets.IntSlider(**limits, description=label, readout=False, layout={"width": "330px"})
        self.number = ipywidgets.BoundedIntText(**limits, description="b =", layout={"width": "84px"})
        self.note = ipywidgets.HTML()
        self.reset = ipywidgets.Button(
            description="Reset", icon="undo", layout={"width": "auto", "margin": "2px 2px 2px 12px"}
        )
        self.method = ipywidgets.ToggleButtons(options=list(methods), style={"button_width": "auto"})
        self.layer = ipywidgets.Dropdown(
            options=list(getattr(adapters, "layers", [])),
            description="Layer",
            layout={"width": "auto", "margin": "2px 12px"},
            style=PLAIN,
        )
        self.buttons = {name: ipywidgets.Button(description=name, layout={"width": "auto"}) for name in actions}
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: press(name))

    @property
    def all(self) -> list[ipywidgets.Widget]:
        """Every control that a user can move."""
        return [self.slider, self.number, self.reset, self.method, self.layer, *self.buttons.values()]

    def rows(self, views: Sequence[str]) -> list[list[ipywidgets.Widget]]:
        """The row of the rank, that of method and layer as far as the views are about one, and that of the actions."""
        about = [self.method] if len(self.method.options) > 1 and ABOUT_ONE_METHOD & set(views) else []
        about += [self.layer] if ABOUT_ONE_LAYER & set(views) else []
        return [[self.slider, self.number, self.note, self.reset], about, list(self.buttons.values())]

    def close(self) -> None:
        """Takes out of memory what not every explorer shows, and forgets what buttons do."""
        for control in (self.method, self.layer, self.reset, *self.buttons.values()):
            control.close()


def size_in_words(handle: RankHandle, rank: int, live: Mapping[str, LiveModel], trained: bool) -> str:
    """How many parameters are in use at a rank, and a warning if some model's answers are not finite, as HTML.

    Arguments:
        trained: whether there is an earlier moment to go back to.
    """
    used, most = handle.num_parameters(rank), handle.num_parameters(handle.r)
    size = f"{used:,} {handle.kind} parameters, {100 * used / most:.0f} % of {handle.unit} {handle.r}"
    broken = [name for name, model in live.items() if not np.isfinite(list(model.values.values())).all()]
    warning = ""
    if broken:
        back = ": go back to an earlier moment" if trained else ""
        warning = f" &nbsp;·&nbsp; <b>{escape(broken[0])} gives answers that are not finite{back}</b>"
    return f"of {handle.r} &nbsp;·&nbsp; {size}{warning}"
