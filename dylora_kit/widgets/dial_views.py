"""What dials show of distributions, of choices of a rank, and of cuts by layer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dylora_kit.core.targets import short_names
from dylora_kit.evaluation.rank_per_layer import Cut
from dylora_kit.evaluation.select_rank import smallest_rank
from dylora_kit.training.sampling import RankDistribution
from dylora_kit.widgets import svg_cards as cards
from dylora_kit.widgets.number_dial import View

if TYPE_CHECKING:
    import pandas as pd


def draws(distribution: RankDistribution, other: RankDistribution, names: tuple[str, str]) -> View:
    """How often each rank is drawn and each row updated, beside another distribution.

    Arguments:
        names: what the two distributions are called.
    """
    r = max(distribution.hi, other.hi)
    drawn = [[one.probabilities.get(rank, 0.0) for rank in range(1, r + 1)] for one in (distribution, other)]
    moved = [one.update_frequencies(r) for one in (distribution, other)]

    def bars(unit: str, shares: list[list[float]]) -> list[cards.Bar]:
        pairs = enumerate(zip(*shares, strict=True), 1)
        return [cards.Bar(f"{unit} {n}", here, f"{100 * here:.0f} %", there) for n, (here, there) in pairs]

    finding = f"Row {r} is updated in {100 * moved[0][-1]:.1f} % of the steps, {names[1]}: {100 * moved[1][-1]:.1f} %."
    return View(
        finding,
        [
            cards.bars_card("How often each rank is drawn", "share of the steps", bars("rank", drawn), legend=names),
            cards.bars_card("How often each row is updated", "share of the steps", bars("row", moved), kind=1,
                            legend=names),
        ],
    )  # fmt: skip


def choice(frame: "pd.DataFrame", tolerance: float, parameters: Mapping[int, int]) -> View:
    """The smallest rank within a tolerance of the best, what it achieves, and what it costs.

    Arguments:
        frame: as for `smallest_rank`.
        parameters: how many adapter parameters each rank uses.
    """
    chosen = smallest_rank(frame, tolerance=tolerance)
    name = str(frame["method"].iloc[0]) if "method" in frame else "the model"
    metric = str(frame["metric"].iloc[0])
    scene = cards.Scene(
        rank=chosen.rank, r=max(chosen.values), series=[cards.Series(name, chosen.values)], active=0, metric=metric,
        subtitle=f"the smallest within {100 * tolerance:g} points of the best",
    )  # fmt: skip
    most = max(parameters.values())
    bars = [
        cards.Bar(
            f"rank {rank}{' ✓' if rank == chosen.rank else ''}",
            count if rank == chosen.rank else 0.0,
            f"{count:,} parameters, {100 * count / most:.0f} %",
            count,
        )
        for rank, count in parameters.items()
    ]
    sizes = cards.bars_card("What it takes", "parameters of the adapter; filled: the chosen rank", bars, wide=150)
    return View(f"Chosen: {chosen}.", [(cards.metric_card(scene), 282), sizes])


def per_layer(cut: Cut, uniform: Mapping[str, int], parameters: int, losses: tuple[float, float]) -> View:
    """A rank for each layer, beside the same rank in all.

    Arguments:
        uniform: the rank of each layer in the other cut.
        parameters: how many the other cut uses.
        losses: of the cut and of the other one, on data that neither was chosen on.
    """
    names = short_names(list(cut.ranks))
    bars = [
        cards.Bar(name, rank, str(rank), uniform[layer])
        for name, (layer, rank) in zip(names, cut.ranks.items(), strict=True)
    ]
    ours, theirs = losses
    finding = (
        f"A rank for each layer: {cut.parameters:,} parameters, loss {ours:.3f}. One for all: {parameters:,} "
        f"parameters, loss {theirs:.3f}."
    )
    legend = ("a rank for each", "one for all")
    subtitle = f"{cut.parameters:,} parameters; loss {ours:.3f} and {theirs:.3f}"
    return View(finding, [cards.bars_card("Rank by layer", subtitle, bars, legend=legend)])
