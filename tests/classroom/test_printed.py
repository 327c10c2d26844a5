"""The pages for paper: one page each, with what was measured, and a QR code only where it leads somewhere."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from dylora_kit.classroom import hand_out as module
from dylora_kit.classroom.export import page_address
from dylora_kit.classroom.glossary import GROUPS, glossary
from dylora_kit.classroom.hand_out import RESULTS, hand_out, measured
from dylora_kit.classroom.sheet import HEIGHT, MARGIN, WIDTH, Sheet
from dylora_kit.classroom.sheet_figures import CUT, DYLORA
from dylora_kit.paper import embedded
from dylora_kit.paper.compared_methods import trained
from dylora_kit.paper.settings import SEEDS, TABLE2
from dylora_kit.storage.files import data_folder

FOLDER = data_folder() / "results"
PAGE = "https://example.org/slider/"


def pages(content: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", content))


def test_hand_out_and_glossary_are_one_a4_page_each() -> None:
    for content in (hand_out(FOLDER, PAGE), hand_out(FOLDER, None), glossary()):
        assert content.startswith(b"%PDF-") and pages(content) == 1
        assert re.search(rb"/MediaBox \[0 0 595\.\d+ 841\.\d+\]", content)


def test_the_same_lessons_give_the_same_file() -> None:
    assert hand_out(FOLDER, PAGE) == hand_out(FOLDER, PAGE) and glossary() == glossary()


def test_the_code_leads_to_the_page_and_without_one_there_is_none() -> None:
    assert f"/URI ({PAGE})".encode() in hand_out(FOLDER, PAGE)
    assert b"/URI" not in hand_out(FOLDER, None)


def test_the_curve_is_what_was_measured() -> None:
    means, seeds, steps = measured(FOLDER)
    frame = pd.read_csv(FOLDER / RESULTS).query("domain == 'turned'")
    for name in (DYLORA, CUT):
        of_method = frame[frame["method"] == name]
        expected = [100 * of_method[of_method["rank"] == b]["value"].mean() for b in range(1, 9)]
        assert means[name] == pytest.approx(expected)
    assert (seeds, steps) == (5, 1500)


def test_what_the_hand_out_says_beside_the_curve_was_measured() -> None:
    at = pd.read_csv(FOLDER / RESULTS).query("domain == 'turned'").groupby(["method", "rank"])["value"].mean()
    behind = at["DyLoRA"] - at["LoRA, cut by SVD"]
    assert "From rank 5 on it is about as good here" in module.NOT_FOR[1] and behind.loc[5:].max() < 0.01
    anew = at["LoRA, cut by SVD, new head"] - at["LoRA, cut by SVD"]
    assert "trained anew, it comes closer at the ranks below" in module.NOT_FOR[1] and anew.loc[:4].min() > 0
    own = at["LoRA, one per rank"]
    assert "trained for it alone is as good or better" in module.NOT_FOR[0] and (own - at["DyLoRA"]).min() > -0.005


def test_the_code_of_the_hand_out_trains_what_was_measured() -> None:
    settings = TABLE2["digits-turned"]
    asked = f"steps={settings['steps']})"
    code = "\n".join(module.CODE)
    assert code.count(asked) == 1 and "max_grad_norm=1.0" in code
    names: dict[str, Any] = {}
    exec(code.replace(asked, "steps=2)"), names)
    build, task = embedded.load("digits-turned")
    seed = SEEDS[0]
    assert code.count(f"seed={seed}") == 3
    _, adapters = trained(build, task, "DyLoRA", seed, **{**settings, "steps": 2})
    ours, theirs = names["model"].state_dict(), adapters.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert names["adapters"].rank == 3


def test_no_line_of_code_is_broken_on_the_page() -> None:
    pdf = Sheet("width").pdf
    pdf.set_font("code", "", module.CODE_SIZE)
    width = (WIDTH - 2 * MARGIN - 8) / 2 - module.CODE_INDENT
    assert [line for line in module.CODE if pdf.get_string_width(line) > width] == []


def test_the_hand_out_says_that_the_digits_are_turned_and_what_its_words_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    write = Sheet.paragraph

    def written(self: Sheet, x: float, y: float, width: float, text: str, **style: Any) -> float:
        said.append(text)
        return write(self, x, y, width, text, **style)

    monkeypatch.setattr(Sheet, "paragraph", written)
    hand_out(FOLDER, None)
    assert "Turned digits read rightly, in %" in said
    assert "digits that are turned by 90°" in next(text for text in said if "at rank 1" in text)
    assert "the head, the last layer," in module.NOT_FOR[1]
    assert "Its SVD cut is the matrix of rank b that is closest" in module.NOT_FOR[1]


def test_what_reaches_the_line_of_sources_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUESTIONS", (*module.QUESTIONS, "One more question, for which there is no room."))
    with pytest.raises(ValueError, match="the page is full, and its texts run into the line of sources"):
        hand_out(FOLDER, PAGE)


def test_results_that_are_missing_or_lack_a_method_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"there is no {RESULTS} in .*: it is in data/results"):
        measured(tmp_path)
    frame = pd.read_csv(FOLDER / RESULTS)
    frame[frame["method"] != CUT].to_csv(tmp_path / RESULTS)
    with pytest.raises(ValueError, match="has no method 'LoRA, cut to b', which the hand-out draws"):
        measured(tmp_path)


def test_a_text_that_does_not_fit_is_an_error_and_not_cut_off() -> None:
    with pytest.raises(ValueError, match="the page is full, and 'one word"):
        Sheet("full").paragraph(16, HEIGHT - 20, 60, "one word " * 60)


def test_the_words_of_the_lessons_are_in_the_glossary() -> None:
    words = {part.strip() for _, group in GROUPS for word, _ in group for part in word.split(",")}
    asked = {
        "adapter",
        "lora_A",
        "lora_B",
        "lora_alpha",
        "rank",
        "r",
        "b",
        "cut to b",
        "nested",
        "frozen update",
        "sweep",
    }
    asked |= {"BLEU", "slot error rate", "label −100", "fused projection", "paired bootstrap"}
    asked |= {"effective rank", "teacher", "divergence", "ordering"}
    assert asked | {"SVD cut", "truncation", "nested dropout", "ΔW"} <= words


def test_every_letter_that_is_printed_is_in_its_font(caplog: pytest.LogCaptureFixture) -> None:
    hand_out(FOLDER, PAGE), glossary()
    assert [record.getMessage() for record in caplog.records if "missing" in record.getMessage()] == []


def test_the_address_of_the_page_follows_from_the_repository_unless_it_is_named() -> None:
    repository = "https://github.com/You/kit"
    assert page_address(None, None) is None
    assert page_address(None, repository) == "https://you.github.io/kit/"
    assert page_address(PAGE, repository) == PAGE
    for wrong in ("example.org", "ftp://example.org/", "https://", "https://a b", "https://example.org/" + 200 * "a"):
        with pytest.raises(ValueError, match="is no address for a QR code: expected one like"):
            page_address(wrong, repository)
