"""One rank for each layer of a trained model, within a budget and with no retraining."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dylora_kit.core.modes import evaluating
from dylora_kit.core.offload import input_device
from dylora_kit.evaluation.running import RunningLoss
from dylora_kit.training.batches import Collate, call, check_data, labels_of, on_device, own_loss, stacked
from dylora_kit.training.counting import Counting
from dylora_kit.training.next_token import Shift

if TYPE_CHECKING:
    import pandas as pd

    from dylora_kit.core.handle import Adapters

PARTS = 8  # of the data, whose losses say how certain a difference is


@dataclass(frozen=True)
class Cut:
    """A rank for each layer.

    Attributes:
        ranks: `{layer: rank}`, which can be assigned to `adapters.rank`.
        parameters: how many adapter parameters they use.
        loss: the mean loss on the data they were chosen on, over all labels that count.
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
    collate: Collate | None = None,
) -> Cut:
    """One rank per layer within a budget of parameters, with no retraining.

    Every layer is nested, so each can be cut at another rank. The search starts with one rank for all layers, the
    largest that the budget allows, and takes steps as long as one lowers the loss: a layer rises by one rank, falls by
    one, or rises while another falls. Of the steps that the budget allows it tries the most promising first, as many
    as there are layers. The loss is the one that the model itself reports, as transformers' models do.

    Arguments:
        data: labelled examples to choose on, such as a validation part; not those that are reported on. Labels of −100
            do not count.
        budget: the most adapter parameters that may be used; at least those of rank 1.
        standard_errors: by how many of them a step has to lower the loss, by its differences on eight parts of the
            data. With 0, what looks better on the data is taken, and may be worse on other data.

    Raises `ValueError` for a budget that is too small, and for data that is empty. The active rank is afterwards what
    it was.
    """
    import pandas as pd

    sizes = {name: layer.in_features + layer.out_features for name, layer in adapters.layers.items()}
    limits = {name: layer.r for name, layer in adapters.layers.items()}
    check_data(data, "the data is empty: there is nothing to choose on")
    shift = Shift(adapters.model)

    def parameters_of(ranks: Mapping[str, int]) -> int:
        return sum(sizes[name] * rank for name, rank in ranks.items())

    def losses_at(ranks: dict[str, int]) -> _Losses:
        with adapters.at(ranks):
            return _losses_of_parts(model, data, batch_size, collate, shift)

    uniform = [{name: min(b, limits[name]) for name in sizes} for b in range(1, adapters.r + 1)]
    affordable = [ranks for ranks in uniform if parameters_of(ranks) <= budget]
    if not affordable:
        raise ValueError(f"a budget of {budget} parameters is too small: rank 1 in every layer takes "
                         f"{parameters_of(uniform[0])}")  # fmt: skip
    ranks = affordable[-1]
    losses = losses_at(ranks)
    path: list[tuple[int, str, str, float]] = [(parameters_of(ranks), "", "", losses.mean)]
    searching = True
    while searching:
        searching = False
        steps = [(*step, _stepped(ranks, *step)) for step in _promising(ranks, limits, losses_at)]
        for up, down, new_ranks in [step for step in steps if parameters_of(step[2]) <= budget][: len(ranks)]:
            new_losses = losses_at(new_ranks)
            if _lower(losses, new_losses, standard_errors):
                ranks, losses, searching = new_ranks, new_losses, True
                path.append((parameters_of(ranks), up, down, losses.mean))
                break
    frame = pd.DataFrame(path, columns=["parameters", "raised", "lowered", "loss"])
    return Cut(ranks, parameters_of(ranks), losses.mean, frame)


def _stepped(ranks: dict[str, int], up: str, down: str) -> dict[str, int]:
    """The ranks with one layer's raised by one, and one's lowered; an empty name for none."""
    return ranks | ({up: ranks[up] + 1} if up else {}) | ({down: ranks[down] - 1} if down else {})


def _promising(
    ranks: dict[str, int], limits: Mapping[str, int], losses_at: Callable[[dict[str, int]], "_Losses"]
) -> list[tuple[str, str]]:
    """The steps, as (layer to raise, layer to lower), that with the lowest expected loss first.

    The loss of a step in two layers is expected to change by the sum of what the two changes do alone.
    """
    ups = {name: losses_at(_stepped(ranks, name, "")).mean for name in ranks if ranks[name] < limits[name]}
    downs = {name: losses_at(_stepped(ranks, "", name)).mean for name in ranks if ranks[name] > 1}
    now = losses_at(ranks).mean
    expected = {(up, ""): loss for up, loss in ups.items()} | {("", down): loss for down, loss in downs.items()}
    expected |= {(up, down): ups[up] + downs[down] - now for up in ups for down in downs if up != down}
    return sorted(expected, key=lambda step: (not np.isfinite(expected[step]), expected[step]))


def _lower(before: "_Losses", after: "_Losses", standard_errors: float) -> bool:
    """Whether the mean of losses on the same parts of the data has fallen by more than so many standard errors."""
    gains = before.of_parts - after.of_parts
    if not np.isfinite(gains).all():
        return bool(np.isfinite(after.of_parts).all())  # a loss that is a number is better than one that is not
    error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return bool(before.mean - after.mean > max(standard_errors * error, 1e-9))


@dataclass(frozen=True)
class _Losses:
    """The losses on parts of the data.

    Attributes:
        of_parts: the mean loss that the model reports on each part, shape (parts,).
        counted: over how many labels each is the mean, shape (parts,).
    """

    of_parts: np.ndarray
    counted: np.ndarray

    @property
    def mean(self) -> float:
        """The mean over all labels that count."""
        return float((self.of_parts * self.counted).sum() / self.counted.sum())


def _losses_of_parts(model: nn.Module, data: Any, batch_size: int, collate: Collate | None, shift: Shift) -> _Losses:
    """The losses on the parts of the data that have labels that count; `ValueError` if none has."""
    from torch.utils.data import DataLoader, Subset

    device, parts, counting = input_device(model), [], Counting(model)
    otherwise = "give the model a loss of its own"
    with evaluating(model):
        for part in (range(first, len(data), PARTS) for first in range(min(PARTS, len(data)))):
            loader: DataLoader[Any] = DataLoader(
                Subset(data, part), batch_size, collate_fn=collate or stacked, generator=torch.Generator()
            )
            loss = RunningLoss()
            for examples in loader:
                batch = on_device(examples, device)
                output = call(model, batch, otherwise)
                labels = labels_of(batch)
                own = own_loss(output, batch, otherwise)
                if labels is not None:
                    _, labels = shift.applied(getattr(output, "logits", None), labels, own)
                loss.add_loss(*counting.mean(own, batch, labels))
            parts.append((loss.total, loss.counted))
    totals, counted = np.array([part for part in parts if part[1]]).reshape(-1, 2).T
    if not len(counted):
        raise ValueError("no label of the data counts: all are −100")
    return _Losses(totals / counted, counted)
