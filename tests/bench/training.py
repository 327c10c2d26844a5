"""A training step, at several shapes; the optimizer's step alone; what a step keeps for its backward."""

from collections.abc import Callable

import torch
from bench.models import DYLORA, LIMIT, PEFT, Shape, batch_of, bert, filled, nested, only_biases, stepper, with_peft
from bench.rounds import Cost, Method, take_turns
from torch import Tensor, nn

import dylora_kit as dk

RANKS = list(range(1, 9))


def step_methods(shape: Shape, r: int, dropout: float, compiled: bool = False) -> dict[str, Method]:
    """One training step at rank b of each method; the two others ignore b."""
    base, batch = bert(shape, dropout), batch_of(shape)
    ours, adapters = nested(base, r)
    theirs = with_peft(base, r).train()
    bare, biases = only_biases(base)
    trained = [p for p in theirs.parameters() if p.requires_grad]
    models: list[nn.Module] = [ours, theirs, bare]
    if compiled:
        models = [torch.compile(model) for model in models]  # type: ignore[misc]
    optimizers = [
        dk.NestedAdamW(adapters, lr=1e-3),
        torch.optim.AdamW(trained, lr=1e-3, foreach=True),
        torch.optim.AdamW(biases, lr=1e-3, foreach=True),
    ]
    our_step, their_step, bare_step = map(stepper, models, optimizers, [batch] * 3)

    def at_rank(b: int) -> None:
        adapters.rank = b
        our_step()

    return {DYLORA: at_rank, PEFT: lambda b: their_step(), LIMIT: lambda b: bare_step()}


def step(
    shape: Shape, rounds: int, *, r: int = 8, dropout: float = 0.0, compiled: bool = False
) -> dict[str, list[Cost]]:
    """Costs of a training step, b walking over eight ranks up to r in each round."""
    return take_turns(step_methods(shape, r, dropout, compiled), [b * r // 8 for b in RANKS], rounds)


def optimizer_step(rounds: int, layers: int = 24, width: int = 768) -> dict[str, list[Cost]]:
    """Costs of the exact update and of torch's AdamW on the same tensors and gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)])
    adapters = filled(dk.attach(model, r=8, target_modules=[str(index) for index in range(layers)]))
    exact = dk.NestedAdamW(adapters, lr=1e-3, weight_decay=0.01)
    own = exact.param_groups[0]["params"]
    copies = [p.detach().clone().requires_grad_() for p in own]
    plain = torch.optim.AdamW(copies, lr=1e-3, weight_decay=0.01, foreach=True)
    gradients: dict[int, list[Tensor]] = {}
    for b in RANKS:
        adapters.rank = b
        exact.zero_grad()
        x = torch.randn(4, width)  # for each layer, since gradients through all of them would be as small as 1e-20
        torch.stack([layer(x).square().mean() for layer in model]).sum().backward()
        gradients[b] = [p.grad for p in own]

    def at_rank(params: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> Method:
        def update(b: int) -> None:
            for p, gradient in zip(params, gradients[b], strict=True):
                p.grad = gradient
            optimizer.step()

        return update

    return take_turns({"exact": at_rank(own, exact), "AdamW": at_rank(copies, plain)}, RANKS, rounds)


def set_rank(layers: int = 24) -> float:
    """Seconds to set the rank of a model with so many adapters."""
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(layers)])
    adapters = dk.attach(model, r=8, target_modules=[str(index) for index in range(layers)])

    def assign(b: int) -> None:
        for _ in range(100):
            adapters.rank = b

    costs = take_turns({"set": assign}, RANKS, 20)["set"]
    return sorted(cost.wall for cost in costs)[len(costs) // 2] / 100


def kept_bytes(shape: Shape) -> dict[str, int]:
    """Bytes that a forward keeps for its backward, beside parameters, of each method; DyLoRA's at rank 8."""
    base, batch = bert(shape), batch_of(shape)
    return {
        DYLORA: _kept(nested(base, 8)[0], batch),
        PEFT: _kept(with_peft(base, 8).train(), batch),
        LIMIT: _kept(only_biases(base)[0], batch),
    }


def _kept(model: nn.Module, batch: dict[str, Tensor]) -> int:
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**batch)
    return sum(sizes.values())


def peak_bytes(method: str, shape: Shape) -> int:
    """By how much ten training steps of one method raise the most memory that this process ever had."""
    import resource

    call: Callable[[int], object] = step_methods(shape, 8, 0.0)[method]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for b in (*RANKS, 8, 8):
        call(b)
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
