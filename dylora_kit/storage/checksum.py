"""A checksum of all values of a tensor, computed where the tensor is."""

import hashlib
from functools import cache

import numpy as np
import torch
from torch import Tensor

WORDS = 1024  # 64-bit words of a row, which are summed into one


@torch.no_grad()
def checksum(tensor: Tensor) -> str:
    """A checksum of the bits of a tensor and of their order, as 12 hexadecimal digits.

    It is the same on every device. Each row of `WORDS` 64-bit words is summed on the device, with fixed odd weights
    modulo 2⁶⁴, and once more the signs of its words, whose bit such a sum counts modulo 2 only. The sums, and what is
    left after the last whole row, are hashed by BLAKE2. So any change of one value is seen, and of several unless
    their weighted sums happen to be the same.

    Arguments:
        tensor: dense, of any type whose values can be read as bytes.

    >>> checksum(torch.tensor([1.0, 2.0])) == checksum(torch.tensor([2.0, 1.0]))
    False
    """
    flat = tensor.detach().reshape(-1).contiguous()
    if flat.storage_offset() * flat.itemsize % 8:
        flat = flat.clone()
    per_row = 8 * WORDS // flat.itemsize
    whole = len(flat) // per_row * per_row
    hashed = hashlib.blake2b(digest_size=6)
    if whole:
        weights = _weights(flat.device)
        few = 64 if flat.device.type == "cpu" else 4096  # rows at a time, so that they stay in the cache
        blocks = flat[:whole].view(torch.int64).view(-1, WORDS).split(few)
        sums = [_product(rows, weights) for rows in blocks]
        signs = [_product((rows < 0).view(torch.int64), weights[: WORDS // 8]) for rows in blocks]
        hashed.update(torch.cat(sums + signs).cpu().numpy().tobytes())
    hashed.update(flat[whole:].view(torch.uint8).cpu().numpy().tobytes())
    return hashed.hexdigest()


def _product(rows: Tensor, weights: Tensor) -> Tensor:
    """Integers (m, n) times weights (n): a matrix product on the CPU, elsewhere there is none for integers."""
    return rows.mv(weights) if rows.device.type == "cpu" else (rows * weights).sum(1)


@cache
def _weights(device: torch.device) -> Tensor:
    """Odd 64-bit weights, which are the same in every version of every library."""
    random = hashlib.shake_128(b"dylora_kit").digest(8 * WORDS)
    return (torch.from_numpy(np.frombuffer(random, dtype=np.int64).copy()) | 1).to(device)
