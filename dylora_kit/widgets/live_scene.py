"""What an explorer's cards show: live models at a rank, as numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dylora_kit.plots.drawing import looks
from dylora_kit.widgets import svg_cards
from dylora_kit.widgets.explorer_checks import SHOWN
from dylora_kit.widgets.live_model import STRIP, LiveModel
from dylora_kit.widgets.prediction_box import Guess
from dylora_kit.widgets.svg_cards.pictures import data_uri, side_by_side


class LiveScene:
    """The cards of a few live models, which are evaluated anew where their weights have changed.

    Arguments:
        live: the models by name; guesses that name none are about the first.
        views: the cards, as `RankExplorer` has them.
        data: what the models are evaluated on.
        metric: a name, as in `sweep`.
        caption: a line about the data.
        guesses: drawn with the curves once they are made.
        texts, classes: as for `RankExplorer`.
    """

    def __init__(
        self,
        live: Mapping[str, LiveModel],
        views: Sequence[str],
        data: Any,
        *,
        metric: str,
        caption: str,
        guesses: Sequence[Guess],
        texts: Sequence[str],
        classes: Sequence[str],
    ) -> None:
        self._live, self.views, self.metric, self._caption, self._guesses = live, views, metric, caption, guesses
        self._scales: dict[str, float] = {}  # the largest singular value that was shown of each layer
        self._texts, self._classes = list(texts[:SHOWN]), list(classes)
        self._pictures, self._real_strip = [], ""
        if "predictions" in views:
            first = range(min(SHOWN, len(data)))
            self._pictures = [data_uri(data[index]["pixel_values"].squeeze(0)) for index in first]
        if "reconstructions" in views:
            self._real_strip = side_by_side(data.pictures(data.pixel_values[:STRIP]))

    def at(self, rank: int, method: str, layer: str | None) -> svg_cards.Scene:
        """The cards at a rank.

        Arguments:
            method: the model that cards about one model show.
            layer: the layer that cards about one layer show, if there are any.
        """
        for live in self._live.values():
            live.update()
        shown, names, kinds = self._live[method], list(self._live), looks(list(self._live))
        rival = next((name for name in names if name != method), None)
        rebuilt = {}
        if self._real_strip:
            rebuilt = {"real": self._real_strip}
            rebuilt |= {name: live.reconstructions(rank) for name, live in self._live.items()}
        return svg_cards.Scene(
            rank=rank,
            r=shown.handle.r,
            series=[svg_cards.Series(name, live.values, live.before, kinds[name]) for name, live in self._live.items()],
            active=names.index(method),
            metric=self.metric,
            subtitle=self._caption,
            unit=shown.handle.unit,
            layer=self._layer(shown, layer, rank, self._live[rival] if rival else None) if layer else None,
            rival=names.index(rival) if rival else None,
            ordering=shown.ordering() if "ordering" in self.views else {},
            examples=shown.examples(rank, self._pictures, self._classes),
            texts=shown.examples(rank, self._texts, self._classes),
            rebuilt=rebuilt,
            guesses=self._guesses_made(names),
        )

    def _layer(self, shown: LiveModel, name: str, rank: int, rival: LiveModel | None) -> svg_cards.Layer:
        """A layer on a scale that only grows, so that bars can be compared while a training is played."""
        layer = shown.layer(name, rank, rival)
        self._scales[name] = max(layer.most, self._scales.get(name, 0.0))
        return replace(layer, most=self._scales[name])

    def start_again(self) -> None:
        """Forgets what was shown."""
        self._scales.clear()

    def _guesses_made(self, names: list[str]) -> list[tuple[int, float, int]]:
        """The guesses that there are: rank, share of 1, and the index of the method that each is about."""
        return [
            (guess.rank, guess.share, names.index(guess.of) if guess.of else 0)
            for guess in self._guesses
            if guess.rank is not None and guess.share is not None
        ]
