"""What every live widget shares: rows of controls, the picture below them, names for screen readers, closing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets

from dylora_kit.widgets import svg_cards

if TYPE_CHECKING:
    from IPython.display import DisplayObject

PLAIN = {"description_width": "initial"}  # a description takes the width that it needs
_ROW = {"align_items": "center", "flex_flow": "row wrap", "width": "100%"}

# ipywidgets gives sliders' handles and the buttons of Play no name that a screen reader could say: added in the page
_NAMES = """<img alt="" src="data:," onerror="const view = this.closest('.dk-live-view');
for (const box of view.querySelectorAll('.widget-slider')) box.querySelector('[role=slider]')
?.setAttribute('aria-label', box.querySelector('.widget-label').textContent);
view.querySelectorAll('.dk-play button').forEach((button, index) =>
button.setAttribute('aria-label', ['Play the training', 'Stop playing', 'Repeat'][index])); this.remove()">"""

# ipywidgets' arrow of a list is black, also in a dark theme; at its end a slider's handle would touch the number
_ARROW = (
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'%3E"
    "%3Cpath d='M5 7l4 4 4-4' fill='none' stroke='%23888' stroke-width='2'/%3E%3C/svg%3E"
)
_CONTROLS = f"""<style>
.dk-live-view {{ --jp-widgets-dropdown-arrow: url("data:image/svg+xml,{_ARROW}"); }}
.dk-live-view .dk-number {{ margin-left: 14px; }}
</style>"""


class LiveView(ipywidgets.VBox):
    """A slider with a box for its number, other controls, and below them a picture of what they are set to.

    A subclass makes `slider` and `number`, which hold the same number, before it calls this `__init__`. It defines
    `refresh`, which draws, `summary`, which says the finding in a sentence, and `in_saved_notebook`.

    Arguments:
        rows: the controls, row by row; a row without any is left out.
        css_class: marks the view in the page.
        style: CSS of the picture, beside that of the cards.

    Attributes:
        picture: holds the drawing, as HTML.
    """

    _ipython_display_ = None  # by it ipywidgets 7 would show the view alone, without its picture
    slider: ipywidgets.Widget
    number: ipywidgets.Widget

    def __init__(self, rows: Sequence[Sequence[ipywidgets.Widget]], *, css_class: str, style: str = "") -> None:
        self.picture = ipywidgets.HTML(layout={"width": "100%", "max_width": f"{svg_cards.WIDTH}px"})
        self.slider.observe(lambda _: self.refresh(), "value")  # before the link: the picture travels first
        ipywidgets.link((self.slider, "value"), (self.number, "value"), (rounded, rounded))
        looks = ipywidgets.HTML(svg_cards.STYLE + _CONTROLS + style + _NAMES, layout={"height": "0", "margin": "0"})
        boxes = [ipywidgets.HBox(row, layout=_ROW) for row in rows if row]
        super().__init__([*boxes, self.picture, looks], layout={"max_width": f"{svg_cards.WIDTH}px"})
        self.add_class("dk-live-view")
        self.add_class(css_class)

    def refresh(self) -> None:
        """Draws what the controls are set to."""
        raise NotImplementedError

    def summary(self) -> str:
        """What is on show, as text."""
        raise NotImplementedError

    def close(self) -> None:
        """Takes the view out of the page and out of memory."""
        open_widgets = list(self.children)
        for widget in open_widgets:
            open_widgets.extend(getattr(widget, "children", ()))
            widget.close()
        super().close()

    def in_saved_notebook(self) -> dict[str, str]:
        """What stands for the view where there is no kernel: a picture of what is on show, by its kind."""
        raise NotImplementedError

    def still(self) -> "DisplayObject":
        """What is on show, as a picture that stands in a saved notebook and stays as it is."""
        from IPython.display import HTML, SVG

        ((kind, content),) = self.in_saved_notebook().items()
        return (SVG if kind == "image/svg+xml" else HTML)(content)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """What a saved notebook has: the view, a picture of it, and its text in full, which ipywidgets would cut."""
        return {**displayed(self), **self.in_saved_notebook()}

    def __repr__(self) -> str:
        return f"A live view (run the notebook to use it). {self.summary()}"


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
