"""The grid in which a picture is drawn, with mouse, touch and keys."""

from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets


class DrawingPad(anywidget.AnyWidget):
    """A grid of cells to draw in.

    The mouse or a finger draws lines. Arrow keys move from cell to cell, and the space bar fills a cell or empties it.

    Arguments:
        rows, columns: how many cells there are.
        label: what the grid is called.

    Attributes:
        cells: how much ink each cell has, from 0 to 1, row by row.
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
    cells = traitlets.List(traitlets.CFloat(min=0, max=1)).tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)

    def __init__(self, rows: int, columns: int, label: str = "A grid to draw in", **options: Any) -> None:
        super().__init__(rows=rows, columns=columns, label=label, cells=[0.0] * (rows * columns), **options)
        self.add_class("dk-pad")

    @traitlets.validate("cells")
    def _whole(self, proposal: Any) -> list[float]:
        """As many cells as the grid has, whatever a page sends."""
        if len(proposal["value"]) != self.rows * self.columns:
            raise traitlets.TraitError(f"expected {self.rows * self.columns} cells: got {len(proposal['value'])}")
        return proposal["value"]

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
