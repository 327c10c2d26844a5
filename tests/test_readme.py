"""The README's script, as it stands there, and the numbers in its tables."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

import dylora_kit
from dylora_kit import backbones
from dylora_kit.__main__ import parser as command_line
from dylora_kit.lessons.repository_address import checked_address
from dylora_kit.paper import generation, nested_texts
from dylora_kit.paper.__main__ import STUDIES, parser
from dylora_kit.paper.runs import table
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
    assert "A new head (500 steps) makes it equal at rank 1, 4 points behind at rank 2." in README
    assert abs(new_head[1] - at["DyLoRA", 1]) < 1 and round(at["DyLoRA", 2] - new_head[2]) == 4


def test_when_a_lora_of_its_own_is_better_was_measured() -> None:
    assert "a LoRA trained for that rank alone is as good or better, at rank 1 on turned digits by 10 points" in README
    assert "if both have 1,000 steps, and by 3.5 if both have 1,500." in README
    search = pd.read_csv(RESULTS / "search-digits-turned.csv")
    longer = pd.read_csv(RESULTS / "table2-digits-turned.csv").query("domain == 'turned'")
    own = 100 * search[search["method"] == "LoRA, one per rank"].groupby("rank")["value"].mean()
    nested = 100 * search.query("method == 'DyLoRA' and r == 8").groupby("rank")["value"].mean()
    ahead = own.loc[:8] - nested
    assert set(search["steps"]) == {1000} and round(ahead[1]) == 10 and ahead.min() > -0.1
    at = 100 * longer.groupby(["method", "rank"])["value"].mean()
    assert set(longer["steps"].dropna()) == {1500} and round(at["LoRA, one per rank", 1] - at["DyLoRA", 1], 1) == 3.5


def test_when_an_svd_cut_will_do_was_measured() -> None:
    assert "(accuracy, three seeds): the SVD cut of a LoRA is at least as good as DyLoRA at every rank." in README
    assert "it is better than DyLoRA or within half a point from rank 2 on." in README
    glue = pd.read_csv(RESULTS / "table2-glue-all-MiniLM-L6-v2.csv").query("metric == 'accuracy'")
    for task in ("glue-sst2", "glue-mrpc"):
        at = glue[glue["task"] == task].groupby(["method", "rank"])["value"].mean()
        assert (at["LoRA, cut by SVD"] - at["DyLoRA"]).min() >= 0, task
        assert glue.loc[glue["task"] == task, "seed"].nunique() == 3
    labelled = [task for task in world.NAMES if task != "describe"]
    assert "the five tasks of the small English world that have labels" in README and len(labelled) == 5
    for task in labelled:
        frame = pd.read_csv(RESULTS / f"table2-world-{task}.csv")
        at = frame[frame["metric"] == world.METRICS[task]].groupby(["method", "rank"])["value"].mean()
        assert (at["LoRA, cut by SVD"] - at["DyLoRA"]).loc[2:].min() > -0.005, task


def test_what_happens_to_a_real_model_s_sentences_was_measured() -> None:
    assert "SmolLM2 on E2E (one seed): it keeps 99 % of the LoRA's BLEU at rank 1, as does a DyLoRA;" in README
    assert "the first row alone keeps 56 % at α/b, and at α/r, where sentences fall apart, 19 %." in README
    frame = pd.read_csv(RESULTS / "table6-SmolLM2-135M-Instruct-4bit-e2e.csv").query("metric == 'bleu'")
    at = frame.set_index(["method", "rank"])["value"]
    cuts = ("LoRA, cut by SVD", "LoRA, cut to b", "LoRA, cut, scale α/r")
    assert [round(100 * at[name, 1] / at[name, 4]) for name in (*cuts, "DyLoRA")] == [99, 56, 19, 99]
    texts = pd.read_csv(RESULTS / "table6-SmolLM2-135M-Instruct-4bit-e2e-texts.csv").query("rank == 1")
    ended = texts.assign(ended=texts["text"].str.endswith(".")).groupby("method")["ended"].mean()
    assert ended[cuts[0]] == 1 and ended[cuts[2]] < 0.5


def test_that_no_real_text_shows_the_lead_that_digits_show_was_measured() -> None:
    assert "DyLoRA's lead over that cut, 49 points at rank 1 on turned digits, was there on none of four real" in README
    on_digits = pd.read_csv(RESULTS / "table2-digits-turned.csv").query("domain == 'turned' and rank == 1")
    at = 100 * on_digits.groupby("method")["value"].mean()
    assert round(at["DyLoRA"] - at["LoRA, cut by SVD"]) == 49
    paths = [*RESULTS.glob("table2-glue-*.csv"), *RESULTS.glob("table6-SmolLM2-*-e2e.csv")]
    on_text = pd.concat([pd.read_csv(path) for path in paths]).query("rank == 1 and metric in ('accuracy', 'bleu')")
    means = on_text.groupby(["task", "lr", "method"])["value"].mean().unstack()
    assert set(on_text["task"]) == {"glue-sst2", "glue-mrpc", "glue-rte", "e2e"}
    assert (means["DyLoRA"] < means["LoRA, cut by SVD"]).all()
    assert "after thirty epochs on CoLA (one seed) it is 6 points, and −2 at rank 8." in README
    long = pd.read_csv(RESULTS / "epochs-glue-all-MiniLM-L6-v2-cola.csv").query("epochs == 30 and seed == 10")
    after = 100 * long[long["metric"] == "matthews"].set_index(["method", "rank"])["value"]
    lead = [round(after["DyLoRA", b] - after["LoRA, cut by SVD", b]) for b in (1, 8)]
    assert lead == [6, -2]
    assert set(long["seed"]) == {10}


def test_what_a_lora_of_the_largest_rank_is_ahead_was_measured() -> None:
    assert "a LoRA of rank 8 is better there, by 2 points on GLUE's SST-2, and by 6 on MRPC." in README
    glue = pd.read_csv(RESULTS / "table2-glue-all-MiniLM-L6-v2.csv").query("metric == 'accuracy' and rank == 8")
    at = 100 * glue.groupby(["task", "method"])["value"].mean()
    ahead = {task: round(at[task, "LoRA, cut to b"] - at[task, "DyLoRA"]) for task in ("glue-sst2", "glue-mrpc")}
    assert ahead == {"glue-sst2": 2, "glue-mrpc": 6}
    assert (glue.groupby("task")["steps"].nunique() == 1).all()


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
    commands = r"python -m (dylora_kit(?:\.\w+)*)((?: +[\w./:=-]+)*)"
    return [(str(page.relative_to(ROOT)), *found) for page in pages for found in re.findall(commands, page.read_text())]


@pytest.mark.parametrize(("page", "module", "arguments"), sorted(set(named_commands())))
def test_every_command_that_is_named_is_one(page: str, module: str, arguments: str) -> None:
    words = arguments.split()
    if module == "dylora_kit":
        assert not words or command_line().parse_args(words)
    elif module == "dylora_kit.paper":
        understood = parser().parse_args(words)
        assert words, "which table?"
        glue_or_texts = (*glue.SPECS, *([nested_texts.TASK] if understood.table == "nested" else []))
        real = generation.TABLES.get(understood.table, glue_or_texts)
        tasks = real if understood.tier == "real" else STUDIES[understood.table].tasks if understood.tasks else ()
        assert set(understood.tasks or ()) <= set(tasks)
    elif module == "dylora_kit.backbones":
        assert len(words) == 1 and words[0] in backbones.NAMES
    elif module == "dylora_kit.lessons":
        assert words == ["openings"] or (words[0] == "address" and checked_address(words[1]))
    else:
        assert (module, words) == ("dylora_kit.synthetic", [])


def test_it_is_short_and_shows_the_library_before_line_40() -> None:
    lines = README.splitlines()
    assert len(lines) <= 125 and len(README.split()) < 1500
    end = next(number for number, line in enumerate(lines) if line.startswith("adapters.merge(rank=3)"))
    assert lines.index("```python") < end < 40
