"""Regular expressions that stand in files: how long they can take is bounded before they are matched."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

NAME = 64  # characters, about as many as the name of a module has
MOST_STEPS = 2_000_000  # for one name; some 50 ms
GROUP = re.compile(r"\((?:\?(?:P<\w+>|P=\w+|<[=!]|[=!:>]|#[^)]*|\(\w+\)|[a-zA-Z-]+:?))?")
ITEM = re.compile(r"\\(?:x..|.)|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
REPEAT = re.compile(r"(?:([*+?])|\{(\d*)(,?)(\d*)\})[?+]?")


@dataclass
class _Cost:
    """In how many ways a piece of an expression can match: `open` parts of any length, and `ways` beside them."""

    open: int = 0
    ways: float = 1.0
    text: str | None = ""  # what it is, if it is letters alone

    @property
    def fixed(self) -> bool:
        return self.open == 0 and self.ways == 1

    def then(self, other: "_Cost") -> "_Cost":
        text = None if self.text is None or other.text is None else self.text + other.text
        return _Cost(self.open + other.open, self.ways * other.ways, text)

    def repeated(self, least: int, most: float) -> "_Cost":
        """This piece from `least` to `most` times."""
        if most == math.inf or most > NAME:
            return _Cost(1, 1.0, None) if self.fixed else _Cost(0, math.inf, None)
        if self.fixed:
            return _Cost(0, most - least + 1, None)
        choices = self.ways + (least < most)
        ways = choices**most if most * math.log2(choices) < NAME else math.inf
        return _Cost(self.open * int(most), ways, None)

    def steps(self) -> float:
        return math.comb(NAME + min(self.open, 20), min(self.open, 20)) * self.ways


@dataclass
class _Group:
    """A group that is being read: the alternatives so far, and the pieces of the last one."""

    alternatives: list[list[_Cost]] = field(default_factory=lambda: [[]])

    def cost(self) -> _Cost:
        costs = []
        for pieces in self.alternatives:
            cost = _Cost()
            for piece in pieces:
                cost = cost.then(piece)
            costs.append(cost)
        if len(costs) == 1:
            return costs[0]
        largest = max(cost.open for cost in costs)
        together = max if _exclude_each_other(self.alternatives, costs) else sum
        return _Cost(largest, together(cost.ways for cost in costs), None)


def _exclude_each_other(alternatives: list[list[_Cost]], costs: list[_Cost]) -> bool:
    """Whether at most one of some alternatives can match at a place."""
    texts = sorted(cost.text or "" for cost in costs)
    if all(texts):  # in this order, what begins another stands right before one that it begins
        return not any(second.startswith(first) for first, second in pairwise(texts))
    first = [pieces[0].text[:1] if pieces and pieces[0].text else None for pieces in alternatives]
    return None not in first and len(set(first)) == len(first)


def check_expressions(expressions: Iterable[str], where: str, *, ends: bool = False) -> None:
    """Raises `ValueError` if matching module names against some expressions of a file may take very long.

    Python tries every way in which an expression can match, which can be more than there is time for: `(a+)+b` on a
    name of thirty letters takes minutes. An expression with nested repetitions, or with many `.*`, is refused. One that
    is no regular expression is left to whoever matches it.

    Arguments:
        where: what the sentence calls the place, such as `"adapter_config.json gives alpha_pattern"`.
        ends: whether they are matched against the ends of names, as PEFT matches its patterns.

    >>> check_expressions([r".*layers\\.(0|1)\\..*(q|v)_proj"], "the file gives target_modules")
    >>> check_expressions(["(a+)+b"], "the file gives target_modules")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: the file gives target_modules = '(a+)+b', which can take too long to match: give names, or ...
    """
    total = 0.0
    for expression in expressions:
        whole = rf"(.*\.)?({expression})$" if ends else expression
        try:
            unknown = bool(re.compile(whole).flags & re.VERBOSE or re.search(r"\(\?[a-zA-Z]*x", whole))
        except re.error:
            continue
        except (RecursionError, OverflowError):
            unknown = True
        total += math.inf if unknown else _cost(whole).steps()
        if total > MOST_STEPS:
            raise ValueError(
                f"{where} = {expression[:200]!r}, which can take too long to match: give names, or an expression "
                "without repetitions inside repetitions and with at most three '.*'"
            )


def _cost(expression: str) -> _Cost:
    """The cost of an expression that compiles."""
    open_groups, place = [_Group()], 0
    while place < len(expression):
        pieces = open_groups[-1].alternatives[-1]
        repeat = REPEAT.match(expression, place) if pieces else None
        group = GROUP.match(expression, place)
        if repeat and any(repeat.groups()):
            least, most = _times(repeat)
            pieces[-1] = pieces[-1].repeated(least, most)
            place = repeat.end()
        elif group:
            if group[0].startswith(("(?P=", "(?#")):
                pieces.append(_Cost(0, 1.0, None))
                place = group.end() + (expression[group.end() : group.end() + 1] == ")")
                continue
            place = group.end()
            flags_alone = group[0][1:2] == "?" and group[0][-1].isalpha()
            if not flags_alone:
                open_groups.append(_Group())
        elif expression[place] == ")":
            if len(open_groups) > 1:
                cost = open_groups.pop().cost()
                open_groups[-1].alternatives[-1].append(cost)
            place += 1
        elif expression[place] == "|":
            open_groups[-1].alternatives.append([])
            place += 1
        else:
            item = ITEM.match(expression, place)
            assert item is not None
            pieces.append(_Cost(0, 1.0, _letter(item[0])))
            place = item.end()
    return open_groups[0].cost()


def _times(repeat: re.Match[str]) -> tuple[int, float]:
    """How often a repetition may occur, at least and at most."""
    if repeat[1]:
        return {"*": (0, math.inf), "+": (1, math.inf), "?": (0, 1)}[repeat[1]]
    least = int(repeat[2] or 0)
    return least, (least if not repeat[3] else float(repeat[4] or math.inf))


def _letter(item: str) -> str | None:
    """The one character that an item stands for; None if it may be several."""
    if item[0] == "\\":
        return item[1] if len(item) == 2 and not item[1].isalnum() else None
    return item.casefold() if len(item) == 1 and item not in ".^$" else None  # (?i) may stand before it
