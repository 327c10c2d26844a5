"""Plants faults in a copy of the library, one at a time, and shows which test catches each. Run by hand:

python tests/plant_faults.py            # all of them, up to an hour on two cores
python tests/plant_faults.py dropout    # those whose name has the word
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from planted import (
    Fault,
    arena,
    evaluation,
    files,
    generation,
    integrations,
    layers,
    live_views,
    models,
    nesting,
    paper_tables,
    resizing,
    training,
)

ROOT = Path(__file__).parent.parent
LISTS = (
    layers,
    models,
    training,
    evaluation,
    generation,
    files,
    integrations,
    resizing,
    nesting,
    arena,
    live_views,
    paper_tables,
)
FAULTS: list[Fault] = [fault for faults in LISTS for fault in faults.FAULTS]


def paths_of(names: str) -> list[str]:
    return [f"tests/{name}.py" for name in names.split()]


def planted(file: str, code: str, fault: str, tests: Sequence[str]) -> str | None:
    """The first test that fails with a fault in the library, or None."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("dylora_kit", "tests", "data", "notebooks"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / part, copy)
        path = copy / "dylora_kit" / f"{file}.py"
        text = path.read_text()
        assert text.count(code) >= 1, f"{file}.py no longer holds {code!r}"
        path.write_text(text.replace(code, fault, 1))
        environment = os.environ | {"PYTHONPATH": folder}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
        run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return None
    lines = (line.partition(" ")[2] for line in run.stdout.splitlines() if line.startswith(("FAILED ", "ERROR ")))
    failed = [line.partition(" - ")[0] for line in lines if "::" in line]
    if not failed:  # a file that cannot be imported notices nothing
        raise RuntimeError(f"no test ran to its end with {fault!r} in {file}.py:\n{run.stdout[-2000:]}{run.stderr}")
    return failed[0]


if __name__ == "__main__":
    chosen = [row for row in FAULTS if all(word in row[0] for word in sys.argv[1:])]
    survivors = 0
    for what, file, code, fault, names in chosen:
        caught = planted(file, code, fault, paths_of(names))
        survivors += caught is None
        print(f"{what}: {caught or 'NOT CAUGHT'}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} noticed")
    sys.exit(survivors > 0)
