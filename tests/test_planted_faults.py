"""The table of planted faults fits the code: what a fault would change is there, and so are the tests to catch it."""

import pytest
from plant_faults import FAULTS, ROOT, paths_of


@pytest.mark.parametrize(
    ("file", "code", "fault", "names"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_a_fault_can_be_planted_and_its_tests_exist(file, code, fault, names):
    assert code != fault
    text = (ROOT / "dylora_kit" / f"{file}.py").read_text()
    assert code in text
    compile(text.replace(code, fault, 1), file, "exec")  # a file that cannot be read is no fault that a test notices
    assert all((ROOT / test).exists() for test in paths_of(names))
