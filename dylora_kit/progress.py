"""The progress bar of everything that takes a while."""

import sys
from typing import Any


def progress_bar(total: int, desc: str, *, show: bool, initial: int = 0) -> Any:
    """A tqdm bar for a notebook or a terminal. `TQDM_DISABLE=1` in the environment hides all of them."""
    from tqdm.auto import tqdm

    hidden = {} if show else {"disable": True}  # tqdm reads TQDM_DISABLE only where `disable` is not given
    return tqdm(total=total, desc=desc, initial=initial, file=sys.stdout, leave=False, **hidden)
