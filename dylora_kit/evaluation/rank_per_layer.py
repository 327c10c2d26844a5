"""One rank for each layer of a trained model, within a budget and with no retraining."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dylora_kit.core.modes import evaluating

if TYPE_CHECKING:
    import pandas as pd

    from dylora_kit.core.handle import Adapters

PARTS = 8  # of the data, on which a step has to help


@dataclass(frozen=True)
class Cut:
    """A rank for each layer.

    Attributes:
        ranks: `{layer: rank}`, which can be assigned to `adapters.rank`.
        parameters: how many adapter parameters they use.
        loss: the mean loss on the data they were chosen on.
        path: a frame with the columns parameters, raised, lowered, loss: the steps from one rank for all to this cut.
    """

    ranks: dict[str, int]
    parameters: int
    loss: float
    path: "pd.DataFrame"


def ranks_per_layer(
    model: nn.Module,
    adapters: "Adapters",
    data: Any,
    *,
    budget: int,
    standard_errors: float = 2.0,
    batch_size: int = 64,
    collate: Callable[[list[Any]], dict[str, Any]] | None = None,
) -> Cut:
    """One rank per layer within a budget of parameters, with no retraining.

    Every layer is nested, so each can be cut at a rank of its own. It starts at the largest rank that all layers can
    have, and takes steps as long as one lowers the loss: a layer rises by one rank, falls by one, or rises while
    another falls. Of the steps that the budget allows it takes the one that seems to lower the loss most. The loss is
    the one that the model itself reports, as transformers' models do.

    Arguments:
        data: labelled examples to choose on, such as a validation part; not those that are reported on.
        budget: the most adapter parameters that may be used; at least those of rank 1.
        standard_errors: by how many of them a step has to lower the loss, by its differences on eight parts of the
            data. With 0, what looks better on the data is taken, and may be worse on other data.

    Raises `ValueError` for a budget that is too small. The active rank is afterwards what it was.
    """
    import pandas as pd

    sizes = {name: layer.in_features + layer.out_features for name, layer in adapters.layers.items()}
    most = {name: layer.r for name, layer in adapters.layers.items()}
    if len(data) == 0:
        raise ValueError("the data is empty: there is nothing to choose on")

    def parameters_of(some: Mapping[str, int]) -> int:
        return sum(sizes[name] * rank for name, rank in some.items())

    def losses_at(some: dict[str, int]) -> np.ndarray:
        with adapters.at(some):
            return _losses(model, data, batch_size, collate)

    uniform = [{name: min(b, most[name]) for name in sizes} for b in range(1, adapters.r + 1)]
    affordable = [some for some in uniform if parameters_of(some) <= budget]
    if not affordable:
        raise ValueError(f"a budget of {budget} parameters is too small: rank 1 in every layer takes "
                         f"{parameters_of(uniform[0])}")  # fmt: skip
    ranks = affordable[-1]
    losses = losses_at(ranks)
    path: list[tuple[int, str, str, float]] = [(parameters_of(ranks), "", "", float(losses.mean()))]
    looking = True
    while looking:
        looking = False
        steps = [(*step, _stepped(ranks, *step)) for step in _promising(ranks, most, losses_at)]
        for up, down, other in [step for step in steps if parameters_of(step[2]) <= budget][: len(ranks)]:
            if _lower(losses, found := losses_at(other), standard_errors):
                ranks, losses, looking = other, found, True
                path.append((parameters_of(ranks), up, down, float(losses.mean())))
                break
    frame = pd.DataFrame(path, columns=["parameters", "raised", "lowered", "loss"])
    return Cut(ranks, parameters_of(ranks), float(losses.mean()), frame)


def _stepped(ranks: dict[str, int], up: str, down: str) -> dict[str, int]:
    """The ranks with one layer's raised by one, and one's lowered; an empty name for none."""
    return ranks | ({up: ranks[up] + 1} if up else {}) | ({down: ranks[down] - 1} if down else {})


def _promising(
    ranks: dict[str, int], most: Mapping[str, int], losses_at: Callable[[dict[str, int]], np.ndarray]
) -> list[tuple[str, str]]:
    """Which layer to raise and which to lower, the most promising first, as if their effects added up."""
    ups = {name: float(losses_at(_stepped(ranks, name, "")).mean()) for name in ranks if ranks[name] < most[name]}
    downs = {name: float(losses_at(_stepped(ranks, "", name)).mean()) for name in ranks if ranks[name] > 1}
    now = float(losses_at(ranks).mean())
    seeming = {(up, ""): loss for up, loss in ups.items()} | {("", down): loss for down, loss in downs.items()}
    seeming |= {(up, down): ups[up] + downs[down] - now for up in ups for down in downs if up != down}
    return sorted(seeming, key=lambda pair: (not np.isfinite(seeming[pair]), seeming[pair]))


def _lower(before: np.ndarray, after: np.ndarray, standard_errors: float) -> bool:
    """Whether losses of the same parts of the data have fallen by more than so many standard errors."""
    gains = before - after
    if not np.isfinite(gains).all():
        return bool(np.isfinite(after).all())  # any number is better than none
    error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return bool(gains.mean() > max(standard_errors * error, 1e-9))


def _losses(
    model: nn.Module, data: Any, batch_size: int, collate: Callable[[list[Any]], dict[str, Any]] | None
) -> np.ndarray:
    """The mean loss that the model reports on each part of the data, of shape (parts,)."""
    from torch.utils.data import DataLoader, Subset

    device, found = next(model.parameters()).device, []
    with evaluating(model):
        for part in (range(first, len(data), PARTS) for first in range(min(PARTS, len(data)))):
            loader: DataLoader[Any] = DataLoader(
                Subset(data, part), batch_size, collate_fn=collate, generator=torch.Generator()
            )
            total = 0.0
            for batch in loader:
                loss = model(**{key: value.to(device) for key, value in batch.items()}).loss
                total += float(loss) * len(batch["labels"])
            found.append(total / len(part))
    return np.array(found)
