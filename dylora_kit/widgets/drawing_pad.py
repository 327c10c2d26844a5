"""The grid in which a picture is drawn, with mouse, touch and keys."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets


def _unless_late(sheet: dict[str, Any], pad: "DrawingPad") -> dict[str, Any]:
    """What a page sends, or what is drawn already if that is on a newer sheet."""
    return sheet if sheet.get("number") == pad.sheet["number"] else pad.sheet


class DrawingPad(anywidget.AnyWidget):
    """A grid of cells to draw in.

    The mouse or a finger draws lines. Arrow keys move from cell to cell, and the space bar fills a cell or empties it.

    Arguments:
        rows, columns: how many cells there are.
        label: what the grid is called.

    Attributes:
        sheet: what is drawn, and the number of the sheet it is drawn on. Whoever sets `cells` takes a new sheet, and a
            stroke on an older one is dropped: with a busy kernel it may come after the button that emptied the grid.
        disabled: whether the grid takes no ink.

    >>> pad = DrawingPad(2, 2)
    >>> pad.cells = [1, 0, 0, 0]
    >>> pad.turn()
    >>> pad.cells
    [0.0, 0.0, 1.0, 0.0]
    """

    _esm = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    rows = traitlets.Int().tag(sync=True)
    columns = traitlets.Int().tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    sheet = traitlets.Dict(
        per_key_traits={"number": traitlets.Int(), "cells": traitlets.List(traitlets.CFloat(min=0, max=1))}
    ).tag(sync=True, from_json=_unless_late)
    disabled = traitlets.Bool(False).tag(sync=True)

    def __init__(self, rows: int, columns: int, label: str = "A grid to draw in", **options: Any) -> None:
        blank = {"number": 0, "cells": [0.0] * (rows * columns)}
        super().__init__(rows=rows, columns=columns, label=label, sheet=blank, **options)
        self.add_class("dk-pad")

    @traitlets.validate("sheet")
    def _whole(self, proposal: Any) -> dict[str, Any]:
        """As many cells as the grid has, whatever a page sends."""
        sheet = proposal["value"]
        if sheet.keys() != {"number", "cells"} or len(sheet["cells"]) != self.rows * self.columns:
            raise traitlets.TraitError(f"expected a number and {self.rows * self.columns} cells: got {sheet}")
        return sheet

    @property
    def cells(self) -> list[float]:
        """How much ink each cell has, from 0 to 1, row by row. To set them takes a new sheet."""
        return list(self.sheet["cells"])

    @cells.setter
    def cells(self, ink: Sequence[float]) -> None:
        self.sheet = {"number": self.sheet["number"] + 1, "cells": list(ink)}

    @property
    def empty(self) -> bool:
        """Whether no cell has ink."""
        return not any(self.cells)

    def clear(self) -> None:
        """Empties all cells."""
        self.cells = [0.0] * (self.rows * self.columns)

    def turn(self) -> None:
        """Turns the drawing by 90° against the clock, as the digits of the domain `"turned"` are.

        Raises `ValueError` if the grid is not a square.
        """
        if self.rows != self.columns:
            raise ValueError(f"a grid of {self.rows} × {self.columns} cells cannot be turned: it is no square")
        self.cells = np.rot90(np.reshape(self.cells, (self.rows, self.columns))).flatten().tolist()
