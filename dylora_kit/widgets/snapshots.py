"""What a model was at moments of its training, and the way back to each."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.widgets.fingerprint import trained_digest, trained_tensors


@dataclass
class Moment:
    """What a model was after some steps of training."""

    step: int
    digest: str  # of the tensors
    tensors: dict[str, Tensor]
    values: dict[int, float] = field(default_factory=dict)  # the metric by rank, once it was measured


class Moments:
    """What a model was at moments of its training, the latest last; the first is the model as it is given.

    Attributes:
        all: the moments in the order in which they were kept.
    """

    def __init__(self, handle: RankHandle) -> None:
        self._handle = handle
        self.all: list[Moment] = []
        self.keep(0)

    def __len__(self) -> int:
        return len(self.all)

    def keep_unknown(self) -> bool:
        """Keeps the model as it is now unless a moment holds the same; returns whether it was kept.

        It is unknown where it was trained or changed outside the explorer. It counts as made at the latest step.
        """
        digest = trained_digest(self._handle)
        unknown = all(digest != moment.digest for moment in self.all)
        if unknown:
            self.keep(self.all[-1].step)
        return unknown

    def keep(self, step: int) -> None:
        """Keeps the model as it is now, as the latest moment."""
        tensors = {name: tensor.detach().clone() for name, tensor in trained_tensors(self._handle)}
        self.all.append(Moment(step, trained_digest(self._handle), tensors))

    @torch.no_grad()
    def restore(self, index: int) -> None:
        """Puts the model back to a moment, bit for bit. What it is now is kept first.

        Raises `ValueError`, and changes nothing, while merged, and if other parameters are trained now than then.
        """
        now = self.check(index)
        self.keep_unknown()
        for name, tensor in now.items():
            tensor.copy_(self.all[index].tensors[name])

    @torch.no_grad()
    def start_again(self) -> None:
        """Puts the model back to the first moment, bit for bit, and forgets what it has been since.

        Raises `ValueError` where `restore` does, and forgets nothing then.
        """
        for name, tensor in self.check(0).items():
            tensor.copy_(self.all[0].tensors[name])
        del self.all[1:]

    def check(self, index: int) -> dict[str, Tensor]:
        """The tensors that a moment is put back into; `ValueError` where it does not fit them."""
        self._handle.check_unmerged("going back")
        now, then = dict(trained_tensors(self._handle)), self.all[index].tensors
        if now.keys() != then.keys():
            odd = sorted(now.keys() ^ then.keys())[0]
            raise ValueError(f"cannot go back: {odd!r} was trained then and is not now, or the other way round")
        return now


class Start:
    """What a model was when its explorer was made: its weights, and the scaling of its adapters."""

    def __init__(self, handle: RankHandle) -> None:
        self._handle, self._moments = handle, Moments(handle)
        self._scaling = getattr(handle, "scaling", None)

    def check(self) -> None:
        """Raises `ValueError` where `Moments.restore` would."""
        self._moments.check(0)

    def put_back(self) -> None:
        """Makes the model what it was, bit for bit."""
        self._moments.start_again()
        if self._scaling != getattr(self._handle, "scaling", None):
            setattr(self._handle, "scaling", self._scaling)  # noqa: B010 (an autoencoder's code has none)
