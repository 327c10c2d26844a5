"""A step is timed with one thread and with more, and the faster number is kept."""

import os
import time
from collections.abc import Iterator

import pytest
import torch

from dylora_kit.lessons.threads import timed


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("alone", "together", "kept"), [(0.25, 68.0, 1), (3.0, 1.5, 4), (1.0, 1.0, 1)])
def test_what_is_faster_is_kept(alone: float, together: float, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = [0.0], list[int]()
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def step() -> None:
        seen.append(torch.get_num_threads())
        clock[0] += 99.0 if len(seen) == 1 else alone if seen[-1] == 1 else together

    assert timed(step, most=4) == min(alone, together)
    assert torch.get_num_threads() == kept and seen[1:] == [1, 4]  # the first time does not count


def test_one_thread_at_most_is_not_tried_twice() -> None:
    seen: list[int] = []
    assert timed(lambda: seen.append(torch.get_num_threads()), most=1) >= 0
    assert seen[1:] == [1] and torch.get_num_threads() == 1


def test_a_step_that_fails_leaves_the_number_of_threads() -> None:
    def step() -> None:
        if torch.get_num_threads() == 3:
            raise RuntimeError("no memory")

    torch.set_num_threads(2)
    with pytest.raises(RuntimeError, match="no memory"):
        timed(step, most=3)
    assert torch.get_num_threads() == 2


def test_all_cores_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    timed(lambda: seen.append(torch.get_num_threads()))
    assert seen[1:] == [1, 3]
