"""Faults to plant in the paper's tables beside the kit's, and in what lesson 08 rests on."""

from planted import Fault

TABLES = "widgets/test_paper_tables"

FAULTS: list[Fault] = [
    ("the paper's numbers are shown in the kit's half", "widgets/svg_cards/compared",
     "draw[shown.kind](shown, side, rank) if side.lines", "draw[shown.kind](shown, shown.paper, rank) if side.lines",
     TABLES),
    ("a whisker is half as long", "widgets/svg_cards/compared", "return value.mean - spread, value.mean + spread",
     "return value.mean - spread / 2, value.mean + spread / 2", TABLES),
    ("each half has a scale of another length", "widgets/svg_cards/compared",
     "(low, high), span = _ends(side), longest", "(low, high), span = _ends(side), _ends(side)[1] - _ends(side)[0]",
     TABLES),
    ("a hollow line is drawn whole", "widgets/svg_cards/compared",
     "\";stroke-dasharray:5 4\" if line.hollow else \"\"", "\"\"", TABLES),
    ("a rank that a table lacks is shown as its first", "widgets/paper_tables", "if there <= rank), default",
     "if there == rank), default", TABLES),
    ("a picture moves the live view along", "widgets/paper_tables",
     "        return SVG(_still(self._all[table, tier, task], rank))",
     "        self.choose(table, tier, task)\n        return SVG(_still(self._all[table, tier, task], rank))", TABLES),
    ("gaps are not said in the picture's text", "widgets/svg_cards/comparison", "{halves} {self.missing}", "{halves}",
     TABLES),
    ("a cell that cannot be read is drawn as a number", "paper/compared_at_ranks",
     "(table[\"method\"] == method) & table[\"mean\"].notna()]", "(table[\"method\"] == method)].fillna(0)",
     "paper/test_side_by_side"),
    ("the paper's LoRA is said to be cut at α/b", "paper/compared_at_ranks",
     "\"LoRA\": (\"LoRA cut (how?)\", 1, False)", "\"LoRA\": LOOKS[LORA]", "paper/test_side_by_side"),
    ("what was not measured is not named", "paper/compared_at_ranks",
     "if len(frame) and not (frame[\"method\"] == method).any()]", "if frame.empty]", "paper/test_side_by_side"),
    ("the time of a search is that of one training", "paper/tables_beside",
     "runs.drop_duplicates([\"r\", \"seed\"]).groupby(\"seed\")[\"cpu_seconds\"].sum()",
     "runs.drop_duplicates([\"r\", \"seed\"]).groupby(\"seed\")[\"cpu_seconds\"].mean()", "paper/test_side_by_side"),
    ("hours do not grow with the number of texts", "paper/gpu_hours", "one_text * TEXTS[task] * epochs / 3600",
     "one_text * TEXTS[\"MRPC\"] * epochs / 3600", "paper/test_gpu_hours"),
    ("a cut counts as a training that took no time", "paper/gpu_hours", "measured[measured[\"cpu_seconds\"] > 0]",
     "measured", "paper/test_gpu_hours"),
    ("a cut is compared with the full rank of another seed", "paper/cut_line_up",
     "full.reindex(pd.MultiIndex.from_frame(frame[[\"task\", \"method\", \"seed\"]])).to_numpy()",
     "full.groupby([\"task\", \"method\"]).transform(\"mean\").reindex(pd.MultiIndex.from_frame(frame[[\"task\", "
     "\"method\", \"seed\"]])).to_numpy()", "paper/test_cut_line_up"),
    ("Table 6's four rows stand at the first four of eight", "paper/cut_line_up", "2 * written[\"rank\"].astype(int)",
     "written[\"rank\"].astype(int)", "paper/test_cut_line_up"),
    ("twice the steps are counted once", "paper/budgets", " * choice.get(\"longer\", 1)", "", "paper/test_budgets"),
    ("an area takes ranks as equally far apart", "paper/later_methods",
     "float(np.trapezoid(by_rank.to_numpy(), by_rank.index.to_numpy())) / width",
     "float(np.trapezoid(by_rank.to_numpy())) / (len(by_rank) - 1)", "paper/test_budgets"),
]  # fmt: skip
