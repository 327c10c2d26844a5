"""What "attention" means: the query and value of every self-attention, whatever an architecture calls them.

What a module is decides, and no list of names alone. An attention is cross-attention if its key and value are made of
other states than its query: if its class or its name says so, if its query and key have inputs of different sizes, if
its forward requires such states, or if the block that calls it hands it some.
"""

import re
from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import Any

from torch import nn

from dylora_kit.core.calls import Argument, calls_of, parameters_of
from dylora_kit.core.fused import FUSED_NAMES
from dylora_kit.core.layer import sizes_of
from dylora_kit.core.names import named_modules, unwrapped

# what architectures call the query and value of an attention
QUERY_AND_VALUE = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("q_lin", "v_lin"),
    ("query_proj", "value_proj"),
    ("q", "v"),
)
CROSS = re.compile(r"cross_?att|enc(oder)?_?dec(oder)?_?att|encoder_att|att\w*_\w+_to_", re.IGNORECASE)
# what a forward calls states that key and value are made of, and the query is not
OTHER_STATES = re.compile(
    r"(encoder|cross|context|memory|kv|key_?value|image|vision|visual|text|audio|media|source|src)\w*"
)
NO_STATES = re.compile(
    r"\w*(mask|bias|ids|cache\w*|past\w*|emb|embeddings?|pos|positions?|sizes?|shapes?|lens?|lengths?|index|grid\w*)"
)
KEYS = re.compile(r"keys?|key_states|k")

Modules = Mapping[str, nn.Module]


def is_linear(module: nn.Module | None) -> bool:
    """Whether a module is of a kind that an adapter can be added to: `nn.Linear`, or transformers' `Conv1D`."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def attentions_of(model: nn.Module) -> dict[str, list[str]]:
    """The attentions of a model by name, each with the names of the layers that make query and value.

    Of cross-attention the list is empty.

    >>> attentions_of(nn.ModuleDict({"query": nn.Linear(6, 5), "key": nn.Linear(6, 5), "value": nn.Linear(6, 5)}))
    {'': ['query', 'value']}
    """
    modules = dict(named_modules(model))
    layers = {name: _query_and_value(module) for name, module in modules.items()}
    names = [name for name, children in layers.items() if children]
    return {
        name: [f"{name}.{child}" if name else child for child in layers[name]]
        if not is_cross_attention(modules, names, name)
        else []
        for name in names
    }


def is_cross_attention(modules: Modules, attentions: Sequence[str], name: str) -> bool:
    """Whether the attention of this name makes key and value of other states than its query.

    Arguments:
        modules: all modules of the model, by name.
        attentions: the names of those that are attentions.
    """
    attention: Any = modules[name]
    if any(_says_cross(holder, modules[holder]) for holder in _holders(attentions, name)):
        return True
    children = {key: unwrapped(child) for key, child in attention.named_children()}
    inputs = [sizes_of(children[child])[0] for child in _query_and_key(children) if is_linear(children.get(child))]
    if len(set(inputs)) > 1:
        return True
    others = list(parameters_of(attention).values())[1:]
    keys = [p.name for p in others if _is_states(p) or KEYS.fullmatch(p.name)]
    given = _is_given(modules, attentions, name, keys)
    return any(_is_states(p) and p.default is p.empty for p in others) if given is None else given


def _query_and_key(children: Mapping[str, nn.Module]) -> list[str]:
    """What the children that make query and key are called, or would be."""
    for query, value in QUERY_AND_VALUE:
        if query in children and value in children:
            return [query, value.replace("value", "key") if "value" in value else value.replace("v", "k")]
    return []


def _query_and_value(module: nn.Module) -> list[str]:
    """The children of an attention that make its query and value; none if it is no attention."""
    children = {key: unwrapped(child) for key, child in module.named_children()}
    pairs = [pair for pair in QUERY_AND_VALUE if all(is_linear(children.get(child)) for child in pair)]
    fused = [child for child, layer in children.items() if child in FUSED_NAMES and is_linear(layer)]
    return [*(pairs[0] if pairs else ()), *fused]


def _holders(attentions: Sequence[str], name: str) -> list[str]:
    """The attention, and the modules around it that hold no other one; not the model itself."""
    parts = name.split(".")
    around = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return [holder for holder in around if holder == name or len(_inside(attentions, holder)) == 1]


def _inside(attentions: Sequence[str], block: str) -> list[str]:
    return [name for name in attentions if not block or name == block or name.startswith(f"{block}.")]


def _says_cross(name: str, module: nn.Module) -> bool:
    words = (name.rpartition(".")[2], type(module).__name__)
    return any(map(CROSS.search, words)) or getattr(module, "is_cross_attention", False) is True


def _is_states(parameter: Parameter) -> bool:
    """Whether a parameter of a forward is for states that only key and value are made of."""
    name = parameter.name
    flag = parameter.annotation in (bool, "bool") or isinstance(parameter.default, bool)
    return not flag and bool(OTHER_STATES.fullmatch(name)) and not NO_STATES.fullmatch(name)


def _is_given(modules: Modules, attentions: Sequence[str], name: str, keys: Sequence[str]) -> bool | None:
    """Whether the module that calls this one hands it other states, for one of these parameters, than for the query.

    None where the calls cannot be seen.
    """
    if not name or not keys:
        return None
    caller, _, child = name.rpartition(".")
    index = None
    if isinstance(modules[caller], nn.ModuleList):
        index, (caller, _, child) = int(child), caller.rpartition(".")
    calls = calls_of(modules[caller], child, index, modules[name])
    parameters, siblings = parameters_of(modules[caller]), _inside(attentions, caller)
    if calls is None:  # then the order tells: a block attends to its own states first
        later = index is None and not siblings[0].startswith(name)
        return True if later and any(map(_is_states, parameters.values())) else None
    query = next(iter(parameters_of(modules[name])))
    answer: bool | None = False
    for call in calls:
        for argument in (call[key] for key in keys if key in call):
            others = argument.sources - call.get(query, Argument(frozenset())).sources
            if all(NO_STATES.fullmatch(source) for source in others):
                continue
            handed_on = parameters.get(argument.name or "")
            required = handed_on is None or handed_on.default is handed_on.empty
            given = required or len(siblings) > 1 or _is_given(modules, attentions, caller, [argument.name or ""])
            if given:
                return True
            answer = None if given is None else answer
    return answer
