"""Two processes that train together draw the same ranks, and end where one with the doubled batch ends."""

import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from toys import Toy, adapted, toy

import dylora_kit as dk

STEPS, BATCH, R = 20, 4, 4


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2 * BATCH, 6, generator=generator), torch.randint(3, (2 * BATCH,), generator=generator)


def trained(model: torch.nn.Module, adapters: dk.Adapters, part: slice) -> list[int]:
    """Twenty steps of Algorithm 1 on a part of each batch; the ranks that were drawn."""
    optimizer = dk.NestedAdamW(adapters, lr=0.01, weight_decay=0.1)
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=10)
    ranks = []
    for step in range(STEPS):
        adapters.rank = b = sampler.draw()
        x, labels = batch(step)
        model(x[part], labels[part]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ranks.append(b)
    return ranks


def fresh() -> tuple[Toy, dk.Adapters]:
    model = toy(dropout=0.0)
    return model, adapted(model)


def process(number: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=number, world_size=2)
    model, adapters = fresh()
    wrapped = DistributedDataParallel(model)
    ranks = trained(wrapped, adapters, slice(number * BATCH, (number + 1) * BATCH))
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    torch.save({"weights": weights, "ranks": ranks}, Path(folder) / f"{number}.pt")
    dist.destroy_process_group()


def test_two_processes_end_alike_and_as_one_with_the_doubled_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(process, args=(port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{number}.pt") for number in range(2))
    model, adapters = fresh()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    ranks = trained(model, adapters, slice(None))
    assert first["ranks"] == second["ranks"] == ranks
    assert len(set(ranks)) > 2
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert torch.equal(first["weights"][name], second["weights"][name]), name
            torch.testing.assert_close(first["weights"][name], p.detach(), rtol=1e-4, atol=1e-5)
            assert not torch.equal(p, before[name]), name


def process_of_its_own_rank(number: int, port: int, folder: str) -> None:
    """Each process trains at a rank of its own in each step, as with one rank for each example."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=number, world_size=2)
    model, adapters = fresh()
    wrapped = DistributedDataParallel(model)
    optimizer = dk.NestedAdamW(adapters, lr=0.01, weight_decay=0.1)
    sampler = dk.RankSampler(dk.Uniform(1, R), seed=number)
    for step in range(STEPS):
        adapters.rank = sampler.draw_many(BATCH)
        x, labels = batch(step)
        part = slice(number * BATCH, (number + 1) * BATCH)
        wrapped(x[part], labels[part]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    torch.save(weights, Path(folder) / f"own-{number}.pt")
    dist.destroy_process_group()


def test_processes_with_ranks_of_their_own_stay_equal(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(process_of_its_own_rank, args=(port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"own-{number}.pt", weights_only=True) for number in (0, 1))
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
