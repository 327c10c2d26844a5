"""The network in JavaScript, in a real Chromium: its logits are those of torch, and so are the numbers on the page."""

from collections.abc import Callable

import numpy as np
import pytest
from opened_page import until
from playwright.sync_api import Error, Page, expect

import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.page.build import ADAPTERS
from dylora_kit.tasks import digits


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_logits_of_all_test_digits_are_those_of_torch_at_every_rank(
    opened: Callable[..., Page], report: Callable[[str], None], name: str
) -> None:
    test, model = digits.load("turned").test, backbones.load("digits-vit")
    adapters = dk.load(model, backbones.data_folder() / "adapters" / ADAPTERS[name])
    expected, _ = dk.predict(model, adapters, test, ranks=range(1, 9))
    scans = (8 * (test.pixel_values + 1)).flatten(1).tolist()
    page = opened()
    page.evaluate("scans => { window.scans = scans; }", scans)
    assert page.evaluate("scans.every((scan, n) => scan.every((ink, at) => dylora.model.digit(n)[at] === ink))")
    ours = "([name, b]) => scans.map((scan) => dylora.model.logits(name, b, scan))"
    largest = max(np.abs(np.array(page.evaluate(ours, [name, b])) - expected[b]).max() for b in range(1, 9))
    report(f"{name}: largest difference from torch's logits: {largest:.1e}")
    assert largest < 1e-4


def test_a_rank_out_of_range_is_refused(opened: Callable[..., Page]) -> None:
    page = opened()
    for rank in (0, 9, 1.5):
        with pytest.raises(Error, match=f"rank {rank} is out of range: expected a whole number from 1 to 8"):
            page.evaluate("rank => dylora.model.logits('lora', rank, dylora.model.digit(0))", rank)


@pytest.mark.by_hand
def test_all_digits_are_read_live_and_give_the_numbers_that_are_shown(
    opened: Callable[..., Page], report: Callable[[str], None]
) -> None:
    page = opened()
    until(page, "total => dylora.answers.checked() === total", 597)
    report(f"all digits at every rank are read in {page.evaluate('performance.now()') / 1000:.0f} s")
    expect(page.locator("#checked")).to_have_text("checked live: 597 of 597, all 16 numbers are the same")
