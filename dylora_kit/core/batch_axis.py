"""One rank for each example: where a batch stands in the inputs of a model's layers, and how large it is."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from dylora_kit.core.names import unwrapped
from dylora_kit.core.rank import FOLDED, UNKNOWN, ActiveRank

# classes, the layers in which get inputs (length, batch, …)
LENGTH_FIRST = "LongformerSelfAttention|LEDEncoderSelfAttention|FSMTEncoder|FSMTDecoder|XLNetLayer"
# classes, the other layers of which have the examples first although the steps of their inputs look otherwise
BATCH_FIRST = "^Longformer|^LED"
# classes that put parts of an example, such as windows, along the first axis, example after example
IN_PARTS = "Swin|ClapAudio|SamVision|VitDet|^OPT"
# classes that put examples in an order of their own, such as mixtures of experts
MIXED_UP = "SparseMoe|Mo[eE]Block|Experts?$|SparseMLP|Router|Mask2FormerMaskedAttentionDecoder|OneFormerTransformerDec"
# what transformers' models call their inputs
INPUTS = "input_ids decoder_input_ids inputs_embeds decoder_inputs_embeds input_values input_features pixel_values"


def batch_axes(model: nn.Module, layers: Iterable[str]) -> dict[str, int]:
    """The axis of its input along which a layer has the examples, for the layers whose classes say it.

    `FOLDED` where the first axis has several rows for each example, and `UNKNOWN` where examples are not in order.

    Arguments:
        layers: names of layers, or of parts of them.

    >>> batch_axes(nn.TransformerEncoderLayer(8, 2, dim_feedforward=6), ["linear1"])
    {'linear1': 1}
    """
    axes = {name: _axis(list(_path(model, name))) for name in layers}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _path(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """A model and the modules in it on the way to a name."""
    child: nn.Module | None = model
    for part in [*name.split("."), ""]:
        if child is None:
            return
        module = unwrapped(child)
        yield module
        child = module._modules.get(part)


def _axis(path: list[nn.Module]) -> int | None:
    """Where a layer has the examples, from the classes of the modules that it is in; the innermost that says it."""
    for module in reversed(path):
        name = type(module).__name__
        if re.search(MIXED_UP, name):
            return UNKNOWN
        if re.search(LENGTH_FIRST, name):
            return 1
        if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            return 0 if module.self_attn.batch_first else 1
        if re.search(IN_PARTS, name):
            return FOLDED
        if re.search(BATCH_FIRST, name):
            return 0
    return None


def repeats(active: ActiveRank, x: Tensor, layer: str) -> tuple[int, int]:
    """How to turn rows, one per example, into one for each of a layer's inputs x (…, d_in), in their order.

    Returns how often each row is repeated in place, and then how often all of them are.

    Raises `ValueError`, which names the layer, if x does not have the examples where `active.axes` says.

    >>> import torch
    >>> active = ActiveRank({"up": 8})
    >>> active.value = torch.tensor([2, 5])
    >>> repeats(active, torch.zeros(2, 7, 3), "up")
    (7, 1)
    """
    assert active.per_example is not None
    if not layer:
        active.check_batch(x)
    ranks, shape, axis = len(active.per_example), x.shape[:-1], active.axes.get(layer, 0)
    rows = ranks * active.copies
    if axis == FOLDED and shape and shape[0] % rows == 0:
        return shape.numel() // ranks, 1
    # a view of (batch, length) as (length, batch) has longer steps along the second axis than along the first
    turned = layer not in active.axes and len(shape) > 1 and shape[0] == shape[1] > 1 and x.stride(0) < x.stride(1)
    if axis >= 0 and len(shape) > axis and shape[axis] == rows and not turned:
        times = shape[0] if axis == 1 else 1
        return shape.numel() // (ranks * times), times
    raise ValueError(
        f"the rank tensor names {ranks} examples, and layer {layer!r} has inputs of shape {tuple(x.shape)}, in which "
        "they cannot be told apart: pass one rank each, set one rank for all, or attach without this layer"
    )


def watch(model: Any, active: ActiveRank) -> Any:
    """Has a model check that each example of its batches has a rank. Returns the hook."""
    if callable(getattr(model, "generate", None)) and "generate" not in model.__dict__:
        model.__dict__["generate"] = Generate(model, active)
    return model.register_forward_pre_hook(BatchCheck(active), with_kwargs=True)


class BatchCheck:
    """A hook before a model's forward: each example of the batch must have its own rank.

    While a text is generated, an example may stand in the batch several times in a row, as beams do.
    """

    def __init__(self, active: ActiveRank) -> None:
        self.active = active

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises `ValueError` for a batch of another size."""
        ranks = self.active.per_example
        if ranks is None or self.active.disabled:
            return
        named = [kwargs[name] for name in INPUTS.split() if isinstance(kwargs.get(name), Tensor)][:1]
        tensors = named or [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim()]
        if not tensors:
            return
        sizes = [len(tensor) for tensor in tensors]
        if self.active.generating and sizes[0] % len(ranks) == 0:
            self.active.copies = sizes[0] // len(ranks)
        elif len(ranks) not in sizes:
            raise self.active.wrong_batch(sizes[0])


class Generate:
    """A model's `generate`, in which beams and returned sequences have the rank of their example."""

    def __init__(self, model: Any, active: ActiveRank) -> None:
        self.model, self.active = model, active

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's own."""
        with _generating(self.active):
            return type(self.model).generate(self.model, *args, **kwargs)


@contextmanager
def _generating(active: ActiveRank) -> Iterator[None]:
    """A block in which an example may stand in the batch several times in a row."""
    before = active.generating, active.copies
    active.generating, active.copies = True, 1
    try:
        yield
    finally:
        active.generating, active.copies = before
