"""The tables in data/results/README.md, made from the results files.

    python -m dylora_kit.paper report

writes each table anew between `<!-- table: NAME -->` and `<!-- end -->`. The text around them is written by hand; that
it says what the files say is tested.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dylora_kit.paper import (
    arena,
    epochs,
    judged_advice,
    nested_afterwards,
    nested_texts,
    tables_at_every_rank,
    tables_beside,
    tables_of_texts,
)
from dylora_kit.paper.results_files import MISSING, Rows
from dylora_kit.storage.files import data_folder, write_files

BUILDERS: dict[str, Callable[[Path], Rows]] = {
    "settings": tables_at_every_rank.settings_of,
    "table1": tables_beside.table1,
    "table2": tables_at_every_rank.table2,
    "table2-digits": tables_at_every_rank.on_digits,
    "table2-world": tables_at_every_rank.in_words,
    "table2-real": tables_at_every_rank.on_real_text,
    "table2-at-8": tables_at_every_rank.at_8,
    "table3": tables_beside.table3,
    "table4": tables_beside.table4,
    "table4-every-rank": partial(tables_at_every_rank.choices, stem="table4"),
    "table5": tables_beside.table5,
    "table6": tables_of_texts.table6,
    "table7": tables_beside.table7,
    "table7-every-rank": partial(tables_at_every_rank.choices, stem="table7"),
    "table9": tables_of_texts.table9,
    "updates": partial(tables_at_every_rank.choices, stem="updates"),
    "appendix-a": tables_beside.appendix_a,
    "advisor": judged_advice.table,
    "own-loras": tables_at_every_rank.own_loras,
    "layers": tables_at_every_rank.layer_ranks,
    "ordering": tables_at_every_rank.row_ordering,
    "nested": nested_afterwards.table,
    "nested-texts": nested_texts.table,
    "arena": arena.table,
    "epochs": epochs.table,
}
MARK = re.compile(r"<!-- (?:table: (?P<name>.*?)|end) -->")


def beside_the_paper(name: str, folder: Path | None = None) -> str:
    """A table in Markdown: the paper's cells, where it has some, beside what was measured.

    Arguments:
        name: such as `"table4"`; `BUILDERS` has all.
        folder: where the results files are; default is data/results.

    Raises `ValueError` for an unknown table.

    >>> beside_the_paper("table7").splitlines()[2].split(" | ")[:3]
    ['| individual', '646', '52.64']
    """
    if name not in BUILDERS:
        raise ValueError(f"there is no table {name!r}: expected one of {', '.join(BUILDERS)}")
    return markdown(BUILDERS[name](folder or data_folder() / "results"))


def write(path: Path) -> str:
    """Writes the tables of a page anew, from the results files beside it, and says how many.

    Raises `ValueError`, and leaves the page as it is, if it has an unknown table or one that is not closed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: a report fills in the tables of a page, so copy one there first")
    text = path.read_text(encoding="utf-8")
    try:
        new = filled(text, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    write_files(path.parent, {path.name: new.encode()})
    return f"tables made anew in {path}: {sum(bool(mark['name']) for mark in MARK.finditer(text))}"


def filled(text: str, folder: Path) -> str:
    """A text with every table between its marks made anew, and all else as it is.

    Arguments:
        folder: where the results files are.
    """
    pieces, position, name = [], 0, None
    for mark in MARK.finditer(text):
        if (name is None) == (mark["name"] is None):
            raise ValueError(f"the table {name!r} is not closed: put <!-- end --> after it" if name else
                             "<!-- end --> stands where no table is open: take it out")  # fmt: skip
        if name is None:
            pieces.append(text[position : mark.end()])
        else:
            pieces.append(f"\n\n{beside_the_paper(name, folder)}\n\n{mark.group()}")
        name, position = mark["name"], mark.end()
    if name is not None:
        raise ValueError(f"the table {name!r} is not closed: put <!-- end --> after it")
    return "".join(pieces) + text[position:]


def markdown(rows: Rows) -> str:
    """Rows as a Markdown table, without columns that have nothing in them.

    >>> print(markdown([{"rank": "1", "here": "90.0", "there": "–"}]))
    | rank | here |
    | --- | --- |
    | 1 | 90.0 |
    """
    if not rows:
        return "Not measured."
    columns = [key for key in rows[0] if any(row[key] != MISSING for row in rows)]
    lines = [columns, ["---"] * len(columns), *([row[key] for key in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
