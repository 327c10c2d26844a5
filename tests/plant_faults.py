"""Plants faults in a copy of the library, one at a time, and shows which test catches each. Run by hand:

python tests/plant_faults.py
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
# what goes wrong, the file, the code as it is, the code with the fault
FAULTS = [
    ("scale over r", "core/low_rank", "alpha, b, r: alpha / b", "alpha, b, r: alpha / r"),
    ("reversed prefix", "core/low_rank_product", "_cast(A[:b], dtype).T", "_cast(A[-b:], dtype).T"),
    ("frozen ignored", "core/low_rank",
     "low, scale, gate, mask = (b - 1 if frozen else 0)", "low, scale, gate, mask = (0)"),
    ("every row is selected", "training/row_update", "reached = stacked.any(2 - half.dim)",
     "reached = stacked.any(2 - half.dim) | True"),
    ("lora_A alone selects rows", "training/row_update", "            if members:\n                reached",
     "            if members and half.dim == 0:\n                reached"),
    ("a second derivative takes z for a constant", "core/low_rank_product", "if torch.is_grad_enabled():", "if False:"),
    ("unmerge by W + D - D", "core/layer", "self._original, weight.data = weight.data, merged",
     "self._original, weight.data = merged - self.delta_as_weight(), merged"),
    ("no gradient through the adapter to x", "core/low_rank_product",
     "(g @ weight).addmm_(grad_z.T, rows)", "(g @ weight)"),
    ("dropout skipped on the fast path", "core/layer", "and not (self.lora_dropout and self.training)", "and True"),
    ("one step count for all rows", "training/row_update", "steps += 1\n", "steps[:] = steps.max() + 1\n"),
    ("layers of a stack mixed up", "training/row_update",
     "narrow(self.dim, low, high - low) for index in members]",
     "narrow(self.dim, low, high - low) for index in range(len(members))]"),
    ("rank 0 accepted", "core/rank", "if not 1 <= rank <= r:", "if not 0 <= rank <= r:"),
    ("sampler draws from the global generator", "training/sampling", "n, generator=self._generator,", "n,"),
    ("rank not given back", "core/rank", "finally:\n            self.rank = before", "finally:\n            pass"),
    ("rank left at the last draw", "training/loop", "            adapters.rank = rank\n", ""),
    ("random state not restored", "training/checkpoint", '        torch.set_rng_state(tensors["rng"])\n', ""),
    ("partial load accepted", "storage/adapter_files", "if name not in read:", "if False:"),
    ("the slider does not turn the model", "widgets/rank_explorer",
     "            live.handle.rank = rank\n", "            pass\n"),
    ("stored numbers shown", "widgets/live_model", "if weights not in self._states:", "if not self._states:"),
]  # fmt: skip


def planted(file: str, code: str, fault: str) -> str | None:
    """The first test that fails with a fault in the library, or None."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("dylora_kit", "tests", "data"):
            shutil.copytree(ROOT / part, copy / part)
        for part in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / part, copy)
        path = copy / "dylora_kit" / f"{file}.py"
        text = path.read_text()
        assert text.count(code) >= 1, f"{file}.py no longer holds {code!r}"
        path.write_text(text.replace(code, fault, 1))
        tests = [f"tests/{wing}" for wing in ("core", "storage", "training", "widgets")]
        environment = os.environ | {"PYTHONPATH": folder}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    failed = [line.split(" ")[1] for line in run.stdout.splitlines() if line.startswith("FAILED")]
    return failed[0] if failed else None


if __name__ == "__main__":
    survivors = 0
    for what, file, code, fault in FAULTS:
        caught = planted(file, code, fault)
        survivors += caught is None
        print(f"{what}: {caught or 'NOT CAUGHT'}", flush=True)
    sys.exit(survivors)
