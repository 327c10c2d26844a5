"""One rank for each example: where a batch stands in the inputs of a model's layers, and how large it is."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from dylora_kit.core.names import unwrapped
from dylora_kit.core.rank import EITHER, FOLDED, UNKNOWN, ActiveRank
from dylora_kit.core.row_order import keeps_order

# classes, the layers in which get inputs (length, batch, …)
LENGTH_FIRST = "LongformerSelfAttention|LEDEncoderSelfAttention|FSMTEncoder|FSMTDecoder|XLNetLayer"
# classes, the other layers of which have the examples first although the steps of their inputs look otherwise
BATCH_FIRST = "^Longformer|^LED"
# classes that put parts of an example, such as windows, along the first axis, example after example
IN_PARTS = "Swin|ClapAudio|SamVision|VitDet|^OPT|ForMultipleChoice$"
# classes that put examples in an order of their own, such as mixtures of experts
MIXED_UP = "SparseMoe|Mo[eE]Block|Experts?$|SparseMLP|Router|Mask2FormerMaskedAttentionDecoder|OneFormerTransformerDec"
EXPERTS = re.compile(r"^(?!shared).*expert", re.IGNORECASE)  # what modules call them
# what transformers' models call their inputs
INPUTS = "input_ids decoder_input_ids inputs_embeds decoder_inputs_embeds input_values input_features pixel_values"


def batch_axes(model: nn.Module, layers: Iterable[str]) -> dict[str, int]:
    """The axis of its input along which a layer has the examples, for the layers of which classes or sources say it.

    `FOLDED` where the first axis has several rows for each example, `UNKNOWN` where examples are not in order, and
    `EITHER` where it is the first or the second.

    Arguments:
        layers: names of layers, or of parts of them.

    >>> batch_axes(nn.TransformerEncoderLayer(8, 2, dim_feedforward=6), ["linear1"])
    {'linear1': 1}
    """
    orders: dict[Any, bool] = {}  # blocks are alike
    axes = {name: _axis(list(_path(model, name)), orders) for name in layers}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _path(model: nn.Module, name: str) -> Iterator[tuple[nn.Module, str]]:
    """A model and the modules in it on the way to a name, each with the name of its child on that way."""
    child: nn.Module | None = model
    for part in [*name.split("."), ""]:
        if child is None:
            return
        module = unwrapped(child)
        yield module, part
        child = module._modules.get(part)


def _axis(path: list[tuple[nn.Module, str]], orders: dict[Any, bool]) -> int | None:
    """Where a layer has the examples, from the modules that it is in; the innermost that says it."""
    for module, child in path:
        if re.search(MIXED_UP, type(module).__name__):
            return UNKNOWN
        inner = module._modules.get(child)
        if inner is None:
            continue
        flags = tuple((key, value) for key, value in vars(module).items() if isinstance(value, bool))
        alike = (type(module), child, type(inner), flags, *module._buffers, *module._parameters)
        if alike not in orders:
            orders[alike] = not EXPERTS.search(child) and keeps_order(module, child)
        if not orders[alike]:
            return UNKNOWN
    for module, _ in reversed(path):
        name = type(module).__name__
        if re.search(LENGTH_FIRST, name):
            return 1
        if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            return 0 if module.self_attn.batch_first else 1
        if re.search(IN_PARTS, name):
            return FOLDED
        if re.search(BATCH_FIRST, name):
            return 0
        beside = [inner for inner in module.children() if isinstance(inner, nn.MultiheadAttention | nn.RNNBase)]
        if any(not inner.batch_first for inner in beside):
            return EITHER
    return None


def repeats(active: ActiveRank, x: Tensor, layer: str) -> tuple[int, int]:
    """How to turn rows, one per example, into one for each of a layer's inputs x (…, d_in), in their order.

    Returns how often each row is repeated in place, and then how often all of them are.

    Raises `ValueError`, which names the layer, if x does not have the examples where `active.axes` says. Also, where
    neither class nor source says it, for a view (n, n, …) whose steps along its first axis are shorter than along its
    second: it is either turned, or repeated without being copied, as learned queries are by `expand` in a model with
    as many queries as the batch has examples.

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
    if axis == FOLDED and shape and shape[0] % ranks == 0:
        return shape.numel() // ranks, 1
    sizes = active.batch_sizes()
    if axis == EITHER:
        fitting = [each for each in (0, 1) if len(shape) > each and shape[each] in sizes]
        axis = fitting[0] if len(fitting) == 1 else UNKNOWN
    # a view of (batch, length) as (length, batch) has longer steps along the second axis than along the first
    turned = layer not in active.axes and len(shape) > 1 and shape[0] == shape[1] > 1 and x.stride(0) < x.stride(1)
    if axis >= 0 and len(shape) > axis and shape[axis] in sizes and not turned:
        times = shape[0] if axis == 1 else 1
        return shape.numel() // (ranks * times), times
    raise ValueError(
        f"the rank tensor names {ranks} examples, and layer {layer!r} has inputs of shape {tuple(x.shape)}, in which "
        "they cannot be told apart: set one rank for all, or attach without this layer"
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
        if self.active.per_example is None or self.active.disabled:
            return
        sizes = _sizes(module, args, kwargs)
        if sizes and not any(size in self.active.batch_sizes() for size in sizes):
            raise self.active.wrong_batch(sizes[0])


def _sizes(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    """How many examples a call of a model may hold: of its input by name, or else the lengths of all tensors."""
    names = [*INPUTS.split(), getattr(model, "main_input_name", "")]
    named = [kwargs[name] for name in names if isinstance(kwargs.get(name), Tensor)][:1]
    tensors = named or [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim()]
    return [len(tensor) for tensor in tensors]


class Generate:
    """A model's `generate`, in which beams and returned sequences have the rank of their example.

    That is so for the `generate` of transformers itself, which repeats each example in place, equally often in the
    whole call. A `generate` of the model's own may repeat them in another order, or leave some out: there the batch
    must stay what it was, and `ValueError` is raised where it does not.
    """

    def __init__(self, model: Any, active: ActiveRank) -> None:
        self.model, self.active = model, active

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the model's own. Raises `ValueError` for a batch that has not one example for each rank."""
        ranks, before = self.active.per_example, self.active.copies
        generate: Any = type(self.model).generate
        own = getattr(generate, "__qualname__", "") != "GenerationMixin.generate" or kwargs.get("custom_generate")
        if ranks is not None and not self.active.disabled:
            # without any input transformers begins with one example
            sizes = _sizes(self.model, args, kwargs | _encoded(kwargs)) or ([len(ranks)] if own else [1])
            if len(ranks) not in sizes:
                raise self.active.wrong_batch(sizes[0])
        self.active.copies = 1 if own else self._copies(args, kwargs)
        try:
            return generate(self.model, *args, **kwargs)
        finally:
            self.active.copies = before

    def _copies(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """How often each example stands in the batch."""
        given = kwargs.get("generation_config", args[1] if len(args) > 1 else None)
        configs = [given, getattr(self.model, "generation_config", None)]
        copies = 1
        for name in ("num_beams", "num_return_sequences"):
            values = [kwargs.get(name), *(getattr(config, name, None) for config in configs)]
            copies = max(copies, next((value for value in values if value is not None), 1))
        return copies


def _encoded(kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """The output of an encoder, where it is given instead of an input."""
    outputs = kwargs.get("encoder_outputs")
    return {} if outputs is None else {"encoder_outputs": outputs[0]}
