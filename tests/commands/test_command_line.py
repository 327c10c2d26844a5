"""python -m dylora_kit: the commands, their examples, and what they print."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import adapted, toy

from dylora_kit.__main__ import main
from dylora_kit.storage.adapter_files import CONFIG, WEIGHTS
from dylora_kit.storage.files import data_folder

COMMANDS = ["resize", "inspect"]
LONG = "lora_unet_down_blocks_{}_attentions_1_transformer_blocks_0_attn1_to_{}"


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder and a file with a LoRA, and the current folder is where they are."""
    adapted(toy()).save(tmp_path / "my-adapter")
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name in (LONG.format(block, part) for block in (0, 11) for part in "qv"):
        tensors[f"{name}.lora_down.weight"] = torch.randn(24, 40, generator=generator)
        tensors[f"{name}.lora_up.weight"] = torch.randn(50, 24, generator=generator)
    save_file(tensors, tmp_path / "style.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dylora_kit", *words]
    return subprocess.run(command, capture_output=True, check=False, env=os.environ | environment)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_help_run(adapters: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    examples = re.findall(r"^  python -m dylora_kit (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        main(shlex.split(example))
        assert capsys.readouterr().out


def test_resizing_says_what_it_did(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["resize", "my-adapter", "--rank", "2", "--out", "smaller"])
    first, second, note, third = capsys.readouterr().out.splitlines()
    assert first == f"2 layers: rank 4 → 2, parameters {4 * (16 + 17)} → {2 * (16 + 17)}"
    assert re.fullmatch(r"energy kept: \d\d\.\d % in all, least in (up|down): \d\d\.\d %", second)
    assert note.startswith("this kit wrote ADAPTER: where its low ranks were trained, its own first rows may be better")
    assert third == "written: smaller"
    assert sorted(path.name for path in (adapters / "smaller").iterdir()) == [CONFIG, WEIGHTS]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resize", "my-adapter", "--rank", "5", "--out", "smaller"], "rank 5 is out of range"),
        (["resize", "nowhere", "--rank", "2", "--out", "smaller"], "there is no file or folder nowhere"),
        (["inspect", "my-adapter", "--ranks", "2", "5"], "--ranks is 2 5: name up to 7 ranks from 1 to 4"),
        (["inspect", "nowhere"], "there is no file or folder nowhere"),
    ],
)
def test_what_cannot_be_done_ends_with_one_sentence(adapters: Path, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert str(ended.value.code).startswith(message)
    assert not (adapters / "smaller").exists()


def test_an_error_is_one_line_and_the_command_fails(adapters: Path) -> None:
    done = run("resize", "my-adapter", "--rank", "5", "--out", "smaller")
    assert done.returncode == 1 and not done.stdout
    assert len(done.stderr.splitlines()) == 1


def test_a_command_that_is_missing_or_names_no_rank_is_told_how_it_is_used(
    adapters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["resize", "my-adapter", "--rank", "2", "--energy", "0.9", "--out", "smaller"]
    for words in ([], ["resize", "my-adapter", "--out", "smaller"], both):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("usage: python -m dylora_kit")


def columns(line: str) -> list[float]:
    """The numbers at the end of a line."""
    return [float(word) for word in re.search(r"(?:\s+\d+\.\d)+$", line)[0].split()]


def test_inspecting_shows_what_a_cut_to_each_rank_loses(adapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", "my-adapter"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["my-adapter: an adapter of this kit", "2 layers, rank 4, 132 parameters"]
    content = load_file(adapters / "my-adapter" / WEIGHTS)
    table = {line.split()[0]: line for line in lines[4:6]}
    everything = []
    for name in ("up", "down"):
        A, B = (content[f"base_model.model.{name}.{which}.weight"] for which in ("lora_A", "lora_B"))
        s = torch.linalg.svdvals(8 / 4 * B.double() @ A.double())[:4]
        lost = [100 * float(1 - s[:b].square().sum() / s.square().sum()) for b in (1, 2, 3)]
        assert columns(table[name]) == pytest.approx(lost, abs=0.051)
        p = s / s.sum()
        _, rank, uses, bars, *_ = table[name].split()
        assert (rank, uses, len(bars)) == ("4", f"{torch.exp(-(p * p.log()).sum()):.1f}", 4)
        assert bars[0] == "█" and list(bars) == sorted(bars, reverse=True)
        everything.append(s)
    (all_of_them,) = (line for line in lines if line.startswith("all "))
    total = sum(s.square().sum() for s in everything)
    lost = [100 * float(1 - sum(s[:b].square().sum() for s in everything) / total) for b in (1, 2, 3)]
    assert columns(all_of_them) == pytest.approx(lost, abs=0.051)


@pytest.mark.parametrize("words", [[], ["--ranks", *"1234567"]], ids=["as it comes", "all columns"])
def test_long_names_and_many_ranks_fit_into_100_columns(
    adapters: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    main(["inspect", "style.safetensors", *words])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    names = [line.split()[0] for line in lines[4:8]]
    assert names == [f"l_u_d_b_{block}_a_1_t_b_0_attn1_to_{part}" for block in (0, 11) for part in "qv"]
    assert [line.split()[0] for line in lines[10:12]] == ["attn1_to_q", "attn1_to_v"]
    shown = ["1", "2", "4", "8", "16"] if not words else list("1234567")
    assert re.findall(r"b=(\d+)", lines[3]) == shown


@pytest.mark.parametrize("name", ["world-describe-lora", "glue-all-MiniLM-L6-v2-rte", "digits-turned-dylora"])
def test_the_adapters_that_come_with_the_kit_can_be_inspected(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(data_folder() / "adapters" / name)])
    lines = capsys.readouterr().out.splitlines()
    assert "an adapter of this kit" in lines[0] and max(len(line) for line in lines[1:]) <= 100
    for line in lines[4 : lines.index("", 4)]:
        losses = columns(line)
        assert len(losses) == 7 and losses == sorted(losses, reverse=True) and 0 < losses[-1] < losses[0] < 100


def test_an_output_that_has_no_bars_gets_question_marks(adapters: Path) -> None:
    done = run("inspect", "my-adapter", PYTHONIOENCODING="cp1252")
    assert done.returncode == 0 and not done.stderr
    assert b"????" in done.stdout
