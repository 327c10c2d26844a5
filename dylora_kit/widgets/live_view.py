"""What every live widget shares: rows of controls, the picture below them, its way onto the whole screen, closing."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets

from dylora_kit.widgets import same_model, svg_cards
from dylora_kit.widgets.browser_side import BrowserSide

PLAIN = {"description_width": "initial"}  # a description takes the width that it needs
_ROW = {"align_items": "center", "flex_flow": "row wrap", "width": "100%"}
_WIDE = "Fills the screen with this view. Escape leaves it as wide as the page; press again to make it small."

# ipywidgets' arrow of a list is black, also in a dark theme; at its end a slider's handle would touch the number
_ARROW = (
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'%3E"
    "%3Cpath d='M5 7l4 4 4-4' fill='none' stroke='%23888' stroke-width='2'/%3E%3C/svg%3E"
)
_RULES = """
.dk-live-view { --jp-widgets-dropdown-arrow: url("data:image/svg+xml,ARROW"); max-width: 960px; }
.dk-live-view .dk-number { margin-left: 14px; }
.dk-live-view .dk-wide { margin-left: auto; }
.dk-live-view > .dk-stays { position: sticky; top: 0; z-index: 5; padding: 2px 0;
  background: var(--jp-layout-color0, var(--vscode-editor-background, Canvas)); }
.dk-live-view .dk-slider { margin-bottom: 10px; }
.dk-live-view .dk-ticks { position: absolute; inset: 0; pointer-events: none; }
.dk-live-view .dk-ticks span { position: absolute; top: 11px; transform: translateX(-50%); font-size: 10px;
  line-height: 12px; color: var(--jp-ui-font-color2, GrayText); }
.dk-live-view .dk-ticks span::before { content: ""; position: absolute; left: 50%; top: -5px; height: 4px;
  border-left: 1px solid currentColor; }
.jp-Cell:not(.jp-mod-outputsScrolled) .dk-unclipped:not(:fullscreen) { overflow: visible !important; }
.dk-browser-side { margin: 0; height: auto; }
.dk-browser-side p { margin: 4px 0; padding: 8px 12px; border: 2px solid #b84300; border-radius: 6px; font-size: 14px;
  color: var(--jp-ui-font-color1, CanvasText); }
.dk-live-view.jupyter-widgets-disconnected::before, .dk-live-view .jupyter-widgets-disconnected::before {
  display: none; }
WIDE { max-width: none; }
WIDE :is(.dk-cards, .dk-written, .dk-live-view, .dk-picture) { max-width: none; }
WIDE .dk-cards svg { max-width: calc(50% - 8px); flex-basis: 40%; }
WIDE .dk-cards svg:only-child { max-width: 100%; }
@media (max-width: 620px) { WIDE .dk-cards svg { max-width: 100%; flex-basis: 100%; } }
@media (min-width: 1200px) { WIDE :is(.dk-row, .dk-own, .dk-written, .dk-missing) { zoom: 1.25; } }
@media (min-width: 1600px) { WIDE :is(.dk-row, .dk-own, .dk-written, .dk-missing) { zoom: 1.6; } }
.dk-live-view:fullscreen { background: var(--jp-layout-color0, Canvas); overflow: auto; padding: 8px 14px;
  flex-wrap: nowrap; }
.dk-live-view:fullscreen > * { flex: none; }
WIDE:fullscreen .dk-cards { margin: 0 auto;
  max-width: max(66%, min(100%, (100vh - var(--dk-controls, 120px)) * var(--dk-shape, 1.8))); }
"""
_LOOKS = f"<style>{_RULES.replace('ARROW', _ARROW).replace('WIDE', '.dk-live-view:has(.dk-wide.mod-active)')}</style>"


class LiveView(ipywidgets.VBox):
    """A slider with a box for its number, other controls, and below them a picture of what they are set to.

    A subclass makes `slider` and `number`, which hold the same number, before it calls this `__init__`. It defines
    `refresh`, which draws, `summary`, which says the finding in a sentence, and `in_saved_notebook`.

    Arguments:
        rows: the controls, row by row; a row without any is left out. Those with the slider, the switch between
            methods and buttons, which follow each other, stay in view.
        css_class: marks the view in the page.
        style: CSS of the picture, beside that of the cards.

    Attributes:
        picture: holds the drawing, as HTML.
        wide: the switch between the width of a page and the whole screen.
        slider_row: the row with the slider.
    """

    _ipython_display_ = None  # by it ipywidgets 7 would show the view alone, without its picture
    slider: ipywidgets.Widget
    number: ipywidgets.Widget
    method: Any = None  # the switch between methods, if there is one
    buttons: Mapping[str, ipywidgets.Button] = {}  # those that change the model
    _view_count: int | None  # in how many places a page shows it; None where no page counts

    def __init__(self, rows: Sequence[Sequence[ipywidgets.Widget]], *, css_class: str, style: str = "") -> None:
        self.picture = ipywidgets.HTML(layout={"width": "100%"})
        self.picture.add_class("dk-picture")
        self.wide = ipywidgets.ToggleButton(
            description="Full width", icon="expand", tooltip=_WIDE, layout={"width": "auto"}
        )
        self.wide.add_class("dk-wide")
        self.wide.observe(
            lambda change: self.wide.set_trait("icon", "compress" if change["new"] else "expand"), "value"
        )
        self.slider.observe(lambda _: self.refresh(), "value")  # before the link: the picture travels first
        ipywidgets.link((self.slider, "value"), (self.number, "value"), (rounded, rounded))
        looks = ipywidgets.HTML(svg_cards.STYLE + _LOOKS + style, layout={"height": "0", "margin": "0"})
        super().__init__([BrowserSide(), *self._boxes(rows), self.picture, looks])
        self._missed: int | None = None  # the rank that another view went to while this one was on no page
        self.observe(self._seen, "_view_count")
        self.add_class("dk-live-view")
        self.add_class(css_class)

    def _boxes(self, rows: Sequence[Sequence[ipywidgets.Widget]]) -> list[ipywidgets.Box]:
        """The rows, those that stay in view in a box of their own."""
        stays = {self.slider, self.method, *self.buttons.values()}
        staying, boxes = ipywidgets.VBox(layout={"width": "100%"}), list[ipywidgets.Box]()
        staying.add_class("dk-stays")
        for row in filter(None, rows):
            if stays.isdisjoint(row):
                boxes.append(self._row(row))
                continue
            staying.children += (self._row(row),)
            if staying not in boxes:
                boxes.append(staying)
        return boxes

    def _row(self, controls: Sequence[ipywidgets.Widget]) -> ipywidgets.HBox:
        """A row of controls; the one with the slider has the switch at its end."""
        of_slider = self.slider in controls
        row = ipywidgets.HBox([*controls, self.wide] if of_slider else controls, layout=_ROW)
        row.add_class("dk-row")
        if of_slider:
            self.slider_row = row
        return row

    def refresh(self) -> None:
        """Draws what the controls are set to."""
        raise NotImplementedError

    def catch_up(self, rank: int) -> None:
        """Shows the model as another view has left it, at a rank. A view on no page waits until it is on one."""
        if self._view_count == 0:
            self._missed = rank
        elif self.slider.value == rank:
            self.refresh()
        else:
            self.slider.value = rank

    def _seen(self, change: Any) -> None:
        if change["new"] and self._missed is not None:
            rank, self._missed = self._missed, None
            self.catch_up(rank)

    def summary(self) -> str:
        """What is on show, as text."""
        raise NotImplementedError

    def close(self) -> None:
        """Takes the view out of the page and out of memory."""
        same_model.leave(self)
        open_widgets = list(self.children)
        for widget in open_widgets:
            open_widgets.extend(getattr(widget, "children", ()))
            widget.close()
        super().close()

    def in_saved_notebook(self) -> dict[str, str]:
        """What stands for the view where there is no kernel: a picture of what is on show, by its kind."""
        raise NotImplementedError

    def still(self) -> "Still":
        """What is on show, as a picture that stands in a saved notebook and stays as it is."""
        return Still({**self.in_saved_notebook(), "text/plain": self.summary()})

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """What a saved notebook has: the view, a picture of it, and its text in full, which ipywidgets would cut."""
        if self._view_count is None:
            self._view_count = 0  # from now on the page counts where it is shown
        return {**displayed(self), **self.in_saved_notebook()}

    def __repr__(self) -> str:
        return f"A live view (run the notebook to use it). {self.summary()}"


class Still:
    """A picture of a view, and its text where pictures are not shown, as in a notebook that nobody has run yet."""

    def __init__(self, content: Mapping[str, str]) -> None:
        self._content = dict(content)

    @property
    def data(self) -> str:
        """The picture, as SVG or HTML."""
        return next(content for kind, content in self._content.items() if kind != "text/plain")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        return self._content

    def __repr__(self) -> str:
        return self._content["text/plain"]


def displayed(widget: ipywidgets.Widget) -> dict[str, Any]:
    """What shows a widget in a page, the same with ipywidgets 7 and 8, and its text in full."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view, "text/plain": repr(widget)}


def rounded(value: float) -> float:
    """A number without the rounding error that a front end adds; an int stays as it is.

    >>> rounded(0.15000000000000002)
    0.15
    """
    return value if isinstance(value, int) else round(value, 12)
