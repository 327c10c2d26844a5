"""Table 2 in words: every method on every task of the world, one training after another, resumable."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.backbones import pretrain_language
from dylora_kit.paper import every_rank
from dylora_kit.paper.compared_methods import BAG, DYLORA, FULL, HEAD, HELD, LORA, SVD
from dylora_kit.paper.embedded import load, made_of, measure
from dylora_kit.paper.runs import collect
from dylora_kit.synthetic import corpus
from dylora_kit.synthetic.build import build as build_world
from dylora_kit.tasks import world
from dylora_kit.tasks.describe import scores, write
from dylora_kit.tasks.world import prompt_of

SMALL = {"steps": 2, "batch_size": 4}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a small world and two hardly trained models."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYLORA_KIT_HOME", str(folder))
        patch.setattr(pretrain_language, "READ", 400)
        patch.setattr(corpus, "test_texts", frozenset)
        patch.setattr(world, "VALIDATION", 8)
        build_world(folder / "data" / "world", train=24, test=12)
        for name, settings in pretrain_language.PRETRAINING.items():
            patch.setitem(pretrain_language.PRETRAINING, name, settings | SMALL | {"steps": 4})
            backbones.pretrain(name, progress=False)
        yield folder


@pytest.mark.parametrize("name", ["entailment", "similarity"])
def test_every_method_gives_the_metric_at_its_ranks(name: str) -> None:
    every = list(range(1, 9))
    for method in every_rank.IN_WORDS:
        frame = every_rank.run_words(f"world-{name}", method, 10, **SMALL, lr=1e-3)
        assert set(frame["metric"]) == {world.METRICS[name]}
        ranks = {key: part["rank"].tolist() for key, part in frame.groupby("method")}
        if method == LORA:
            assert ranks == {LORA: every, SVD: every, HELD: every}
        else:
            assert ranks == {method: [8] if method in (HEAD, FULL) else every}


def test_descriptions_are_scored_by_what_the_model_writes() -> None:
    frame = every_rank.run_words("world-describe", DYLORA, 10, **SMALL, lr=1e-3)
    assert frame["metric"].tolist() == ["bleu", "slot error rate"] * 8
    assert frame[frame["metric"] == "bleu"]["value"].between(0, 1).all()


def test_a_batch_of_texts_is_written_as_each_would_be_alone() -> None:
    model, tokenizer = backbones.load("world-gpt2"), backbones.tokenizer("world-gpt2")
    rows = world.texts("describe")["test"]
    together = write(model, tokenizer, rows[:3])
    assert together == [write(model, tokenizer, [row])[0] for row in rows[:3]]


def test_a_long_prompt_leaves_the_positions_that_there_are() -> None:
    model, tokenizer = backbones.load("world-gpt2"), backbones.tokenizer("world-gpt2")
    long = {"first": "the " * 90}
    assert pretrain_language.LENGTH - 60 < len(tokenizer(prompt_of(long))["input_ids"]) < pretrain_language.LENGTH
    assert len(write(model, tokenizer, [long])) == 1


def test_texts_that_say_the_facts_have_no_slot_errors_and_others_have() -> None:
    rows = world.texts("describe")["test"]
    right = scores([row["references"][1] for row in rows], rows)
    assert right == {"bleu": 1.0, "slot error rate": 0.0}
    shifted = [row["references"][0] for row in rows[1:] + rows[:1]]
    assert scores(shifted, rows)["slot error rate"] > 0.5
    with pytest.raises(ValueError, match="1 texts for 12 rows: expected one for each"):
        scores(["The Red Fox."], rows)


def test_a_study_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    real = every_rank.run_words

    def run(task: str, method: str, seed: int, **settings: Any) -> pd.DataFrame:
        if len(done) == 2:
            raise OSError("no more")
        done.append((method, seed))
        return real(task, method, seed, **settings)

    task = "world-similarity"
    monkeypatch.setattr(every_rank, "run_words", run)
    monkeypatch.setattr(every_rank, "IN_WORDS", (HEAD, DYLORA))
    monkeypatch.setitem(every_rank.TABLE2, task, SMALL | {"lr": 3e-3})
    path = every_rank.STUDY.path(task, tmp_path)
    with pytest.raises(OSError, match="no more"):
        collect(path, every_rank.STUDY.jobs_of(task, [10, 42], tmp_path))
    assert done == [(HEAD, 10), (DYLORA, 10)]
    monkeypatch.setattr(every_rank, "run_words", real)
    collect(path, every_rank.STUDY.jobs_of(task, [10, 42], tmp_path))
    written = pd.read_csv(path)
    assert written.groupby(["method", "seed"], sort=False).size().to_dict() == {
        (BAG, 10): 1, (HEAD, 10): 1, (DYLORA, 10): 8, (HEAD, 42): 1, (DYLORA, 42): 8,
    }  # fmt: skip
    kept = tmp_path / "adapters" / "world-similarity-dylora"
    assert [folder.name for folder in kept.parent.iterdir()] == [kept.name]
    build, data = load(task)
    model = build()
    again = measure(task, data, model, dk.load(model, kept))
    first = written[(written["method"] == DYLORA) & (written["seed"] == 10)]
    assert again["value"].round(6).tolist() == first["value"].tolist()
    assert f"python -m dylora_kit.paper table2 --tasks {task}" in (kept / "README.md").read_text()
    assert set(written["backbone"]) == {made_of(task)["backbone"]}
    monkeypatch.setitem(every_rank.TABLE2, task, SMALL | {"lr": 3e-3, "steps": 3})
    with pytest.raises(ValueError, match="has similarity, head only with steps = 2, now it is 3"):
        collect(path, every_rank.STUDY.jobs_of(task, [10, 42], tmp_path))


def test_learning_rates_are_compared_on_the_validation_part(monkeypatch: pytest.MonkeyPatch) -> None:
    splits: list[str] = []
    real = every_rank.measure

    def listening(*given: Any, split: str = "test", **options: Any) -> pd.DataFrame:
        splits.append(split)
        return real(*given, split=split, **options)

    monkeypatch.setattr(every_rank, "measure", listening)
    monkeypatch.setattr(every_rank, "CANDIDATES", (1e-3, 3e-3))
    for task in ("world-sentiment", "world-describe"):
        monkeypatch.setitem(every_rank.TABLE2, task, SMALL | {"lr": 3e-3})
        assert set(every_rank.choose(task, DYLORA)) == {1e-3, 3e-3}
    assert splits == ["validation"] * 4
