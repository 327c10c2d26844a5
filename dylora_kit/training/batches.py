"""From a dataset to what a model is called with: examples, batches of them, the call, and the loss it gives."""

import re
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

Batch = dict[str, Any]
Collate = Callable[[list[Any]], Any]
IGNORED = -100  # the label that does not count, as in transformers' losses
LABELS = ("labels", "label", "label_ids")  # what transformers' collators take for labels


def check_data(data: Any, empty: str) -> None:
    """Raises `ValueError` unless the data is a map-style dataset with examples; `empty` is the sentence if it has none.

    >>> check_data(iter([{"labels": 0}]), "the data is empty")
    Traceback (most recent call last):
    ...
    ValueError: the data has no length or no order (list_iterator): pass a map-style dataset, such as list(data)
    """
    kind = type(data).__name__
    if isinstance(data, torch.utils.data.DataLoader):
        raise ValueError("a DataLoader makes batches of its own: pass its dataset, and batch_size=… and collate=…")
    if isinstance(data, Mapping):
        raise ValueError(
            f"the data is one {kind} of {_names(data)}: pass one of its splits, such as data['train'], or a list with "
            "a dict for each example"
        )
    if hasattr(data, "iloc"):
        raise ValueError(f"the data is a {kind}: pass data.to_dict('records'), a list with a dict for each example")
    iterable = isinstance(data, torch.utils.data.IterableDataset)
    if iterable or not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise ValueError(f"the data has no length or no order ({kind}): pass a map-style dataset, such as list(data)")
    if len(data) == 0:
        raise ValueError(empty)


def stacked(examples: Sequence[Any]) -> Batch:
    """A batch of examples that are dicts: each column as one tensor, (n, …).

    Numbers, tensors, arrays and lists of them are stacked. A column of anything else, such as texts, stays a list.
    Raises `ValueError` that names the column if its examples have different lengths, or one has no such column.

    >>> stacked([{"input_ids": [5, 6], "labels": 1}, {"input_ids": [7, 8], "labels": 0}])
    {'input_ids': tensor([[5, 6],
            [7, 8]]), 'labels': tensor([1, 0])}
    """
    for example in examples:
        if type(example) is not dict and not isinstance(example, Mapping):
            raise ValueError(
                f"an example is a {type(example).__name__}: expected a dict, such as {{'input_ids': …, 'labels': …}}; "
                "pass collate=…, which makes a dict of a list of examples"
            )
        if example.keys() != examples[0].keys():
            name = sorted(set(map(str, example.keys() ^ examples[0].keys())))[0]
            raise ValueError(f"the column {name!r} is missing in some examples: give it to all, or pass collate=…")
    return {name: _column(name, [example[name] for example in examples]) for name in examples[0]}


def as_batch(batch: Any) -> Batch:
    """A batch of tensors, from a list of examples or a dict of columns that may be lists.

    >>> as_batch({"labels": [1, 0]})
    {'labels': tensor([1, 0])}
    """
    if not isinstance(batch, Mapping):
        return stacked(list(batch))
    return {
        name: _column(name, list(values)) if isinstance(values, list | tuple) and values else values
        for name, values in batch.items()
    }


def _column(name: str, values: list[Any]) -> Any:
    """The values of one column as a tensor, or as the list they are if they are no numbers."""
    if set(map(type, values)) == {Tensor}:  # most data, which each training step waits for
        try:
            return torch.stack(values)
        except RuntimeError:
            pass  # what is wrong is said below
    strangers = [_stranger(value) for value in values]
    if all(strangers):
        return values
    if any(strangers):
        kind = next(filter(None, strangers))
        raise TypeError(f"the column {name!r} holds {kind} in some examples and numbers in others")
    try:
        values = [_tensor(value) if isinstance(value, list | tuple) else value for value in values]
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"the column {name!r} holds lists that are no rectangle of numbers: pass collate=…, which pads"
        ) from None
    shapes = list(dict.fromkeys(tuple(getattr(value, "shape", ())) for value in values))
    if len(shapes) > 1:
        short, long = min(shapes), max(shapes)
        lines = len(short) == len(long) == 1
        sizes = f"lengths ({short[0]} and {long[0]})" if lines else f"shapes ({short} and {long})"
        raise ValueError(
            f"the column {name!r} has examples of different {sizes}: pass collate=…, which pads, such as transformers' "
            "DataCollatorWithPadding"
        )
    return torch.utils.data.default_collate(values)


def _tensor(value: Any) -> Tensor:
    if isinstance(value, list | tuple) and value and not isinstance(value[0], bool | int | float):
        return torch.stack([_tensor(part) for part in value])
    return torch.as_tensor(value)


def _stranger(value: Any) -> str:
    """What a value holds that is no number, such as `"text"`; empty if it holds numbers alone."""
    if isinstance(value, list | tuple):
        if value and type(value[0]) in (int, float, bool):
            value = value[-1]  # long lists of numbers are not searched
        else:
            return next(filter(None, map(_stranger, value)), "")
    if value is None:
        return "None"
    if isinstance(value, str | bytes) or getattr(getattr(value, "dtype", None), "kind", "") in ("U", "S", "O"):
        return "text"
    numbers = isinstance(value, Tensor | bool | int | float) or hasattr(value, "dtype")
    return "" if numbers else type(value).__name__


def on_device(batch: Any, device: torch.device) -> Batch:
    """A batch whose tensors are on the device; what is no tensor stays as it is.

    Raises `ValueError` for a batch that is no dict.
    """
    if not isinstance(batch, Mapping):
        raise ValueError(f"a batch is a {type(batch).__name__}: collate=… must give a dict of tensors")
    return {name: _moved(value, device) for name, value in batch.items()}


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        return [part.to(device) for part in value]
    return value.to(device) if isinstance(value, Tensor) else value


def labels_of(batch: Mapping[str, Any]) -> Tensor | None:
    """The labels of a batch, which may be called `labels`, `label` or `label_ids`; None if it has none.

    >>> labels_of({"label": torch.tensor([0, 1])})
    tensor([0, 1])
    """
    name = next((name for name in LABELS if name in batch), None)
    if name is None:
        return None
    if not isinstance(batch[name], Tensor):
        raise ValueError(f"the column {name!r} holds {_stranger(batch[name]) or 'lists'}: give each label as a number")
    return batch[name]


def counts(labels: Any) -> Any:
    """Which labels count, an array of their shape: all but whole numbers that are −100; None if all do."""
    whole = "int" in str(labels.dtype)
    return labels != IGNORED if whole else None


def arguments(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """What `model(**…)` is called with: the batch, its `label` as `labels` unless the model takes a `label`.

    Raises `ValueError` that names the column for one that holds no numbers.
    """
    given = dict(batch)
    for name in LABELS[1:]:
        if name in given and "labels" not in given and name not in signature(model.forward).parameters:
            given["labels"] = given.pop(name)
    for name, value in given.items():
        if isinstance(value, str | list | tuple) and (kind := _stranger(value)):
            raise ValueError(
                f"the column {name!r} holds {kind}, which a model cannot take: tokenise texts, and remove the column "
                "or pass collate=…, which leaves it out"
            )
    return given


def call(model: nn.Module, batch: Mapping[str, Any], otherwise: str) -> Any:
    """The model's output for a batch.

    Arguments:
        otherwise: what to do about a batch that the model cannot take; ends the sentence of the error.

    Raises `ValueError` that names the column for one that holds no numbers, or that the model does not take.
    """
    given = arguments(model, batch)
    try:
        return model(**given)
    except IndexError as error:  # of torch's cross-entropy
        if not re.search(r"Target .* is out of bounds", str(error)):
            raise
        raise ValueError(
            f"the model has no class for a label of the data ({error}): labels count from 0, and −100 is for those "
            "that do not count, so leave out examples without an answer, such as GLUE's test split, whose labels are -1"
        ) from error
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None or unknown[1] not in given:
            raise
        raise ValueError(f"the model takes no {unknown[1]!r}: remove that column, or {otherwise}") from error


def own_loss(output: Any, batch: Mapping[str, Any], otherwise: str) -> Tensor:
    """The loss in a model's output; `ValueError`, which ends with what to do otherwise, if there is none."""
    loss = getattr(output, "loss", None)
    if isinstance(loss, Tensor):
        return loss
    if labels_of(batch) is None:
        raise ValueError(
            f"the model gives no loss for {_names(batch)}: call the column with the answers 'labels', or {otherwise}"
        )
    raise ValueError(f"the model's output has no loss (it is a {type(output).__name__}): {otherwise}")


def _names(columns: Mapping[str, Any]) -> str:
    """
    >>> _names({"input_ids": 0, "idx": 0})
    "'input_ids' and 'idx'"
    """
    names = [repr(str(name)) for name in columns]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names) or "nothing"
