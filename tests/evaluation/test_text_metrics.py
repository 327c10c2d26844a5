"""Metrics of texts with several references, some absent: as the official tools have them, and refusals."""

import csv
import math
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dylora_kit.evaluation import text_metrics
from dylora_kit.evaluation.text_metrics import BLANKS, bleu_interval, bleu_of, bleu_statistics, scores

TEXTS = ["The Mill is a pub by the river.", "Cotto serves cheap food.", "Zizzi is a coffee shop in town."]
REFERENCES = [
    ["The Mill is a pub near the river.", "By the river, there is a pub called the Mill."],
    ["Cotto has cheap food."],
    ["Zizzi is a coffee shop.", "In town, Zizzi is a coffee shop.", "A shop."],
]


def by_hand(texts: list[list[str]], references: list[list[list[str]]]) -> float:
    """BLEU as Papineni et al. (2002) define it."""
    logs, written, wanted = 0.0, 0, 0
    for n in range(1, 5):
        matched, possible = 0, 0
        for text, refs in zip(texts, references, strict=True):
            grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
            possible += len(grams)
            for gram in set(grams):
                most = max(sum(tuple(ref[i : i + n]) == gram for i in range(len(ref))) for ref in refs)
                matched += min(grams.count(gram), most)
        logs += math.log(matched / possible) / 4
    for text, refs in zip(texts, references, strict=True):
        written += len(text)
        wanted += min(map(len, refs), key=lambda length: (abs(length - len(text)), length))
    return math.exp(logs + min(0.0, 1 - wanted / written))


def split(text: str) -> list[str]:
    return text.lower().replace(".", " .").replace(",", " ,").split()


def test_bleu_is_as_defined_with_absent_references_left_out() -> None:
    expected = by_hand([split(text) for text in TEXTS], [[split(ref) for ref in refs] for refs in REFERENCES])
    padded = [[*refs, None, ""][:4] for refs in REFERENCES]
    for references in (REFERENCES, padded):
        assert scores(TEXTS, references, ["bleu"])["bleu"] == pytest.approx(expected)
    upper = [text.upper() for text in TEXTS]
    assert scores(upper, REFERENCES, ["bleu"])["bleu"] == pytest.approx(expected)
    assert scores(upper, REFERENCES, ["bleu"], tool="webnlg")["bleu"] < expected


def test_absent_references_that_count_lift_the_brevity_penalty() -> None:
    texts = ["A pub by the river here.", "x"]
    references = [["A pub by the river here in the middle of a town full of bars.", None], ["x", "y"]]
    values = scores(texts, references, ["bleu", BLANKS])
    # the 7 tokens are nearer to 0 than to 16: 8 are written, and 0 + 1 wanted in place of 16 + 1
    assert values[BLANKS] / values["bleu"] == pytest.approx(math.exp(17 / 8 - 1))


def test_ter_is_the_mean_of_the_edits_to_the_nearest_reference() -> None:
    texts = ["the mill is a pub", "food cheap at cotto", "x"]
    references = [["a pub", "the mill is a bar"], ["at cotto food cheap"], ["a b c d"]]
    # one substitution of 5; one shift of 4; one substitution and three insertions of 4
    assert scores(texts, references, ["ter"])["ter"] == pytest.approx((1 / 5 + 1 / 4 + 4 / 4) / 3)
    assert scores(["The mill"], [["the mill"]], ["ter"], tool="webnlg")["ter"] == pytest.approx(1 / 2)
    assert scores(["The mill"], [["the mill"]], ["ter"])["ter"] == 0


def test_the_tokens_are_those_of_13a() -> None:
    values = scores(["It's cheap (£20-25)."], [["It's cheap ( £20-25 ) ."]], ["bleu", "nist", "ter", "rouge-l"])
    assert values["bleu"] == pytest.approx(1) and values["rouge-l"] == 1 and values["ter"] == 0
    assert values["nist"] == pytest.approx(math.log2(len(["It's", "cheap", "(", "£", "20-25", ")", "."])), abs=0.4)


def test_empty_texts_are_scored_counted_and_told() -> None:
    with pytest.warns(UserWarning, match="1 of 3 texts are empty, and scored as such"):
        values = scores([TEXTS[0], "  ", TEXTS[2]], REFERENCES, ["bleu", "nist", "rouge-l", "cider", "ter"])
    assert values["empty"] == 1
    whole = scores(TEXTS, REFERENCES, ["bleu", "nist", "rouge-l", "cider", "ter"])
    assert whole["empty"] == 0 and values["ter"] > whole["ter"]
    assert all(values[name] < whole[name] for name in ("bleu", "nist", "rouge-l", "cider"))
    with pytest.warns(UserWarning, match="3 of 3"):
        assert scores([""] * 3, REFERENCES, ["bleu", "rouge-l", "ter"])["ter"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("texts", "references", "metrics", "message"),
    [
        (TEXTS[:2], REFERENCES, ["bleu"], "2 texts for 3 lists of references: expected one for each"),
        ([], [], ["bleu"], "there are no texts to score"),
        (TEXTS, [*REFERENCES[:2], [None, " "]], ["bleu"], "text 3 has no reference: leave it out"),
        (TEXTS, REFERENCES, ["bleu", "rouge"], "unknown metric 'rouge': expected some of 'bleu', "),
    ],
)
def test_what_does_not_fit_is_refused(texts: Any, references: Any, metrics: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores(texts, references, metrics)


def test_another_tool_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown tool 'dart': expected 'e2e' or 'webnlg'"):
        scores(TEXTS, REFERENCES, ["bleu"], tool="dart")


def test_without_java_or_the_package_meteor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.meteor.meteor", None)
    with pytest.raises(RuntimeError, match="METEOR needs the package pycocoevalcap: pip install pycocoevalcap"):
        scores(TEXTS, REFERENCES, ["meteor"])
    _with_meteor(monkeypatch, [])
    monkeypatch.setattr(text_metrics.shutil, "which", lambda _: None)
    with pytest.raises(RuntimeError, match="METEOR needs Java: install it"):
        scores(TEXTS, REFERENCES, ["meteor"])


def _with_meteor(monkeypatch: pytest.MonkeyPatch, seen: list[Any]) -> None:
    def compute(references: Any, texts: Any) -> tuple[float, list[float]]:
        seen.append((references, texts))
        return 0.25, []

    module = ModuleType("pycocoevalcap.meteor.meteor")
    module.Meteor = lambda: SimpleNamespace(compute_score=compute)  # type: ignore[attr-defined]
    for name in ("pycocoevalcap", "pycocoevalcap.meteor"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "pycocoevalcap.meteor.meteor", module)


def test_meteor_gets_one_line_for_each_text_and_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    _with_meteor(monkeypatch, seen)
    monkeypatch.setattr(text_metrics.shutil, "which", lambda _: "java")
    texts, references = ["A pub.\nBy ||| the river."], [["A pub's here.", None]]
    assert scores(texts, references, ["meteor"])["meteor"] == 0.25
    assert scores(texts, references, ["meteor"], tool="webnlg")["meteor"] == 0.25
    assert seen[0] == ({0: ["a pub 's here"]}, {0: ["a pub by | | | the river"]})
    assert seen[1][0] == {0: ["A pub 's here ."]} and "|||" not in seen[1][1][0] and "\n" not in seen[1][1][0]


def test_bleu_of_added_statistics_is_bleu() -> None:
    statistics = bleu_statistics(TEXTS, REFERENCES)
    assert statistics.shape == (3, 10)
    assert bleu_of(statistics) == pytest.approx(scores(TEXTS, REFERENCES, ["bleu"])["bleu"])
    assert bleu_of(np.zeros((2, 10))) == 0
    assert bleu_of(np.stack([statistics, statistics])).shape == (2,)


def many(n: int, wrong: int) -> tuple[list[str], list[list[str]]]:
    references = [[f"The pub number {index} is by the river in town."] for index in range(n)]
    return [
        ref[0] if index >= wrong else "A bar is there in that place, too." for index, ref in enumerate(references)
    ], references


def test_an_interval_holds_the_value_and_is_narrower_with_more_texts() -> None:
    widths = []
    for n in (20, 320):
        texts, references = many(n, n // 4)
        value, low, high = bleu_interval(texts, references, draws=300)
        assert low < value < high and value == pytest.approx(scores(texts, references, ["bleu"])["bleu"])
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    assert bleu_interval(texts, references, draws=50) == bleu_interval(texts, references, draws=50)
    assert bleu_interval(texts, references, draws=50) != bleu_interval(texts, references, draws=50, seed=1)


def test_a_difference_is_of_the_same_inputs() -> None:
    texts, references = many(100, 30)
    slightly_better = [references[index][0] if index < 3 else text for index, text in enumerate(texts)]
    value, low, high = bleu_interval(slightly_better, references, texts, draws=300)
    _, alone_low, alone_high = bleu_interval(texts, references, draws=300)
    assert 0 <= low < value < high and high - low < (alone_high - alone_low) / 2
    assert bleu_interval(texts, references, texts, draws=50) == (0, 0, 0)
    with pytest.raises(ValueError, match="99 texts for 100 lists"):
        bleu_interval(texts, references, texts[1:])


def _e2e() -> tuple[list[str], list[list[str]]]:
    """TGen's output and the references of the test part."""
    folder, data = Path(os.environ["DYLORA_KIT_METRICS"]), Path(os.environ["DYLORA_KIT_DATA"])
    groups: dict[str, list[str]] = {}
    with (data / "e2e" / "testset_w_refs.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            groups.setdefault(row["mr"], []).append(row["ref"])
    texts = (folder / "e2e" / "tgen_output.txt").read_text(encoding="utf-8").split("\n")[: len(groups)]
    return texts, list(groups.values())


def _webnlg() -> tuple[list[str], list[list[str]]]:
    """A public output for WebNLG and its references."""
    folder = Path(os.environ["DYLORA_KIT_METRICS"]) / "webnlg"
    names = ("hypothesis", *(f"reference{number}" for number in range(4)))
    texts, *references = [(folder / name).read_text(encoding="utf-8").split("\n")[:1862] for name in names]
    return texts, [list(refs) for refs in zip(*references, strict=True)]


@pytest.mark.by_hand
def test_public_outputs_score_as_with_the_official_tools() -> None:
    """Needs `DYLORA_KIT_METRICS`, a folder with TGen's output for E2E and one for WebNLG, and `DYLORA_KIT_DATA`."""
    values = scores(*_e2e())
    assert {key: round(value, 4) for key, value in values.items()} == {
        "bleu": 0.6616, "nist": 8.5446, "rouge-l": 0.6914, "cider": 2.2314, "empty": 0}  # fmt: skip
    assert round(scores(*_e2e(), ["bleu"], tool="webnlg")["bleu"], 4) == 0.6234
    folder = Path(os.environ["DYLORA_KIT_METRICS"]) / "e2e"
    small = (folder / "devel-conc.txt").read_text(encoding="utf-8").strip().split("\n\n")
    texts = (folder / "baseline-output.txt").read_text(encoding="utf-8").split("\n")[: len(small)]
    values = scores(texts, [refs.split("\n") for refs in small])
    assert (round(values["bleu"], 4), round(values["nist"], 4)) == (0.7203, 7.7889)
    values = scores(*_webnlg(), ["bleu", BLANKS, "ter"], tool="webnlg")
    assert [round(values[name], 4) for name in ("bleu", BLANKS, "ter")] == [0.397, 0.5132, 0.4995]


@pytest.mark.by_hand
def test_meteor_scores_as_the_official_tool() -> None:
    """Needs Java and pycocoevalcap, and the folders of the test above."""
    assert round(scores(*_e2e(), ["meteor"])["meteor"], 4) == 0.4504
    assert round(scores(*_webnlg(), ["meteor"], tool="webnlg")["meteor"], 4) == 0.3233
