"""The arena: every candidate has the same time and rates, validation chooses, and each trains as its name says."""

import re
from argparse import Namespace
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import torch
from architectures import build
from toys import TEXTS

from dylora_kit import backbones
from dylora_kit.core.adapters import Adapters
from dylora_kit.evaluation.aurac import area
from dylora_kit.paper import __main__ as command
from dylora_kit.paper import arena, arena_candidates
from dylora_kit.paper.arena_candidates import (
    BOTTLENECKS,
    CONT,
    ENTRIES,
    INDIVIDUAL,
    MATRYOSHKA,
    NESTED,
    ONE_LONG,
    ORDERED,
    ORDERED_LONG,
    REFERENCES,
    SUMMATION_LONG,
    WITH_P,
    Budget,
    Candidate,
    Start,
    budget_of,
    cannot_take,
)
from dylora_kit.paper.compared_methods import LORA, ONE, SVD
from dylora_kit.paper.nested_afterwards import embedded
from dylora_kit.paper.runs import collect, read_results
from dylora_kit.paper.settings import ARENA, CANDIDATES, LARGER, STEP_TIMES
from dylora_kit.storage.files import data_folder
from dylora_kit.tasks import describe, glue, world

RESULTS = data_folder() / "results"
TURNED = "digits-turned"
EVERY = list(range(1, 9))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a few steps, two rates, and few pictures to test and validate on."""
    monkeypatch.setitem(ARENA, TURNED, {"steps": 16, "batch_size": 16})
    monkeypatch.setattr(arena, "CANDIDATES", (3e-3, 1e-2))
    monkeypatch.setattr(arena, "embedded", lambda task: few())


def few() -> arena.Case:
    case = embedded(TURNED)
    for split in ("validation", "test"):
        object.__setattr__(case.task, split, torch.utils.data.Subset(getattr(case.task, split), range(40)))
    return case


@pytest.fixture(scope="module")
def start() -> Start:
    return Start(embedded(TURNED), batch_size=16, seed=10, lr=1e-2)


def values_of(adapters: Adapters) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in adapters.nested_parameters()])


def test_every_candidate_has_the_time_of_the_individual_loss() -> None:
    for budget in map(budget_of, ARENA):
        for name in ENTRIES.keys() - set(REFERENCES):
            whole = ENTRIES[name].steps(budget)
            coarse = max(budget.times.values()) + ENTRIES[name].ranks / 2  # what a step rounds
            assert abs(ENTRIES[name].cost(budget) - budget.steps) <= coarse, (name, whole)
        assert ENTRIES[ORDERED_LONG].cost(budget) == pytest.approx(1.3 * budget.steps, abs=2)
        assert ENTRIES[SUMMATION_LONG].steps(budget) == [budget.steps]
        assert ENTRIES[ONE_LONG].cost(budget) == pytest.approx(4 * budget.steps, rel=0.02)


def test_a_plan_is_told_part_by_part() -> None:
    both = Candidate(lambda *_: {}, (("LoRA", 0.5), ("nest", 0.5)), ranks=3)
    times = {"LoRA": 2.0, "nest": 4.0}
    budget = Budget(40, times)
    steps = both.steps(budget)
    assert steps == [10, 5]
    assert both.described(budget) == f"{steps[0]} (LoRA), {steps[1]} (nest), 3 times"
    assert both.cost(budget) == pytest.approx(steps[0] * times["LoRA"] + 3 * steps[1] * times["nest"])


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_candidate_gives_a_model_for_every_rank(entry: str, start: Start) -> None:
    plan = [2] * len(ENTRIES[entry].plan)
    found = ENTRIES[entry].train(start, *plan)
    assert next(iter(found)) == entry and set(found) <= set(arena.METHODS)
    for parts in found.values():
        ranks = [rank for adapters, own in parts for rank in own or range(1, adapters.r + 1)]
        assert ranks == ([1, 2, 4, 8] if entry == ONE_LONG else EVERY)
    if entry in (ONE, ONE_LONG):
        assert [adapters.r for adapters, _ in found[entry]] == [rank for _, (rank,) in found[entry]]


def test_every_candidate_trains_otherwise(start: Start) -> None:
    ways = {name: ENTRIES[name] for name in ENTRIES if name not in (*REFERENCES, ONE, CONT)}
    found = {name: values_of(way.train(start, *[6] * len(way.plan))[name][0][0]) for name, way in ways.items()}
    for first, second in combinations(found, 2):
        assert not torch.allclose(found[first], found[second], rtol=1e-3, atol=1e-4), (first, second)


def test_ways_that_share_a_training_are_the_same_at_the_full_rank_and_no_other(start: Start) -> None:
    found = ENTRIES[LORA].train(start, 30)
    test = torch.utils.data.Subset(start.case.task.test, range(60))
    sweep = partial(arena_sweep, test)
    cut, svd = (sweep(found[name][0][0]) for name in (LORA, SVD))
    assert cut[7] == pytest.approx(svd[7], rel=1e-4) and cut[0] != pytest.approx(svd[0], rel=1e-2)
    name = MATRYOSHKA["alpha/b"]
    both = ENTRIES[name].train(start, 30)
    assert sweep(both[name][0][0])[0] != pytest.approx(sweep(both[WITH_P["alpha/b"]][0][0])[0], rel=1e-2)


def arena_sweep(test: torch.utils.data.Subset, adapters: Adapters) -> list[float]:
    from dylora_kit.evaluation.sweep import sweep

    return sweep(adapters.model, adapters, test, metric="loss", progress=False)["value"].tolist()


def test_the_rows_are_ordered_before_all_ranks_are_trained(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Adapters] = []
    monkeypatch.setattr(
        Adapters, "order", lambda adapters, before=Adapters.order: begun.append(adapters) or before(adapters)
    )
    adapters, _ = ENTRIES[ORDERED].train(start, 4, 4)[ORDERED][0]
    assert begun == [adapters] and adapters.scaling == "alpha/r"


def test_what_is_not_ordered_goes_on_at_the_same_scale(start: Start) -> None:
    for order in (True, False):
        (parts,) = arena_candidates.lora_first("it", order, start, 2, 1).values()
        assert parts[0][0].scaling == "alpha/r"


def test_each_way_tries_as_many_rates_and_matryoshka_larger_ones(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def train(start: Start, steps: int) -> arena_candidates.Trained:
        tried.append(start.lr)
        return {INDIVIDUAL: [(start.fresh(), None)]}

    matryoshka = {name: candidate.rates for name, candidate in ENTRIES.items() if candidate.rates}
    assert matryoshka == dict.fromkeys(MATRYOSHKA.values(), LARGER) and len(LARGER) == len(CANDIDATES)
    for rates in (None, (3e-2,)):
        monkeypatch.setitem(ENTRIES, INDIVIDUAL, Candidate(train, (("individual", 1.0),), rates=rates))
        arena.run(few, budget_of(TURNED), 16, INDIVIDUAL, 10)
    assert tried == [3e-3, 1e-2, 3e-2]


def test_nest_has_the_rate_of_the_lora(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(arena_candidates, "nest", lambda *_, **settings: asked.update(settings))
    ENTRIES[NESTED].train(start, 2, 5)
    assert (asked["lr"], asked["steps"]) == (start.lr, 5)


def test_validation_chooses_the_rate_and_test_is_measured_at_it(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {("validation", 3e-3): 0.7, ("validation", 1e-2): 0.6, ("test", 3e-3): 0.1, ("test", 1e-2): 0.9}

    def train(start: Start, *steps: int) -> arena_candidates.Trained:
        return {INDIVIDUAL: [(start.lr, None)]}  # type: ignore[list-item]

    def measured(here: object, parts: list, split: str) -> pd.DataFrame:
        return pd.DataFrame({"rank": EVERY, "metric": "accuracy", "value": given[split, parts[0][0]]})

    monkeypatch.setitem(ENTRIES, INDIVIDUAL, Candidate(train, (("individual", 1.0),)))
    monkeypatch.setattr(arena, "measured", measured)
    frame = arena.run(few, budget_of(TURNED), 16, INDIVIDUAL, 10)
    assert set(frame["chosen_lr"]) == {3e-3} and set(frame["value"]) == {0.1} and set(frame["validation"]) == {0.7}


def test_a_rate_at_which_the_loss_is_not_finite_is_passed_over_and_none_is_an_error(
    short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(rates: tuple[float, ...], start: Start, steps: int) -> arena_candidates.Trained:
        if start.lr in rates:
            raise FloatingPointError("the loss is nan")
        return {INDIVIDUAL: [(start.fresh(), None)]}

    for rates in ((3e-3,), (3e-3, 1e-2)):
        monkeypatch.setitem(ENTRIES, INDIVIDUAL, Candidate(partial(train, rates), (("individual", 1.0),)))
        if len(rates) == 1:
            assert set(arena.run(few, budget_of(TURNED), 16, INDIVIDUAL, 10)["chosen_lr"]) == {1e-2}
        else:
            with pytest.raises(FloatingPointError, match="DyLoRA, individual on digits-turned: the loss was finite at"):
                arena.run(few, budget_of(TURNED), 16, INDIVIDUAL, 10)


def test_a_study_goes_on_where_it_stopped_and_a_seed_gives_the_same_again(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job for job in arena.STUDY.jobs_of(TURNED, [10], tmp_path) if job.part["method"] in (LORA, ORDERED)]
    path = arena.STUDY.path(TURNED, tmp_path)
    collect(path, jobs[:1])
    both = collect(path, jobs)
    assert both.groupby("method")["rank"].apply(list).to_dict() == dict.fromkeys((LORA, SVD, ORDERED), EVERY)
    assert (both["cpu_seconds"] > 0).all() and set(both["steps"]) == {16}
    again = collect(tmp_path / "again.csv", jobs)
    measured, repeated = (frame.drop(columns="cpu_seconds").sort_values(["method", "rank"]) for frame in (both, again))
    pd.testing.assert_frame_equal(measured.reset_index(drop=True), repeated.reset_index(drop=True))
    monkeypatch.setitem(STEP_TIMES["digits"], "LoRA", 2.0)
    with pytest.raises(ValueError, match=r"trained_for = 5 \(LoRA\), .*, now it is 2 \(LoRA\), .*: pass --out"):
        collect(path, arena.STUDY.jobs_of(TURNED, [10], tmp_path))


def test_a_seed_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    words = ["arena", "--seeds", "10", "10", "--out", str(tmp_path)]
    with pytest.raises(ValueError, match="--seeds names 10 twice: name each once"):
        command.run(command.parser().parse_args(words))


def test_the_table_has_the_area_the_time_of_one_training_and_references_last(tmp_path: Path) -> None:
    curves = {ORDERED: [0.5 + b / 100 for b in EVERY], INDIVIDUAL: [0.8] * 8, SUMMATION_LONG: [0.9] * 8}
    rows = [
        {"task": TURNED, "method": method, "rank": b, "metric": "accuracy", "value": value + seed / 1000, "seed": seed,
         "cpu_seconds": 10.0 * len(CANDIDATES), "trained_for": "9 (individual)"}
        for method, curve in curves.items() for b, value in zip(EVERY, curve, strict=True)
        for seed in (10, 18, 26, 34, 42)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / f"arena-{TURNED}.csv", index=False)
    table = {row["method"]: row for row in arena.table(tmp_path)}
    assert list(table) == [INDIVIDUAL, ORDERED, SUMMATION_LONG]
    over_log = 100 * area(dict(zip(EVERY, curves[ORDERED], strict=True)), log=True)
    assert table[ORDERED]["AURAC over log₂ b"].startswith(f"{over_log + 2.6:.1f} (")
    assert re.fullmatch(r"82\.6 \(81\.\d to 8[34]\.\d\)", table[INDIVIDUAL]["AURAC"])
    assert (table[ORDERED]["CPU-seconds"], table[ORDERED]["steps"]) == ("10.0", "9 (individual)")


def test_every_method_of_the_files_is_one_of_the_arena() -> None:
    for path in RESULTS.glob("arena-*.csv"):
        assert set(read_results(path)["method"]) == set(arena.METHODS)


ON_TEXTS = [job.part["method"] for job in arena.STUDY.jobs_of("world-describe", [10], Path())]


def test_what_cannot_take_texts_is_left_out_there() -> None:
    assert set(ENTRIES) - set(ON_TEXTS) == set(arena.NOT_FOR_TEXTS) and len(arena.NOT_FOR_TEXTS) == 5


@pytest.mark.parametrize("entry", ON_TEXTS)
def test_what_writes_texts_has_its_ranks_too(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "CANDIDATES", (1e-2,))
    case = embedded("world-describe")
    looked: list[str] = []

    def measure(model: torch.nn.Module, adapters: Adapters, ranks: list[int] | None, split: str) -> pd.DataFrame:
        looked.append(split)
        texts, rank = world.texts("describe")[split][:3], (ranks or [2])[0]
        with adapters.at(rank):
            values = describe.scores(describe.write(model, backbones.tokenizer("world-gpt2"), texts), texts)
        return pd.DataFrame([{"rank": rank, "metric": metric, "value": value} for metric, value in values.items()])

    small = arena.Case(case.build, case.task, measure)
    frame = arena.run(lambda: small, Budget(2, dict.fromkeys(STEP_TIMES["world"], 1.0)), 4, entry, 10)
    assert set(frame["metric"]) == {"bleu", "slot error rate"} and {"validation", "test"} == set(looked)


@pytest.mark.parametrize(
    ("name", "left_out"),
    [("roberta", set()), ("llama", set()), ("distilbert", {BOTTLENECKS["houlsby"]}),
     ("gpt2-score", {*MATRYOSHKA.values(), *BOTTLENECKS.values()})],
)  # fmt: skip
def test_a_model_has_the_entries_that_it_can_take(name: str, left_out: set[str]) -> None:
    assert cannot_take(lambda: build(name)) == left_out


def test_on_real_text_it_has_a_file_for_all_tasks_and_no_rate_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("roberta").save_pretrained(tmp_path / "base")
    monkeypatch.setattr(glue, "load", lambda *_, **__: TEXTS)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_: Namespace(pad_token_id=1))
    monkeypatch.setattr(arena, "CANDIDATES", (1e-3, 1e-2))
    monkeypatch.setattr(arena, "ENTRIES", {name: ENTRIES[name] for name in (INDIVIDUAL, LORA)})
    monkeypatch.setitem(glue.SPECS, "toy", replace(glue.SPECS["mrpc"], folder="TOY"))
    words = ["arena", "--tier", "real", "--model", tmp_path / "base", "--steps", 4, "--seeds", 10, "--out", tmp_path]
    command.run(command.parser().parse_args(list(map(str, words))))
    written = read_results(tmp_path / "results" / "arena-glue-base.csv")
    assert set(written["method"]) == {INDIVIDUAL, LORA, SVD} and set(written["task"]) == {"glue-toy"}
    assert set(written["steps"]) == {4} and set(written["batch_size"]) == {32} and "lr" not in written
    rows = arena.table(tmp_path / "results")
    assert {row["task"] for row in rows} == {"TOY, base (F1, 1 seed)"} and all(row["AURAC"] for row in rows)
    with pytest.raises(ValueError, match="arena has no task 'stsb'"):
        command.run(command.parser().parse_args([*map(str, words), "--tasks", "stsb"]))
    with pytest.raises(ValueError, match="the arena chooses each method's rate on validation: leave out --lr"):
        command.run(command.parser().parse_args([*map(str, words), "--lr", "0.1"]))
