"""What a setup cell says of the packages that are installed, and what it adds."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from dylora_kit.lessons import installed
from dylora_kit.lessons.installed import NotReadyError, packages_taken, ready

TAKEN = ["torch>=2.6", "numpy>=2.0", "transformers>=5.9", "sacrebleu>=2.4", 'peft>=0.17; extra == "peft"',
         'pycocoevalcap>=1.2; extra == "meteor"']  # fmt: skip
COLAB = {"torch": "2.11.0+cu128", "numpy": "2.1.3", "transformers": "5.15.0", "peft": "0.20.0"}


class Machine:
    """Packages that seem to be installed, and a pip that adds what it is asked for, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
        self.versions, self.asked, self.held, self.failure = dict(versions), list[str](), list[str](), ""
        monkeypatch.setattr(metadata, "requires", lambda _: TAKEN)
        monkeypatch.setattr(metadata, "version", self.version)
        monkeypatch.setattr(subprocess, "run", self.pip)

    def version(self, name: str) -> str:
        if name not in self.versions:
            raise metadata.PackageNotFoundError(name)
        return self.versions[name]

    def pip(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        start = [sys.executable, "-m", "pip", "install", "-q", "-c"]
        assert command[: len(start)] == start
        self.held = Path(command[len(start)]).read_text().splitlines()
        self.asked = command[len(start) + 1 :]
        if not self.failure:
            self.versions |= {text.split(">=")[0]: "99" for text in self.asked}
        return subprocess.CompletedProcess(command, bool(self.failure), "", self.failure)


@pytest.fixture
def colab(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch, COLAB)


def test_here_every_package_is_ready() -> None:
    ready()


def test_a_lesson_takes_one_thread_so_that_many_can_share_a_machine() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        ready()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert {package.name for package in packages_taken()} >= {"torch", "transformers", "sacrebleu", "peft"}


def test_a_lesson_is_given_no_package_that_none_takes() -> None:
    taken = {package.name: package.for_lessons for package in packages_taken()}
    assert {name for name, for_lessons in taken.items() if not for_lessons} == {
        "pycocoevalcap", "fpdf2", "segno", "distributed"
    }  # fmt: skip


def test_an_old_transformers_is_named_with_its_version_and_what_to_do(colab: Machine) -> None:
    colab.versions |= {"sacrebleu": "2.4.0", "transformers": "5.8.1"}
    with pytest.raises(NotReadyError) as found:
        ready()
    assert str(found.value) == (
        "transformers 5.8.1 is not >=5.9: run %pip install 'transformers>=5.9' in a cell of its own, restart the "
        "kernel, and begin again with this cell"
    )


def test_several_packages_are_one_sentence_and_one_command(colab: Machine) -> None:
    colab.versions |= {"numpy": "1.26.4", "transformers": "5.8.1"}
    del colab.versions["torch"]
    with pytest.raises(NotReadyError) as found:
        ready()
    said = str(found.value)
    assert said.startswith("torch is not installed, numpy 1.26.4 is not >=2.0, transformers 5.8.1 is not >=5.9 and ")
    assert "run %pip install 'torch>=2.6' 'numpy>=2.0' 'transformers>=5.9' 'sacrebleu>=2.4' in a cell" in said
    assert colab.asked == []


def test_what_only_meteor_needs_stops_nobody(colab: Machine) -> None:
    colab.versions["sacrebleu"] = "2.4.0"
    ready()
    assert "pycocoevalcap" not in colab.versions


def test_colab_gets_what_is_missing_and_nothing_else_changes(colab: Machine) -> None:
    ready(add=True)
    assert colab.asked == ["sacrebleu>=2.4"]
    held = dict(line.split("==") for line in colab.held)
    here = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    assert held["torch"] == here["torch"] and held["numpy"] == here["numpy"] and len(held) > 30


@pytest.mark.parametrize("name", ["torch", "numpy"])
@pytest.mark.parametrize("version", ["", "0.1"])
def test_torch_and_numpy_are_never_installed(name: str, version: str, colab: Machine) -> None:
    colab.versions[name] = version
    if not version:
        del colab.versions[name]
    with pytest.raises(NotReadyError, match=f"^{name} "):
        ready(add=True)
    assert colab.asked == ["sacrebleu>=2.4"]


def test_what_is_too_old_is_told_and_not_exchanged(colab: Machine) -> None:
    colab.versions |= {"sacrebleu": "2.4.0", "transformers": "5.8.1"}
    with pytest.raises(NotReadyError, match=r"^transformers 5\.8\.1 is not >=5\.9: run %pip install"):
        ready(add=True)
    assert colab.asked == []


def test_where_pip_cannot_add_it_its_last_line_is_the_reason(colab: Machine) -> None:
    colab.failure = "WARNING: retrying\nERROR: No matching distribution found for sacrebleu>=2.4\n"
    with pytest.raises(NotReadyError) as found:
        ready(add=True)
    assert str(found.value) == (
        "sacrebleu is not installed, and pip cannot add it: ERROR: No matching distribution found for sacrebleu>=2.4"
    )


def test_a_version_that_pip_cannot_name_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        def __init__(self, name: str | None, version: str) -> None:
            self.metadata, self.version = {"Name": name}, version

    found = [Found("Some_Thing", "1.0"), Found("some-thing", "0.9"), Found("odd", "of-today"), Found(None, "1")]
    monkeypatch.setattr(metadata, "distributions", lambda: found)
    assert installed._as_it_is() == ["some-thing==1.0"]


def test_a_kit_that_is_not_installed_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    ready()


def test_a_notebook_shows_the_sentence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shell = InteractiveShell()
    shell.run_cell("from dylora_kit.lessons.installed import NotReadyError\nraise NotReadyError('torch is old')")
    assert capsys.readouterr().out.strip() == "torch is old"
