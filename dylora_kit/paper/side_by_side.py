"""Every table of the paper beside what the kit measured of it, on each tier: what `dk.PaperTables` shows."""

from pathlib import Path

from dylora_kit.paper import compared_at_ranks, compared_choices
from dylora_kit.storage.files import data_folder
from dylora_kit.widgets.svg_cards.comparison import Comparison

BUILDERS = (
    compared_at_ranks.table2,
    compared_at_ranks.table1,
    compared_choices.table3,
    compared_choices.table4,
    compared_choices.table5,
    compared_at_ranks.table6,
    compared_choices.table7,
    compared_choices.table8,
    compared_at_ranks.table9,
    compared_choices.appendix_a,
)


def side_by_side(folder: Path | None = None) -> list[Comparison]:
    """All tables, the paper's Table 2 first; what was not run is among them, and says about how long it would take.

    Arguments:
        folder: where the results files are; default is data/results.

    >>> first = side_by_side()[0]
    >>> first.table, first.tier, first.task
    ('Table 2', 'embedded digits', 'turned digits (accuracy)')
    """
    results = folder or data_folder() / "results"
    return [comparison for build in BUILDERS for comparison in build(results)]
