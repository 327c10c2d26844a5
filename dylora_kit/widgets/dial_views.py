"""What dials show of distributions, of choices of a rank, and of cuts by layer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dylora_kit.core.targets import short_names
from dylora_kit.evaluation.rank_per_layer import Cut
from dylora_kit.evaluation.select_rank import smallest_rank
from dylora_kit.training.sampling import RankDistribution
from dylora_kit.widgets import svg_cards
from dylora_kit.widgets.number_dial import View

if TYPE_CHECKING:
    import pandas as pd


def draws(distribution: RankDistribution, other: RankDistribution, names: tuple[str, str]) -> View:
    """How often each rank is drawn and each row updated, beside another distribution.

    Arguments:
        distribution: drawn as filled bars.
        other: drawn as outlines.
        names: what the two distributions are called.
    """
    r, distributions = max(distribution.hi, other.hi), (distribution, other)
    draw_shares = [[shown.probabilities.get(rank, 0.0) for rank in range(1, r + 1)] for shown in distributions]
    update_shares = [shown.update_frequencies(r) for shown in distributions]

    def bars(unit: str, shares: list[list[float]]) -> list[svg_cards.Bar]:
        pairs = enumerate(zip(*shares, strict=True), 1)
        return [svg_cards.Bar(f"{unit} {n}", share, f"{100 * share:.0f} %", compared) for n, (share, compared) in pairs]

    row_share, compared_share = update_shares[0][-1], update_shares[1][-1]
    finding = f"Row {r} is updated in {100 * row_share:.1f} % of the steps, {names[1]}: {100 * compared_share:.1f} %."
    draws_card = svg_cards.bars_card(
        "How often each rank is drawn", "share of the steps", bars("rank", draw_shares), legend=names
    )
    updates_card = svg_cards.bars_card(
        "How often each row is updated", "share of the steps", bars("row", update_shares), kind=1, legend=names
    )
    return View(finding, [draws_card, updates_card])


def choice(frame: "pd.DataFrame", tolerance: float, parameters: Mapping[int, int]) -> View:
    """The smallest rank within a tolerance of the best, what it achieves, and what it costs.

    Arguments:
        frame: as for `smallest_rank`.
        tolerance: how much worse than the best a rank may be, as a value of the metric.
        parameters: how many adapter parameters each rank uses.
    """
    chosen = smallest_rank(frame, tolerance=tolerance)
    name = str(frame["method"].iloc[0]) if "method" in frame else "the model"
    metric = str(frame["metric"].iloc[0])
    scene = svg_cards.Scene(
        rank=chosen.rank, r=max(chosen.values), series=[svg_cards.Series(name, chosen.values)], active=0, metric=metric,
        subtitle=f"the smallest within {100 * tolerance:g} points of the best",
    )  # fmt: skip
    most = max(parameters.values())
    bars = [
        svg_cards.Bar(
            f"rank {rank}{' ✓' if rank == chosen.rank else ''}",
            count if rank == chosen.rank else 0.0,
            f"{count:,} parameters, {100 * count / most:.0f} %",
            count,
        )
        for rank, count in parameters.items()
    ]
    sizes = svg_cards.bars_card("What it takes", "parameters of the adapter; filled: the chosen rank", bars, width=150)
    return View(f"Chosen: {chosen}.", [(svg_cards.metric_card(scene), 282), sizes])


def per_layer(cut: Cut, uniform: Mapping[str, int], parameters: int, losses: tuple[float, float]) -> View:
    """A rank for each layer, beside the same rank in all.

    Arguments:
        cut: what `ranks_per_layer` returns.
        uniform: the rank of each layer where all have the same, `{layer: rank}`.
        parameters: how many adapter parameters `uniform` uses.
        losses: of `cut` and of `uniform`, on data that neither was chosen on.
    """
    names = short_names(list(cut.ranks))
    bars = [
        svg_cards.Bar(name, rank, str(rank), uniform[layer])
        for name, (layer, rank) in zip(names, cut.ranks.items(), strict=True)
    ]
    loss, uniform_loss = losses
    finding = (
        f"A rank for each layer: {cut.parameters:,} parameters, loss {loss:.3f}. One for all: {parameters:,} "
        f"parameters, loss {uniform_loss:.3f}."
    )
    legend = ("a rank for each", "one for all")
    subtitle = f"{cut.parameters:,} parameters; loss {loss:.3f} and {uniform_loss:.3f}"
    return View(finding, [svg_cards.bars_card("Rank by layer", subtitle, bars, legend=legend)])
