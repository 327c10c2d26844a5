"""The README's script, as it stands there, and the numbers in its tables."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from dylora_kit import backbones
from dylora_kit.paper import table

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
    frame = pd.read_csv(RESULTS / "digits.csv").query("domain == 'turned'")
    said = rows_of(r"(DyLoRA|LoRA.*|… with.*)")
    assert len(said) == 5
    for (method,), cells in said.items():
        assert cells == measured(frame, IN_DIGITS.get(method, method)), method


IN_DESIGN = {
    "uniform, individual loss": ("distributions", "uniform"),
    "geometric, p = 0.15": ("distributions", "geometric 0.15"),
    "summation loss": ("objectives", "summation"),
    "one rank for each example": ("objectives", "one rank for each example"),
    "update as the authors' code": ("updates", "rows 1 … b, as the authors"),
    "exact update, twice the learning rate": ("updates", "rows 1 … b, exact, 2 lr"),
    "row b alone (frozen)": ("updates", "row b, exact"),
}


def test_the_table_of_choices_says_what_was_measured() -> None:
    said = rows_of("|".join(map(re.escape, IN_DESIGN)))
    assert len(said) == len(IN_DESIGN)
    for (name,), cells in said.items():
        kind, method = IN_DESIGN[name]
        assert cells == measured(pd.read_csv(RESULTS / f"design-{kind}-digits-turned.csv"), method), name


def test_what_is_said_of_time_was_measured() -> None:
    seconds = pd.read_csv(RESULTS / "design-objectives-digits-turned.csv").groupby("method")["cpu_seconds"].mean()
    assert 6.5 < seconds["summation"] / seconds["individual"] < 7.5
    more = seconds["one rank for each example"] / seconds["individual"] - 1
    assert f"for {100 * more:.0f} % more time" in README
    search = pd.read_csv(RESULTS / "search-digits-turned.csv").drop_duplicates(["method", "r", "seed"])
    spent = search.groupby(["method", "r"])["cpu_seconds"].mean()
    every, powers = (sum(spent["LoRA, one per rank", r] for r in ranks) for ranks in (range(1, 9), (1, 2, 4, 8)))
    one = spent["DyLoRA", 8]
    assert f"takes {every / one:.1f} times the time" in README
    assert f"the powers of two {powers / one:.1f} times" in README


def test_the_table_of_glue_says_what_was_measured() -> None:
    frame = pd.read_csv(RESULTS / "glue-all-MiniLM-L6-v2.csv").query("metric == 'accuracy'")
    said = rows_of(r"(SST-2|MRPC|RTE) \| .*")
    assert len(said) == 14
    for (task, method), cells in said.items():
        of_task = frame[frame["task"] == f"glue-{task.lower().replace('-', '')}"]
        assert cells == measured(of_task, method), (task, method)
