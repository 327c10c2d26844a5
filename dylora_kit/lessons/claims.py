"""What a lesson states, tested where it stands: a line of text, in a notebook a line with small bars."""

import math
import sys
from html import escape
from typing import Any

_BAR = (
    '<span style="display:inline-block;width:3.4em;height:.6em;margin-left:.4em;border-radius:.3em;overflow:hidden;'
    'background:var(--jp-border-color2,#c9c9cf)"><span style="display:block;height:.6em;width:{width:.0f}%;'
    'background:{colour}"></span></span>'
)
CLAIM = "dk-claim"  # the class of a finding in HTML: slides set its size
_TRUE, _FALSE = "var(--jp-success-color1,#0a7d4f)", "var(--jp-warn-color1,#b84300)"


def claim(text: str, condition: Any, *, required: bool = True, unit: str = "%", **measured: float) -> None:
    """Shows a finding beside the numbers that were measured for it, or raises `AssertionError` if it is false.

    Arguments:
        text: the finding.
        condition: whether it is true.
        required: False where a lesson is run with another model than its own: what is false is shown with ✗ then.
        unit: what the numbers count. With percent they are shares of 1. Whole numbers stay as they are.
        measured: the numbers, by name; `_` is shown as a space.

    >>> claim("the sky is up", 3 > 2, up=3, down=0.25)
    ✓ the sky is up (up = 3, down = 25.0 %)
    >>> claim("it takes a moment", True, unit="s", waiting=0.251)
    ✓ it takes a moment (waiting = 0.251 s)
    """
    numbers = {name.replace("_", " "): value for name, value in measured.items()}
    shown = ", ".join(f"{name} = {in_words(value, unit)}" for name, value in numbers.items())
    finding = f"{text} ({shown})" if shown else text
    if required and not bool(condition):
        raise AssertionError(f"✗ not what was measured: {finding}")
    plain = f"{'✓' if condition else '✗'} {finding}"
    if not _in_notebook():
        print(plain)
        return
    from IPython.display import display

    display({"text/plain": plain, "text/html": _as_html(text, bool(condition), numbers, unit)}, raw=True)


def in_words(value: float, unit: str) -> str:
    """A number with its unit.

    >>> in_words(0.856, "%"), in_words(12, "%"), in_words(0.5, "")
    ('85.6 %', '12', '0.5')
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if unit == "%":
        return f"{100 * value:.1f} %" if math.isfinite(value) else "not finite"
    number = f"{value:.4g}" if 1e-4 <= abs(value) < 1e4 or value == 0 else f"{value:.1e}"
    return f"{number} {unit}".strip()


def _as_html(text: str, holds: bool, numbers: dict[str, float], unit: str) -> str:
    """The finding as a quiet line, as large as the text around it; a number that is a share has a small bar."""
    colour = _TRUE if holds else _FALSE
    parts = []
    for name, value in numbers.items():
        share = unit == "%" and isinstance(value, float) and 0 <= value <= 1
        bar = _BAR.format(width=100 * value, colour=colour) if share else ""
        number = f"<b>{escape(in_words(value, unit))}</b>{bar}"
        parts.append(f'<span style="white-space:nowrap;margin-left:1em">{escape(name)} {number}</span>')
    mark = f'<b style="color:{colour};margin-right:.5em">{"✓" if holds else "✗"}</b>'
    return (
        f'<div class="{CLAIM}" style="line-height:1.5;padding:2px 10px;border-left:3px solid {colour}">{mark}'
        f'{escape(text)}<span style="opacity:.85">{"".join(parts)}</span></div>'
    )


def _in_notebook() -> bool:
    """Whether a kernel shows what is displayed."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
