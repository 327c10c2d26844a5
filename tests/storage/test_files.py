"""Files are whole or not there, whatever goes wrong while they are written or read."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from toys import assert_same

from dylora_kit.storage.files import (
    TensorFile,
    check_new_folder,
    read_json,
    read_tensors,
    tensors_as_bytes,
    write_files,
)
from dylora_kit.storage.temporary_files import SUFFIX, TemporaryFile

OLD = {"a.json": b"old a", "b.json": b"old b"}
NEW = {"a.json": b"new a", "b.json": b"new b"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def fail_at(monkeypatch, call: int) -> None:
    """The disk is full at the given file, counted from 1."""
    calls, real = [], os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)


def test_files_are_written_and_replaced_in_a_folder_that_is_made(tmp_path):
    folder = tmp_path / "new" / "folder"
    write_files(folder, OLD)
    write_files(folder, NEW)
    assert contents(folder) == NEW


@pytest.mark.parametrize("file", [1, 2])
@pytest.mark.parametrize("before", [{}, OLD], ids=["nothing before", "older files before"])
def test_a_full_disk_leaves_the_previous_files_and_nothing_else(tmp_path, monkeypatch, file, before):
    write_files(tmp_path, before)
    fail_at(monkeypatch, file)
    with pytest.raises(OSError, match="No space left"):
        write_files(tmp_path, NEW)
    assert contents(tmp_path) == before


def test_no_file_is_replaced_if_the_place_of_another_cannot_be_taken(tmp_path):
    (tmp_path / "a.json").write_bytes(b"old a")
    (tmp_path / "b.json").mkdir()
    with pytest.raises(OSError, match=r"b\.json"):
        write_files(tmp_path, NEW)
    assert (tmp_path / "a.json").read_bytes() == b"old a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_no_file_is_replaced_before_all_are_on_the_disk(tmp_path, monkeypatch):
    write_files(tmp_path, OLD)
    seen, real = [], os.fsync

    def look(handle: int) -> None:
        seen.append([(tmp_path / name).read_bytes() for name in OLD])
        real(handle)

    monkeypatch.setattr(os, "fsync", look)
    write_files(tmp_path, NEW)
    assert seen == [list(OLD.values())] * 2


def test_who_has_opened_the_previous_file_goes_on_reading_it(tmp_path):
    old, new = torch.zeros(100, 100), torch.ones(100, 100)
    write_files(tmp_path, {"t.safetensors": tensors_as_bytes({"w": old}), "a.json": b"old a"})
    with (tmp_path / "a.json").open("rb") as text, safe_open(tmp_path / "t.safetensors", "pt") as tensors:
        write_files(tmp_path, {"t.safetensors": tensors_as_bytes({"w": new}), "a.json": b"new a"})
        assert text.read() == b"old a"
        assert torch.equal(tensors.get_tensor("w"), old)
    assert (tmp_path / "a.json").read_bytes() == b"new a"
    assert torch.equal(read_tensors(tmp_path / "t.safetensors")[0]["w"], new)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_are_those_the_umask_gives_and_the_umask_is_kept(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_files(tmp_path, OLD)
    finally:
        assert os.umask(before) == umask
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_tensors_come_back_with_type_shape_and_metadata(tmp_path):
    tensors = {
        "half": torch.randn(3, 2).bfloat16(),
        "transposed": torch.randn(3, 5).T,
        "count": torch.tensor(7),
        "view": torch.arange(10)[2:5],
        "empty": torch.zeros(0, 4),
    }
    metadata = {"settings": [1, 2.5, None, "é"]}
    write_files(tmp_path, {"t.safetensors": tensors_as_bytes(tensors, metadata)})
    read, read_metadata = read_tensors(tmp_path / "t.safetensors")
    assert read_metadata == metadata
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_two_names_for_the_same_tensor_can_be_written(tmp_path):
    tensor = torch.randn(2, 3)
    write_files(tmp_path, {"t.safetensors": tensors_as_bytes({"one": tensor, "two": tensor})})
    read, _ = read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(read["one"], read["two"])


def test_a_file_of_other_software_has_no_metadata_of_ours(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "t.safetensors", metadata={"format": "pt"})
    assert read_tensors(tmp_path / "t.safetensors")[1] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused_by_name(tmp_path, value):
    tensors = {"fine": torch.ones(2), "layer.bad": torch.tensor([1.0, value])}
    write_files(tmp_path, {"t.safetensors": tensors_as_bytes(tensors)})
    with pytest.raises(ValueError, match=r"t\.safetensors holds values that are not finite in 'layer\.bad'"):
        read_tensors(tmp_path / "t.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 20, -1])
def test_a_truncated_tensor_file_is_called_damaged(tmp_path, keep):
    path = tmp_path / "t.safetensors"
    path.write_bytes(tensors_as_bytes({"w": torch.randn(9, 9)})[:keep])
    with pytest.raises(ValueError, match=r"t\.safetensors is damaged or no safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize("read", [read_tensors, read_json])
def test_a_missing_file_is_named_with_its_folder(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=rf"there is no some\.file in {tmp_path}"):
        read(tmp_path / "some.file")


@pytest.mark.parametrize("read", [read_tensors, read_json])
def test_a_file_that_stands_where_a_folder_is_expected_is_called_a_file(tmp_path, read):
    (tmp_path / "adapter").write_text("{}")
    with pytest.raises(FileNotFoundError, match="adapter is a file: pass the folder that it is in"):
        read(tmp_path / "adapter" / "some.file")


@pytest.mark.parametrize("depth", [101, 500, *range(900, 1000, 7), 5000])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_json_that_is_nested_deeply_is_damaged_at_any_depth(tmp_path, depth, left, right):
    (tmp_path / "c.json").write_text('{"a": ' + left * depth + "1" + right * depth + "}")
    with pytest.raises(ValueError, match=r"c\.json is damaged or no JSON file: it is nested too deeply"):
        read_json(tmp_path / "c.json")


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": }', b"\xff\xfe\x00"])
def test_a_damaged_json_file_is_called_damaged(tmp_path, text):
    (tmp_path / "c.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"c\.json is damaged or no JSON file"):
        read_json(tmp_path / "c.json")


@pytest.mark.parametrize(("content", "kind"), [([1], "list"), ("text", "str"), (3, "int"), (None, "NoneType")])
def test_json_that_is_no_object_is_refused(tmp_path, content, kind):
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"c\.json holds a {kind}: expected a JSON object"):
        read_json(tmp_path / "c.json")


# Faults in a file


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("metadata", [None, {"r": 4}])
def test_every_single_bit_that_flips_is_noticed(tmp_path, metadata):
    content = tensors_as_bytes({"a.weight": torch.randn(3, 2), "count": torch.arange(3)}, metadata)
    path = tmp_path / "t.safetensors"
    path.write_bytes(content)
    read_tensors(path)
    for bit in range(8 * len(content)):
        path.write_bytes(flipped(content, bit))
        with pytest.raises(ValueError, match=r"t\.safetensors"):
            read_tensors(path)


def test_tensors_that_changed_places_are_noticed(tmp_path):
    one, two = torch.randn(2, 2, generator=torch.Generator().manual_seed(0)), torch.ones(2, 2)
    first, second = (tensors_as_bytes({"a": a, "b": b}) for a, b in ((one, two), (two, one)))
    size = 2 * 2 * 2 * 4
    assert first[:-size] != second[:-size]  # the checksums
    (tmp_path / "t.safetensors").write_bytes(first[:-size] + second[-size:])
    with pytest.raises(ValueError, match="its checksum is not that of its contents"):
        read_tensors(tmp_path / "t.safetensors")


@pytest.mark.parametrize(
    "text", ["[1]", "5", "null", '{"sha256": 1}', '{"sha256": "", "metadata": 1}', "{", "[" * 20000, '"\\ud800"']
)
def test_odd_metadata_under_our_name_is_called_damaged(tmp_path, text):
    save_file({"w": torch.ones(2)}, tmp_path / "t.safetensors", metadata={"dylora_kit": text})
    with pytest.raises(ValueError, match=r"t\.safetensors is damaged or no safetensors file: .+") as caught:
        read_tensors(tmp_path / "t.safetensors")
    assert "\n" not in str(caught.value)


def test_a_file_of_before_the_checksum_is_read_with_its_metadata(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "t.safetensors", metadata={"metadata": '{"r": 4}'})
    assert read_tensors(tmp_path / "t.safetensors")[1] == {"r": 4}


def test_equal_tensors_give_equal_bytes_that_other_software_reads(tmp_path):
    tensors = {f"layer.{i}": torch.full((3,), float(i)) for i in range(20)}
    contents = {tensors_as_bytes(tensors, {"b": 1, "a": 2}) for _ in range(5)}
    assert len(contents) == 1
    (tmp_path / "t.safetensors").write_bytes(contents.pop())
    with safe_open(tmp_path / "t.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert torch.equal(file.get_tensor("layer.7"), tensors["layer.7"])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.bool, torch.int8])
def test_every_type_of_number_is_written_and_read(tmp_path, dtype):
    write_files(tmp_path, {"t.safetensors": tensors_as_bytes({"w": torch.ones(3).to(dtype)})})
    read, _ = read_tensors(tmp_path / "t.safetensors")
    assert read["w"].dtype == dtype
    assert torch.equal(read["w"].to(torch.complex64), torch.ones(3, dtype=torch.complex64))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, '{"r": ' + "9" * 5000 + "}"])
def test_json_that_python_cannot_read_is_called_damaged(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c\.json is damaged or no JSON file"):
        read_json(tmp_path / "c.json")


# What a killed process leaves


def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path):
    left = [tmp_path / f".a.json.abc12345{SUFFIX}", tmp_path / f".b.json.xyz{SUFFIX}"]
    others = [tmp_path / name for name in (".a.json.original", f"a.json{SUFFIX}", f".c.json.abc{SUFFIX}", ".a.json")]
    for path in left + others:
        path.write_bytes(b"half")
    write_files(tmp_path, NEW)
    assert contents(tmp_path) == NEW | {path.name: b"half" for path in others}


def test_what_another_writer_holds_is_left_alone(tmp_path):
    held = TemporaryFile(tmp_path / "a.json")
    held.write(b"of the other")
    write_files(tmp_path, NEW)
    assert held.path.read_bytes() == b"of the other"
    held.path.replace(held.place)
    held.close()
    assert contents(tmp_path) == NEW | {"a.json": b"of the other"}


def test_many_processes_may_write_into_one_folder(tmp_path):
    code = """
import sys
from pathlib import Path
from dylora_kit.storage.files import write_files
for number in range(60):
    write_files(Path(sys.argv[1]), {name: bytes([number]) * 5000 for name in ("a.json", "b.json")})
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert {name: len(set(content)) for name, content in contents(tmp_path).items()} == {"a.json": 1, "b.json": 1}


def test_a_file_that_is_read_one_tensor_at_a_time_gives_what_it_gives_at_once(tmp_path):
    path, tensors = tmp_path / "x.safetensors", {"up": torch.randn(3, 4), "count": torch.tensor(7)}
    path.write_bytes(tensors_as_bytes(tensors, {"r": 4}, {"author": "me"}))
    file = TensorFile(path)
    assert (file.shapes, file.metadata) == ({"up": (3, 4), "count": ()}, {"r": 4})
    assert file.texts == {"format": "pt", "author": "me"}
    assert_same({name: file.read(name) for name in file.shapes}, read_tensors(path)[0])


def test_a_file_that_is_read_one_tensor_at_a_time_is_refused_as_it_is_at_once(tmp_path):
    path = tmp_path / "x.safetensors"
    whole = tensors_as_bytes({"up": torch.randn(3, 4)}, texts={"author": "me"})
    flipped = whole.replace(b'"author": "me"', b'"author": "we"')
    for content in (whole[:-1], whole + b"0", whole[:-1] + bytes([whole[-1] ^ 1]), flipped, b"", b"text", whole[:20]):
        path.write_bytes(content)
        for read in (read_tensors, TensorFile):
            with pytest.raises(ValueError, match=r"x.safetensors is damaged or no safetensors file"):
                read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        TensorFile(path)


def test_a_tensor_that_is_not_finite_is_refused_when_it_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"up": torch.ones(3), "down": torch.tensor([1.0, torch.inf])}, path)
    file = TensorFile(path)
    assert file.read("up").sum() == 3
    with pytest.raises(ValueError, match="holds values that are not finite in 'down'"):
        file.read("down")


def test_an_interrupt_waits_until_all_files_are_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {"a": b"old", "b": b"old"})
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        moved = replace(self, target)
        signal.raise_signal(signal.SIGINT)
        return moved

    monkeypatch.setattr(Path, "replace", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            write_files(tmp_path, {"a": b"new", "b": b"new"})
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"new", b"new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_that_can_be_written_is_not_there_after_it_was_looked_at(tmp_path: Path) -> None:
    check_new_folder(tmp_path / "one" / "two")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    check_new_folder(tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"sub cannot be written \(Not a directory\): name a new folder elsewhere"):
        check_new_folder(tmp_path / "file" / "sub")
    with pytest.raises(ValueError, match="has no name"):
        check_new_folder("")
