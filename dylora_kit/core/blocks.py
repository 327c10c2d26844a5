"""The blocks of a model, the entries of its lists: which ones are meant, and which ones got no adapter."""

import re
from collections.abc import Sequence

from torch import nn

from dylora_kit.core.names import named_modules, submodule, unwrapped

ATTENTION = "attention"  # stands for query and value of every self-attention
FIRST_NUMBER = r".*?\.[^.]*\.(\d+)\."  # where PEFT finds a block's number in a name


class ChosenBlocks:
    """The blocks of `layers_to_transform`, found in names as PEFT finds them.

    Arguments:
        target_modules: as in `attach`.
        indices: the numbers of the blocks, from 0; None or none at all for every block.
        pattern: what the list of blocks is called, or several names; by default the first number of a name counts.

    Raises `ValueError` where PEFT does: beside an expression, and for a pattern without numbers.

    >>> ChosenBlocks(["query"], [1], "layer").contain("encoder.layer.1.query")
    True
    """

    def __init__(
        self,
        target_modules: str | Sequence[str],
        indices: int | Sequence[int] | None = None,
        pattern: str | Sequence[str] | None = None,
    ) -> None:
        patterns = [pattern] if isinstance(pattern, str) else list(pattern or ())
        if isinstance(target_modules, str) and target_modules != ATTENTION and not indices is pattern is None:
            raise ValueError(
                "layers_to_transform and layers_pattern go with a list of names or with 'attention': "
                f"target_modules is {target_modules!r}"
            )
        if any(patterns) and indices is None:
            raise ValueError(f"layers_pattern={pattern!r} says where blocks are counted: give layers_to_transform too")
        self.indices = [indices] if isinstance(indices, int) else list(indices or ())
        self._places = [rf"(?:^|.*?\.){place}\.(\d+)\." for place in patterns if place] or [FIRST_NUMBER]

    def contain(self, name: str) -> bool:
        """Whether a name is of one of the chosen blocks; true of all names if none were chosen."""
        if not self.indices:
            return True
        try:
            matches = [match for place in self._places if (match := re.match(place, name))]
        except re.error as error:
            raise ValueError(f"layers_pattern holds no regular expression: {error}") from None
        return bool(matches) and int(matches[0][1]) in self.indices


def without_adapter(model: nn.Module, adapted: Sequence[str], attentions: Sequence[str]) -> list[str]:
    """The blocks that got no adapter though others of the same list did, or though they hold an attention.

    In lists inside of a block, such as T5's self-attention, cross-attention and feed-forward layer, only entries of
    one class are compared.

    Arguments:
        adapted: the names of the adapted modules.
        attentions: the names of the attentions.
    """
    modules = dict(named_modules(model))
    layers = {submodule(model, name) for name in adapted}
    holders = {f"{name}."[: end + 1] for name in attentions for end, sign in enumerate(f"{name}.") if sign == "."}
    lacking: list[str] = []
    for name, blocks in modules.items():
        if not isinstance(blocks, nn.ModuleList) or any(name.startswith(f"{block}.") for block in lacking):
            continue
        outer = f"{name}." if name else ""
        entries = {outer + key: unwrapped(block) for key, block in blocks._modules.items() if block is not None}
        has = {entry for entry, block in entries.items() if not layers.isdisjoint(block.modules())}
        parents = name.split(".")
        if any(isinstance(modules[".".join(parents[:end])], nn.ModuleList) for end in range(1, len(parents))):
            kinds = {type(entries[entry]) for entry in has}
            lacking += [entry for entry in entries if entry not in has and type(entries[entry]) in kinds]
        else:
            lacking += [entry for entry in entries if entry not in has and (has or f"{entry}." in holders)]
    return lacking
