"""How a live model is known to be the same as before: by its weights and buffers."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from dylora_kit.core.rank_handle import RankHandle

SAMPLED = 65_536  # numbers of each frozen weight that are looked at to notice a change …
IN_ALL = 2**20  # … and of all together: 130 million frozen weights are looked at in a twentieth of a second


def fingerprint(handle: RankHandle) -> str:
    """Changes when the model's weights or buffers do, and when its adapters are disabled.

    Trained ones count by their content. Frozen ones count by torch's record of changes, and, since a change through
    `.data` leaves no record, by the bits of some of their numbers and their order: at most `SAMPLED` of each, `IN_ALL`
    in the whole model. Buffers that are not saved count by those bits alone. Hooks, and settings of modules that are no
    tensors, are not looked at.
    """
    state = f"{handle.settings()} {handle._active.disabled} {trained_digest(handle)}"
    digest = hashlib.blake2b(state.encode(), digest_size=16)
    known = dict(trained_tensors(handle))
    others: list[tuple[str, Tensor, str]] = [
        (name, p, f"{p.data_ptr()} {p._version}") for name, p in handle.model.named_parameters()
    ]
    others += [(name, buffer, "") for name, buffer in handle.model.named_buffers()]
    others = [other for other in others if other[0] not in known]
    most = min(SAMPLED, max(IN_ALL // max(len(others), 1), 1))
    weighed = [_weighed_bits(tensor.detach(), most).cpu() for _, tensor, _ in others]
    sums = torch.stack(weighed).tolist() if weighed else ()
    for (name, _, changes), total in zip(others, sums, strict=True):
        digest.update(f"{name} {changes} {total}".encode())
    return digest.hexdigest()


def _weighed_bits(tensor: Tensor, most: int) -> Tensor:
    """The sum of a tensor's numbers, evenly chosen ones if there are more than `most`, as whole numbers bit by bit.

    Each is weighed by its place, so that the sum changes with the order; by an odd number, so that a change of one
    number is never lost when the sum overflows.
    """
    bits = tensor.reshape(-1)[:: max(tensor.numel() // most, 1)]
    kind = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(bits.element_size())
    whole = bits.contiguous().view(kind) if kind and bits.is_floating_point() else bits
    places = torch.arange(1, 2 * len(bits), 2, device=bits.device)
    return (whole.to(torch.int64) * places).sum()


def trained_digest(handle: RankHandle) -> str:
    """Changes when one of `trained_tensors` does, by their content alone."""
    digest = hashlib.blake2b(digest_size=16)
    for _, tensor in trained_tensors(handle):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def trained_tensors(handle: RankHandle) -> Iterator[tuple[str, Tensor]]:
    """What training changes: trained parameters, and buffers that are saved with a model, such as running means."""
    yield from ((name, parameter) for name, parameter in handle.model.named_parameters() if parameter.requires_grad)
    buffers = dict(handle.model.named_buffers())
    if buffers:
        saved = handle.model.state_dict().keys()
        yield from ((name, buffer) for name, buffer in buffers.items() if name in saved)
