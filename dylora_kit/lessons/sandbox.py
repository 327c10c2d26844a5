"""A tiny adapted model on which a student's training step runs, and hints from the record of what it did."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dylora_kit.core.adapters import attach
from dylora_kit.lessons.exercise import random
from dylora_kit.training.sampling import RankSampler, Uniform


class _WithHead(nn.Module):
    """Two linear layers, 6 → 5 → 4, and a head on them."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(3)
            self.up, self.down, self.head = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.down(torch.tanh(self.up(x))))


class _RecordingSampler(RankSampler):
    """A sampler that keeps a list of what it drew."""

    def __init__(self) -> None:
        super().__init__(Uniform(1, 4), seed=2)
        self.drawn: list[int] = []

    def draw(self) -> int:
        self.drawn.append(super().draw())
        return self.drawn[-1]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the sampler has no {name}(): ask it with draw()")


class _Sandbox:
    """A tiny adapted model, and a record of what training steps did with it."""

    def __init__(self) -> None:
        self.model = _WithHead()
        self.adapters = attach(self.model, r=4, lora_alpha=8, target_modules=["up", "down"], modules_to_save=["head"])
        with torch.no_grad():
            for seed, layer in enumerate(self.adapters.layers.values()):
                layer.lora_B.copy_(0.3 * random(*layer.lora_B.shape, seed=seed))
        self.sampler = _RecordingSampler()
        self.ran_at: list[float] = []  # the rank at each forward pass; 0 where layers differ
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(self.trained, lr=0.1)

    def loss(self, x: Tensor) -> Tensor:
        rank = self.adapters.rank
        self.ran_at.append(float(rank) if isinstance(rank, int) else 0.0)
        return F.mse_loss(self.model(x), x[:, :3])

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.trained]


def three_steps(step: Callable[..., Any], case: tuple[Any, ...]) -> list[Any] | None:
    """What three training steps do: the weights after them, the ranks drawn, and the ranks of the forward passes.

    Returns None where nothing happened.
    """
    sandbox = _Sandbox()
    for seed in range(3):
        step(sandbox.adapters, sandbox.sampler, sandbox.optimizer, sandbox.loss, random(8, 6, seed=seed))
    touched = sandbox.sampler.drawn or sandbox.ran_at or sandbox.adapters.rank != 4
    return [sandbox.weights(), list(map(float, sandbox.sampler.drawn)), sandbox.ran_at] if touched else None


def what_went_wrong(outcomes: list[Any]) -> str | None:
    """A hint for the first thing that is wrong in what `three_steps` returned, given as the only outcome."""
    (weights, drawn, ran_at), start = outcomes[0], _Sandbox().weights()
    drawn, ran_at = [int(b) for b in drawn], [int(b) for b in ran_at]
    if not ran_at:
        return "the loss is never computed: call loss(x), then backward()"
    if not drawn:
        return "b does not come from the sampler: call sampler.draw() once in each step"
    if 0 in ran_at:
        return "each layer has a rank of its own: one b for the whole step, and every layer uses it"
    if len(drawn) > 3:
        return "you draw more than once: one b for each optimizer step, and every layer uses it"
    if len(ran_at) > 3:
        return "you compute the loss more than once in a step: call loss(x) once, and keep what it returns"
    if ran_at != drawn:
        return "the model does not run at the rank that was drawn: set adapters.rank = b before the forward pass"
    if all(torch.equal(now, before) for now, before in zip(weights, start, strict=True)):
        return "no weight moves: a step needs loss(x).backward(), then optimizer.step(), then optimizer.zero_grad()"
    return "the gradients are not those of this step: backward(), then optimizer.step(), then optimizer.zero_grad()"
