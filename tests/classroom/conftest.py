"""A clone with two small lessons, from which a class can be made quickly."""

from pathlib import Path

import pytest
from small_clone import write_clone


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with the lessons 00 and 03, the second with one exercise; the package takes it for its own."""
    root = write_clone(tmp_path / "clone")
    monkeypatch.setenv("DYLORA_KIT_HOME", str(root))
    monkeypatch.chdir(tmp_path)
    return root
