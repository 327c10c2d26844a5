"""Static figures, for print, GitHub and readers without a kernel. The text of each (`alt`) says what it shows.

In reading order:

- `drawing`: colours, a plain frame, the picture with its text
- `curves`: a metric by rank, differences between curves, a metric by size or by cost
- `pictures`: the data, and what models say of them
- `singular_values`: of ΔW, and the order of its rows
"""

from dylora_kit.plots.curves import cost_plane, differences, rank_curves, standings, trade_off
from dylora_kit.plots.pictures import picture_rows, predictions_by_rank
from dylora_kit.plots.singular_values import energy_curves, ordering_map, spectra

__all__ = [
    "cost_plane",
    "differences",
    "energy_curves",
    "ordering_map",
    "picture_rows",
    "predictions_by_rank",
    "rank_curves",
    "spectra",
    "standings",
    "trade_off",
]
