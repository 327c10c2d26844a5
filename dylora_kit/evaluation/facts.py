"""What became of the facts that a text should tell: what every reader of texts says, whatever the task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

STATES = ("said", "wrong", "missing", "added")


@dataclass(frozen=True)
class Fact:
    """One fact that an input gives, or that a text adds, and what the text makes of it.

    Attributes:
        name: what the fact is about, such as `"food"`.
        value: what the input says of it; of an added fact, what the text says.
        state: `"said"`, `"wrong"` (the text says something else instead), `"missing"`, or `"added"` (the input does not
            say it).
        spans: the characters of the text that tell it, `(start, end)` each.
        instead: of a wrong fact, what the text says.

    Raises `ValueError` for another state.

    >>> Fact("kind", "pub", "wrong", ((14, 20),), "bistro").label
    'kind: pub is wrong, it says bistro'
    """

    name: str
    value: str
    state: str
    spans: tuple[tuple[int, int], ...] = ()
    instead: str = ""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"unknown state {self.state!r} of a fact: expected one of {', '.join(map(repr, STATES))}")

    @property
    def label(self) -> str:
        """The fact and its state in words."""
        what = {"said": "is said", "wrong": "is wrong", "missing": "is missing", "added": "is added"}[self.state]
        return f"{self.name}: {self.value} {what}{f', it says {self.instead}' if self.instead else ''}"


Reader = Callable[[str, str], Sequence[Fact]]
"""`(text, input) → facts`: those that the input gives, in its order, and then those that the text adds.

It raises `ValueError`, with a sentence, for an input that it cannot read.
"""
