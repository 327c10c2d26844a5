"""What follows from a description, by the facts that are read back from it."""

import re

from dylora_kit.synthetic import read, statements


def follows(first: str, second: str) -> int | None:
    """The label of a statement by the facts that are read; None if it is not a plain one about one restaurant."""
    names = {first[slice(*span)].lower() for span in read.find_names(first)}
    described, claimed = read.read(first), read.read(second)
    if len(names) > 1 or len(claimed) != 1:
        return None
    if re.search(r"more than|over|higher|after|still|later|fewer|under|lower|before|earlier", second):
        return None
    ((attribute, (value,)),) = [(key, tuple(values)) for key, values in claimed.items()]
    statement = statements.Statement(attribute, "not" if value.startswith("not ") else "is", value.removeprefix("not "))
    known = described.get(attribute)
    return 1 if known is None else 0 if statement.holds(min(known)) else 2
