"""Blocks without adapters: nested, in several threads, and what is refused in them."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from models import Net, batch, make
from peft import LoraConfig, get_peft_model
from toys import Toy, examples

import dylora_kit as dk


def overlapping(adapters: dk.Adapters, between: Callable[[], Any]) -> None:
    """Two blocks in two threads: the first ends while the second runs, in which `between` is called."""
    inside, left = threading.Event(), threading.Event()

    def second() -> None:
        with adapters.disabled():
            inside.set()
            left.wait(10)
            between()

    thread = threading.Thread(target=second)
    with adapters.disabled():
        thread.start()
        inside.wait(10)
    left.set()
    thread.join()


def test_of_overlapping_blocks_the_last_one_switches_on() -> None:
    model, adapters = make()
    trained, seen = model.eval()(batch()), []
    overlapping(adapters, lambda: seen.append(model(batch())))
    torch.manual_seed(0)
    assert torch.equal(seen[0], Net().eval()(batch()))
    assert torch.equal(model(batch()), trained)


def nested() -> tuple[Any, Any]:
    model = get_peft_model(Toy(dropout=0), LoraConfig(r=4, target_modules=["up"], modules_to_save=["classifier"]))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    return model.eval(), dk.nest_peft(model)


def test_a_head_that_peft_trains_is_off_until_the_last_block_ends() -> None:
    model, adapters = nested()
    x = torch.randn(3, 6)
    trained, seen = model(x).logits, []
    with adapters.disabled():
        base = model(x).logits
    overlapping(adapters, lambda: seen.append(model(x).logits))
    assert torch.equal(seen[0], base)
    assert torch.equal(model(x).logits, trained)
    assert not torch.equal(base, trained)


def test_a_nested_model_of_peft_is_copied_outside_of_a_block() -> None:
    model, adapters = nested()
    with adapters.disabled(), pytest.raises(ValueError, match=r"leave it before copying this model"):
        copy.deepcopy(model)
    x = torch.randn(3, 6)
    assert torch.equal(copy.deepcopy(model)(x).logits, model(x).logits)


USES: dict[str, Callable[[Any, dk.Adapters, Any], Any]] = {
    "train": lambda model, adapters, data: dk.train(
        model,
        adapters,
        data,
        steps=1,
        optimizer=dk.NestedAdamW(adapters, lr=0.1),
        sampler=dk.RankSampler(dk.Uniform(1, 4), seed=0),
    ),
    "sweep": dk.sweep,
    "predict": lambda model, adapters, data: dk.predict(model, adapters, data, ranks=[1]),
    "merge": lambda model, adapters, data: adapters.merge(1),
    "merge_and_unload": lambda model, adapters, data: adapters.merge_and_unload(1),
}


@pytest.mark.parametrize("use", USES)
def test_what_needs_the_adapters_is_refused_where_they_are_off(use: str) -> None:
    model = Toy()
    adapters = dk.attach(model, r=4, target_modules=["up", "down"])
    data = examples(6)
    before = [parameter.clone() for parameter in model.parameters()]
    with adapters.disabled(), pytest.raises(ValueError, match=r"switched off in a disabled\(\) block: leave it before"):
        USES[use](model, adapters, data)
    assert all(map(torch.equal, before, model.parameters()))
    assert (adapters.rank, adapters.merged) == (4, False)
    USES[use](model, adapters, data)


def test_a_rank_set_where_the_adapters_are_off_stays() -> None:
    model, adapters = make()
    with adapters.disabled():
        adapters.rank = 2
    assert adapters.rank == 2
    assert not torch.equal(model(batch()), make(nonzero=False)[0](batch()))


def test_without_adapters_a_batch_of_any_size_runs() -> None:
    model, adapters = make()
    adapters.rank = torch.tensor([1, 2, 3])
    with adapters.disabled():
        assert model(batch(5)).shape == (5, 5)
    with pytest.raises(ValueError, match="the rank tensor names 3 examples, but the batch holds 5"):
        model(batch(5))
