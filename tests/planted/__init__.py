"""Faults that `tests/plant_faults.py` plants in a copy of the library, in lists by what goes wrong.

`layers`, `models`, `training`, `evaluation`, `generation`, `files`, `integrations`, `nesting`, `arena`, `resizing`,
`live_views`, `paper_tables`
"""

# what goes wrong, the file, the code as it is, the code with the fault, and the tests that should notice
Fault = tuple[str, str, str, str, str]
