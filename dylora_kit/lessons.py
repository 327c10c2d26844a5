"""What the notebooks call to hold their own text to account."""

from typing import Any


def claim(text: str, condition: Any, **measured: float) -> None:
    """States a finding beside the numbers that were measured for it, and raises `AssertionError` if it is false.

    >>> claim("the sky is up", 3 > 2, up=3, down=2)
    ✓ the sky is up (up = 3, down = 2)
    """
    numbers = ", ".join(f"{name.replace('_', ' ')} = {value:.4g}" for name, value in measured.items())
    said = f"{text} ({numbers})" if numbers else text
    if not bool(condition):
        raise AssertionError(f"✗ not what was measured: {said}")
    print(f"✓ {said}")
