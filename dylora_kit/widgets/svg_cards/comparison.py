"""What the cards of a printed and a measured table are drawn from, as plain numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Measured(NamedTuple):
    """A mean, its standard deviation over seeds (nan for one seed, or where none is told), and how many seeds."""

    mean: float
    spread: float = math.nan
    seeds: int = 0  # 0 where it is not told

    def __str__(self) -> str:
        """
        >>> print(Measured(84.84, 1.26, 5), Measured(3.38), Measured(6794))
        84.8 ± 1.3 3.38 6,794
        """
        places = 0 if abs(self.mean) >= 1000 else 2 if abs(self.mean) < 10 else 1
        spread = f" ± {self.spread:,.{places}f}" if math.isfinite(self.spread) else ""
        return f"{self.mean:,.{places}f}{spread}"


@dataclass(frozen=True)
class Line:
    """One method: what was measured, by rank, by row or by cost.

    Attributes:
        name: as the card writes it.
        values: `{rank, number of a row, or cost: Measured}`.
        colour: the number of its colour, 0 to 3, which is also that of its marker.
        hollow: whether its marker is empty and its line dashed.
    """

    name: str
    values: Mapping[float, Measured]
    colour: int = 0
    hollow: bool = False


@dataclass(frozen=True)
class Side:
    """One half of a comparison.

    Attributes:
        who: whose numbers they are.
        what: the model, the task and the seeds, in a line.
        lines: the methods that were measured.
        instead: lines of text where nothing was measured.
    """

    who: str
    what: str
    lines: tuple[Line, ...] = ()
    instead: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A table of a paper beside what was measured again.

    Attributes:
        table: such as `"Table 2"`.
        about: what the table is about, in a few words.
        tier: where it was measured again, such as `"real text"`.
        task: on what.
        kind: `"curves"` by rank, `"pairs"` of dots in rows, a `"plane"` of cost and quality, or `"words"`.
        across: what the horizontal axis has.
        paper, kit: the two halves.
        missing: a sentence on what was not measured.
        rows: the names of the rows, of pairs and of words.
    """

    table: str
    about: str
    tier: str
    task: str
    kind: str
    across: str
    paper: Side
    kit: Side
    missing: str
    rows: tuple[str, ...] = field(default=())

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that either half has, for curves; none for any other kind.

        >>> line = Line("LoRA", {1: Measured(90.0), 8: Measured(91.0)})
        >>> paper = Side("The paper", "", (line,))
        >>> Comparison("Table 1", "", "", "", "curves", "", paper, Side("", ""), "").ranks
        (1, 8)
        """
        if self.kind != "curves":
            return ()
        return tuple(sorted({int(x) for side in (self.paper, self.kit) for line in side.lines for x in line.values}))

    def finding(self, rank: int) -> str:
        """What the picture shows at a rank, in sentences."""
        at = f" at rank {rank}" if self.ranks else ""
        halves = " ".join(f"{side.who}, {side.what}{at}: {self._said(side, rank)}." for side in (self.paper, self.kit))
        return f"{self.table}, {self.about}. {halves} {self.missing}".strip()

    def _said(self, side: Side, rank: int) -> str:
        if self.kind == "words":
            return ", ".join(f"{row} {words}" for row, words in zip(self.rows, side.instead, strict=True))
        if not side.lines:
            return " ".join(side.instead).rstrip(".")
        if self.ranks:
            there = [f"{line.name} {line.values[rank]}" for line in side.lines if rank in line.values]
            return ", ".join(there) or "nothing at this rank"
        if self.rows:
            return "; ".join(
                f"{row}: " + ", ".join(f"{line.name} {line.values[at]}" for line in side.lines if at in line.values)
                for at, row in enumerate(self.rows)
            )
        points = ((line.name, x, value) for line in side.lines for x, value in line.values.items())
        return ", ".join(f"{name} {value} ({self.across}: {Measured(x)})" for name, x, value in points)
