"""The slides in Chromium, with reveal.js from the package that the kit names: no slide is larger than a screen."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from chromium import CHROMIUM_FLAGS, find_browser
from playwright.sync_api import Page, sync_playwright

from dylora_kit.classroom.clone import lessons_of
from dylora_kit.classroom.export import Wishes, made
from dylora_kit.classroom.slide_deck import GET

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 1920, 1080
MEASURE = """async () => {
  await document.fonts.ready;
  await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
  const scale = Reveal.getScale();
  return Reveal.getSlides().filter((slide) => !slide.querySelector(":scope > section")).map((slide) => {
    const { h, v } = Reveal.getIndices(slide);
    Reveal.slide(h, v, 99);
    const edges = slide.getBoundingClientRect();
    const shown = [...slide.querySelectorAll("*")].filter((part) => !part.closest("aside, style, script, title, desc"))
      .map((part) => part.getBoundingClientRect()).filter((box) => box.width && box.height);
    return {
      place: `${h + 1}.${v + 1}`,
      begins: slide.innerText.trim().split("\\n")[0].slice(0, 60),
      bottom: Math.max(...shown.map((box) => (box.bottom - edges.top) / scale)),
      right: Math.max(...shown.map((box) => (box.right - edges.left) / scale)),
    };
  });
}"""


def measured(page: Page, deck: Path) -> list[dict[str, Any]]:
    """Each slide's place and first words, and how far its content reaches, in pixels of 1920 × 1080."""
    page.goto(deck.as_uri())
    page.wait_for_function("window.Reveal?.isReady()")
    slides: list[dict[str, Any]] = page.evaluate(MEASURE)
    return slides


def test_every_slide_of_every_lesson_fits_the_screen_and_asks_no_server(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", *GET.split()], cwd=tmp_path, check=True, capture_output=True)
    for name, content in made(ROOT, Wishes(reveal=tmp_path / "reveal")).contents.items():
        if name.startswith("slides/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    decks = sorted(tmp_path.glob("slides/*.slides.html"))
    assert len(decks) == len(lessons_of(ROOT))
    asked, beyond = list[str](), list[str]()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.on("request", lambda request: asked.append(request.url))
        for deck in decks:
            slides = measured(page, deck)
            assert len(slides) > 20
            beyond += [
                f"{deck.name} {slide['place']}, {slide['begins']}: {slide['right']:.0f} x {slide['bottom']:.0f}"
                for slide in slides
                if slide["bottom"] > HEIGHT or slide["right"] > WIDTH
            ]
        browser.close()
    assert not beyond
    assert not [address for address in asked if address.startswith(("http:", "https:"))]
