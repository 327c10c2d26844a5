"""Which rank each layer gets: the same for all, by the energy that is kept, or under a budget of parameters."""

from collections.abc import Mapping

import torch
from torch import Tensor


def smallest_rank_keeping(share: float, s: Tensor) -> int:
    """The smallest rank at which a cut keeps a share of the energy, Σ s²; 1 if all are zero.

    Arguments:
        share: above 0, at most 1.
        s: the singular values of a layer, the largest first.

    >>> smallest_rank_keeping(0.9, torch.tensor([4.0, 2.0, 1.0]))
    2
    """
    kept = s.double().square().cumsum(0)
    return int(torch.searchsorted(kept, share * kept[-1])) + 1


def ranks_under_budget(budget: int, values: Mapping[str, Tensor], costs: Mapping[str, int]) -> dict[str, int]:
    """A rank for each layer, with as much energy under a budget as taking the best gain per parameter gives.

    Each layer has rank 1 at least. Then, one after another, the singular value with the most energy for each of its
    parameters is added, if it still fits.

    Arguments:
        budget: the most parameters of all layers together.
        values: the singular values of each layer, the largest first, with its scale.
        costs: the parameters that one more rank costs each layer, d_in + d_out.

    Raises `ValueError` for a budget that is too small for rank 1.

    >>> values = {"up": torch.tensor([4.0, 3.0]), "down": torch.tensor([2.0, 1.0])}
    >>> ranks_under_budget(30, values, {"up": 10, "down": 10})
    {'up': 2, 'down': 1}
    """
    left = budget - sum(costs.values())
    if left < 0:
        raise ValueError(
            f"a budget of {budget:,} parameters is too small: rank 1 in every layer has {sum(costs.values()):,}"
        )
    ranks = dict.fromkeys(values, 1)
    gains = [
        (energy / costs[name], name, before)
        for name, s in values.items()
        for before, energy in enumerate(s.square().tolist())
    ]
    for gain, name, before in sorted(gains, key=lambda candidate: -candidate[0]):
        if before == ranks[name] and gain > 0 and costs[name] <= left:
            ranks[name] += 1
            left -= costs[name]
    return ranks
