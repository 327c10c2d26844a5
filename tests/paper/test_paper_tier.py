"""The paper's tier from end to end: its commands with tiny random models, on small files of every data set."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
import transformers
from generation_files import DART_ENTRIES, WEBNLG_ENTRIES, write_dart, write_e2e, write_webnlg
from glue_files import small_specs, tokenizer_in, write

from dylora_kit import backbones
from dylora_kit.paper import __main__ as command
from dylora_kit.paper import generation, real_text
from dylora_kit.paper.options import check_model
from dylora_kit.paper.published import printed_table
from dylora_kit.tasks import glue


def run(*words: Any) -> None:
    command.run(command.parser().parse_args(list(map(str, words))))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random models of the paper's two kinds, with tokenizers."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = tokenizer_in(tmp_path_factory.mktemp("words"))
    tokenizer.save_pretrained(folder / "roberta")
    transformers.RobertaForMaskedLM(
        transformers.RobertaConfig(vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, pad_token_id=0,
                                   num_attention_heads=2, intermediate_size=32, max_position_embeddings=90)
    ).save_pretrained(folder / "roberta")  # fmt: skip
    backbones.tokenizer("world-gpt2").save_pretrained(folder / "gpt2")
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=24, n_layer=2, n_head=2, n_positions=128, vocab_size=1470, bos_token_id=0,
                                eos_token_id=2)
    ).save_pretrained(folder / "gpt2")  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files of all eleven data sets."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(glue, "SPECS", small_specs())
    monkeypatch.setattr(generation, "NEW_TOKENS", 4)
    monkeypatch.setattr(generation, "_has_meteor", lambda: False)
    generation.real.cache_clear()
    for name in glue.PAPER:
        write(tmp_path / "data", name)
    write_e2e(tmp_path / "data")
    write_dart(tmp_path / "data", 3 * DART_ENTRIES)
    write_webnlg(tmp_path / "data", 9 * WEBNLG_ENTRIES)
    monkeypatch.setenv("DYLORA_KIT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_table_2_has_the_paper_s_eight_tasks_and_settings(tiny: Path, tmp_path: Path) -> None:
    run("table2", "--tier", "paper", "--model", tiny / "roberta", "--seeds", 10, "--out", tmp_path)
    written = pd.read_csv(tmp_path / "results" / "table2-glue-roberta.csv")
    assert list(written["task"].unique()) == [f"glue-{name}" for name in glue.PAPER]
    assert set(written["method"]) == {"DyLoRA", "LoRA, cut to b", "LoRA, cut by SVD", "LoRA, cut, scale α/r",
                                      "LoRA, one per rank"}  # fmt: skip
    common = {name: written[name].unique().tolist() for name in ("lr", "weight_decay", "batch_size", "max_length")}
    assert common == {"lr": [4e-4], "weight_decay": [0.1], "batch_size": [32], "max_length": [512]}
    assert written["steps"].unique().tolist() == [30 * 2]  # 36 texts: two batches of 32 at most see them all


@pytest.mark.parametrize(
    ("table", "tasks", "r"), [("table6", ["e2e"], 4), ("table6-r8", ["e2e"], 8), ("table9", ["dart", "webnlg"], 4)]
)
def test_tables_6_and_9_have_the_paper_s_data_and_settings(
    table: str, tasks: list[str], r: int, tiny: Path, tmp_path: Path
) -> None:
    words = ("--tier", "paper", "--model", tiny / "gpt2", "--seeds", 42, "--limit", 1, "--beams", 2, "--out", tmp_path)
    run(table, *words)
    for task in tasks:
        written = pd.read_csv(tmp_path / "results" / f"{table}-gpt2-{task}.csv")
        bleu = written[written["metric"] == "bleu"]
        assert bleu.groupby("method")["rank"].max().to_dict() == dict.fromkeys(
            ("DyLoRA", "DyLoRA, frozen", "LoRA, cut to b", "LoRA, cut, scale α/r", "LoRA, cut by SVD"), r
        ) | {"LoRA, one per rank": 4}
        common = {name: written[name].unique().tolist() for name in ("lr", "weight_decay", "batch_size", "warmup")}
        assert common == {"lr": [2e-4], "weight_decay": [0.01], "batch_size": [8], "warmup": [500]}


def test_the_paper_s_models_and_seeds_are_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    class Asked(Exception):
        pass

    def record(model: str, **settings: Any) -> None:
        asked.update(settings, model=model)
        raise Asked

    monkeypatch.setattr(real_text, "RealText", record)
    monkeypatch.setattr(generation, "real_study", lambda table, model, **settings: record(model, **settings))
    for table, model in (("table2", "FacebookAI/roberta-base"), ("table6", "openai-community/gpt2-medium")):
        with pytest.raises(Asked):
            run(table, "--tier", "paper")
        assert asked["model"] == model
    assert asked["seeds"] == 3 and asked["steps"] is asked["lr"] is asked["batch_size"] is None
    printed = printed_table("table8").set_index(["model", "parameter"])["value"]
    assert len(printed["GPT-2 medium", "seeds"].split(",")) == 3


@pytest.mark.parametrize(
    ("words", "model"),
    [(["nested", "--tasks", "e2e"], "openai-community/gpt2-medium"), (["nested"], "FacebookAI/roberta-base"),
     (["table9"], "openai-community/gpt2-medium"), (["epochs"], "FacebookAI/roberta-base")],
)  # fmt: skip
def test_the_model_fits_the_table(words: list[str], model: str) -> None:
    arguments = command.parser().parse_args([*words, "--tier", "paper"])
    check_model(arguments)
    assert arguments.model == model


def test_rates_are_chosen_on_the_tasks_of_the_tier(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(real_text, "choose", lambda build, task, **settings: {1e-3: 0.5})
    run("table2", "--tier", "paper", "--model", tiny / "roberta", "--choose")
    chosen = [line.partition(",")[0] for line in capsys.readouterr().out.splitlines() if "on validation" in line]
    assert chosen == list(glue.PAPER)


def test_accelerate_launches_the_same_command(tiny: Path, tmp_path: Path, data: Path) -> None:
    words = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu", "-m",
             "dylora_kit.paper", "table9", "--tier", "paper", "--model", str(tiny / "gpt2"), "--tasks", "webnlg",
             "--seeds", "10", "--limit", "1", "--beams", "1", "--out", str(tmp_path)]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "webnlg, DyLoRA, seed 10: done" in done.stdout
    first, *_ = (tmp_path / "results").glob("table9-gpt2/*/dylora.jsonl")
    assert json.loads(first.read_text().splitlines()[0])


def test_several_processes_that_would_train_the_same_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"^several processes would train the same: launch one \(--num_processes 1\)"):
        run("table2", "--tier", "paper")


@pytest.mark.parametrize("option", ["--steps", "--lr", "--batch-size"])
def test_settings_of_table_8_cannot_be_passed(option: str) -> None:
    with pytest.raises(ValueError, match=f"^--tier paper has the settings of Table 8: leave out {option}$"):
        run("table6", "--tier", "paper", option, 4)
