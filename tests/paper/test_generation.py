"""Tables 6 and 9 with a tiny model on 20 inputs: every method, one training for all cuts, and runs that go on."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from generation_files import e2e_rows, write_dart, write_e2e

from dylora_kit import backbones
from dylora_kit.paper import __main__ as command
from dylora_kit.paper import generation
from dylora_kit.paper.published import printed_table
from dylora_kit.paper.report import beside_the_paper
from dylora_kit.paper.runs import collect
from dylora_kit.paper.settings import GPT2

CUTS = ("LoRA, cut to b", "LoRA, cut, scale α/r", "LoRA, cut by SVD")
E2E_METRICS = {"bleu", "nist", "rouge-l", "cider", "slot error rate", "empty"}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generation, "NEW_TOKENS", 8)
    monkeypatch.setattr(generation, "_has_meteor", lambda: False)
    monkeypatch.setenv("DYLORA_KIT_DATA", str(write_e2e(tmp_path / "data")))
    generation.real.cache_clear()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random GPT-2, with dropout as GPT-2 has it, and a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, vocab_size=1470, bos_token_id=0,
                                     eos_token_id=2)  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    backbones.tokenizer("world-gpt2").save_pretrained(folder)
    return str(folder)


def study(tiny: str, table: str = "table6", **changed: Any) -> Any:
    sizes: dict[str, Any] = {"steps": 3, "lr": None, "batch_size": None, "limit": 0, "beams": 10} | changed
    return generation.real_study(table, tiny, **sizes)


def measured(of: Any, out: Path, task: str = "e2e") -> pd.DataFrame:
    return collect(of.path(task, out), of.jobs_of(task, [10], out))


def test_the_preset_is_table_8_s_column_of_gpt_2() -> None:
    printed = printed_table("table8").query("model == 'GPT-2 medium'").set_index("parameter")["value"]
    names = {"r": "r", "lora_alpha": "alpha", "lora_dropout": "LoRA dropout", "label_smoothing": "label smoothing",
             "weight_decay": "weight decay", "warmup": "warmup steps", "lr": "learning rate",
             "batch_size": "batch size", "epochs": "epochs"}  # fmt: skip
    assert {key: float(printed[name]) for key, name in names.items()} == GPT2
    assert isinstance(GPT2["warmup"], int)  # steps, and not a share
    assert generation.settings_of("table6-r8")["r"] == 8 and generation.settings_of("table6-r8")["lora_alpha"] == 16


def test_the_preset_runs_end_to_end_on_twenty_inputs(tiny: str, tmp_path: Path) -> None:
    frame = measured(study(tiny), tmp_path)
    assert set(frame["metric"]) == E2E_METRICS
    ranks = {method: sorted(of["rank"]) for method, of in frame[frame["metric"] == "bleu"].groupby("method")}
    every = [1, 2, 3, 4]
    assert ranks == dict.fromkeys(("DyLoRA", "DyLoRA, frozen", *CUTS), every) | {"LoRA, one per rank": [1, 2, 4]}
    at_4 = frame[(frame["rank"] == 4) & frame["method"].isin([*CUTS, "LoRA, one per rank"])]
    assert (at_4.groupby("metric")["value"].nunique() == 1).all()  # the same LoRA
    assert {key: frame[key].unique().tolist() for key in ("num_beams", "length_penalty", "no_repeat_ngram_size")} == {
        "num_beams": [10], "length_penalty": [0.8], "no_repeat_ngram_size": [4]}  # fmt: skip
    assert frame["model"].unique() == ["tiny"] and frame["data"].unique() == ["e2e (subset)"]
    (path,) = (tmp_path / "results").glob("*/e2e-dylora-seed-10/dylora.jsonl")
    first, *lines = map(json.loads, path.read_text().splitlines())
    assert "written with" in first and len(lines) == 4 * 20
    assert {line["prompt"] for line in lines} == {row["first"] for row in generation.real(tiny, "e2e", 0).inputs}
    cuts = sorted((tmp_path / "results").glob("*/e2e-lora-cut-to-b-seed-10/*.jsonl"))
    written_with = [json.loads(path.read_text().splitlines()[0])["written with"]["weights"] for path in cuts]
    assert len(cuts) == 3 == len(set(written_with))  # other weights, or the same at another scale
    adapter = tmp_path / "adapters" / "table6-tiny-e2e-dylora"
    assert (
        "trained on e2e" in (adapter / "README.md").read_text()
        and tiny not in (adapter / "adapter_config.json").read_text()
    )


def test_all_cuts_share_one_training(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings: list[str] = []
    real_train = generation.train

    def counting(model: Any, adapters: Any, *args: Any, **options: Any) -> Any:
        trainings.append(f"{adapters.r}{' frozen' * adapters.frozen}")
        assert (options["label_smoothing"], options["warmup"], options["weight_decay"]) == (0.1, 500, 0.01)
        assert adapters.config["lora_dropout"] == 0.1 and "max_grad_norm" not in options
        return real_train(model, adapters, *args, **options)

    monkeypatch.setattr(generation, "train", counting)
    measured(study(tiny, limit=1, beams=1), tmp_path)
    assert trainings == ["4", "4 frozen", "4", "1", "2"]


def test_a_run_that_was_stopped_goes_on(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(study(tiny, limit=2, beams=1), tmp_path / "whole")
    out, real_train, real_sweep = tmp_path / "stopped", generation.train, generation.sweep_texts
    steps: list[int] = []

    def stopping(*args: Any, **options: Any) -> Any:
        def on_step(step: int) -> None:
            steps.append(step)
            if len(steps) == 2:
                raise KeyboardInterrupt

        return real_train(*args, **options | {"checkpoint_every": 1, "on_step": on_step})

    monkeypatch.setattr(generation, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        measured(study(tiny, limit=2, beams=1), out)
    monkeypatch.setattr(generation, "sweep_texts", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # at the end of the first training
        measured(study(tiny, limit=2, beams=1), out)
    assert steps == [1, 2, 3]
    monkeypatch.setattr(generation, "sweep_texts", real_sweep)
    again = measured(study(tiny, limit=2, beams=1), out)
    assert again["value"].tolist() == whole["value"].tolist()
    assert len(steps) == 3 + 4 * 3  # the first training is not done again


def test_other_settings_in_the_same_folder_are_refused(tiny: str, tmp_path: Path) -> None:
    measured(study(tiny, limit=1, beams=1), tmp_path)
    for changed, message in (({"limit": 2}, "limit = 1, now it is 2"), ({"beams": 2}, "num_beams = 1, now it is 2"),
                             ({"steps": 4}, "steps = 3, now it is 4")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            measured(study(tiny, **{"limit": 1, "beams": 1} | changed), tmp_path)


def test_five_epochs_are_the_default(tiny: str, tmp_path: Path) -> None:
    (job, *_) = study(tiny, steps=None).jobs_of("e2e", [10], tmp_path)
    assert job.settings["steps"] == 5 * 20 // 8


def test_a_table_is_printed_beside_the_papers(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--tier", "real", "--model", tiny, "--steps", "2", "--limit", "2", "--beams", "1", "--out", str(tmp_path)]
    command.run(command.parser().parse_args(["table6", *words]))
    printed = capsys.readouterr().out
    assert "| paper: E2E, GPT-2 medium | LoRA | 1 | 3.38 | 1.18 |" in printed
    assert "| here: e2e, tiny, r = 4, 1 seed | DyLoRA | 4 |" in printed
    assert "| here: describe | not run |" in printed
    command.run(command.parser().parse_args(["table6", *words, "--list"]))
    assert "table6, e2e: 5 of 5 measurements are done in table6-tiny-e2e.csv\n" in capsys.readouterr().out
    write_dart(tmp_path / "data", [{"tripleset": [["a", "IS", "b"]], "annotations": [{"text": "a is b."}]}])
    command.run(command.parser().parse_args(["table9", *words, "--tasks", "dart"]))
    line = next(row for row in capsys.readouterr().out.splitlines() if row.startswith("| here: tiny") and "α/r" in row)
    assert line.endswith("not run | not run |")  # WebNLG


def test_what_was_not_run_says_so(tmp_path: Path) -> None:
    for table in ("table6", "table9"):
        here = [line for line in beside_the_paper(table, tmp_path).splitlines() if line.startswith("| here")]
        assert here and all("not run" in line for line in here)


def test_the_embedded_tier_writes_descriptions(tmp_path: Path) -> None:
    setup = generation.embedded()
    three = dataclasses.replace(setup, inputs=setup.inputs[:3])
    settings = generation.settings_of("table6", lr=1e-2, steps=2) | generation.BEAMS | {"num_beams": 1}
    frame = generation.run(lambda: three, "LoRA, cut to b", 10, tmp_path / "texts", tmp_path / "checkpoint", **settings)
    assert set(frame["method"]) == {*CUTS, "LoRA, one per rank"} and set(frame["metric"]) == E2E_METRICS
    jobs = generation.embedded_study("table6").jobs_of("world-describe", None, tmp_path)
    assert len(jobs) == 3 * 5 and jobs[0].settings["num_beams"] == 1


def test_there_are_twenty_inputs_of_e2e() -> None:
    assert len({facts for facts, _ in e2e_rows()}) == 20
