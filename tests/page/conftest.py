"""The page, built and open in a Chromium."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chromium import CHROMIUM_FLAGS, find_browser
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dylora_kit.__main__ import main


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page is that the command writes."""
    folder = tmp_path_factory.mktemp("page")
    main(["page", str(folder)])
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        expect.set_options(timeout=30_000)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens the page in a new window; afterwards nothing may have failed, and nothing else been asked for."""
    pages, problems, asked = [], list[str](), list[str]()

    def opens(*, asks: bool = False, **options: Any) -> Page:
        page = browser.new_page(**({"viewport": {"width": 1280, "height": 800}} | options))
        pages.append(page)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.set_default_timeout(60_000)
        page.goto(address)
        if not asks:
            page.get_by_role("button", name="Skip").click()
        return page

    yield opens
    for page in pages:
        page.close()
    assert problems == []
    assert [url for url in asked if not url.startswith("data:")] == [address] * len(pages)
