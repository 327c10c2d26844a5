"""The paper's numbers: complete, and in agreement with the averages that the paper prints."""

import pytest

from dylora_kit.paper.published import TABLES, printed_table

SIZES = {"table1": 24, "table2": 216, "table2_best": 36, "table3": 25, "table4": 56, "table5": 8, "table6": 65,
         "table7": 2, "table8": 28, "table9": 52, "appendix_a": 3}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_there(name: str) -> None:
    assert len(printed_table(name)) == SIZES[name]


def test_printed_averages_are_those_of_the_cells() -> None:
    odd = []
    for (rank, method), rows in printed_table("table2").groupby(["rank", "method"]):
        cells, printed = rows[rows["task"] != "average"]["mean"], rows[rows["task"] == "average"]["mean"].item()
        if cells.notna().all() and abs(cells.mean() - printed) > 0.02:
            odd.append((rank, method))
    assert odd == [(1, "LoRA")]  # 54.90 in print, 55.52 by its cells


def test_what_the_paper_says_of_its_table_2_holds() -> None:
    table = printed_table("table2")
    average = table[table["task"] == "average"].pivot(index="rank", columns="method", values="mean")
    assert average.loc[1, "DyLoRA"] - average.loc[1, "LoRA"] > 25
    assert (average["DyLoRA"] > average["LoRA"]).all()
    assert average["DyLoRA"].max() - average["DyLoRA"].min() < 1.5


def test_an_unknown_table_lists_the_known() -> None:
    with pytest.raises(ValueError, match="no table 'table10' of the paper here: expected one of 'table1'"):
        printed_table("table10")
