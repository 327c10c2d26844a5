"""The tables of results: they say what the files say, the page has them, and its text around them stays."""

from pathlib import Path

import pandas as pd
import pytest

from dylora_kit.paper import tables_at_every_rank, tables_beside
from dylora_kit.paper.compared_methods import ADALORA, DYLORA, DYLORA_HELD, FROZEN, LORA, ONE
from dylora_kit.paper.published import printed_table
from dylora_kit.paper.report import BUILDERS, beside_the_paper, filled, markdown, write
from dylora_kit.storage.files import data_folder

RESULTS = data_folder() / "results"


def test_the_tables_of_the_page_are_what_the_files_say() -> None:
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert filled(page, RESULTS) == page


def test_the_page_has_every_table() -> None:
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert [name for name in BUILDERS if f"<!-- table: {name} -->" not in page] == [
        "table2"
    ]  # it stands there in parts


SEEDS = ((10, -0.01), (42, 0.01))  # and what each adds to a value


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results that are made up, of turned digits. Values differ by method, r, rank, metric and seed."""
    folder = tmp_path / "results"
    folder.mkdir()
    digits = [(LORA, 2, metric, value, 10, domain) for metric, value, domain in
              (("accuracy", 0.31, "turned"), ("accuracy", 0.77, "upright"), ("f1", 0.99, "turned"))]  # fmt: skip
    pd.DataFrame(digits, columns=["method", "rank", "metric", "value", "seed", "domain"]).to_csv(
        folder / "table2-digits-turned.csv", index=False
    )
    rows: list[tuple[str, int, int, float, float, int, int]] = []
    for seed, shift in SEEDS:
        for r in (1, 2, 4, 8, 16, 32):
            rows.append((ONE, r, r, 0.5 + r / 100 + shift, 10.0, 1000 * r, seed))
        for r in (3, 5):  # no powers of two: not in the search
            rows.append((ONE, r, r, 0.98, 100.0, 1000 * r, seed))
        best = {10: 5, 42: 11}[seed]
        for rank in range(1, 33):
            value = 0.6 + best / 100 - abs(rank - best) / 1000
            rows.append((DYLORA, 32, rank, value, 20.0, 1000 * rank, seed))
            if rank <= 8:
                rows.append((DYLORA, 8, rank, 0.2 + rank / 100 + shift, 7.0, 100 * rank, seed))
            if seed == 10:
                rows.append((FROZEN, 32, rank, 0.5 - abs(rank - 2) / 100, 30.0, 1000 * rank, seed))
        rows.append((ADALORA, 8, 8, 0.4 + shift, 9.0, 3700 + seed, seed))
    frame = pd.DataFrame(rows, columns=["method", "r", "rank", "value", "cpu_seconds", "stored", "seed"])
    both = [frame.assign(metric="f1", value=0.01), frame.assign(metric="accuracy")]
    pd.concat(both).to_csv(folder / "search-digits-turned.csv", index=False)
    values = {"individual": 0.8, "summation": 0.9, "uniform": 0.7, "geometric 0.15, row b": 0.3}
    other = [(name, rank, metric, value + shift + (rank - 1) / 100 + (metric == "f1") / 20, seed,
              5.0 + seed if name == "individual" else 40.0)
             for name, value in values.items() for rank in (1, 8) for metric in ("f1", "accuracy")
             for seed, shift in SEEDS]  # fmt: skip
    frame = pd.DataFrame(other, columns=["method", "rank", "metric", "value", "seed", "cpu_seconds"])
    for kind in ("table7", "table4"):
        frame.to_csv(folder / f"{kind}-digits-turned.csv", index=False)
    return folder


def test_a_lora_of_each_rank_stands_beside_the_papers(results: Path) -> None:
    rows = {row["rank"]: row for row in tables_beside.table1(results)}
    assert list(rows) == ["1", "2", "4", "8", "16", "32"]
    assert rows["4"]["turned digits (accuracy)"] == "54.0 ± 1.4 (2)" and rows["4"]["sentiment (accuracy)"] == "–"
    assert rows["4"]["paper: MRPC"] == "88.24" and rows["16"]["paper: MRPC"] == "86.76"


def test_digits_are_those_of_the_turned_domain(results: Path) -> None:
    *paper, row = tables_at_every_rank.table2(results)
    assert {row["task"] for row in paper} == {"paper: average of eight"}
    assert (row["task"], row["method"], row["2"]) == ("turned digits (accuracy, 1 seed)", LORA, "31.0")
    assert set(row.values()) == {row["task"], LORA, "31.0", "–"}


def test_quality_and_size_are_those_of_one_r_and_one_rank(results: Path) -> None:
    rows = {(row["method"], row["rank"]): row for row in tables_beside.table3(results)}
    cells = {key: (row["turned digits (accuracy)"], row["turned digits: stored"]) for key, row in rows.items()}
    assert cells[(DYLORA, "1")] == ("21.0 ± 1.4 (2)", "100") and cells[(DYLORA, "8")] == ("28.0 ± 1.4 (2)", "800")
    assert cells[(ONE, "1")] == ("51.0 ± 1.4 (2)", "1,000") and cells[(ADALORA, "")] == ("40.0 ± 1.4 (2)", "3,726")


def test_time_counts_every_training_of_a_search_and_the_best_is_taken_seed_by_seed(results: Path) -> None:
    rows = {row["method"]: row for row in tables_beside.table5(results) if row["r_max"] == "32"}
    assert rows["LoRA, search"]["turned digits: time"] == "3.0"  # six of 10 s beside one of 20 s
    assert rows["DyLoRA"]["turned digits: time"] == "1.0"
    assert rows["DyLoRA, frozen"]["turned digits: time"] == "1.5"
    assert rows["DyLoRA, frozen"]["turned digits (accuracy)"] == "50.0 (1) at 2"
    assert rows["LoRA, search"]["paper: time"] == "6"


def test_dylora_may_take_any_rank_and_the_search_the_papers_alone(results: Path) -> None:
    rows = {row["method"]: row["turned digits (accuracy)"] for row in tables_beside.table5(results)}
    assert rows["DyLoRA"] == "68.0 ± 4.2 (2) at 5 to 11"
    assert rows["LoRA, search"] == "82.0 ± 1.4 (2) at 32"


def test_the_papers_larger_search_stands_there_though_it_was_not_measured(results: Path) -> None:
    search, frozen, *_ = tables_beside.table5(results)
    assert (search["r_max"], search["paper: time"], search["paper: SST-2"]) == ("64", "7", "95.30 at 64")
    assert (frozen["r_max"], frozen["paper: MRPC"], frozen["turned digits (accuracy)"]) == ("64", "89.95 at 34", "–")


def test_a_seed_whose_search_is_not_whole_is_left_out(results: Path) -> None:
    path = results / "search-digits-turned.csv"
    pd.read_csv(path).query("not (method == @ONE and r == 16 and seed == 42)").to_csv(path, index=False)
    rows = {row["method"]: row["turned digits (accuracy)"] for row in tables_beside.table5(results)}
    assert rows["LoRA, search"] == "81.0 (1) at 32"


def test_times_of_trainings_stand_beside_the_papers(results: Path) -> None:
    rows = {row["trainings"]: row for row in tables_beside.appendix_a(results)}
    every = rows["LoRAs of ranks 1 to 8"]
    assert (every["paper: MRPC, seconds"], every["paper: in DyLoRAs"]) == ("3199.60", "7.83")
    assert every["turned digits: seconds"] == "–"  # ranks 6 and 7 are lacking
    powers = rows["LoRAs of ranks 1, 2, 4 and 8"]
    assert (powers["turned digits: seconds"], powers["turned digits: in DyLoRAs"]) == ("40.0", "5.71")
    assert rows["LoRA of rank 8"]["turned digits: in DyLoRAs"] == "1.43"
    assert rows["DyLoRA, ranks 1 to 8"]["paper: in DyLoRAs"] == "1.00"


def test_a_choice_is_measured_at_its_rank_and_by_the_tasks_own_metric(results: Path) -> None:
    on_digits = "turned digits (accuracy)"
    rows = [row for row in tables_beside.table4(results) if row[on_digits] != "–"]
    assert [(row["rank"], row["distribution"], row["updated"], row[on_digits]) for row in rows] == [
        ("1", "uniform", "rows 1 to b", "70.0 ± 1.4 (2)"), ("1", "geometric 0.15", "row b alone", "30.0 ± 1.4 (2)"),
        ("8", "uniform", "rows 1 to b", "77.0 ± 1.4 (2)"), ("8", "geometric 0.15", "row b alone", "37.0 ± 1.4 (2)"),
    ]  # fmt: skip
    seven = {row["loss"]: row for row in tables_beside.table7(results)}
    assert (seven["summation"][on_digits], seven["summation"]["turned digits: seconds"]) == ("93.5 ± 1.4 (2)", "40")
    assert seven["individual"]["turned digits: seconds"] == "31"
    assert seven["summation"]["paper: seconds"] == "1176"


def test_every_choice_stands_at_every_rank_with_its_seeds_said_once(results: Path) -> None:
    rows = {row["method"]: row for row in tables_at_every_rank.choices(results, "table4")}
    assert list(rows) == ["individual", "summation", "uniform", "geometric 0.15, row b"]  # as in the file
    assert rows["uniform"]["task"] == "turned digits (accuracy, 2 seeds)"
    assert [rows["uniform"][rank] for rank in ("rank b = 1", "2", "8")] == ["70.0 ± 1.4", "–", "77.0 ± 1.4"]


def test_loras_of_their_own_stand_beside_one_dylora_of_eight_ranks(results: Path) -> None:
    dylora, own = tables_at_every_rank.own_loras(results)
    assert (dylora["method"], dylora["3"]) == (DYLORA, "23.0 ± 1.4") and (own["method"], own["3"]) == (
        ONE,
        "98.0 ± 0.0",
    )


def test_the_ordering_score_is_the_mean_over_layers_and_seeds(tmp_path: Path) -> None:
    scores = [(DYLORA, layer, 1, score + shift, seed, "turned") for layer, score in (("q", 0.2), ("v", 0.4))
              for seed, shift in SEEDS]  # fmt: skip
    frame = pd.DataFrame(scores, columns=["method", "layer", "rank", "score", "seed", "domain"])
    frame.to_csv(tmp_path / "ordering-digits-turned.csv", index=False)
    (row,) = tables_at_every_rank.row_ordering(tmp_path)
    assert (row["task"], row["rank b = 1"], row["2"]) == ("turned digits (score, 2 seeds)", "0.30 ± 0.01", "–")


def test_settings_tell_the_common_rate_and_who_has_another(tmp_path: Path) -> None:
    runs = [("a", DYLORA, 300, 0.003, 1), ("a", LORA, 300, 0.003, 1), ("a", DYLORA_HELD, 300, 0.001, 2),
            ("b", DYLORA, 500, 0.003, 1)]  # fmt: skip
    frame = pd.DataFrame(runs, columns=["task", "method", "steps", "lr", "seed"]).assign(batch_size=16)
    frame.to_csv(tmp_path / "some.csv", index=False)
    paper, first, second = tables_at_every_rank.settings_of(tmp_path)
    assert (paper["steps"], paper["learning rate"], paper["seeds"]) == ("30 epochs", "4e-4", "5")
    assert list(first.values()) == ["some, a", "300", "16", "0.003", f"{DYLORA_HELD}: 0.001", "2"]
    assert list(second.values()) == ["some, b", "500", "16", "0.003", "–", "1"]


def test_what_was_not_measured_is_left_out(results: Path) -> None:
    for name in BUILDERS:
        assert "sentiment" not in beside_the_paper(name, results)
    (results / "search-digits-turned.csv").unlink()
    assert "turned digits" not in beside_the_paper("table5", results)
    assert beside_the_paper("own-loras", results) == "Not measured."


def test_a_file_without_the_tasks_metric_is_refused(results: Path) -> None:
    path = results / "search-digits-turned.csv"
    pd.read_csv(path).query("metric == 'f1'").to_csv(path, index=False)
    with pytest.raises(ValueError, match="no rows of the metric 'accuracy': measure it again"):
        tables_beside.table1(results)


def printed(name: str) -> set[str]:
    """Every number of a table of the paper, as a report writes it."""
    columns = printed_table(name).select_dtypes("number")
    numbers = {value for column in columns for value in columns[column].dropna()}
    return {f"{value:.0f}" for value in numbers} | {f"{value:.2f}" for value in numbers}


@pytest.mark.parametrize(
    "name", ["table1", "table2", "table2-real", "table2-at-8", "table3", "table4", "table5", "table7"]
)
def test_every_cell_of_the_paper_that_is_printed_here_stands_in_its_data(name: str) -> None:
    known = printed(name.partition("-")[0]) | (printed("table2_best") if name == "table2-at-8" else set())
    cells = set()
    for row in BUILDERS[name](RESULTS):
        its_own = row.get("task", "").startswith("paper: ")
        cells |= {
            cell
            for key, cell in row.items()
            if key.startswith("paper: ") or (its_own and key not in ("task", "method"))
        }
    numbers = {
        number for cell in cells - {"–"} for number in cell.replace(" at ", " ± ").split(" ± ") if number[-1] != "M"
    }
    assert numbers and numbers <= known


PAGE = "# A page\n\nText.\n\n<!-- table: {} -->\n\n| old |\n\n{}\n\nMore text with | bars |.\n"


def test_a_table_is_made_anew_and_the_text_around_it_survives(results: Path) -> None:
    path = results / "README.md"
    path.write_text(PAGE.format("table7", "<!-- end -->"))
    assert write(path) == f"tables made anew in {path}: 1"
    table = beside_the_paper("table7", results)
    assert "93.5 ± 1.4 (2)" in table
    assert path.read_text() == PAGE.format("table7", "<!-- end -->").replace("| old |", table)
    write(path)
    assert path.read_text() == PAGE.format("table7", "<!-- end -->").replace("| old |", table)


@pytest.mark.parametrize(("page", "message"), [
    (PAGE.format("table77", "<!-- end -->"), "there is no table 'table77': expected one of settings, table1, "),
    (PAGE.format("table7", ""), "the table 'table7' is not closed: put <!-- end --> after it"),
    (PAGE.format("table7", "<!-- table: table1 -->\n<!-- end -->"), "the table 'table7' is not closed"),
    (PAGE.format("table7", "<!-- end -->") + "<!-- end -->\n", "<!-- end --> stands where no table is open"),
])  # fmt: skip
def test_a_page_with_a_broken_mark_is_refused_and_stays_as_it_is(results: Path, page: str, message: str) -> None:
    path = results / "README.md"
    path.write_text(page)
    with pytest.raises(ValueError, match=message) as refusal:
        write(path)
    assert str(refusal.value).startswith(f"{path}: ") and path.read_text() == page


def test_a_report_needs_a_page(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="a report fills in the tables of a page, so copy one there first"):
        write(tmp_path / "README.md")


def test_a_column_is_left_out_if_no_row_has_it() -> None:
    rows = [{"rank": "1", "here": "–", "there": "–"}, {"rank": "2", "here": "3.0", "there": "–"}]
    assert markdown(rows).splitlines()[0] == "| rank | here |"
