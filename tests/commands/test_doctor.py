"""python -m dylora_kit doctor: what works here is said, and what does not names what to do."""

import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest

from dylora_kit.__main__ import main
from dylora_kit.commands import doctor
from dylora_kit.commands.doctor import Finding


def found_by(check: object) -> list[Finding]:
    assert callable(check)
    return list(check())


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tests run beside these."""
    monkeypatch.setattr(doctor, "FREE", 0)


def test_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE", 1e15)
    assert [found.works for found in found_by(doctor.machine) if "memory" in found.text] == [False]


def test_here_the_lessons_will_run(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "The lessons will run here." and not any(line.startswith("✗") for line in lines)
    for word in (f"✓ Python {sys.version_info.major}.", "torch ", "CPU threads", "% right at rank 1", "draw sliders"):
        assert any(word in line for line in lines), word
    main(["doctor", "--quiet"])
    assert capsys.readouterr().out == "The lessons will run here.\n"


def test_a_package_that_is_old_or_missing_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"transformers": "5.8.1", "peft": None, "torch": None, "pycocoevalcap": None}
    needed = ["torch>=2.6", "numpy>=2.0", "transformers>=5.9", 'peft>=0.17; extra == "peft"',
              'pycocoevalcap>=1.2; extra == "meteor"']  # fmt: skip
    monkeypatch.setattr(metadata, "requires", lambda _: needed)
    real = metadata.version

    def version(name: str) -> str:
        if versions.get(name, "") is None:
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(metadata, "version", version)
    said = {finding.text: finding.works for finding in found_by(doctor.packages)}
    assert said["transformers 5.8.1 is not >=5.9: python -m pip install 'transformers>=5.9'"] is False
    assert said["torch is not installed: python -m pip install 'torch>=2.6'"] is False
    assert said["peft is not installed: python -m pip install 'peft>=0.17'"] is False
    assert said["pycocoevalcap is not installed: python -m pip install 'pycocoevalcap>=1.2'"] is None
    (fitting,) = (text for text, works in said.items() if works)
    assert "numpy" in fitting and "transformers" not in fitting


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 2, "final", 0))
    assert found_by(doctor.python) == [(False, "Python 3.10.2: the kit takes >=3.11; install such a Python")]


def test_files_that_are_not_there_stop_the_lessons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--quiet"])
    first, last = capsys.readouterr().out.splitlines()
    assert (
        first.startswith("✗ own files: FileNotFoundError: there is no data folder in")
        and last == "1 thing to mend: see ✗ above."
    )
    assert ended.value.code == 1


def test_a_jupyter_without_widgets_cannot_draw_sliders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda: [str(tmp_path)])
    _, sliders, grids = found_by(doctor.jupyter)
    assert sliders.works is False and "pip install jupyterlab_widgets" in sliders.text
    assert grids.works is False and "pip install anywidget" in grids.text
    for part in (doctor.WIDGETS, doctor.OWN_WIDGETS):
        (tmp_path / part).mkdir(parents=True)
    assert found_by(doctor.jupyter)[1:] == [(True, "JupyterLab can draw sliders"), (True, "JupyterLab can draw grids")]


def test_no_browser_and_no_java_are_told_and_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert [found.works for check in (doctor.browser, doctor.beside) for found in found_by(check)] == [None, None]
