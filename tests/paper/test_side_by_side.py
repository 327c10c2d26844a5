"""Every table of the paper is among the comparisons, with the paper's numbers, the kit's, and what is missing."""

from pathlib import Path

import pandas as pd
import pytest

from dylora_kit.paper.compared_at_ranks import DIGITS, ENGLISH, PAPER, REAL_TEXT
from dylora_kit.paper.published import TABLES, printed_table
from dylora_kit.paper.side_by_side import side_by_side
from dylora_kit.storage.files import data_folder
from dylora_kit.widgets.svg_cards.comparison import Comparison, Line

RESULTS = data_folder() / "results"
ALL = side_by_side()


def of(table: str, tier: str, task: str) -> Comparison:
    (found,) = [one for one in ALL if (one.table, one.tier, one.task) == (table, tier, task)]
    return found


def lines(comparison: Comparison, half: str) -> dict[str, Line]:
    return {line.name: line for line in getattr(comparison, half).lines}


def test_every_table_of_the_paper_is_there_and_every_key_is_once() -> None:
    tables = {one.table.lower().replace("table ", "table").replace("appendix ", "appendix_") for one in ALL}
    assert tables == set(TABLES) - {"table2_best"}
    keys = [(one.table, one.tier, one.task) for one in ALL]
    assert len(set(keys)) == len(keys)


def test_what_was_not_run_says_how_long_it_takes_and_what_was_run_has_numbers() -> None:
    for one in ALL:
        assert one.missing and (one.kit.lines or one.kit.instead)
        if one.tier == PAPER:
            assert not one.kit.lines and "GPU-hours" in one.kit.instead[0] and "GPU-hours" in one.missing
        assert one.paper.lines or one.kind == "words"


def test_table_2_has_the_cells_of_both() -> None:
    shown = of("Table 2", DIGITS, "turned digits (accuracy)")
    results = pd.read_csv(RESULTS / "table2-digits-turned.csv")
    values = 100 * results[(results["method"] == "LoRA, cut by SVD") & (results["rank"] == 3)]["value"]
    measured = lines(shown, "kit")["LoRA cut by SVD"].values[3]
    assert measured == pytest.approx((values.mean(), values.std(), 5))
    printed = printed_table("table2").set_index(["task", "method", "rank"]).loc[("average", "LoRA", 1), "mean"]
    assert lines(shown, "paper")["LoRA cut (how?)"].values[1].mean == printed
    assert "LoRA cut, α/b" not in lines(shown, "paper")  # the paper does not say how


def test_cells_that_cannot_be_read_are_left_out_and_counted() -> None:
    shown = of("Table 2", REAL_TEXT, "RTE (accuracy)")
    assert set(lines(shown, "paper")["LoRA cut (how?)"].values) == {1, 2, 5, 6, 7, 8}
    assert shown.missing.endswith("3 of the paper's cells cannot be read.")


def test_real_text_says_how_often_a_text_was_seen_and_which_seeds_and_methods_lack() -> None:
    missing = of("Table 2", REAL_TEXT, "MRPC (F1)").missing
    assert "Each text was seen 2.4 times, in the paper 30 times." in missing
    assert "3 seeds, the paper has 5." in missing and "Not measured: DyLoRA, frozen; LoRA cut, α/r." in missing


def test_table_4_has_pairs_in_the_same_rows() -> None:
    shown = of("Table 4", ENGLISH, "acceptability (Matthews)")
    cells = printed_table("table4").set_index(["task", "rank", "distribution", "updated"])["mean"]
    assert shown.rows[2] == "rank 8, uniform"
    assert lines(shown, "paper")["row b alone"].values[2].mean == cells["CoLA", 8, "uniform", "only b"]
    results = pd.read_csv(RESULTS / "table4-world-acceptability.csv")
    alone = 100 * results[(results["method"] == "uniform, row b") & (results["rank"] == 8)]["value"].mean()
    assert lines(shown, "kit")["row b alone"].values[2].mean == pytest.approx(alone)


def test_the_cost_of_a_search_is_in_trainings_of_one_dylora() -> None:
    shown = of("Table 5", DIGITS, "turned digits (accuracy)")
    ours = {name: min(line.values) for name, line in lines(shown, "kit").items()}
    (search,) = [cost for name, cost in ours.items() if name.startswith("LoRA to 32")]
    (single,) = [cost for name, cost in ours.items() if name.startswith("DyLoRA to 32")]
    assert single == pytest.approx(1.0) and 5 < search < 7.5
    assert {min(line.values) for line in shown.paper.lines} == {1.0, 6.0, 7.0}


def test_an_empty_folder_has_every_comparison_and_no_number_of_the_kit(tmp_path: Path) -> None:
    empty = side_by_side(tmp_path)
    assert {one.table for one in empty} == {one.table for one in ALL}
    assert all(not one.kit.lines for one in empty)


def test_results_of_a_model_on_e2e_are_shown(tmp_path: Path) -> None:
    rows = [("DyLoRA", b, "bleu", 0.1 * b, seed) for b in (1, 2, 3, 4) for seed in (10, 42)]
    frame = pd.DataFrame(rows, columns=["method", "rank", "metric", "value", "seed"])
    frame.to_csv(tmp_path / "table6-tiny-e2e.csv", index=False)
    (shown,) = [one for one in side_by_side(tmp_path) if (one.tier, one.task) == (REAL_TEXT, "E2E (BLEU)")]
    assert lines(shown, "kit")["DyLoRA"].values[2].mean == pytest.approx(20.0) and "tiny" in shown.kit.what
    assert shown.missing == "2 seeds, the paper has 3."
