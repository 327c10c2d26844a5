"""python -m dylora_kit page: one file in a folder."""

import re
import shlex
from pathlib import Path

import pytest

from dylora_kit.__main__ import main
from dylora_kit.commands import page


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where the page is made of one line, without a model."""
    monkeypatch.setattr(page, "page", lambda: "<!doctype html>\n<p>1…8\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_of_help_runs_and_says_where_the_page_is(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["page", "--help"])
    assert ended.value.code == 0
    (example,) = re.findall(r"^  python -m dylora_kit (.*)$", capsys.readouterr().out, re.MULTILINE)
    main(shlex.split(example))
    assert capsys.readouterr().out.startswith(f"written: {Path('my-page', 'index.html')}, 0.0 MB")
    assert (made / "my-page" / "index.html").read_text(encoding="utf-8") == "<!doctype html>\n<p>1…8\n"


def test_a_page_that_is_there_is_replaced_whole_and_nothing_else_is_touched(made: Path) -> None:
    folder = made / "site"
    folder.mkdir()
    (folder / "index.html").write_text("another page, which is longer than the one that takes its place")
    (folder / "notes.txt").write_text("mine")
    main(["page", "site"])
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "notes.txt"]
    assert (folder / "index.html").read_text(encoding="utf-8") == "<!doctype html>\n<p>1…8\n"
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_in_the_folders_place_is_one_sentence_and_is_kept(made: Path) -> None:
    (made / "site").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["page", "site"])
    assert ended.value.code == "site is a file: name a folder for the page, a new one or one that is there"
    assert (made / "site").read_text() == "mine"
