"""The world's six tasks, read from their files: what is loaded, and which files are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import BertTokenizerFast

from dylora_kit.storage.files import data_folder
from dylora_kit.synthetic.build import build
from dylora_kit.synthetic.examples import rows
from dylora_kit.synthetic.names import METRICS, NAMES, TEST, TRAIN
from dylora_kit.tasks import world


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small world, and the kit set to it."""
    build(tmp_path / "data" / "world", train=600, test=30)
    monkeypatch.setenv("DYLORA_KIT_HOME", str(tmp_path))
    return tmp_path / "data" / "world"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "the", "is", "a", "red", "fox"]))
    return BertTokenizerFast(str(path), eos_token="[SEP]")


@pytest.mark.parametrize("name", NAMES)
def test_the_files_hold_the_rows_that_the_grammar_makes(name: str) -> None:
    for split, size in (("train", TRAIN), ("test", TEST)):
        lines = (data_folder() / "world" / f"{name}-{split}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines[:60]] == rows(name, split, 60)
        assert len(lines) == size
    assert {key: len(part) for key, part in world.texts(name).items()}["validation"] == world.VALIDATION


@pytest.mark.parametrize("name", NAMES)
def test_each_task_is_loaded(name: str, home: Path, tokenizer: Any):
    task = world.load(name, tokenizer, limit=20)
    assert task.name == f"world-{name}" and task.metric == METRICS[name]
    assert (len(task.train), len(task.validation), len(task.test)) == (20, 500, 30)
    assert task.collate is not None
    examples = [task.test[index] for index in range(4)]
    batch = task.collate(examples)
    assert batch["input_ids"].shape == (4, max(len(example["input_ids"]) for example in examples))
    if name == "describe":
        assert batch["labels"].shape == batch["input_ids"].shape
        assert examples[0]["labels"][0] == -100 and examples[0]["labels"][-1] == tokenizer.eos_token_id


def test_an_unknown_task_lists_the_known():
    with pytest.raises(ValueError, match="unknown task 'sentimnet': expected one of 'sentiment', 'entailment'"):
        world.texts("sentimnet")


def test_a_file_changed_by_hand_is_refused(home: Path):
    path = home / "sentiment-test.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"label": 1', b'"label": 0', 1))
    with pytest.raises(ValueError, match=r"was changed or is damaged: rebuild it with python -m dylora"):
        world.texts("sentiment")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no sentiment-test.jsonl .* python -m dylora"):
        world.texts("sentiment")
