"""How many threads a step takes: more are not always faster."""

import os
import time
from collections.abc import Callable

import torch


def timed(step: Callable[[], object], *, most: int | None = None) -> float:
    """The seconds of a step with one thread or with as many as there are cores, whichever is faster; that is kept.

    Where another program has a core, more threads can be many times as slow: in each operation one waits for another.

    Arguments:
        step: is called once before it is timed, for what is set up the first time.
        most: as many threads as are tried beside one; default is the number of cores.

    >>> timed(lambda: torch.randn(6, 5) @ torch.randn(5, 4), most=1) > 0
    True
    """
    step()
    seconds = {}
    before = torch.get_num_threads()
    try:
        for threads in sorted({1, most or os.cpu_count() or 1}):
            torch.set_num_threads(threads)
            start = time.perf_counter()
            step()
            seconds[threads] = time.perf_counter() - start
    except BaseException:
        torch.set_num_threads(before)
        raise
    best = min(seconds, key=seconds.__getitem__)
    torch.set_num_threads(best)
    return seconds[best]
