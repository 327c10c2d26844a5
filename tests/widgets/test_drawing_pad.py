"""The grid without a page: what it holds, and what it refuses."""

from collections.abc import Callable

import numpy as np
import pytest
import traitlets

from dylora_kit.tasks import digits
from dylora_kit.widgets.drawing_pad import DrawingPad


def test_it_is_empty_at_first_and_after_clear() -> None:
    pad = DrawingPad(8, 8)
    assert pad.empty and len(pad.cells) == 64
    pad.cells = [1.0] * 64
    assert not pad.empty
    pad.clear()
    assert pad.empty


def test_it_turns_as_the_turned_digits_are() -> None:
    upright, turned = (digits.load(domain).test[0]["pixel_values"] for domain in ("upright", "turned"))
    pad = DrawingPad(8, 8)
    pad.cells = ((upright + 1) / 2).flatten().tolist()
    pad.turn()
    np.testing.assert_allclose(pad.cells, ((turned + 1) / 2).flatten())


def test_four_turns_change_nothing() -> None:
    pad = DrawingPad(3, 3)
    pad.cells = [index / 9 for index in range(9)]
    for _ in range(4):
        pad.turn()
    assert pad.cells == [index / 9 for index in range(9)]


@pytest.mark.parametrize("cells", [[0.0] * 63, [0.0] * 63 + [1.5], [0.0] * 63 + ["ink"]])
def test_cells_that_do_not_fit_are_refused_whoever_sends_them(cells: list[float]) -> None:
    pad = DrawingPad(8, 8)
    with pytest.raises(traitlets.TraitError):
        pad.cells = cells
    assert pad.empty


@pytest.mark.parametrize("take_away", [DrawingPad.clear, DrawingPad.turn])
def test_a_stroke_that_a_page_sends_after_its_sheet_was_taken_away_is_dropped(
    take_away: Callable[[DrawingPad], None],
) -> None:
    pad = DrawingPad(2, 2)
    pad.set_state({"sheet": {"number": 0, "cells": [1, 0, 0, 0]}})
    assert pad.cells == [1, 0, 0, 0]
    take_away(pad)
    left = pad.cells
    pad.set_state({"sheet": {"number": 0, "cells": [1, 1, 0, 0]}})
    assert pad.cells == left
    pad.set_state({"sheet": {"number": 1, "cells": [0, 0, 0, 1]}})
    assert pad.cells == [0, 0, 0, 1]


def test_a_sheet_with_more_than_its_cells_is_refused() -> None:
    pad = DrawingPad(2, 2)
    with pytest.raises(traitlets.TraitError, match="expected a number and 4 cells"):
        pad.set_state({"sheet": {"number": 0, "cells": [1.0] * 4, "more": 1}})
    assert pad.empty


def test_a_grid_that_is_no_square_is_not_turned() -> None:
    with pytest.raises(ValueError, match="2 × 3 cells cannot be turned: it is no square"):
        DrawingPad(2, 3).turn()
