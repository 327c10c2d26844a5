"""Settings for all tests and the kernels they start: one thread, no bars, no network, hypothesis repeatable."""

import os
from collections.abc import Callable

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # matrices this small only wait for a second thread
os.environ["TQDM_DISABLE"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hypothesis import settings

settings.register_profile("kit", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("kit")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is slow or needs the hub, unless it is asked for with -m."""
    if not config.getoption("markexpr"):
        marks = ("by_hand", "hub")
        items[:] = [item for item in items if not any(item.get_closest_marker(mark) for mark in marks)]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a measured number into the test run's output."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}")

    return say
