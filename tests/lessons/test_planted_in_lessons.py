"""A fault planted in the library stops the lesson that teaches the thing: its claims are not decoration.

Only the cells tagged `core` run, which are quick. `tests/plant_faults.py` plants more, and runs the tests on them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
LESSONS = ("01_nested_dropout", "02_lora", "03_dylora")
RUN = """
import json, sys
stopped = {}
for lesson, cells in json.load(open(sys.argv[1])).items():
    names = {}
    try:
        for cell in cells:
            exec(cell, names)
    except AssertionError as error:
        stopped[lesson] = str(error)
print(json.dumps(stopped))
"""
# file, the code as it is, the code with the fault
REVERSED = [
    ("core/low_rank_product.py", "addmm_(z.t(), B[:, :b].t()", "addmm_(z.t(), B[:, -b:].t()"),
    ("core/low_rank_product.py", "z = A[:b] @ _flat(x)", "z = A[-b:] @ _flat(x)"),
    ("core/low_rank_product.py", "torch.addmm(weight, B[:, :b], A[:b]", "torch.addmm(weight, B[:, -b:], A[-b:]"),
    ("core/low_rank.py", "(self.lora_B[:, :b] @ self.lora_A[:b])", "(self.lora_B[:, -b:] @ self.lora_A[-b:])"),
    ("baselines/autoencoder.py", "self.model.encoder)[: self._active.b]", "self.model.encoder)[-self._active.b :]"),
    ("baselines/autoencoder.py", "self.decoder.T)[: units.shape[1]]", "self.decoder.T)[-units.shape[1] :]"),
]
OVER_R = [("core/low_rank.py", "alpha, b, r: alpha / b", "alpha, b, r: alpha / r")]
WRONG_MERGE = [("core/layer.py", "(weight.to(delta.dtype) + delta)", "(weight.to(delta.dtype) + 2 * delta)")]
UNMERGED_BY_SUBTRACTION = [
    ("core/layer.py", "self._original, weight.data = weight.data, merged",
     "self._original, weight.data = merged - self.delta_as_weight(), merged"),
]  # fmt: skip
NOT_FROZEN = [("core/low_rank.py", "active.of(self.name), active.frozen, None", "active.of(self.name), False, None")]


def stopped_with(faults: list[tuple[str, str, str]], folder: Path) -> dict[str, str]:
    """Which lessons stop at a claim when the library has these faults, and at which one."""
    shutil.copytree(ROOT / "dylora_kit", folder / "dylora_kit", ignore=shutil.ignore_patterns("__pycache__"))
    for file, code, fault in faults:
        path = folder / "dylora_kit" / file
        assert path.read_text().count(code) == 1, f"{file} no longer holds {code!r} once"
        path.write_text(path.read_text().replace(code, fault))
    cells = {
        name: [
            cell.source
            for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
            if "core" in cell.metadata.get("tags", [])
        ]
        for name in LESSONS
    }
    assert all(cells.values())
    (folder / "cells.json").write_text(json.dumps(cells))
    environment = os.environ | {"PYTHONPATH": str(folder), "DYLORA_KIT_HOME": str(ROOT)}
    command = [sys.executable, "-c", RUN, str(folder / "cells.json")]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("faults", "lessons"),
    [
        ([], set()),
        (REVERSED, {"01_nested_dropout", "02_lora", "03_dylora"}),
        (OVER_R, {"02_lora", "03_dylora"}),
        (WRONG_MERGE, {"02_lora"}),
        (UNMERGED_BY_SUBTRACTION, {"02_lora"}),
        (NOT_FROZEN, {"03_dylora"}),
    ],
    ids=["no fault", "reversed prefix", "scale over r", "wrong merge", "unmerge by subtraction", "frozen ignored"],
)
def test_a_planted_fault_stops_the_lessons_about_it(
    faults: list[tuple[str, str, str]], lessons: set[str], tmp_path: Path
) -> None:
    stopped = stopped_with(faults, tmp_path)
    assert set(stopped) == lessons, stopped
    assert all(claim.startswith("✗ not what was measured") for claim in stopped.values())
