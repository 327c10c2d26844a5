"""The progress bar of everything that takes a while."""

import os
import sys
from typing import Any


def progress_bar(total: int, desc: str, *, show: bool, initial: int = 0) -> Any:
    """A tqdm bar for a notebook or a terminal. `TQDM_DISABLE=1` in the environment hides it.

    Arguments:
        total: how many updates make the bar full.
        desc: the text before it.
        show: if false, there is no bar.
        initial: how many updates are done already.
    """
    from tqdm.auto import tqdm

    # tqdm's bar for notebooks does not read the variable
    hidden = not show or os.environ.get("TQDM_DISABLE", "") not in ("", "0")
    return tqdm(total=total, desc=desc, initial=initial, file=sys.stdout, leave=False, disable=hidden)
