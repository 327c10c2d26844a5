"""The live models of one explorer, and the way back to what they were when it was made."""

from collections.abc import Callable, Mapping
from typing import Any

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.widgets.explorer_checks import SHOWN, check_answers
from dylora_kit.widgets.live_model import LiveModel
from dylora_kit.widgets.own_forward import OwnForward, run_as_before, run_through
from dylora_kit.widgets.snapshots import Start


class ComparedModels:
    """A few live models, each evaluated once here, so that what does not fit is refused before any rank is set.

    Arguments:
        methods: the handles by name, first that of the model that the explorer was made for.
        data, metric, collate: as for `LiveModel`.
        forward: how the first model computes until `close`, if not as the kit does.
        one_answer: whether each model has to give one answer to each example.

    Attributes:
        live: the models by name.
        first: the first of them.

    Raises `ValueError` for what does not fit together, and changes nothing then.
    """

    def __init__(
        self,
        methods: Mapping[str, RankHandle],
        data: Any,
        *,
        metric: str,
        collate: Callable[[list[Any]], dict[str, Any]] | None,
        forward: OwnForward | None,
        one_answer: bool,
    ) -> None:
        self.live = {name: LiveModel(handle, data, metric, SHOWN, collate) for name, handle in methods.items()}
        self.first = next(iter(self.live.values()))
        self._forward = forward
        if forward is not None:
            assert isinstance(self.first.handle, Adapters)
            run_through(self.first.handle, forward)
        try:
            for live in self.live.values():
                live.update()
            if one_answer:
                check_answers(self.first.first_outputs[1])
        except BaseException:
            self.close()
            raise
        self._starts = [Start(live.handle) for live in self.live.values()]

    @property
    def handles(self) -> list[RankHandle]:
        """The handles of all models."""
        return [live.handle for live in self.live.values()]

    def turn(self, rank: int) -> None:
        """Puts every model at a rank."""
        for handle in self.handles:
            handle.rank = rank

    def put_back(self) -> None:
        """Makes every model what it was at first. `ValueError`, and nothing is changed, if one does not fit."""
        for start in self._starts:
            start.check()
        for start in self._starts:
            start.put_back()

    def close(self) -> None:
        """Lets the first model compute as the kit does again."""
        if self._forward is not None:
            run_as_before(self.first.handle)
            self._forward = None
