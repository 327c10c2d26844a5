"""What a model writes at every rank: scores, texts kept beside them, and runs that go on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import fill

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.evaluation.text_metrics import scores
from dylora_kit.evaluation.writing import write

FIRSTS = ["The Red Fox is", "Dogs", "There is a terrace at the Merry Lantern, and", "On Sundays the pub", "A"]
ROWS = [{"first": first, "references": [f"{first} a pub in town.", "A bar."]} for first in FIRSTS]
TOKENS: dict[str, Any] = {"max_new_tokens": 6, "progress": False}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return backbones.tokenizer("world-gpt2")


def adapted(seed: int = 0, **options: Any) -> tuple[Any, dk.Adapters]:
    model = backbones.load("world-gpt2")
    adapters = dk.attach(model, r=3, target_modules="attention", **options)
    fill(adapters, seed)
    return model, adapters


def test_each_rank_is_scored_by_what_it_writes(tokenizer: Any) -> None:
    model, adapters = adapted()
    adapters.rank = 2
    metrics = ["bleu", "rouge-l"]
    frame = dk.sweep_texts(
        model, adapters, ROWS, tokenizer, metrics=metrics, method="mine", seed=7, batch_size=2, **TOKENS
    )
    assert adapters.rank == 2
    assert list(frame.columns) == ["method", "rank", "metric", "value", "seed"]
    assert set(frame["method"]) == {"mine"} and set(frame["seed"]) == {7}
    for rank in (1, 2, 3):
        with adapters.at(rank):
            texts = write(model, tokenizer, FIRSTS, max_new_tokens=6)
        expected = scores(texts, [row["references"] for row in ROWS], metrics)
        assert frame[frame["rank"] == rank].set_index("metric")["value"].to_dict() == pytest.approx(expected)


def test_texts_stand_in_a_file_in_which_each_batch_is_at_once(tokenizer: Any, tmp_path: Path) -> None:
    model, adapters = adapted()
    path = tmp_path / "new" / "texts.jsonl"
    dk.sweep_texts(model, adapters, ROWS, tokenizer, ranks=[3, 1], out=path, batch_size=2, **TOKENS)
    first, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert first["written with"]["max_new_tokens"] == 6
    assert sorted((line["rank"], line["row"]) for line in lines) == [(rank, row) for rank in (1, 3) for row in range(5)]
    for line in lines:
        assert line["prompt"] == FIRSTS[line["row"]]
        with adapters.at(line["rank"]):
            assert [line["text"]] == write(model, tokenizer, [line["prompt"]], max_new_tokens=6)


def test_a_run_that_was_killed_goes_on(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, adapters = adapted()
    path, whole = tmp_path / "texts.jsonl", tmp_path / "whole.jsonl"
    expected = dk.sweep_texts(model, adapters, ROWS, tokenizer, out=whole, batch_size=2, **TOKENS)
    written: list[int] = []

    def counting(model: Any, tokenizer: Any, prompts: Any, **options: Any) -> list[str]:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(len(prompts))
        return write(model, tokenizer, prompts, **options)

    monkeypatch.setattr("dylora_kit.evaluation.text_sweep.write", counting)
    with pytest.raises(KeyboardInterrupt):
        dk.sweep_texts(model, adapters, ROWS, tokenizer, out=path, batch_size=2, **TOKENS)
    assert written == [2, 2, 1, 2]
    with path.open("a") as file:
        file.write('{"rank": 2, "row": 1, "pro')  # cut off in the middle of a line
    monkeypatch.setattr("dylora_kit.evaluation.text_sweep.write", write)
    again = dk.sweep_texts(model, adapters, ROWS, tokenizer, out=path, batch_size=2, **TOKENS)
    assert again.equals(expected)
    assert path.read_text(encoding="utf-8") == whole.read_text(encoding="utf-8")


def test_what_is_there_is_not_written_again(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, adapters = adapted()
    path = tmp_path / "texts.jsonl"
    first = dk.sweep_texts(model, adapters, ROWS, tokenizer, out=path, **TOKENS)
    monkeypatch.setattr("dylora_kit.evaluation.text_sweep.write", None)
    assert dk.sweep_texts(model, adapters, ROWS, tokenizer, out=path, **TOKENS).equals(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "has texts with weights = "),
        ({"scaling": "alpha/r"}, "has texts with weights = "),
        ({"rows": [{"first": "The pub", "references": ["x"]}] * 5}, "has texts with prompts = "),
        ({"num_beams": 2}, "has texts with num_beams = 1, now it is 2: name another file"),
        ({"max_new_tokens": 7}, "has texts with max_new_tokens = 6, now it is 7"),
    ],
)
def test_texts_of_other_weights_or_settings_are_refused(
    tokenizer: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "texts.jsonl"
    dk.sweep_texts(*adapted(), ROWS, tokenizer, ranks=[1], out=path, **TOKENS)
    before = path.read_bytes()
    made = {key: change.pop(key) for key in ("seed", "scaling") if key in change}
    rows = change.pop("rows", ROWS)
    with pytest.raises(ValueError, match=message):
        dk.sweep_texts(*adapted(**made), rows, tokenizer, ranks=[1], out=path, **TOKENS | change)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"a,b\n1,2\n", b'{"rank": 1}\n', b'{"written with": {}}\n{"rank": 1}\n', b"\xff\n"]
)
def test_another_file_is_refused_and_left_as_it_is(tokenizer: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"texts\.jsonl is no file of texts, or is damaged"):
        dk.sweep_texts(*adapted(), ROWS, tokenizer, ranks=[1], out=path, **TOKENS)
    assert path.read_bytes() == content


def test_a_score_of_one_s_own_and_another_prompt(tokenizer: Any) -> None:
    model, adapters = adapted()
    own = {"prompt": lambda row: row["facts"], "metrics": lambda texts, rows: {"words": len(texts[0].split())}}
    frame = dk.sweep_texts(model, adapters, [{"facts": "The pub"}], tokenizer, ranks=[2], **TOKENS, **own)
    with adapters.at(2):
        (text,) = write(model, tokenizer, ["The pub"], max_new_tokens=6)
    assert frame[["metric", "value"]].values.tolist() == [["words", len(text.split())]]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "there are no rows to write a text of"),
        ([{"first": "x"}], {}, "row 0 has no 'references' to score a text against"),
        (ROWS, {"metrics": ["blue"]}, "unknown metric 'blue'"),
        (ROWS, {"ranks": [4]}, "rank 4 is out of range: expected 1 to 3"),
        (ROWS, {"max_new_tokens": 200}, "more than the 128 that the model can see"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tokenizer: Any, tmp_path: Path, rows: Any, options: Any, message: str
) -> None:
    path = tmp_path / "texts.jsonl"
    with pytest.raises(ValueError, match=message):
        dk.sweep_texts(*adapted(), rows, tokenizer, out=path, **TOKENS | options)
    assert not path.exists()


def test_adapters_of_another_model_are_refused(tokenizer: Any) -> None:
    _, adapters = adapted()
    with pytest.raises(ValueError, match="this handle belongs to another model"):
        dk.sweep_texts(torch.nn.Linear(2, 3), adapters, ROWS, tokenizer, **TOKENS)
