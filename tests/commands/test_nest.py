"""python -m dylora_kit nest: a LoRA that PEFT trained, a base model and texts, all of them files."""

import re
import shlex
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.__main__ import main

TEXTS = [f"the restaurant number {index} serves good food near the river" for index in range(24)]
R = 4


def give_values(model: Any) -> None:
    """A LoRA whose B is not zero, as after training."""
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.3, generator=generator)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random GPT-2 with a tokenizer, a LoRA of PEFT for it, and texts; the current folder is where they are."""
    tokenizer = backbones.tokenizer("world-gpt2")
    torch.manual_seed(0)
    base = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=24, n_layer=2, n_head=2, n_positions=64))
    base.save_pretrained(tmp_path / "base-model")
    tokenizer.save_pretrained(tmp_path / "base-model")
    config = peft.LoraConfig(r=R, lora_alpha=8, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    model = peft.get_peft_model(base, config)
    give_values(model)
    model.save_pretrained(tmp_path / "my-lora")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n\n")
    (tmp_path / "texts.csv").write_text("id,review\n" + "".join(f"{i},{text}\n" for i, text in enumerate(TEXTS)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_help_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nest", "--help"])
    assert ended.value.code == 0
    examples = re.findall(r"^  python -m dylora_kit (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) == 2
    for example, out, ranks in zip(examples, ("nested", "small"), ((1, 2, 4), (1, 2)), strict=True):
        main([*shlex.split(example), "--steps", "2"])
        assert capsys.readouterr().out.splitlines()[-1] == (
            f"written: {out}, and for PEFT {', '.join(f'rank-{b}' for b in ranks)} in it"
        )


def test_what_is_written_runs_at_each_rank_and_opens_in_plain_peft(files: Path, capsys: Any) -> None:
    main(
        [
            "nest",
            "base-model",
            "my-lora",
            "--texts",
            "texts.txt",
            "--out",
            "nested",
            "--steps",
            "3",
            "--ranks",
            "1",
            "4",
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines[2:-1]] == [1, 2, 4]
    ids = torch.arange(9)[None] + 5
    model = AutoModelForCausalLM.from_pretrained("base-model").eval()
    adapters = dk.load(model, "nested")
    for b in (1, 4):
        plain = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base-model"), f"nested/rank-{b}")
        with adapters.at(b), torch.no_grad():
            torch.testing.assert_close(plain.eval()(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_classifier_gets_as_many_classes_as_its_adapter_has(files: Path, capsys: Any) -> None:
    words = sorted({word for text in TEXTS for word in text.split()})
    (files / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = BertTokenizerFast(str(files / "vocab.txt"), model_max_length=32)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=24, num_labels=5)  # fmt: skip
    base = BertForSequenceClassification(config)
    base.bert.save_pretrained("bert")  # without a head, as a hub's base model
    tokenizer.save_pretrained("bert")
    lora = peft.LoraConfig(r=R, target_modules=["query", "value"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    model = peft.get_peft_model(base, lora)
    give_values(model)
    model.save_pretrained("classes")
    main(["nest", "bert", "classes", "--texts", "texts.txt", "--out", "nested", "--steps", "2"])
    model = BertForSequenceClassification.from_pretrained("bert", num_labels=5)
    assert dk.load(model, "nested").r == R


def test_a_decoder_that_classifies_gets_a_padding_token(files: Path, capsys: Any) -> None:
    base = GPT2ForSequenceClassification.from_pretrained("base-model", num_labels=3)
    lora = peft.LoraConfig(r=2, target_modules=["c_attn"], task_type="SEQ_CLS", fan_in_fan_out=True)
    model = peft.get_peft_model(base, lora)
    give_values(model)
    model.save_pretrained("classes")
    main(["nest", "base-model", "classes", "--texts", "texts.txt", "--out", "nested", "--steps", "2"])
    assert capsys.readouterr().out.splitlines()[-1] == "written: nested, and for PEFT rank-1, rank-2 in it"


@pytest.mark.parametrize("out", ["my-lora", "texts.txt"])
def test_nothing_that_is_there_is_written_over(files: Path, out: str) -> None:
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as ended:
        main(["nest", "base-model", "my-lora", "--texts", "texts.txt", "--out", out, "--steps", "2"])
    assert "which would be written over: name a new folder" in str(ended.value.code)
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--texts", "none.txt"], "there is no file 'none.txt'"),
        (
            ["--texts", "texts.csv"],
            "name the column of texts.csv in which the texts are: its columns are 'id', 'review'",
        ),
        (["--texts", "empty.txt"], "there is no text in empty.txt"),
        (["--texts", "latin.txt"], "'latin.txt' is not in utf-8"),
        (["--texts", "texts.txt", "--ranks", "5"], "rank 5 is out of range: expected 1 to 4"),
        (["--texts", "short.txt"], "the text 'a' of short.txt, one of 2 such texts, is a single token"),
        (["--texts", "texts.txt", "--encoding", "klingon"], "there is no encoding 'klingon'"),
        (["--texts", "texts.txt", "--column", "review"], "texts.txt is read as one text a line, and has no column"),
        (["--texts", "semicolons.csv", "--column", "review"], "a row of 'semicolons.csv' has more fields than the"),
    ],
)
def test_what_cannot_be_done_ends_with_one_sentence(files: Path, words: list[str], problem: str) -> None:
    (files / "empty.txt").write_text("\n \n")
    (files / "latin.txt").write_bytes("été\n".encode("cp1252"))
    (files / "short.txt").write_text("\n".join([*TEXTS, "a", "", "a"]))
    (files / "semicolons.csv").write_text("id;review\n1;good, and cheap, and near\n")
    with pytest.raises(SystemExit) as ended:
        main(["nest", "base-model", "my-lora", "--out", "nested", "--steps", "2", *words])
    assert str(ended.value.code).startswith(problem)
    assert not (files / "nested").exists()


def test_a_base_that_is_not_there_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as ended:
        main(["nest", "base-modle", "my-lora", "--texts", "texts.txt", "--out", "nested"])
    assert str(ended.value.code).startswith("there is no folder 'base-modle' here, and it cannot be fetched")


def test_a_rank_that_is_named_twice_is_written_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(shlex.split("nest base-model my-lora --texts texts.txt --out nested --steps 2 --ranks 2 1 2"))
    assert capsys.readouterr().out.splitlines()[-1] == "written: nested, and for PEFT rank-1, rank-2 in it"


def a_classifier(**base: Any) -> None:
    """A random BERT of two classes in the folder bert, and a LoRA for three classes in the folder classes."""
    tokenizer = backbones.tokenizer("world-gpt2")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=len(tokenizer), **sizes, num_labels=2)
    BertForSequenceClassification(config).save_pretrained("bert")
    tokenizer.save_pretrained("bert")
    model = BertForSequenceClassification.from_pretrained("bert", num_labels=3, ignore_mismatched_sizes=True)
    lora = peft.LoraConfig(r=R, target_modules=["query", "value"], modules_to_save=["classifier"], **base)
    adapted = peft.get_peft_model(model, lora)
    give_values(adapted)
    adapted.save_pretrained("classes")


def test_a_base_with_a_head_for_other_classes_takes_that_of_the_adapter(files: Path) -> None:
    a_classifier(task_type="SEQ_CLS")
    main(["nest", "bert", "classes", "--texts", "texts.txt", "--out", "nested", "--steps", "2"])
    model = BertForSequenceClassification.from_pretrained("bert", num_labels=3, ignore_mismatched_sizes=True)
    assert dk.load(model, "nested").r == R


def test_an_adapter_without_a_kind_that_does_not_fit_says_what_to_set(files: Path) -> None:
    a_classifier()
    BertModel.from_pretrained("bert").save_pretrained("bert")
    with pytest.raises(SystemExit) as ended:
        main(["nest", "bert", "classes", "--texts", "texts.txt", "--out", "nested"])
    assert "classes names no task_type" in str(ended.value.code)
    assert "set task_type in adapter_config.json to CAUSAL_LM or SEQ_CLS" in str(ended.value.code)


def test_a_head_that_nobody_trained_teaches_nothing(files: Path) -> None:
    a_classifier(task_type="SEQ_CLS")
    BertModel.from_pretrained("bert").save_pretrained("bert")
    weights = load_file("classes/adapter_model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if "classifier" not in name},
              "classes/adapter_model.safetensors")  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(["nest", "bert", "classes", "--texts", "texts.txt", "--out", "nested"])
    assert "bert has no weights for 'classifier', and classes has none either" in str(ended.value.code)
    assert not Path("nested").exists()


def test_a_kind_that_cannot_be_taught_is_refused(files: Path) -> None:
    config = files / "my-lora" / "adapter_config.json"
    config.write_text(config.read_text().replace('"CAUSAL_LM"', '"SEQ_2_SEQ_LM"'))
    with pytest.raises(SystemExit) as ended:
        main(["nest", "base-model", "my-lora", "--texts", "texts.txt", "--out", "nested"])
    assert "has the task_type 'SEQ_2_SEQ_LM': nest teaches what writes or classifies texts" in str(ended.value.code)


def test_a_model_of_an_unsaid_kind_is_refused(files: Path) -> None:
    config = files / "my-lora" / "adapter_config.json"
    config.write_text(config.read_text().replace('"CAUSAL_LM"', "null"))
    base = files / "base-model" / "config.json"
    base.write_text(base.read_text().replace("GPT2LMHeadModel", "NoSuchModel"))
    with pytest.raises(SystemExit) as ended:
        main(["nest", "base-model", "my-lora", "--texts", "texts.txt", "--out", "nested"])
    assert "set task_type in adapter_config.json to CAUSAL_LM or SEQ_CLS" in str(ended.value.code)
