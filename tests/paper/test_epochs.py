"""With Table 8's settings: cuts and DyLoRAs are measured along one training, which they do not disturb."""

import itertools
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from architectures import build
from toys import TEXTS

import dylora_kit as dk
from dylora_kit.paper import __main__ as command
from dylora_kit.paper import epochs
from dylora_kit.paper.compared_methods import DYLORA, FULL, HEAD, HELD, LORA, NEW_HEAD, ONE, SVD, trained
from dylora_kit.paper.jobs import Study
from dylora_kit.paper.nested_afterwards import Case
from dylora_kit.paper.published import printed_table
from dylora_kit.paper.real_text import steps_of
from dylora_kit.paper.settings import ALPHA, ROBERTA, SEEDS, R
from dylora_kit.storage.files import write_files
from dylora_kit.tasks import glue

MEASURE = partial(dk.sweep, eval_data=TEXTS.test, metric=("f1", "loss"), progress=False)
CASE = Case(partial(build, "roberta"), TEXTS, lambda model, adapters, ranks: MEASURE(model, adapters, ranks=ranks))


def test_the_settings_are_those_of_table_8_to_the_letter() -> None:
    printed = printed_table("table8").query("model == 'RoBERTa-base'").set_index("parameter")["value"]
    ours = {"learning rate": ROBERTA["lr"], "weight decay": ROBERTA["weight_decay"], "epochs": ROBERTA["epochs"],
            "batch size": ROBERTA["batch_size"], "maximum sequence length": ROBERTA["max_length"], "r": R,
            "alpha": ALPHA}  # fmt: skip
    assert {name: float(printed[name]) for name in ours} == pytest.approx(ours)
    defaults = dk.train.__kwdefaults__ or {}
    assert (defaults["warmup"], defaults["schedule"]) == (float(printed["warmup ratio"]), "linear")
    assert set(map(int, printed["seeds"].split(","))) <= set(SEEDS)


@pytest.mark.parametrize("way", [*epochs.WAYS, *epochs.ALSO])
def test_it_is_measured_after_each_mark_at_four_ranks(
    way: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()  # one second from look to look: a training, or a measurement, takes one
    monkeypatch.setattr(epochs.time, "process_time", lambda: float(next(clock)))
    frame = epochs.run(lambda: CASE, way, 10, marks=(1, 2))
    methods = [LORA, SVD, HELD] if way == LORA else [way]
    ranks = {ONE: (1,), HEAD: (8,), FULL: (8,)}.get(way, (1, 2, 4, 8))
    expected = [(mark, method, rank) for mark in (1, 2) for method in methods for rank in ranks]
    expected += [(2, NEW_HEAD, rank) for rank in (1, 2, 4) if way == LORA]  # at the end
    of_f1 = frame[frame["metric"] == "f1"]
    assert list(of_f1[["epochs", "method", "rank"]].itertuples(index=False, name=None)) == expected
    assert frame.groupby("epochs")["cpu_seconds"].unique().map(list).to_dict() == {1: [1.0], 2: [2.0]}
    first = ", ".join(f"{value:.3f}" for value in of_f1["value"][: len(ranks)])
    assert f"glue-toy, seed 10, epoch 1, {methods[0]}: {first}\n" in capsys.readouterr().out


def test_at_its_own_rank_every_cut_is_the_lora_itself_and_below_they_differ() -> None:
    frame = epochs.run(lambda: CASE, LORA, 10, marks=(2,))
    loss = frame[frame["metric"] == "loss"].set_index(["method", "rank"])["value"]
    assert loss[SVD, 8] == pytest.approx(loss[LORA, 8], abs=1e-5) and loss[HELD, 8] == loss[LORA, 8]
    assert len({round(loss[method, 1], 5) for method in (LORA, SVD, NEW_HEAD, HELD)}) == 4


def test_measuring_along_the_way_does_not_disturb_the_training() -> None:
    alone = epochs.run(lambda: CASE, LORA, 10, marks=(2,))
    along = epochs.run(lambda: CASE, LORA, 10, marks=(1, 2))
    columns = ["method", "rank", "metric", "value"]  # a new head is among them
    at_the_end = along[along["epochs"] == 2][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(at_the_end, alone[columns].reset_index(drop=True), check_exact=True)
    assert not at_the_end.equals(along[along["epochs"] == 1][columns].reset_index(drop=True))


def test_the_updates_differ_as_their_names_say(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Asked(Exception):
        pass

    def record(_build: Any, _task: Any, **settings: Any) -> None:
        asked.append(settings)
        raise Asked

    monkeypatch.setattr(epochs, "trained", record)
    for way in (*epochs.WAYS, *epochs.ALSO):
        with pytest.raises(Asked):
            epochs.run(lambda: CASE, way, 42)
    assert [(one["method"], one.get("update", "exact"), one.get("r", 8), one["lr"]) for one in asked] == [
        (LORA, "exact", 8, 4e-4),
        (DYLORA, "exact", 8, 4e-4),
        (DYLORA, "authors", 8, 4e-4),
        (LORA, "exact", 1, 4e-4),
        (HEAD, "exact", 8, 4e-4),
        (FULL, "exact", 8, 2e-5),
    ]
    assert {(one["steps"], one["weight_decay"], one["seed"]) for one in asked} == {(60, 0.1, 42)}


def test_weights_decay_and_biases_do_not() -> None:
    def end(weight_decay: float) -> dict[str, torch.Tensor]:
        model, _ = trained(CASE.build, TEXTS, LORA, 10, steps=1, lr=1e-2, weight_decay=weight_decay)
        return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}

    without, half = end(0.0), end(50.0)  # lr · 50 = 0.5: what decays loses a half of itself
    assert {value.ndim for value in without.values()} == {1, 2}
    for name, value in half.items():
        assert torch.equal(value, without[name]) == (value.ndim == 1 or "lora_B" in name), name  # lora_B was 0


def test_a_study_of_glue_has_table_8s_settings_and_a_file_for_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CASE.build().save_pretrained(tmp_path / "base")
    monkeypatch.setattr(glue, "load", lambda *_, **how: TEXTS if how["max_length"] == 512 else None)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_: Namespace(pad_token_id=1))
    studies: list[Study] = []
    monkeypatch.setattr(command, "tell", lambda _, study, *__: studies.append(study))
    words = ["epochs", "--tier", "real", "--model", str(tmp_path / "base"), "--list"]
    command.run(command.parser().parse_args(words))
    (study,) = studies
    jobs = study.jobs_of("mrpc", None, tmp_path)
    assert study.path("mrpc", tmp_path).name == "epochs-glue-base-mrpc.csv"
    assert [(job.part["method"], job.seed) for job in jobs] == [
        (way, seed) for seed in SEEDS[:3] for way in (*epochs.WAYS, *epochs.ALSO)
    ]
    backbone = jobs[0].settings.pop("backbone")
    assert len(backbone) == 12 and all(job.settings["backbone"] == backbone for job in jobs[1:])
    assert len({job.scratch for job in jobs}) == len(jobs)  # no two go on from one checkpoint
    assert jobs[0].settings == {"model": "base", "lr": 4e-4, "batch_size": 32, "weight_decay": 0.1, "max_length": 512,
                                "examples": 64, "steps": 60}  # fmt: skip
    decay = {job.part["method"]: (job.settings["lr"], job.settings["weight_decay"]) for job in jobs}
    assert decay[FULL] == (2e-5, 0.0) and decay[HEAD] == (4e-4, 0.0) and decay[ONE] == (4e-4, 0.1)


@pytest.mark.parametrize(("option", "value"), [("--steps", "5"), ("--lr", "0.1"), ("--batch-size", "4")])
def test_settings_that_are_table_8s_cannot_be_passed(option: str, value: str) -> None:
    words = ["epochs", "--tier", "real", "--model", "mine", option, value]
    with pytest.raises(ValueError, match=f"^epochs has the settings of Table 8: leave out {option}$"):
        command.run(command.parser().parse_args(words))


def test_the_table_has_a_column_for_each_mark_and_keeps_a_part_and_the_whole_task_apart(tmp_path: Path) -> None:
    rows = [(task, method, b, mark, value + mark / 100)
            for task, value in (("glue-sst2 (subset)", 0.5), ("glue-sst2", 0.9))
            for method in (LORA, SVD, HELD) for b in (1, 2, 4, 8) for mark in epochs.MARKS]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["task", "method", "rank", "epochs", "value"])
    frame.assign(metric="accuracy", seed=10, model="m").to_csv(tmp_path / "epochs-glue-m-sst2.csv", index=False)
    table = epochs.table(tmp_path)
    assert len(table) == 2 * (4 + 3 + 3)  # at rank 8 all cuts are one
    assert table[0] == {"task": "SST-2 (subset), m (accuracy, 1 seed)", "method": LORA, "rank b": "1",
                        "1 epoch": "51.0", "3 epochs": "53.0", "10 epochs": "60.0", "30 epochs": "80.0"}  # fmt: skip
    assert table[-1]["task"] == "SST-2, m (accuracy, 1 seed)" and table[-1]["1 epoch"] == "91.0"


class Killed(BaseException):
    """Stands for a kill: nothing that runs sees it as an error of its own."""


@pytest.mark.parametrize("way", [ONE, HEAD, FULL])
def test_whatever_was_trained_is_in_the_checkpoint(way: str, tmp_path: Path) -> None:
    whole = epochs.run(lambda: CASE, way, 10, (1, 2), checkpoint=tmp_path)
    whole[whole["epochs"] == 1].to_csv(tmp_path / "measured.csv", index=False)
    again = epochs.run(lambda: CASE, way, 10, (1, 2), checkpoint=tmp_path)  # measures what the checkpoint holds
    at_the_end = whole[whole["epochs"] == 2].reset_index(drop=True)
    assert again[again["epochs"] == 2]["value"].tolist() == at_the_end["value"].tolist()


def test_without_what_was_measured_along_the_way_it_begins_anew(tmp_path: Path) -> None:
    whole = epochs.run(lambda: CASE, DYLORA, 10, (1, 2), checkpoint=tmp_path)
    (tmp_path / "measured.csv").unlink()
    again = epochs.run(lambda: CASE, DYLORA, 10, (1, 2), checkpoint=tmp_path)
    assert again["value"].tolist() == whole["value"].tolist() and set(again["epochs"]) == {1, 2}


@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_bits(
    when: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checkpoint after each third step, and marks after 2, 4 and 6 steps; killed before a mark is kept."""
    marks = (1, 2, 3)
    whole = epochs.run(lambda: CASE, LORA, 10, marks)
    monkeypatch.setattr(epochs, "_between", lambda ends: 3)
    taken = 0

    def write(folder: Path, contents: dict[str, bytes]) -> None:
        nonlocal taken
        taken += 1
        if taken == when:
            raise Killed
        write_files(folder, contents)

    monkeypatch.setattr(epochs, "write_files", write)
    with pytest.raises(Killed):
        epochs.run(lambda: CASE, LORA, 10, marks, checkpoint=tmp_path)
    again = epochs.run(lambda: CASE, LORA, 10, marks, checkpoint=tmp_path)
    columns = ["epochs", "method", "rank", "metric", "value"]
    pd.testing.assert_frame_equal(again[columns], whole[columns].reset_index(drop=True), check_exact=True)
    resumed = again[again["epochs"] == 3]["cpu_seconds"]
    assert resumed.isna().all() if when > 1 else resumed.notna().all()  # the time before the kill is not known
    assert taken == 4  # the three measurements, and the one that was lost
    once_more = epochs.run(lambda: CASE, LORA, 10, marks, checkpoint=tmp_path)
    assert once_more[[*columns, "cpu_seconds"]].equals(again[[*columns, "cpu_seconds"]])
    assert taken == 4  # nothing was left to do


def test_no_checkpoint_falls_on_a_mark_before_its_measurement() -> None:
    for examples in range(32, 20_000, 501):
        ends = [steps_of(examples, 32, mark) for mark in epochs.MARKS]
        assert all(end % epochs._between(ends) for end in ends)
