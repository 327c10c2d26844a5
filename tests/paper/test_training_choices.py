"""The runs behind the design choices: each choice is really another training, and all else is the same."""

from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import torch

from dylora_kit.paper import training_choices
from dylora_kit.paper.embedded import load
from dylora_kit.paper.jobs import Study
from dylora_kit.paper.runs import collect, read_results, rows_of
from dylora_kit.storage.files import data_folder

SMALL = {"steps": 24, "batch_size": 8, "lr": 1e-2}


@pytest.mark.parametrize("choice", training_choices.CHOICES)
def test_every_choice_trains_otherwise(choice: str) -> None:
    build, task = load("digits-turned")
    found = {}
    for name, options in training_choices.CHOICES[choice].items():
        _, adapters = training_choices.trained_by(options, build, task, 10, **SMALL)
        found[name] = torch.cat([p.detach().flatten() for p in adapters.nested_parameters()])
    for first, second in combinations(found, 2):
        if {first, second} == {"summation", "summation, one batch"}:
            torch.testing.assert_close(found[first], found[second], rtol=1e-2, atol=1e-3)
        else:
            assert not torch.allclose(found[first], found[second], rtol=1e-3, atol=1e-4), (first, second)


def test_a_choice_says_how_many_steps_and_which_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(training_choices, "trained", lambda _build, _task, **settings: asked.update(settings))
    for factors, steps, lr in (({}, 24, 1e-2), ({"longer": 4}, 96, 1e-2), ({"faster": 2}, 24, 2e-2)):
        asked.clear()
        training_choices.trained_by({"update": "authors"} | factors, None, None, 10, **SMALL)
        assert (asked["steps"], asked["lr"], asked["head_lr"]) == (steps, lr, SMALL["lr"])
        assert (asked["update"], asked["batch_size"]) == ("authors", 8) and not {"longer", "faster"} & set(asked)
    longer = {
        name: how["longer"]
        for choices in training_choices.CHOICES.values()
        for name, how in choices.items()
        if "longer" in how
    }
    assert all({2: "twice the steps", 4: "four times the steps"}[n] in name for name, n in longer.items()) and longer
    faster = [
        name for choices in training_choices.CHOICES.values() for name, how in choices.items() if how.get("faster") == 2
    ]
    assert faster and all("rows at 2 lr" in name for name in faster)


def test_a_study_measures_every_rank_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training_choices.SHORT, "digits-turned", SMALL)
    study = training_choices.OBJECTIVES
    path = study.path("digits-turned", tmp_path)
    assert path.name == "table7-digits-turned.csv"
    collect(path, study.jobs_of("digits-turned", [10], tmp_path))
    written = pd.read_csv(path)
    choices = training_choices.CHOICES["objectives"]
    assert written.groupby("method", sort=False).size().to_dict() == dict.fromkeys(choices, 8)
    assert (written["cpu_seconds"] > 0).all() and set(written["seed"]) == {10}
    monkeypatch.setattr(training_choices, "run", lambda *_: pytest.fail("was measured again"))
    collect(path, study.jobs_of("digits-turned", [10], tmp_path))


STUDIES = (training_choices.DISTRIBUTIONS, training_choices.OBJECTIVES, training_choices.UPDATES)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.stem)
@pytest.mark.parametrize("task", ["digits-turned", "world-acceptability"])
def test_every_measurement_that_comes_with_the_kit_counts_as_done(study: Study, task: str) -> None:
    path = study.path(task, data_folder())
    jobs = study.jobs_of(task, None, data_folder())
    assert all(len(rows_of(read_results(path), job)) for job in jobs)
    assert len(collect(path, jobs)) == len(read_results(path))
