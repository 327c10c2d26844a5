"""Autoencoders with nested dropout (Rippel, Gelbart and Adams 2014; section 3.1 of the DyLoRA paper).

Of the K units of the code the first b are kept. The rank, the sampler, the objectives and the training loop are those
of DyLoRA: `train(model, model.code, …)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.core.rank import ActiveRank, check_rank
from dylora_kit.core.rank_handle import RankHandle


@dataclass
class Reconstruction:
    """What an autoencoder returns.

    Attributes:
        logits: the reconstructed examples, shape (n, d).
        loss: their mean squared error, if the examples were given as labels.
    """

    logits: Tensor
    loss: Tensor | None


class Autoencoder(nn.Module):
    """Encodes (n, d) to K units, keeps the first b = `code.rank`, and decodes them to (n, d).

    Without `hidden`, encoder and decoder are linear and have no bias: give it centred data.

    Arguments:
        d: numbers per example.
        k: units of the code (K).
        hidden: width of one hidden layer on either side.
        dropout: ordinary dropout on the units, in training.
        seed: start of the weights, drawn from a generator of its own.

    >>> model = Autoencoder(d=64, k=8)
    >>> model.code.rank = 3
    >>> model(torch.randn(5, 64)).logits.shape
    torch.Size([5, 64])
    >>> model.code.units(torch.randn(5, 64)).shape
    torch.Size([5, 3])
    """

    def __init__(self, d: int, k: int, hidden: int | None = None, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if d < 1 or k < 1 or (hidden is not None and hidden < 1):
            raise ValueError(f"sizes must be at least 1: got d = {d}, k = {k}, hidden = {hidden}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1: got {dropout!r}")
        inner = d if hidden is None else hidden
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            self.before: nn.Module = nn.Identity() if hidden is None else nn.Sequential(nn.Linear(d, inner), nn.GELU())
            self.encoder = nn.Parameter(torch.randn(k, inner) * inner**-0.5)  # row i makes unit i
            self.decoder = nn.Parameter(torch.randn(inner, k) * inner**-0.5)  # column i draws unit i
            self.after: nn.Module = nn.Identity() if hidden is None else nn.Sequential(nn.GELU(), nn.Linear(inner, d))
        self.dropout = dropout
        self.code = Code(self, k)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Reconstruction:
        """Reconstructs examples of shape (n, d) from the first b units; `labels` are the examples themselves."""
        units = F.dropout(self.code.units(pixel_values), self.dropout, self.training)
        decoder = _fixed_until(self.code.fixed, self.decoder.T)[: units.shape[1]].T
        logits = self.after(F.linear(units, decoder))  # (n, b) · (b, inner) → (n, inner)
        return Reconstruction(logits, None if labels is None else F.mse_loss(logits, labels))


class Code(RankHandle):
    """The handle on an autoencoder's code: how many of its units are kept.

    Attributes:
        fixed: how many of the first units are not trained any more, as in unit sweeping (Rippel et al. 2014).
    """

    unit = "code length"
    kind = "code"

    def __init__(self, model: Autoencoder, k: int) -> None:
        self.model: Autoencoder = model
        self._active = ActiveRank({"code": k})
        self._fixed = 0

    @property
    def fixed(self) -> int:
        """How many of the first units are not trained any more. Make a new optimizer, without weight decay, after
        a change: the momentum and the decay of an old one would still move them.
        """
        return self._fixed

    @fixed.setter
    def fixed(self, units: int) -> None:
        if isinstance(units, bool) or not isinstance(units, int) or not 0 <= units < self.r:
            raise ValueError(f"the number of fixed units must be a whole number from 0 to {self.r - 1}: got {units!r}")
        self._fixed = units

    def units(self, pixel_values: Tensor) -> Tensor:
        """The first b units of examples (n, d), shape (n, b). In a mixed batch, each example's own b; zero beyond."""
        encoder = _fixed_until(self.fixed, self.model.encoder)[: self._active.b]
        units = F.linear(self.model.before(pixel_values), encoder)  # (n, inner) · (inner, b) → (n, b)
        ranks = self._active.per_example
        if ranks is None:
            return units
        self._active.check_batch(units)
        beyond = torch.arange(1, self._active.b + 1) > ranks[:, None]  # (n, b)
        return units.masked_fill(beyond.to(units.device), 0.0)

    def num_parameters(self, rank: int | None = None) -> int:
        """The weights into and out of the units that are kept: 2·b·(width of the layer beside the code)."""
        b = self._active.b if rank is None else check_rank(rank, self.r)
        return 2 * b * self.model.encoder.shape[1]

    def nested_parameters(self) -> list[nn.Parameter]:
        """The weights into and out of the code."""
        return [self.model.encoder, self.model.decoder]

    def settings(self) -> dict[str, Any]:
        """What a training run depends on."""
        return {"code": list(self.model.encoder.shape), "dropout": self.model.dropout, "fixed": self.fixed}


def pca(data: Any, k: int) -> Autoencoder:
    """The linear autoencoder that scikit-learn's PCA gives for centred data: none has a smaller error on it.

    >>> from dylora_kit.tasks import digits
    >>> pca(digits.load_pixels("upright").train, k=3).decoder.shape
    torch.Size([64, 3])
    """
    from sklearn.decomposition import PCA

    examples = torch.stack([data[index]["pixel_values"] for index in range(len(data))])  # (n, d)
    components = PCA(k, svd_solver="full").fit(examples.numpy()).components_
    weights = torch.from_numpy(components).to(examples.dtype)  # (k, d)
    model = Autoencoder(examples.shape[1], k)
    with torch.no_grad():
        model.encoder.copy_(weights)
        model.decoder.copy_(weights.T)
    return model


def angles(first: Autoencoder, second: Autoencoder) -> Sequence[float]:
    """The angles in degrees, 0 to 90, between unit i of one linear autoencoder and unit i of another, for i = 1 … K.

    They are those between columns i of the two decoders. Raises `ValueError` if these differ in shape.

    >>> model = Autoencoder(d=6, k=2)
    >>> [round(angle) for angle in angles(model, model)]
    [0, 0]
    """
    if first.decoder.shape != second.decoder.shape:
        raise ValueError(
            f"expected decoders of one shape: got {tuple(first.decoder.shape)} and {tuple(second.decoder.shape)}"
        )
    directions = [F.normalize(model.decoder.detach().cpu().double(), dim=0) for model in (first, second)]  # (d, k)
    cosines = (directions[0] * directions[1]).sum(0).abs().clamp(max=1)
    return torch.rad2deg(torch.arccos(cosines)).tolist()


def _fixed_until(count: int, rows: Tensor) -> Tensor:
    """The same rows, of which the first `count` get no gradient."""
    return torch.cat([rows[:count].detach(), rows[count:]]) if count else rows
