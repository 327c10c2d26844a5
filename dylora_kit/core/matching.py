"""Names that a user gives, matched with the names of a model's modules as PEFT matches them."""

import difflib
import re
import warnings
from collections.abc import Collection, Sequence

from torch import nn

from dylora_kit.core.attention import attentions_of, is_linear
from dylora_kit.core.blocks import ATTENTION, ChosenBlocks
from dylora_kit.core.experts import listed, plain_weights
from dylora_kit.core.names import named_modules
from dylora_kit.core.weight_reads import is_read

ALL_LINEAR = "all-linear"  # PEFT's word for every linear layer but the output head
HEADS = ("score", "classifier")  # what PEFT takes for the head of a model for sequence classification
PLAIN = "weights that are plain Parameters and no linear layers, such as those of experts ({}): they get no adapter"


def ends_with(name: str, end: str) -> bool:
    """Whether a dotted name is `end`, or ends with it at a dot.

    >>> ends_with("layer.0.query", "query"), ends_with("layer.0.subquery", "query")
    (True, False)
    """
    return name == end or name.endswith(f".{end}")


def matched_names(
    model: nn.Module,
    known: Collection[str],
    target_modules: str | Sequence[str],
    blocks: ChosenBlocks,
    modules_to_save: Sequence[str],
) -> list[str]:
    """The names that are meant, before fused projections are split; `ValueError` if there is none."""
    if target_modules == ATTENTION:
        matched = [layer for layers in attentions_of(model).values() for layer in layers]
        if not matched:
            raise ValueError(
                "target_modules='attention' finds no query and value here: name the layers to adapt, "
                f"such as {_linear_ends(model)[:4]}"
            )
        matched = [name for name in matched if blocks.contain(name)]
    elif target_modules == ALL_LINEAR:
        matched = _all_linear(model, modules_to_save)
    elif isinstance(target_modules, str):
        matched = [name for name in known if matches(target_modules, name, "target_modules")]
    else:
        if not target_modules:
            raise ValueError("target_modules is empty: name at least one layer to adapt")
        for end in target_modules:
            if not any(ends_with(name, end) for name in known):
                raise _no_match(model, end)
        matched = [  # a whole name is meant in any block, as in PEFT
            name
            for name in known
            if name in target_modules or (any(ends_with(name, end) for end in target_modules) and blocks.contain(name))
        ]
    if not matched and blocks.indices:
        raise ValueError(
            f"layers_to_transform={blocks.indices} holds none of the targets: give the name of the blocks' list as "
            "layers_pattern, such as 'layers'"
        )
    if not matched:
        raise _no_match(model, str(target_modules))
    return matched


def _all_linear(model: nn.Module, modules_to_save: Sequence[str]) -> list[str]:
    """Every linear layer outside of the output head and of the modules that are trained along.

    Warns of those whose weight is read instead of calling them, which are left out.
    """
    modules = dict(named_modules(model))
    find_head = getattr(modules[""], "get_output_embeddings", None)
    head = find_head() if callable(find_head) else None
    if head is None and type(modules[""]).__name__.endswith("ForSequenceClassification"):
        head = next((modules[name] for name in HEADS if name in modules), None)
    left_out = {name for name in modules if any(ends_with(name, end) for end in modules_to_save)}
    left_out |= {name for name, module in modules.items() if module is head}
    linear = [
        name
        for name, module in modules.items()
        if is_linear(module) and not any(name == outer or name.startswith(f"{outer}.") for outer in left_out)
    ]
    read = [name for name in linear if is_read(model, name)]
    if read:
        warnings.warn(
            f"target_modules='all-linear' leaves out {listed(read)}: the modules around them read their weights and "
            "never call them, so adapters would not run",
            stacklevel=5,
        )
    return [name for name in linear if name not in read]


def matches(expression: str, name: str, what: str) -> bool:
    """Whether an expression fits a whole name; `ValueError`, which says what it was given as, if it is none."""
    try:
        return re.fullmatch(expression, name) is not None
    except re.error as error:
        raise ValueError(f"{what}: {expression!r} is no regular expression: {error}") from None


def check_experts(model: nn.Module, target_modules: str | Sequence[str], matched: Sequence[str]) -> None:
    """Warns if the user's names mean weights of experts too; `TypeError` if they mean the block that has them."""
    weights = plain_weights(model)
    blocks = [name for name in matched if any(weight.rpartition(".")[0] == name for weight in weights)]
    if blocks:
        inside = [weight for weight in weights if weight.rpartition(".")[0] in blocks]
        raise TypeError(f"cannot adapt {blocks[0]!r}: {PLAIN.format(listed(inside))}")
    meant = [weight for weight in weights if _means(target_modules, weight)]
    if meant:
        warnings.warn(f"target_modules={target_modules!r} also means {PLAIN.format(listed(meant))}", stacklevel=4)


def _means(target_modules: str | Sequence[str], weight: str) -> bool:
    """Whether the user's names fit the name of a weight."""
    if isinstance(target_modules, str):
        return target_modules == ALL_LINEAR or matches(target_modules, weight, "target_modules")
    return any(ends_with(weight, end) for end in target_modules)


def _linear_ends(model: nn.Module) -> list[str]:
    """The last parts of the names of all linear layers, each once."""
    return sorted({name.rpartition(".")[2] for name, module in named_modules(model) if is_linear(module)})


def _no_match(model: nn.Module, target: str) -> ValueError:
    """The error for a target that matches nothing, with close names and the names of all linear layers."""
    ends, weights = _linear_ends(model), plain_weights(model)
    meant = [weight for weight in weights if ends_with(weight, target) or re.fullmatch(target, weight)]
    if meant:
        return ValueError(f"target_modules: {target!r} means {PLAIN.format(listed(meant))}")
    close = difflib.get_close_matches(target.rpartition(".")[2], ends, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    if any(ends_with(name, target) for name, _ in named_modules(model)):
        hint = f"a string is an expression for whole names, did you mean [{target!r}]? "
    beside = f" (and, as plain Parameters that get no adapter, {listed(weights, 2)})" if weights else ""
    return ValueError(
        f"target_modules: {target!r} matches no module: {hint}linear layers here: {', '.join(ends)}{beside}"
    )
