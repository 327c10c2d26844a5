"""python -m dylora_kit advise: a base model and a CSV file, and a rank is chosen."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

import dylora_kit as dk
from dylora_kit.__main__ import main

N = 60


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random BERT with a tokenizer, and reviews of which one word tells the class; the current folder has them."""
    words = ["good", "bad", *(f"w{index}" for index in range(9))]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"), model_max_length=16)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **sizes))
    model.bert.save_pretrained(tmp_path / "base-model")
    tokenizer.save_pretrained(tmp_path / "base-model")
    rows = [f"{('good', 'bad')[index % 2]} w{index % 9},{(5, 1)[index % 2]},{index / 10}" for index in range(N)]
    (tmp_path / "reviews.csv").write_text("review,stars,score\n" + "\n".join(rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_help_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["advise", "--help"])
    assert ended.value.code == 0
    examples = re.findall(r"^  python -m dylora_kit (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) == 2
    for example in examples:  # the second takes the adapter that the first has saved
        main([*shlex.split(example), "--steps", "120", "--lr", "0.02"])
        lines = capsys.readouterr().out.splitlines()
        assert re.match(r"Take rank \d of 8", lines[0])
        assert any(line.startswith("For PEFT: LoraConfig(r=") for line in lines)
        assert re.fullmatch(
            r"On the 6 rows kept for testing: accuracy (\d\.\d{3} at rank \d, )?\d\.\d{3} at rank 8\.", lines[-1]
        )


def test_what_has_learned_nothing_gets_no_advice(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(shlex.split("advise base-model reviews.csv --text review --label stars --steps 2 --lr 0"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("No rank is better than to answer always with the commonest class, whose accuracy is")
    assert not any("LoraConfig" in line or "all you need" in line for line in lines)


def test_a_base_with_a_head_for_other_classes_gets_a_new_one(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = BertForSequenceClassification.from_pretrained("base-model", num_labels=3)
    model.save_pretrained("tuned")
    BertTokenizerFast.from_pretrained("base-model").save_pretrained("tuned")
    main(shlex.split("advise tuned reviews.csv --text review --label stars --r 4 --steps 120 --lr 0.02"))
    assert capsys.readouterr().out.splitlines()[-1].endswith("1.000 at rank 4.")


def test_a_result_that_has_no_place_is_told_before_the_training(files: Path) -> None:
    (files / "afile.txt").write_text("x")
    for out in ("afile.txt/sub", "/proc/nested"):
        with pytest.raises(SystemExit) as ended:
            main([*shlex.split("advise base-model reviews.csv --text review --label stars --steps 9999999"),
                  "--out", out])  # fmt: skip
        assert f"{out} cannot be written" in str(ended.value.code)


def test_what_can_be_learned_is_learned_and_the_adapter_is_kept(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        shlex.split(
            "advise base-model reviews.csv --text review --label stars --r 4 --steps 120 --lr 0.02 --out nested"
        )
    )
    assert capsys.readouterr().out.splitlines()[-1].endswith("1.000 at rank 4.")
    model = BertForSequenceClassification.from_pretrained("base-model", num_labels=2)
    assert dk.load(model, "nested").r == 4


def test_what_the_base_lacks_is_saved_too_and_a_seed_says_it_all(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = BertModel.from_pretrained("base-model", add_pooling_layer=False)
    bare.save_pretrained("bare")
    BertTokenizerFast.from_pretrained("base-model").save_pretrained("bare")
    words = "advise bare reviews.csv --text review --label stars --r 2 --steps 20 --lr 0.02"
    lasts = []
    for more in ("--out first", "--out second", "--adapter first"):
        main(shlex.split(f"{words} {more}"))
        lasts.append(capsys.readouterr().out.splitlines()[-1])
    assert lasts[0] == lasts[1] == lasts[2]
    first, second = (load_file(files / name / "adapter_model.safetensors") for name in ("first", "second"))
    assert any("pooler.dense.weight" in name for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_adapter_of_other_classes_or_other_rows_is_refused(files: Path) -> None:
    main(shlex.split("advise base-model reviews.csv --text review --label stars --r 2 --steps 2 --out nested"))
    for words, problem in (("--label score", "the classes"), ("--label stars --seed 1", "the seed 0, and these are 1")):
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(f"advise base-model reviews.csv --text review --adapter nested {words}"))
        assert problem in str(ended.value.code) or "in no training row" in str(ended.value.code)


def test_scores_are_predicted_with_one_output(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(shlex.split("advise base-model reviews.csv --text review --label score --scores --r 2 --steps 3"))
    assert "rows kept for testing: pearson" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("none.csv --text review --label stars", "there is no file 'none.csv'"),
        (
            "reviews.csv --text text --label stars",
            "data has no column 'text': its columns are 'review', 'stars', 'score'",
        ),
        ("reviews.csv --text review --label stars --tolerance -1", "tolerance must be"),
        ("reviews.csv --text review --label stars --adapter nowhere", "there is no"),
        ("reviews.csv --text review --label stars --out vocab.txt", "vocab.txt is a file, which would be written over"),
    ],
)
def test_what_cannot_be_done_ends_with_one_sentence(files: Path, words: str, problem: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["advise", "base-model", *words.split(), "--steps", "1"])
    assert str(ended.value.code).startswith(problem), ended.value.code
