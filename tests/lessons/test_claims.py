"""Claims and static figures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dylora_kit import lessons, plots
from dylora_kit.lessons import claims


def test_a_true_claim_prints_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    lessons.claim("two is less than three", 2 < 3, two=2, one_third=1 / 3)
    assert capsys.readouterr().out == "✓ two is less than three (two = 2, one third = 33.3 %)\n"
    lessons.claim("a circle turns", True, unit="°", whole=360.0, tiny=2e-7, none=0.0)
    assert capsys.readouterr().out == "✓ a circle turns (whole = 360 °, tiny = 2.0e-07 °, none = 0 °)\n"


def test_in_a_notebook_a_claim_is_a_line_with_a_bar_for_each_share(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("dylora_kit.lessons.claims._in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    lessons.claim("a < b", True, a=0.25, b=1.5, lost=-0.1, ranks=3)
    lessons.claim("it is quick", False, required=False, unit="s", a=0.25)
    assert shown[0]["text/plain"] == "✓ a < b (a = 25.0 %, b = 150.0 %, lost = -10.0 %, ranks = 3)"
    assert "a &lt; b" in shown[0]["text/html"]
    assert shown[0]["text/html"].count("width:3.4em") == 1 and "width:25%" in shown[0]["text/html"]
    assert shown[1]["text/plain"] == "✗ it is quick (a = 0.25 s)"
    assert "✗" in shown[1]["text/html"] and "width:3.4em" not in shown[1]["text/html"]


def test_a_claim_is_as_large_as_the_text_around_it_also_in_the_saved_notebooks() -> None:
    saved = [
        "".join(output["data"]["text/html"])
        for path in sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
        if "".join(output.get("data", {}).get("text/plain", "")).startswith(("✓ ", "✗ "))
    ]
    assert len(saved) > 100
    for html in (*saved, claims._as_html("a", True, {"b": 0.5}, "%")):
        assert html.startswith('<div class="dk-claim" ') and "font-size" not in html and "width:44px" not in html


def test_a_false_claim_stops_the_notebook_with_the_numbers() -> None:
    with pytest.raises(AssertionError, match=r"not what was measured.*x = 5"):
        lessons.claim("x is small", np.bool_(False), x=5)


def test_a_false_claim_about_another_model_is_printed_as_false(capsys: pytest.CaptureFixture[str]) -> None:
    lessons.claim("x is small", False, required=False, x=5)
    assert capsys.readouterr().out == "✗ x is small (x = 5)\n"


FRAME = pd.DataFrame(
    [
        (method, rank, "accuracy", value, seed)
        for method, value in (("a", 0.5), ("b", 0.25))
        for rank in (1, 2)
        for seed in (1, 2)
    ],
    columns=["method", "rank", "metric", "value", "seed"],
)


def test_a_figure_says_what_it_shows() -> None:
    image = plots.rank_curves(FRAME)
    assert (
        image.alt
        == "Accuracy by rank: a from 50 % at rank 1 to 50 % at rank 2; b from 25 % at rank 1 to 25 % at rank 2."
    )
    assert image.data.startswith(b"\x89PNG")


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="no method 'c': it has a, b"):
        plots.rank_curves(FRAME, methods=["a", "c"])


def test_the_prediction_table_counts_right_answers() -> None:
    labels = np.array([1, 2, 3])
    predicted = {"m": {1: np.array([1, 0, 0]), 2: labels}, "n": {None: labels}}
    image = plots.predictions_by_rank({"turned": np.zeros((3, 8, 8))}, labels, predicted)
    assert image.alt == "Right answers on 3 pictures. m, b = 1: 1; m, b = 2: 3; n: 3."
