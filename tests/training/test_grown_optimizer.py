"""`NestedAdamW` after `adapters.grow`: old rows move as if nothing had grown, new ones start from zero."""

import copy
from typing import Any

import pytest
import torch
from models import batch, loss_of, make, parameters, rows_of
from toys import assert_same

import dylora_kit as dk

R, LARGER = 4, 7
RANKS = [3, 1, 4, 2, 4, 1]


def steps(adapters: dk.Adapters, optimizer: torch.optim.Optimizer, ranks: list[int]) -> None:
    for index, b in enumerate(ranks):
        adapters.rank = b
        optimizer.zero_grad()
        loss_of(adapters.model, batch(seed=index + b)).backward()
        optimizer.step()


@pytest.mark.parametrize("update", ["exact", "authors"])
@pytest.mark.parametrize("pattern", [{}, {"second": 3}], ids=["one r", "rank_pattern"])
def test_old_rows_and_the_head_move_as_without_growing(update: str, pattern: dict[str, int]) -> None:
    ends = []
    for grows in (False, True):
        _, adapters = make(r=R, head=True, rank_pattern=pattern)
        optimizer = dk.NestedAdamW(adapters, lr=0.01, weight_decay=0.1, update=update)
        steps(adapters, optimizer, RANKS[:3])
        if grows:
            adapters.grow(LARGER)
        steps(adapters, optimizer, RANKS[3:])
        old = [rows_of(p, dim)[: min(R, p.shape[dim])].clone() for p, dim in parameters(adapters)]
        ends.append([*old, *(p.detach().clone() for p in adapters.model.classifier.parameters())])
    assert_same(*ends)


def test_new_rows_have_their_own_step_counts_and_are_trained() -> None:
    _, adapters = make(r=R)
    optimizer = dk.NestedAdamW(adapters, lr=0.01)
    steps(adapters, optimizer, [4, 2])
    adapters.grow(LARGER)
    layer = adapters.layers["third"]
    assert optimizer.state_dict()["state"][0]["step"].tolist() == [2, 2, 1, 1, 0, 0, 0]
    steps(adapters, optimizer, [6])
    assert optimizer.state[layer.lora_B]["step"].tolist() == [3, 3, 2, 2, 1, 1, 0]
    assert layer.lora_B.ne(0).any(0).tolist() == [True] * 6 + [False]


def test_a_state_saved_right_after_growing_is_read_by_a_new_optimizer() -> None:
    _, adapters = make(r=R)
    optimizer = dk.NestedAdamW(adapters, lr=0.01)
    steps(adapters, optimizer, RANKS[:3])
    adapters.grow(LARGER)
    state = copy.deepcopy(optimizer.state_dict())
    weights = copy.deepcopy(adapters.model.state_dict())
    steps(adapters, optimizer, [5, 2])
    wanted = copy.deepcopy(adapters.model.state_dict())
    adapters.model.load_state_dict(weights)
    again = dk.NestedAdamW(adapters, lr=0.5)
    again.load_state_dict(state)
    steps(adapters, again, [5, 2])
    assert_same(dict(adapters.model.state_dict()), dict(wanted))


def test_factors_for_each_row_are_asked_for_anew() -> None:
    _, adapters = make(r=R)
    optimizer = dk.NestedAdamW(adapters, row_lr=[1.0, 1.0, 2.0, 2.0])
    steps(adapters, optimizer, [4])
    adapters.grow(LARGER)
    with pytest.raises(ValueError, match="row_lr must be 7 finite factors"):
        steps(adapters, optimizer, [4])
    optimizer.param_groups[0]["row_lr"] = [1.0] * LARGER
    steps(adapters, optimizer, [LARGER])


def test_an_optimizer_of_torch_that_has_made_a_step_raises_and_one_that_has_not_goes_on() -> None:
    _, adapters = make(r=R)
    used, unused = (torch.optim.AdamW(adapters.nested_parameters(), lr=0.01) for _ in range(2))
    steps(adapters, used, [4])
    adapters.grow(LARGER)
    with pytest.raises(RuntimeError, match="size"):
        steps(adapters, used, [4])
    steps(adapters, unused, [LARGER])


def test_train_goes_on_with_the_optimizer_at_the_new_ranks() -> None:
    model, adapters = make(r=R)
    data: Any = [{"x": row} for row in batch(n=16)]
    optimizer = dk.NestedAdamW(adapters, lr=0.01)
    options: Any = {"steps": 30, "batch_size": 4, "optimizer": optimizer, "progress": False}
    options["loss"] = lambda model, batch: loss_of(model, batch["x"])
    dk.train(model, adapters, data, sampler=dk.RankSampler(dk.Fixed(R), seed=0), **options)
    adapters.grow(LARGER)
    history = dk.train(model, adapters, data, sampler=dk.RankSampler(dk.Fixed(LARGER), seed=0), **options)
    assert history["rank"].tolist() == [LARGER] * 30
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
