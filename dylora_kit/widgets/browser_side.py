"""What a live view needs of the browser, in JavaScript: names for screen readers, the whole screen, a lost kernel."""

from pathlib import Path

import anywidget


class BrowserSide(anywidget.AnyWidget):
    """The part of a live view that runs in the page. It shows nothing, until the kernel stops.

    It names the sliders and the buttons of the player, and says which button is pressed. It keeps the slider row in
    view, takes the whole screen when *Full width* is pressed, and says it when the kernel is gone.

    It runs as a module, so a page may forbid inline scripts.
    """

    _esm = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
