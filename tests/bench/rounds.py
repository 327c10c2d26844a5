"""Methods that take turns: what each costs in each round, and the ratios between them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Method = Callable[[int], object]


class Cost(NamedTuple):
    """What a round of one method took, in seconds per call."""

    wall: float
    cpu: float  # of the whole process, all threads


def take_turns(methods: Mapping[str, Method], ranks: Sequence[int], rounds: int) -> dict[str, list[Cost]]:
    """Calls every method at every rank in each round; who begins changes from call to call.

    A round before them is not counted. A busy machine slows all methods of a round alike, so the ratios within a
    round are what to read.
    """
    names, costs = list(methods), {name: list[Cost]() for name in methods}
    for number in range(-1, rounds):
        total = {name: [0.0, 0.0] for name in names}
        for place, b in enumerate(ranks):
            for turn in range(len(names)):
                name = names[(turn + place + number) % len(names)]
                wall, cpu = time.perf_counter(), time.process_time()
                methods[name](b)
                total[name][1] += time.process_time() - cpu
                total[name][0] += time.perf_counter() - wall
        if number >= 0:
            for name, (wall, cpu) in total.items():
                costs[name].append(Cost(wall / len(ranks), cpu / len(ranks)))
    return costs


class Ratio(NamedTuple):
    """Ratios per round: their median and quartiles, and the median of the CPU time's."""

    median: float
    low: float
    high: float
    cpu: float


def ratio(costs: Mapping[str, Sequence[Cost]], above: str, below: str) -> Ratio:
    """What one method costs in parts of another.

    >>> ratio({"a": [Cost(2, 2)] * 3, "b": [Cost(1, 1)] * 3}, "a", "b").median
    2.0
    """
    pairs = list(zip(costs[above], costs[below], strict=True))
    low, median, high = statistics.quantiles([first.wall / second.wall for first, second in pairs], n=4)
    return Ratio(median, low, high, statistics.median(first.cpu / second.cpu for first, second in pairs))
