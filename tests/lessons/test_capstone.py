"""The capstone: a way of one's own against the paper's, within one budget."""

import pytest

import dylora_kit as dk
from dylora_kit import lessons
from dylora_kit.lessons.capstone import passes_of


@pytest.fixture
def capstone() -> lessons.Capstone:
    return lessons.Capstone(passes=16)


def test_the_rival_s_own_way_ties_with_it(capstone: lessons.Capstone, capsys: pytest.CaptureFixture[str]) -> None:
    frame = capstone.practise(dk.Uniform(1, 8), dk.individual_loss)
    assert list(frame.index) == ["yours", "the rival"]
    assert list(frame.columns) == [*range(1, 9), "mean"]
    assert frame.loc["yours"].equals(frame.loc["the rival"])
    assert frame.loc["yours", "mean"] == pytest.approx(frame.loc["yours", list(range(1, 9))].mean())
    assert capsys.readouterr().out.endswith(": +0.0 points\n")


def test_another_way_gives_another_score(capstone: lessons.Capstone) -> None:
    frame = capstone.practise(dk.Uniform(1, 1))
    assert not frame.loc["yours"].equals(frame.loc["the rival"])


def test_every_way_has_the_same_budget_of_passes(capstone: lessons.Capstone, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    train = dk.train

    def counted(*args: object, **settings: int) -> object:
        steps.append(settings["steps"])
        return train(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("dylora_kit.lessons.capstone.train", counted)
    for objective in (dk.individual_loss, dk.summation_loss):
        capstone.practise(dk.Uniform(1, 8), objective)
    assert steps == [16, 16, 2], "the first way, the rival once, and eight passes a step"
    assert passes_of(dk.summation_in_one, dk.Uniform(1, 4)) == 4
    assert passes_of(dk.mixed_loss, dk.Uniform(1, 4)) == 1


def test_what_is_submitted_is_another_task_and_is_counted(
    capstone: lessons.Capstone, capsys: pytest.CaptureFixture[str]
) -> None:
    practised = capstone.practise(dk.Uniform(1, 8))
    first = capstone.submit(dk.Uniform(1, 8))
    assert not first.loc["yours"].equals(practised.loc["yours"])
    assert "hidden task: your mean" in capsys.readouterr().out
    capstone.submit(dk.Uniform(1, 8))
    assert "hidden task, try 2: each one tells you more of the test" in capsys.readouterr().out
    assert capstone.submitted == 2


def test_a_rank_that_the_adapter_has_not_is_refused(capstone: lessons.Capstone) -> None:
    with pytest.raises(ValueError, match="ranks from 1 to 8"):
        capstone.practise(dk.Uniform(1, 9))
