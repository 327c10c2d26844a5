"""The runs behind the GLUE table: equal budgets, every method, and a command that goes on where it stopped."""

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from architectures import build
from toys import TEXTS

import dylora_kit as dk
from dylora_kit.paper import real_text
from dylora_kit.paper.compared_methods import LORA, trained
from dylora_kit.paper.runs import collect
from dylora_kit.tasks import Task, glue


def roberta() -> Any:
    return build("roberta")


def test_every_method_is_measured_with_the_task_s_metrics_and_the_same_budget() -> None:
    frame = real_text.run(roberta, TEXTS, 10, steps=3)
    ranks = {method: part["rank"].tolist() for method, part in frame[frame["metric"] == "f1"].groupby("method")}
    every = list(range(1, 9))
    assert ranks == {"DyLoRA": every, "LoRA, cut to b": every, "LoRA, cut by SVD": every, "LoRA, one per rank": [1, 4],
                     "LoRA, cut, scale α/r": every}  # fmt: skip
    assert frame["metric"].value_counts().to_dict() == {"f1": 34, "accuracy": 34}
    at_8 = frame[(frame["rank"] == 8) & (frame["metric"] == "f1")].set_index("method")["value"]
    assert at_8["LoRA, cut by SVD"] == pytest.approx(at_8["LoRA, cut to b"])


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, second = (real_text.run(roberta, TEXTS, 42, steps=2)["value"].tolist() for _ in range(2))
    assert first == second


def test_the_kept_adapter_is_the_dylora_that_was_measured(tmp_path: Path) -> None:
    measured = real_text.run(roberta, TEXTS, 10, keep=tmp_path / "kept", steps=2)
    model = roberta()
    adapters = dk.load(model, tmp_path / "kept")
    again = dk.sweep(model, adapters, TEXTS.test, metric="accuracy", batch_size=64, progress=False)
    of_dylora = measured[(measured["method"] == "DyLoRA") & (measured["metric"] == "accuracy")]
    assert again["value"].tolist() == of_dylora["value"].tolist()


def test_the_learning_rate_is_chosen_on_validation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def listening(model: Any, adapters: Any, data: Any, **options: Any) -> pd.DataFrame:
        seen.append(data)
        return pd.DataFrame({"value": [len(seen)]})

    monkeypatch.setattr(real_text, "sweep", listening)
    assert real_text.best(real_text.choose(roberta, TEXTS, steps=1)) == max(real_text.CANDIDATES)
    assert all(data is TEXTS.validation for data in seen)


def test_a_rate_at_which_a_rank_diverges_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([[math.nan, 0.9], [0.5, 0.6], [0.5, 0.5]])
    monkeypatch.setattr(real_text, "sweep", lambda *_, **__: pd.DataFrame({"value": next(values)}))
    assert real_text.best(real_text.choose(roberta, TEXTS, steps=1)) == real_text.CANDIDATES[1]


@pytest.mark.parametrize("name", ["bert", "deberta", "distilbert", "gpt2-score"])
def test_whatever_is_outside_the_pretrained_part_is_trained_along(name: str) -> None:
    model, adapters = trained(lambda: build(name), TEXTS, LORA, 10, steps=1)
    base = {id(p) for p in getattr(model, model.base_model_prefix).parameters()}
    for parameter in model.parameters():
        assert parameter.requires_grad or id(parameter) in base
    assert adapters.saved_modules


def test_a_study_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def run(_: Any, task: Task, seed: int, **settings: Any) -> pd.DataFrame:
        done.append(seed)
        row = {"method": "DyLoRA", "rank": 1, "metric": "f1", "value": 0.5, "seed": seed, "task": task.name}
        return pd.DataFrame([row])

    roberta().save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    monkeypatch.setattr(real_text, "run", run)
    monkeypatch.setattr(glue, "load", lambda *_, **__: TEXTS)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_: Namespace(pad_token_id=1))

    def measured(seeds: int, lr: float) -> pd.DataFrame:
        real = real_text.RealText(str(tmp_path / "base"), max_length=64, steps=3, lr=lr, batch_size=4)
        study = real.study(["rte"], seeds)
        return collect(study.path("rte", tmp_path / "mine"), study.jobs_of("rte", None, tmp_path / "mine"))

    measured(2, 1e-3)
    measured(3, 1e-3)
    assert done == [10, 42, 4242]
    written = pd.read_csv(tmp_path / "mine" / "results" / "table2-glue-base.csv")
    assert written["seed"].tolist() == done
    assert set(written["model"]) == {"base"}
    with pytest.raises(ValueError, match=r"has glue-toy with lr = 0.001, now it is 0.003: pass --out"):
        measured(3, 3e-3)


def test_trainings_that_were_stopped_go_on_and_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    whole = real_text.run(roberta, TEXTS, 10, steps=4)
    learned: list[str] = []

    def dies(build: Any, task: Task, method: str, seed: int, **settings: Any) -> Any:
        learned.append(method)
        if len(learned) == 2:  # the LoRA, after its second step

            def stop(step: int, *_: Any) -> None:
                if step == 3:
                    raise Killed

            return trained(build, task, method, seed, after_step=stop, checkpoint_every=2, **settings)
        return trained(build, task, method, seed, checkpoint_every=2, **settings)

    monkeypatch.setattr(real_text, "trained", dies)
    with pytest.raises(Killed):
        real_text.run(roberta, TEXTS, 10, steps=4, checkpoints=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"dylora", "lora-cut-to-b"}
    again = real_text.run(roberta, TEXTS, 10, steps=4, checkpoints=tmp_path)
    same = [column for column in whole if column != "cpu_seconds"]
    pd.testing.assert_frame_equal(again[same], whole[same], check_exact=True)
    seconds = again.groupby("method")["cpu_seconds"].max()
    assert seconds[["DyLoRA", "LoRA, cut to b"]].isna().all() and seconds["LoRA, one per rank"] >= 0


def test_each_kind_of_settings_has_checkpoints_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roberta().save_pretrained(tmp_path / "base")
    monkeypatch.setattr(glue, "load", lambda *_, **__: TEXTS)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_: Namespace(pad_token_id=1))
    folders = set()
    for lr, length in ((1e-3, 64), (3e-3, 64), (1e-3, 128)):
        real = real_text.RealText(str(tmp_path / "base"), max_length=length, steps=3, lr=lr, batch_size=4)
        folders |= {job.scratch for seed in (10, 42) for job in real.jobs("rte", seed, tmp_path / "adapters")}
    assert len(folders) == 6 and {folder.parent.parent for folder in folders} == {tmp_path / "checkpoints"}
