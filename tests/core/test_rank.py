import statistics
import time

import numpy as np
import pytest
import torch
from models import Net, R, make
from torch import nn

import dylora_kit as dk
from dylora_kit.core.rank import check_rank

LIMITS = {"query": 8, "value": 8, "small": 4}

REFUSED = {
    "zero": 0,
    "negative": -1,
    "above r": 9,
    "fraction": 2.5,
    "whole float": 2.0,
    "true": True,
    "false": False,
    "numpy bool": np.True_,
    "none": None,
    "string": "3",
    "list": [1, 2],
    "unknown layer": {"query": 1, "value": 1, "small": 1, "key": 1},
    "missing layer": {"query": 1, "value": 1},
    "empty mapping": {},
    "mapping out of range": {"query": 1, "value": 1, "small": 5},
    "mapping below range": {"query": 0, "value": 1, "small": 4},
    "mapping with a fraction": {"query": 1, "value": 1.5, "small": 4},
    "empty tensor": torch.tensor([], dtype=torch.long),
    "float tensor": torch.tensor([1.0, 2.0]),
    "bool tensor": torch.tensor([True, False]),
    "complex tensor": torch.tensor([1 + 0j, 2]),
    "2-D tensor": torch.ones(2, 2, dtype=torch.long),
    "tensor with 0": torch.tensor([1, 0, 3]),
    "tensor above r": torch.tensor([1, 9]),
    "float scalar tensor": torch.tensor(3.0),
    "bool scalar tensor": torch.tensor(True),
    "scalar tensor above r": torch.tensor(9),
}
BEFORE = {
    "int": 3,
    "mapping": {"query": 2, "value": 5, "small": 4},
    "tensor": torch.tensor([4, 1, 7]),
}


def state(rank):
    value = rank.value
    value = value.tolist() if isinstance(value, torch.Tensor) else value
    return value, {name: rank.of(name) for name in LIMITS}, rank.frozen, rank.merged


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_a_refused_rank_raises_value_error_and_leaves_the_state_unchanged(value, before):
    rank = dk.ActiveRank(LIMITS)
    rank.value = before
    expected = state(rank)
    with pytest.raises(ValueError):
        rank.value = value
    assert state(rank) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "rank 0 is out of range: expected 1 to 8"),
        (9, "rank 9 is out of range: expected 1 to 8"),
        (2.5, "from 1 to 8"),
        ("3", "from 1 to 8"),
        ({"query": 1, "value": 1, "small": 5}, "rank 5 of layer 'small' is out of range: expected 1 to 4"),
        ({"query": 1, "value": 1, "key": 1}, "'key'.*query, value, small"),
        ({"query": 1, "value": 1}, "'small'"),
        (torch.tensor([0, 3]), "rank 0 is out of range: expected 1 to 8"),
        (torch.tensor([9, 3]), "rank 9 is out of range: expected 1 to 8"),
        (torch.tensor([1.0]), r"integers of shape \(batch,\), from 1 to 8: got float32"),
        (torch.ones(2, 2, dtype=torch.long), r"from 1 to 8: got int64 of shape \(2, 2\)"),
    ],
)
def test_messages_name_the_allowed_range(value, message):
    with pytest.raises(ValueError, match=message):
        dk.ActiveRank(LIMITS).value = value


@pytest.mark.parametrize("make_int", [int, np.int64, np.int32, np.uint8, torch.tensor], ids=lambda f: f.__name__)
@pytest.mark.parametrize("b", [1, 5, 8])
def test_whole_numbers_of_every_kind_are_accepted_as_python_ints(make_int, b):
    rank = dk.ActiveRank(LIMITS)
    rank.value = make_int(b)
    assert rank.value == b
    assert type(rank.value) is int
    assert rank.of("query") == b


def test_the_rank_starts_at_the_maximum():
    assert state(dk.ActiveRank(LIMITS))[:2] == (8, LIMITS)


def test_a_layer_with_a_smaller_maximum_runs_at_its_maximum():
    rank = dk.ActiveRank(LIMITS)
    rank.value = 6
    assert {name: rank.of(name) for name in LIMITS} == {"query": 6, "value": 6, "small": 4}


def test_a_mapping_sets_each_layer_and_an_int_takes_it_back():
    rank = dk.ActiveRank(LIMITS)
    rank.value = {"small": 1, "query": np.int64(2), "value": 7}
    assert {name: rank.of(name) for name in LIMITS} == {"query": 2, "value": 7, "small": 1}
    assert rank.value == {"query": 2, "value": 7, "small": 1}
    rank.value = 3
    assert {name: rank.of(name) for name in LIMITS} == {"query": 3, "value": 3, "small": 3}
    assert rank.value == 3


@pytest.mark.parametrize("dtype", [torch.long, torch.int32, torch.uint8])
def test_a_tensor_gives_one_rank_per_example_and_layers_read_its_largest(dtype):
    rank = dk.ActiveRank(LIMITS)
    rank.value = torch.tensor([2, 6, 1], dtype=dtype)
    assert rank.value.tolist() == [2, 6, 1]
    assert {name: rank.of(name) for name in LIMITS} == {"query": 6, "value": 6, "small": 4}


@pytest.mark.parametrize(
    "value", [torch.tensor([2, 6, 1]), {"query": 2, "value": 7, "small": 1}], ids=["tensor", "map"]
)
def test_changing_what_was_assigned_or_read_does_not_change_the_rank(value):
    rank = dk.ActiveRank(LIMITS)
    rank.value = value
    expected = state(rank)
    for outside in (value, rank.value):
        outside[0 if isinstance(outside, torch.Tensor) else "query"] = 8
    assert state(rank) == expected


def test_a_rank_cannot_be_set_while_merged():
    rank = dk.ActiveRank(LIMITS)
    rank.value = 3
    rank.merged = True
    with pytest.raises(ValueError, match="unmerge"):
        rank.value = 2
    assert rank.value == 3


def test_check_rank_names_where_the_number_came_from():
    assert check_rank(np.int64(4), 4) == 4
    with pytest.raises(ValueError, match="rank 5 of layer 'q' is out of range: expected 1 to 4"):
        check_rank(5, 4, " of layer 'q'")


def test_all_layers_of_a_model_read_one_object():
    _, adapters = make()
    assert len({id(layer.active) for layer in adapters.layers.values()}) == 1
    adapters.rank = 3
    assert {layer.rank for layer in adapters.layers.values()} == {3}


def test_a_layer_of_a_model_refuses_a_rank_of_its_own():
    _, adapters = make()
    layer = adapters.layers["first"]
    for change in ("rank", "frozen"):
        with pytest.raises(ValueError, match="'first' shares its model's rank"):
            setattr(layer, change, 2)
    assert adapters.rank == R
    assert adapters.frozen is False


def test_setting_the_rank_of_24_adapters_takes_microseconds():
    model = nn.Sequential(*[Net() for _ in range(8)])
    adapters = dk.attach(model, r=8, target_modules=["first", "second", "third"])
    assert len(adapters.layers) == 24
    times = []
    for i in range(2000):
        b = i % 8 + 1
        start = time.process_time()
        adapters.rank = b
        times.append(time.process_time() - start)
    median = statistics.median(times) * 1e6
    print(f"\nsetting the rank of 24 adapters: {median:.1f} µs")
    assert median <= 100
