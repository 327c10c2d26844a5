"""`rank_pattern` and `alpha_pattern`: values for some layers, by name, matched as PEFT matches them."""

import re
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from dylora_kit.core.names import plain_name


def fits(pattern: str, name: str) -> bool:
    """Whether PEFT takes a key of `rank_pattern` or `alpha_pattern` for a name: an expression for its end, at a dot.

    >>> fits("query", "layer.0.query"), fits(r"0\\..*", "layer.0.query"), fits("query", "layer.0.subquery")
    (True, True, False)
    """
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


def values_by_pattern(
    names: Mapping[str, Sequence[str]], pattern: Mapping[str, Any] | None, default: Any, what: str
) -> tuple[dict[str, Any], list[str]]:
    """The value of each layer, and the keys that fit none.

    A key that is a whole name means that layer alone; of the others the first that fits counts.

    Arguments:
        names: for each layer the names it goes by.
        pattern: `{key: value}`, or None for none.
        default: the value of a layer that no key fits.
        what: goes into errors, such as `"rank_pattern"`.

    Raises `ValueError` for what is no mapping, and for a key that is no regular expression.

    >>> values_by_pattern({"0.up": ["0.up"], "1.up": ["1.up"]}, {"up": 2, "1.up": 4}, 8, "rank_pattern")
    ({'0.up': 2, '1.up': 4}, [])
    """
    if not isinstance(pattern, Mapping | NoneType) or not all(isinstance(key, str) for key in pattern or {}):
        raise ValueError(f"{what} must map names of layers to numbers: got {pattern!r}")
    every_name = {name for called in names.values() for name in called}
    pattern = {plain_name(key, every_name): value for key, value in (pattern or {}).items()}
    values, used = dict.fromkeys(names, default), set()
    for layer, called in names.items():
        fitting = [key for name in called for key in pattern if key == name]
        try:
            fitting += [key for key in pattern if key not in every_name and any(fits(key, name) for name in called)]
        except re.error as error:
            raise ValueError(f"{what} has a key that is no regular expression ({error}): {list(pattern)}") from None
        used.update(fitting)
        if fitting:
            values[layer] = pattern[fitting[0]]
    return values, [key for key in pattern if key not in used]
