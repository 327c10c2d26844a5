"""A folder that is filled again: what is ours is replaced, what is not is never touched."""

import json
from pathlib import Path

import pytest

from dylora_kit.classroom.exported_folder import RECORD, write_export

FIRST = {"student/a.md": b"one", "b.md": b"two"}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_files_are_written_into_their_folders(tmp_path: Path) -> None:
    assert write_export(tmp_path / "out", FIRST) == [tmp_path / "out" / name for name in FIRST]
    assert contents(tmp_path / "out") == FIRST


def test_a_second_export_replaces_the_first_and_leaves_what_others_put_there(tmp_path: Path) -> None:
    write_export(tmp_path, FIRST)
    (tmp_path / "student" / "mine.md").write_text("mine")
    write_export(tmp_path, {"student/a.md": b"three", "c.md": b"four"})
    assert contents(tmp_path) == {
        "student/a.md": b"three", "b.md": b"two", "c.md": b"four", "student/mine.md": b"mine",
    }  # fmt: skip
    write_export(tmp_path, {"b.md": b"five"})
    assert contents(tmp_path)["b.md"] == b"five"


def test_a_file_that_someone_changed_is_not_written_over_and_nothing_is_written(tmp_path: Path) -> None:
    write_export(tmp_path, FIRST)
    (tmp_path / "b.md").write_text("my own words")
    with pytest.raises(ValueError, match=r"b\.md was changed since it was exported: name another folder, or move"):
        write_export(tmp_path, {"student/a.md": b"new", "b.md": b"new"})
    assert contents(tmp_path) == {"student/a.md": b"one", "b.md": b"my own words"}


def test_a_file_that_no_export_wrote_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("mine")
    with pytest.raises(ValueError, match=r"b\.md is there already, and no export wrote it: name another folder"):
        write_export(tmp_path, FIRST)
    assert contents(tmp_path) == {"b.md": b"mine"}


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.md").mkdir()
    with pytest.raises(ValueError, match=r"b\.md is there already"):
        write_export(tmp_path, FIRST)
    assert not (tmp_path / "student").exists()


def test_a_file_in_the_place_of_a_folder_inside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "student").write_text("mine")
    with pytest.raises(ValueError, match="student is a file where a folder has to be: name another folder"):
        write_export(tmp_path, FIRST)
    assert contents(tmp_path) == {"student": b"mine"}


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="out is a file: name a folder"):
        write_export(tmp_path / "out", FIRST)
    assert (tmp_path / "out").read_text() == "mine"


def test_an_export_that_was_stopped_before_its_record_can_be_repeated(tmp_path: Path) -> None:
    write_export(tmp_path, FIRST)
    (tmp_path / RECORD).unlink()
    write_export(tmp_path, FIRST)
    assert set(json.loads((tmp_path / RECORD).read_text())["files"]) == set(FIRST)


@pytest.mark.parametrize("record", ["[]", "{", '{"files": 3}'])
def test_a_record_that_is_none_is_one_sentence(tmp_path: Path, record: str) -> None:
    (tmp_path / RECORD).write_text(record)
    with pytest.raises(ValueError, match=rf"{RECORD}"):
        write_export(tmp_path, FIRST)
    assert contents(tmp_path) == {}
