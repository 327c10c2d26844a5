"""The page as a file: one, small, always the same, and that in docs/ is the one that is built."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from dylora_kit.page.build import page

COMMITTED = Path(__file__).parents[2] / "docs" / "index.html"


@pytest.fixture(scope="module")
def built() -> str:
    return page()


def test_the_same_input_gives_the_same_page(built: str) -> None:
    assert page() == built


def test_the_page_in_docs_is_the_one_that_the_command_makes(built: str) -> None:
    committed = COMMITTED.read_text(encoding="utf-8")
    assert committed == built, "run python -m dylora_kit page docs, and commit what it writes"


def test_it_is_smaller_than_three_megabytes(built: str) -> None:
    assert len(built.encode()) < 3_000_000


def test_no_place_of_the_template_is_left_empty(built: str) -> None:
    assert not re.findall(r"{{\w+}}", built)


def test_nothing_is_allowed_but_its_own_script_and_style(built: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', built)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    for kind, pattern in (("script", r"<script>(.*?)</script>"), ("style", r"<style>(.*?)</style>")):
        (inside,) = re.findall(pattern, built, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}


def test_no_address_is_loaded_and_one_is_linked(built: str) -> None:
    assert re.findall(r'(?:src|href|action)="(?!data:)([^"]*)"', built) == ["https://arxiv.org/abs/2210.07558"]
    assert not re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", built)
