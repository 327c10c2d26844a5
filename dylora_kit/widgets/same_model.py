"""Views of one model: when one of them turns it, the others show it too."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakKeyDictionary

from dylora_kit.core.rank_handle import RankHandle


class View(Protocol):
    """What follows a model that another view turns."""

    def catch_up(self, rank: int) -> None:
        """Shows the model, which is at a rank."""


_open: "WeakKeyDictionary[View, Sequence[RankHandle]]" = WeakKeyDictionary()
_turning: list[View] = []  # the view that turns its models now, if there is one


def join(view: View, handles: Sequence[RankHandle]) -> None:
    """Has a view follow the models that it shows."""
    _open[view] = handles


def leave(view: View) -> None:
    """Has a view follow nothing any more."""
    _open.pop(view, None)


@contextmanager
def turning(view: View, rank: int, tell: bool = True) -> Iterator[None]:
    """A block in which a view puts its models at a rank. Then, if `tell`, all others of those models follow.

    What they do in turn tells nobody. After an error nobody is told.
    """
    if _turning:
        yield
        return
    _turning.append(view)
    try:
        yield
        if tell:
            for other in _beside(view):
                other.catch_up(rank)
    finally:
        _turning.clear()


def _beside(view: View) -> list[View]:
    """The open views that show a model of this one, or a model of such a view, and so on."""
    models, found = _models(_open.get(view, ())), [view]
    while new := [other for other, handles in list(_open.items()) if other not in found and models & _models(handles)]:
        found += new
        models |= {model for other in new for model in _models(_open[other])}
    return found[1:]


def _models(handles: Iterable[RankHandle]) -> set[int]:
    return {id(handle.model) for handle in handles}
