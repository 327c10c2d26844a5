"""The command that writes the files: the same bytes each time."""

import os
import subprocess
import sys
from pathlib import Path


def test_two_processes_write_the_same_bytes(tmp_path: Path):
    code = "import sys; from pathlib import Path; from dylora_kit.synthetic.build import build; " \
           "build(Path(sys.argv[1]), train=40, test=20)"  # fmt: skip
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / seed)], env=environment, check=True)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / seed).iterdir()} for seed in ("1", "2"))
    assert first == second and len(first) == 13
