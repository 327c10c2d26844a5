"""python -m dylora_kit class: its examples, what it says, and what it refuses."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from small_clone import write_clone

from dylora_kit.__main__ import main
from dylora_kit.commands import classroom


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with two small lessons, which the package takes for its own, beside the current folder."""
    root = write_clone(tmp_path / "clone")
    monkeypatch.setenv("DYLORA_KIT_HOME", str(root))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return root


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: Sequence[str]) -> int:
        (Path(command[command.index("--dest") + 1]) / "torch.whl").write_text("a wheel")
        return 0

    monkeypatch.setattr(subprocess, "call", download)
    monkeypatch.setattr(classroom.fill, "__defaults__", (download,))


@pytest.mark.parametrize("part", ["export", "wheelhouse"])
def test_the_examples_of_help_run(clone: Path, capsys: pytest.CaptureFixture[str], part: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["class", part, "--help"])
    assert ended.value.code == 0
    examples = re.findall(r"^  python -m dylora_kit (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        main(shlex.split(example))
        assert capsys.readouterr().out.startswith("written: ")


def test_everything_for_a_class_is_in_the_folder_and_its_readme_names_it(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clone / "docs").mkdir()
    (clone / "docs" / "index.html").write_text("<p>the slider</p>")
    main(["class", "export", "my-class", "--nbgrader"])
    said = capsys.readouterr().out
    folder = Path("my-class")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    for name in ("00_begin", "03_small"):
        assert {f"student/{name}.ipynb", f"teacher/{name}.ipynb", f"slides/{name}.slides.html"} <= files
        assert f"nbgrader/source/{name}/{name}.ipynb" in files
    assert {
        "student/images/picture.png",
        "student/hints.md",
        "teacher/solutions.md",
        "hand-out.pdf",
        "glossary.pdf",
        "page/index.html",
    } <= files
    assert (folder / "page" / "index.html").read_text() == "<p>the slider</p>"
    readme = (folder / "README.md").read_text()
    for name in {name.split("/")[0] for name in files} - {"README.md", "export.json"}:
        assert f"`{name}" in readme
    assert "pip install -q -r requirements.txt" in readme and "jupyterlab student/00_begin.ipynb" in readme
    assert f"{len(files) - 1} files in my-class; begin with" in said
    assert "no QR code: to have one, name the address" in said and "load reveal.js from unpkg.com" in said


def test_only_the_lessons_that_are_named_are_exported_and_parts_can_be_left_out(clone: Path) -> None:
    main(["class", "export", "my-class", "--lessons", "3", "--no-slides"])
    names = {path.name for path in Path("my-class").rglob("*.ipynb")}
    assert names == {"03_small.ipynb"}
    assert not Path("my-class", "slides").exists() and not Path("my-class", "nbgrader").exists()


def test_where_nothing_can_print_the_pages_are_left_out_and_it_is_said(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dylora_kit.classroom.export.packages_missing", lambda: ["fpdf2"])
    main(["class", "export", "my-class", "--no-slides"])
    assert "are left out: run python -m pip install fpdf2, and export again" in capsys.readouterr().out
    assert not list(Path("my-class").glob("*.pdf")) and ".pdf" not in Path("my-class", "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lessons", "09"], "there is no lesson '09': the lessons are 00, 03"),
        (["--page", "example.org"], "'example.org' is no address for a QR code"),
        (["--reveal", "nowhere"], "there is no dist/reveal.css in nowhere: expected reveal.js"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_nothing_is_written(
    clone: Path, words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["class", "export", "my-class", *words])
    assert str(ended.value.code).startswith(message) and "\n" not in str(ended.value.code)
    assert not Path("my-class").exists()


@pytest.mark.parametrize("part", ["export", "wheelhouse"])
def test_a_file_in_the_folders_place_is_kept(clone: Path, part: str) -> None:
    Path("mine").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["class", part, "mine"])
    assert str(ended.value.code).startswith("mine is a file: name a folder")
    assert Path("mine").read_text() == "mine"


def test_a_notebook_that_a_teacher_changed_is_not_written_over(clone: Path) -> None:
    main(["class", "export", "my-class", "--no-slides"])
    changed = Path("my-class", "student", "03_small.ipynb")
    changed.write_text("my own version")
    with pytest.raises(SystemExit) as ended:
        main(["class", "export", "my-class", "--no-slides"])
    assert "03_small.ipynb was changed since it was exported" in str(ended.value.code)
    assert changed.read_text() == "my own version"


def test_without_a_clone_it_says_what_is_missing(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYLORA_KIT_HOME", str(clone / "data"))
    for part in ("export", "wheelhouse"):
        with pytest.raises(SystemExit) as ended:
            main(["class", part, "my-class"])
        assert str(ended.value.code).startswith("there are no notebooks in")


def test_the_wheelhouse_says_how_to_install_from_it(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["class", "wheelhouse", "wheels"])
    first, command = capsys.readouterr().out.splitlines()
    assert first.startswith("written: wheels, 0.0 GB") and "--no-index --find-links" in command
