"""Sharded weights are refused by their kind."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

import dylora_kit as dk
from dylora_kit.core.base_weights import check_unsharded

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def mesh() -> Iterator[Any]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def adapted() -> tuple[nn.Sequential, dk.Adapters]:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 4))
    return model, dk.attach(model, r=2, target_modules=["1"])


def refused(adapters: dk.Adapters, kind: str) -> None:
    with pytest.raises(ValueError, match=f"cannot merge '1': its weight .*{kind}"):
        adapters.merge(1)
    with pytest.raises(ValueError, match=f"cannot train .* row by row: it .*{kind}"):
        check_unsharded(adapters.model.named_parameters())


def test_a_base_weight_that_is_a_dtensor(mesh: Any) -> None:
    model, adapters = adapted()
    layer: Any = model[1].base_layer
    layer.weight = nn.Parameter(distribute_tensor(layer.weight.data, mesh, [Shard(0)]), requires_grad=False)
    refused(adapters, "DTensor")


def test_a_model_under_fully_shard(mesh: Any) -> None:
    model, adapters = adapted()
    fully_shard(model, mesh=mesh)
    refused(adapters, "DTensor")
    assert all(type(tensor).__name__ == "DTensor" for tensor in model.state_dict().values())  # accelerate relies on it


def test_a_model_under_fsdp(mesh: Any) -> None:
    model, adapters = adapted()
    FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
    refused(adapters, "FSDP")


def test_whole_parameters_are_trained() -> None:
    check_unsharded(adapted()[0].named_parameters())
