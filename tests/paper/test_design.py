"""The runs behind the design choices: each choice is really another training, and all else is the same."""

from argparse import Namespace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import torch

from dylora_kit.paper import design

SMALL = {"steps": 24, "batch_size": 8, "lr": 1e-2}


@pytest.mark.parametrize("choice", design.CHOICES)
def test_every_choice_trains_otherwise(choice: str) -> None:
    build, task = design.load("digits-turned")
    found = {}
    for name, options in design.CHOICES[choice].items():
        _, adapters = design.trained_by(options, build, task, 10, **SMALL)
        found[name] = torch.cat([p.detach().flatten() for p in adapters.nested_parameters()])
    for first, second in combinations(found, 2):
        if {first, second} == {"summation", "summation, one batch"}:
            torch.testing.assert_close(found[first], found[second], rtol=1e-2, atol=1e-3)
        else:
            assert not torch.allclose(found[first], found[second], rtol=1e-3, atol=1e-4), (first, second)


def test_a_choice_says_how_many_steps_and_which_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(design, "trained", lambda _build, _task, **settings: asked.update(settings))
    for factors, steps, lr in (({}, 24, 1e-2), ({"longer": 4}, 96, 1e-2), ({"faster": 2}, 24, 2e-2)):
        asked.clear()
        design.trained_by({"update": "authors"} | factors, None, None, 10, **SMALL)
        assert (asked["steps"], asked["lr"], asked["head_lr"]) == (steps, lr, SMALL["lr"])
        assert (asked["update"], asked["batch_size"]) == ("authors", 8) and not {"longer", "faster"} & set(asked)
    longer = {
        name: how["longer"] for choices in design.CHOICES.values() for name, how in choices.items() if "longer" in how
    }
    assert all({2: "twice the steps", 4: "four times the steps"}[n] in name for name, n in longer.items()) and longer
    faster = [name for choices in design.CHOICES.values() for name, how in choices.items() if how.get("faster") == 2]
    assert faster and all("rows at 2 lr" in name for name in faster)


def test_the_command_measures_every_rank_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(design.SETTINGS, "digits-turned", SMALL)
    monkeypatch.setattr(design, "SEEDS", (10,))
    asked = Namespace(choice="objectives", tasks=["digits-turned"], out=tmp_path)
    design._main(asked)
    written = pd.read_csv(tmp_path / "table7-digits-turned.csv")
    assert written.groupby("method", sort=False).size().to_dict() == dict.fromkeys(design.CHOICES["objectives"], 8)
    assert (written["cpu_seconds"] > 0).all() and set(written["seed"]) == {10}
    monkeypatch.setattr(design, "run", lambda *_: pytest.fail("was measured again"))
    design._main(asked)
