"""The README's script, as it stands there, and the numbers in its tables."""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

import dylora_kit
from dylora_kit import backbones
from dylora_kit.lessons.repository_address import checked_address
from dylora_kit.paper.__main__ import STUDIES, parser
from dylora_kit.paper.runs import table
from dylora_kit.synthetic.read import read
from dylora_kit.tasks import glue, world

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


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


def test_what_is_said_beside_that_table_was_measured() -> None:
    at = pd.read_csv(RESULTS / "table2-digits-turned.csv").query("domain == 'turned'")
    at = 100 * at.groupby(["method", "rank"])["value"].mean()
    behind = at["DyLoRA"] - at["LoRA, cut by SVD"]
    assert "The SVD cut" in README and "catches up from rank 5 on" in README
    assert behind.loc[:4].min() > 4 and behind.loc[5:].max() < 1
    assert "much of what it loses below is the head" in README
    new_head = at["LoRA, cut by SVD, new head"]
    assert all(new_head[b] - at["LoRA, cut by SVD", b] > 0.5 * behind[b] for b in (1, 2, 3, 4))
    assert "A LoRA trained for rank 1 alone is 3.5 points better there" in README
    assert round(at["LoRA, one per rank", 1] - at["DyLoRA", 1], 1) == 3.5


def test_when_a_lora_of_its_own_is_better_was_measured() -> None:
    sentence = "on turned digits by 10 points at rank 1 if both have 1,000 steps, and by 3.5 if both have 1,500."
    assert f"A LoRA trained for that rank alone is as good or better: {sentence}" in README
    search = pd.read_csv(RESULTS / "search-digits-turned.csv")
    longer = pd.read_csv(RESULTS / "table2-digits-turned.csv").query("domain == 'turned'")
    own = 100 * search[search["method"] == "LoRA, one per rank"].groupby("rank")["value"].mean()
    nested = 100 * search.query("method == 'DyLoRA' and r == 8").groupby("rank")["value"].mean()
    ahead = own.loc[:8] - nested
    assert set(search["steps"]) == {1000} and round(ahead[1]) == 10 and ahead.min() > -0.1
    at = 100 * longer.groupby(["method", "rank"])["value"].mean()
    assert set(longer["steps"].dropna()) == {1500} and round(at["LoRA, one per rank", 1] - at["DyLoRA", 1], 1) == 3.5


def test_when_an_svd_cut_will_do_was_measured() -> None:
    assert "(MiniLM on GLUE's SST-2 and MRPC) it is at least as good as DyLoRA at every rank." in README
    assert "it is better or within half a point from rank 2 on." in README
    glue = pd.read_csv(RESULTS / "table2-glue-all-MiniLM-L6-v2.csv").query("metric == 'accuracy'")
    for task in ("glue-sst2", "glue-mrpc"):
        at = glue[glue["task"] == task].groupby(["method", "rank"])["value"].mean()
        assert (at["LoRA, cut by SVD"] - at["DyLoRA"]).min() >= 0, task
    labelled = [task for task in world.NAMES if task != "describe"]
    assert "the five tasks of the small English world that have labels" in README and len(labelled) == 5
    for task in labelled:
        frame = pd.read_csv(RESULTS / f"table2-world-{task}.csv")
        at = frame[frame["metric"] == world.METRICS[task]].groupby(["method", "rank"])["value"].mean()
        assert (at["LoRA, cut by SVD"] - at["DyLoRA"]).loc[2:].min() > -0.005, task


def test_what_a_lora_of_the_largest_rank_is_ahead_was_measured() -> None:
    assert "a LoRA of rank 8 is better there: by 2 points on SST-2, and by 6 on MRPC." in README
    glue = pd.read_csv(RESULTS / "table2-glue-all-MiniLM-L6-v2.csv").query("metric == 'accuracy' and rank == 8")
    at = 100 * glue.groupby(["task", "method"])["value"].mean()
    ahead = {task: round(at[task, "LoRA, cut to b"] - at[task, "DyLoRA"]) for task in ("glue-sst2", "glue-mrpc")}
    assert ahead == {"glue-sst2": 2, "glue-mrpc": 6}
    assert (glue.groupby("task")["steps"].nunique() == 1).all()


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


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "notebooks/README.md"])
def test_every_link_into_the_repository_leads_somewhere(page: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()) if "://" not in link]
    assert links and not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


def test_every_file_that_contributing_names_is_there() -> None:
    paths = [path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", CONTRIBUTING) if "NAME" not in path]
    assert len(paths) > 20
    assert not [path for path in paths if not ((ROOT / path).exists() or (ROOT / "dylora_kit" / path).exists())]


def test_contributing_lists_the_wings_from_the_ground_up() -> None:
    wings = [re.findall(r"`(\w+)`", line.split(":")[0]) for line in CONTRIBUTING.splitlines() if line.startswith("- `")]
    face = re.findall(r"^- `(\w+)`:", str(dylora_kit.__doc__), re.MULTILINE)
    assert [name for names in wings for name in names] == face


def named_commands() -> list[tuple[str, str, str]]:
    """Where a command of the package stands, its module and its arguments."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "notebooks").glob("*.*"), *(ROOT / "data").rglob("README.md")]
    commands = r"python -m (dylora_kit(?:\.\w+)+)((?: +[\w./:=-]+)*)"
    return [(str(page.relative_to(ROOT)), *found) for page in pages for found in re.findall(commands, page.read_text())]


@pytest.mark.parametrize(("page", "module", "arguments"), sorted(set(named_commands())))
def test_every_command_that_is_named_is_one(page: str, module: str, arguments: str) -> None:
    words = arguments.split()
    if module == "dylora_kit.paper":
        understood = parser().parse_args(words)
        assert words, "which table?"
        tasks = glue.SPECS if understood.tier == "real" else STUDIES[understood.table].tasks if understood.tasks else ()
        assert set(understood.tasks or ()) <= set(tasks)
    elif module == "dylora_kit.backbones":
        assert len(words) == 1 and words[0] in backbones.NAMES
    elif module == "dylora_kit.lessons":
        assert words[0] == "address" and checked_address(words[1])
    else:
        assert (module, words) == ("dylora_kit.synthetic", [])


def test_it_is_short_and_shows_the_library_before_line_40() -> None:
    lines = README.splitlines()
    assert len(lines) <= 125 and len(README.split()) < 1500
    end = next(number for number, line in enumerate(lines) if line.startswith("adapters.merge(rank=3)"))
    assert lines.index("```python") < end < 40
