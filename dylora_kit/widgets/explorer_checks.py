"""What a rank explorer refuses, before it makes or changes anything."""

from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from torch import nn

from dylora_kit.core.adapters import Adapters
from dylora_kit.core.rank_handle import RankHandle
from dylora_kit.evaluation.at_ranks import token_counts
from dylora_kit.training.loop import train
from dylora_kit.widgets.svg_cards import VIEWS

if TYPE_CHECKING:
    from dylora_kit.widgets.language_explorer import LanguageExplorer
    from dylora_kit.widgets.prediction_box import Guess

OF_AUTOENCODERS = {"error", "reconstructions"}
OF_DELTA = {"matrices", "spectrum", "ordering"}
OF_EXPLORER = ("model", "adapters", "steps", "on_step", "progress", "checkpoint", "checkpoint_every", "resume")
SHOWN = 10  # example pictures, or texts
MOST_CELLS = 32  # in a row or column of a drawing


def chosen_views(
    views: Sequence[str] | None, handles: Sequence[RankHandle], data: Any, texts: Sequence[str]
) -> list[str]:
    """The views as a list; where none are named, those that these models and the data have."""
    if views is not None:
        return [views] if isinstance(views, str) else list(views)
    if not isinstance(handles[0], Adapters):
        return ["error", "reconstructions"]
    examples = ["texts"] if texts else ["predictions"] if "pixel_values" in data[0] else []
    return ["accuracy", *(["matrices", "spectrum"] if _have_delta(handles) else []), *examples]


def _have_delta(handles: Iterable[RankHandle]) -> bool:
    """Whether all of these are adapters that add a product of two matrices."""
    return all(isinstance(handle, Adapters) and handle.has_delta for handle in handles)


def check(
    model: nn.Module,
    adapters: RankHandle,
    data: Any,
    views: Sequence[str],
    name: str,
    rivals: Mapping[str, RankHandle],
    guesses: "Sequence[Guess]",
    training: Mapping[str, Any] | None,
) -> None:
    """Raises `ValueError` for views, models, a guess or a training that do not fit together.

    The arguments are those of `RankExplorer`, `views` as a list.
    """
    known = [view for view in VIEWS if (view in OF_AUTOENCODERS) != isinstance(adapters, Adapters)]
    if not _have_delta([adapters, *rivals.values()]):
        known = [view for view in known if view not in OF_DELTA]
    unknown = [view for view in views if view not in known]
    if unknown or not views:
        raise ValueError(f"unknown view {unknown or views!r}: choose from {', '.join(map(repr, known))}")
    if "reconstructions" in views and not hasattr(data, "pictures"):
        raise ValueError("reconstructions need data that can draw itself, such as tasks.digits.load_pixels(…).test")
    adapters.check_usable(model)
    _check_training(training)
    if training and not isinstance(adapters, Adapters) and "optimizer" not in training:
        raise ValueError("this model has no adapters for NestedAdamW: put an optimizer into training={…}")
    if name in rivals:
        raise ValueError(f"a rival is called {name!r} too: give every method a name of its own")
    if 1 + len(rivals) > 4:
        raise ValueError(f"the explorer compares up to four methods: got {1 + len(rivals)}")
    for guess in guesses:
        _check_guess(guess, adapters.r, [name, *rivals])
    layers = set(getattr(adapters, "layers", ()))  # an autoencoder's code has none
    for key, rival in rivals.items():
        if rival.r != adapters.r or set(getattr(rival, "layers", ())) != layers:
            raise ValueError(
                f"{key!r} has other layers or another r: the explorer compares adapters of the same layers"
            )


def _check_guess(guess: "Guess", r: int, names: Sequence[str]) -> None:
    """Raises `ValueError` for a guess that cannot be drawn on the curves of these methods."""
    if guess.rank is None or guess.unit != "%" or guess.choices:
        raise ValueError("an explorer draws guesses in percent about a rank: make it with Guess(question, rank=…)")
    if not 1 <= guess.rank <= r:
        raise ValueError(f"the guess is about rank {guess.rank}, but r = {r}")
    if guess.of and guess.of not in names:
        raise ValueError(f"the guess is about {guess.of!r}, but the methods are {', '.join(map(repr, names))}")


def _check_training(training: Mapping[str, Any] | None) -> None:
    """Raises `ValueError` for arguments that `train` does not take, lacks, or gets from the explorer."""
    known = signature(train).parameters
    for name in training or ():
        if name in OF_EXPLORER:
            raise ValueError(
                f"{name}=… cannot be in training={{…}}: the explorer calls train at each press of its button, with its "
                "own model, steps and moments, so leave it out"
            )
        if name not in known:
            raise ValueError(f"training={{…}} has {name!r}, which train does not take: see dylora_kit.train")
    lacking = [name for name in ("train_data", "sampler") if training and name not in training]
    if lacking:
        raise ValueError(f"training={{…}} lacks {lacking[0]!r}: give it train_data and sampler, as train needs them")


def check_texts(data: Any, views: Sequence[str], collate: Any, texts: Sequence[str], classes: Sequence[str]) -> None:
    """Raises `ValueError` for texts and names of classes that do not fit the data, and where `collate` is missing."""
    if "texts" in views and not texts:
        raise ValueError("the view 'texts' needs the first examples in words: pass texts=[…]")
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"texts must be a list of texts, one for each of the first examples: got {texts!r}")
    if "predictions" in views and "pixel_values" not in data[0]:
        raise ValueError("the view 'predictions' needs data with 'pixel_values': for texts take views=['texts', …]")
    if collate is None and len(set(token_counts(data))) > 1:
        raise ValueError("texts have different lengths, so batches of them need collate=…, such as task.collate")
    if classes:
        most = max(int(data[index]["labels"]) for index in range(min(len(data), SHOWN)))
        if isinstance(classes, str) or len(set(classes)) != len(classes) or len(classes) <= most:
            raise ValueError(f"classes must be different names, one for each class from 0 to {most} or more: "
                             f"got {classes!r}")  # fmt: skip


def check_own_input(data: Any, of_adapters: bool, draw: bool, read: Any) -> None:
    """Raises `ValueError` for a drawing or a sentence that the model could not be given."""
    if (draw or read is not None) and not of_adapters:
        raise ValueError("an autoencoder gives no answers to a drawing or a sentence: leave out draw=… and read=…")
    if draw:
        shape = tuple(getattr(data[0].get("pixel_values"), "shape", ()))
        if len(shape) != 3 or shape[0] != 1 or not all(2 <= side <= MOST_CELLS for side in shape[1:]):
            raise ValueError(
                f"draw=True needs pixel_values of shape (1, rows, columns), both at most {MOST_CELLS}: got "
                f"{shape or 'none'}"
            )
    if read is not None and not callable(read):
        raise ValueError(f"read=… must be a tokenizer, or a function of a text to an example: got {read!r}")


def check_answers(outputs: Any) -> None:
    """Raises `ValueError` for outputs (n, …) of a model that does not give one answer to each example."""
    if outputs.ndim != 2:
        raise ValueError(
            f"draw=True and read=… need a model with one answer for each example: this one gives {outputs.shape[1:]}"
        )


def check_writing(adapters: RankHandle, writing: "LanguageExplorer | None") -> None:
    """Raises `ValueError` for a view of what another model writes."""
    if writing is not None and writing.adapters is not adapters:
        raise ValueError("writing=… is about another model: make its LanguageExplorer with the same adapters")
