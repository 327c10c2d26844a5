"""The README's script, as it stands there, and the numbers in its tables."""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from dylora_kit import backbones
from dylora_kit.paper import table
from dylora_kit.synthetic.read import read
from dylora_kit.tasks import world

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_trainer_script_runs_and_plain_peft_loads_rank_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"<!-- trainer -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found is not None
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(found.group(1), names)
    model, adapters, shipped = (names[name] for name in ("model", "adapters", "shipped"))
    ids = torch.randint(3, 100, (5, 9), generator=torch.Generator().manual_seed(0))
    model.eval(), shipped.eval()
    with torch.no_grad(), adapters.at(3):
        torch.testing.assert_close(model(input_ids=ids).logits, shipped(input_ids=ids).logits, rtol=0, atol=1e-5)
        at_3 = model(input_ids=ids).logits
    with torch.no_grad(), adapters.at(8):
        assert not torch.equal(model(input_ids=ids).logits, at_3)


RESULTS = backbones.data_folder() / "results"
IN_DIGITS = {"… with a new head for each rank": "LoRA, cut by SVD, new head"}


def rows_of(pattern: str) -> dict[tuple[str, ...], list[str]]:
    """The README's table rows whose first cells match: the cells after them, by rank."""
    found = {}
    for line in README.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(pattern, " | ".join(cells[:-8])):
            found[tuple(cells[:-8])] = cells[-8:]
    return found


def measured(frame: pd.DataFrame, method: str) -> list[str]:
    row = table(frame.assign(all=""), ["all"]).loc[("", method)].reindex(range(1, 9)).fillna("")
    return [cell or "–" for cell in row]


def test_the_table_of_digits_says_what_was_measured() -> None:
    frame = pd.read_csv(RESULTS / "table2-digits-turned.csv").query("domain == 'turned'")
    said = rows_of(r"(DyLoRA|LoRA.*|… with.*)")
    assert len(said) == 5
    for (method,), cells in said.items():
        assert cells == measured(frame, IN_DIGITS.get(method, method)), method


IN_DESIGN = {
    "uniform, individual loss": ("table4", "uniform"),
    "geometric, p = 0.15": ("table4", "geometric 0.15"),
    "summation loss": ("table7", "summation"),
    "one rank for each example": ("table7", "one rank for each example"),
    "update as the authors' code": ("updates", "rows 1 … b, as the authors"),
    "exact update, rows at twice the learning rate": ("updates", "rows 1 … b, exact, rows at 2 lr"),
    "update as the authors' code, rows at twice the rate": ("updates", "rows 1 … b, as the authors, rows at 2 lr"),
    "row b alone (frozen)": ("updates", "row b, exact"),
}


def test_the_table_of_choices_says_what_was_measured() -> None:
    said = rows_of("|".join(map(re.escape, IN_DESIGN)))
    assert len(said) == len(IN_DESIGN)
    for (name,), cells in said.items():
        kind, method = IN_DESIGN[name]
        assert cells == measured(pd.read_csv(RESULTS / f"{kind}-digits-turned.csv"), method), name


def test_what_is_said_of_time_was_measured() -> None:
    seconds = pd.read_csv(RESULTS / "table7-digits-turned.csv").groupby("method")["cpu_seconds"].mean()
    assert "takes seven times as long" in README and 6.5 < seconds["summation"] / seconds["individual"] < 7.5
    assert "in hardly more time than one rank for all" in README
    assert seconds["one rank for each example"] < 1.1 * seconds["individual"]
    search = pd.read_csv(RESULTS / "search-digits-turned.csv").drop_duplicates(["method", "r", "seed"])
    for column in ("cpu_seconds", "step_flops"):
        spent = search.groupby(["method", "r"])[column].mean()
        every, powers = (sum(spent["LoRA, one per rank", r] for r in ranks) for ranks in (range(1, 9), (1, 2, 4, 8)))
        assert 7.5 < every / spent["DyLoRA", 8] < 9 and 3.75 < powers / spent["DyLoRA", 8] < 4.5
    assert "takes about eight times as long as one DyLoRA, the powers of two about four times" in README


def test_what_is_said_of_choices_was_measured() -> None:
    at, mean = {}, {}
    for kind in ("table7", "updates"):
        frame = pd.read_csv(RESULTS / f"{kind}-digits-turned.csv")
        at |= frame.groupby(["method", "rank"])["value"].mean().to_dict()
        mean |= frame.groupby("method")["value"].mean().to_dict()
    assert round(100 * (at["summation", 1] - at["individual", 1])) == 9
    gains = [at["summation", b] - at["individual", b] for b in range(2, 9)]
    assert min(gains) > 0 and 0.005 < sorted(gains)[3] < 0.015
    each = [at["one rank for each example", b] - at["individual", b] for b in range(1, 9)]
    assert each[0] > 0.6 * 0.09 and max(each[2:]) < 0.005
    exact, leaky = "rows 1 … b, exact", "rows 1 … b, as the authors"
    assert round(100 * (mean[leaky] - mean[exact])) == 1
    fast = f"{exact}, rows at 2 lr"
    assert abs(mean[fast] - mean[leaky]) < 0.005
    assert mean[f"{leaky}, rows at 2 lr"] < mean[leaky]
    assert at[fast, 1] < at[leaky, 1] and all(at[fast, b] > at[leaky, b] for b in range(4, 9))
    alone, lost = mean["row b, exact"], mean["row b, as the authors"] - mean["row b, exact"]
    assert 0.4 < (mean["row b, exact, rows at 2 lr"] - alone) / lost < 0.65
    assert mean["row b, exact, twice the steps"] - alone > lost


def test_what_is_said_of_choices_on_a_task_in_words_was_measured() -> None:
    frame = pd.read_csv(RESULTS / "table4-world-acceptability.csv")
    at = frame.groupby(["method", "rank"])["value"].mean()
    assert [round(100 * at[name, 1]) for name in ("geometric 0.15", "uniform", "uniform 4 … 8")] == [81, 80, 69]
    costs = [round(100 * (at["uniform", b] - at["uniform, row b", b])) for b in range(1, 9)]
    assert (min(costs), max(costs)) == (4, 8)
    losses = pd.read_csv(RESULTS / "table7-world-acceptability.csv").query("metric == 'matthews'")
    loss = (100 * losses.groupby(["method", "rank"])["value"].mean()).round()
    each = "one rank for each example"
    assert [loss[key] for key in (("summation", 1), (each, 1), (each, 8), ("individual", 8))] == [84, 81, 85, 83]
    assert (loss[each] - loss["individual"]).max() == loss[each, 8] - loss["individual", 8]
    assert round(100 * at["geometric 0.15", 8]) == round(100 * at["uniform", 8])
    updates = pd.read_csv(RESULTS / "updates-world-acceptability.csv").query("metric == 'matthews'")
    mean, rows = 100 * updates.groupby("method")["value"].mean(), updates.groupby(["method", "rank"])["value"].mean()
    mean = mean.round()
    costs = [
        round(100 * (rows["rows 1 … b, as the authors", b] - rows["row b, as the authors", b])) for b in range(1, 9)
    ]
    assert (min(costs), max(costs)) == (1, 3)
    assert mean["rows 1 … b, exact"] == mean["rows 1 … b, as the authors"] == 83
    ways = ("as the authors", "exact", "exact, rows at 2 lr", "exact, twice the steps")
    authors, exact, faster, longer = (int(mean[f"row b, {way}"]) for way in ways)
    assert f"the authors' has {authors} and the exact one {exact}, at twice the rate {faster}" in README
    assert f"with twice the steps {longer}" in README
    search = pd.read_csv(RESULTS / "search-world-acceptability.csv").drop_duplicates(["method", "r", "seed"])
    spent = search.groupby(["method", "r"])["cpu_seconds"].mean()
    times = [sum(spent["LoRA, one per rank", r] for r in ranks) for ranks in (range(1, 9), (1, 2, 4, 8))]
    assert [round(time / spent["DyLoRA", 8]) for time in times] == [8, 4]


def test_what_a_lora_of_its_own_is_ahead_was_measured() -> None:
    for task, metric, first in (("digits-turned", "accuracy", 10), ("world-acceptability", "matthews", 3)):
        found = pd.read_csv(RESULTS / f"search-{task}.csv")
        found = found[found["metric"] == metric]
        alone = found.groupby(["method", "r", "rank"])["value"].mean()
        ahead = {b: 100 * (alone["LoRA, one per rank", b, b] - alone["DyLoRA", 8, b]) for b in range(1, 9)}
        assert (round(ahead[1]), round(ahead[2])) == (first, 3)
        assert 1 <= ahead[8] <= 2 and round(max(ahead[b] for b in range(3, 9))) <= 2
    assert "a LoRA of rank 1 alone is ten points better there, one of rank 2 three" in README
    assert "and one of rank 8 one or two" in README
    assert "a LoRA of its own is three points better at ranks 1 and 2, and up to two at others" in README


def test_what_is_said_of_a_rank_for_each_layer_was_measured() -> None:
    for task in ("digits-turned", "world-acceptability"):
        layers = pd.read_csv(RESULTS / f"layers-{task}.csv").query("metric == 'accuracy'")
        found = layers.groupby(["method", "cut"])[["value", "parameters"]].mean()
        for method in layers["method"].unique():
            one = found.loc[(method, "one rank for all")]
            for cut in (name for name in layers["cut"].unique() if name != "one rank for all"):
                of_each = found.loc[(method, cut)]
                assert of_each["value"] < one["value"] + 0.005, (task, method, cut)
                assert of_each["parameters"] <= one["parameters"], (task, method, cut)


def test_the_table_of_glue_says_what_was_measured() -> None:
    frame = pd.read_csv(RESULTS / "table2-glue-all-MiniLM-L6-v2.csv").query("metric == 'accuracy'")
    said = rows_of(r"(SST-2|MRPC|RTE) \| .*")
    assert len(said) == 14
    for (task, method), cells in said.items():
        of_task = frame[frame["task"] == f"glue-{task.lower().replace('-', '')}"]
        assert cells == measured(of_task, method), (task, method)


IN_WORLD = {"F1": "f1", "Matthews": "matthews", "Pearson": "pearson", "BLEU": "bleu"}


def world_rows(task: str, metric: str) -> pd.DataFrame:
    frame = pd.read_csv(RESULTS / f"table2-world-{task}.csv")
    return frame[frame["metric"] == metric]


def test_the_tables_of_the_world_say_what_was_measured() -> None:
    said = rows_of(rf"({'|'.join(world.NAMES)}) \| .*")
    assert len(said) == 5 * len(world.NAMES)
    for (task, method), cells in said.items():
        metric = "slot error rate" if task == "describe" else world.METRICS[task]
        assert cells == measured(world_rows(task, metric), method), (task, method)
    summaries = re.findall(rf"^\| ({'|'.join(world.NAMES)}) \| ([\w ]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| "
                           r"([^|]+) \|$", README, re.MULTILINE)  # fmt: skip
    assert len(summaries) == len(world.NAMES) + 1  # two metrics of `describe`
    for task, metric, *cells in summaries:
        frame = world_rows(task, IN_WORLD.get(metric, metric))
        methods = ["bag of words", "head only", "full fine-tuning", "LoRA, cut to b", "DyLoRA"]
        assert cells == [measured(frame, method)[7] if (frame["method"] == method).any() else "–" for method in methods]


def test_what_is_said_of_the_world_was_measured() -> None:
    at = {
        task: world_rows(task, world.METRICS[task]).groupby(["method", "rank"])["value"].mean() for task in world.NAMES
    }
    wrong = world_rows("describe", "slot error rate").groupby(["method", "rank"])["value"].mean()
    labelled = {task: found for task, found in at.items() if task != "describe"}
    best = {task: found["LoRA, cut to b", 8] for task, found in labelled.items()}

    def points(values: Iterable[float]) -> tuple[int, int]:
        found = [round(100 * value) for value in values]
        return min(found), max(found)

    def said(sentence: str) -> bool:
        return sentence in README.replace("**", "")

    low, high = points(found["full fine-tuning", 8] - found["head only", 8] for found in labelled.values())
    assert said(f"full fine-tuning is {low} to {high} points above the head alone on the five tasks with labels")
    rows = world.texts("paraphrase")["test"]
    labels, counts = (
        [row["label"] for row in rows],
        [len(read(row["first"])) == len(read(row["second"])) for row in rows],
    )
    assert said(f'An answer "yes" to every paraphrase would have an F1 of {round(100 * f1_score(labels, [1] * 500))}')
    assert said(f"then only counts them, has {round(100 * f1_score(labels, counts))}")
    assert said("within 4 points of the LoRA of rank 8, also at rank 1")
    assert max(best[task] - found["DyLoRA"].min() for task, found in labelled.items()) < 0.045
    assert said("On describe it is better than a cut LoRA up to rank 5 and behind from rank 6 on")
    better = [wrong["DyLoRA", b] < wrong["LoRA, cut to b", b] for b in range(1, 9)]
    assert better == [True] * 5 + [False] * 3
    assert said("more than four ranks hardly help it") and wrong["DyLoRA", 4] - wrong["DyLoRA"].min() < 0.015
    falls = {task: best[task] - found["LoRA, cut to b", 1] for task, found in labelled.items()}
    held = {task: best[task] - found["LoRA, cut, scale α/r", 1] for task, found in labelled.items()}
    fell = {task: round(100 * fall) for task, fall in falls.items()}
    assert said(f"at rank 1 from {fell['sentiment']} points (sentiment) to {fell['paraphrase']} (paraphrase")
    assert points(falls.values()) == (fell["sentiment"], fell["paraphrase"])
    assert said(
        f"loses {round(100 * held['acceptability'])} on acceptability and {round(100 * held['sentiment'])} on sentiment"
    )
    assert all(held[task] < falls[task] for task in ("paraphrase", "similarity"))
    assert 1 < wrong["LoRA, cut to b", 1] > wrong["LoRA, cut, scale α/r", 1]
    by_svd = {task: best[task] - found["LoRA, cut by SVD"] for task, found in labelled.items()}
    assert said(
        "loses a point at most from rank 2 on, on the five tasks with labels, and two at rank 1, on entailment five"
    )
    assert max(lost.loc[2:].max() for lost in by_svd.values()) < 0.011
    assert round(100 * by_svd.pop("entailment")[1]) == 5 and points(lost[1] for lost in by_svd.values())[1] == 2
    ahead = {task: found["DyLoRA"] - found["LoRA, cut by SVD"] for task, found in labelled.items()}
    ahead["describe"] = wrong["LoRA, cut by SVD"] - wrong["DyLoRA"]
    assert [task for task, by in ahead.items() if by[1] > 0.02] == ["entailment", "describe"]
    assert max(by.loc[2:].max() for by in ahead.values()) < 0.005
    frozen = {task: found["DyLoRA"].mean() - found["DyLoRA, frozen"].mean() for task, found in labelled.items()}
    one, (least, most) = round(100 * frozen.pop("sentiment")), points(frozen.values())
    lost = round(100 * (wrong["DyLoRA, frozen"].mean() - wrong["DyLoRA"].mean()))
    assert one == 1 and said(f"{least} to {most} points on the other four and {lost} on describe")


def test_every_link_into_the_repository_leads_somewhere() -> None:
    root = Path(__file__).parent.parent
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) > 10 and not [link for link in links if not (root / link).exists()]
