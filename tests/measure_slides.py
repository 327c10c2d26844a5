"""How far down each slide of a class folder reaches, in Chromium: by hand, since it needs a local reveal.js.

    python -m dylora_kit class export my-class --reveal node_modules/reveal.js
    PYTHONPATH=.:tests python tests/measure_slides.py my-class/slides

Prints the lowest point of each lesson's fullest slide, and fails where one is below the edge or beyond the right one.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from chromium import CHROMIUM_FLAGS, find_browser
from playwright.sync_api import Page, sync_playwright

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
    page.goto(deck.resolve().as_uri())
    page.wait_for_function("window.Reveal?.isReady()")
    slides: list[dict[str, Any]] = page.evaluate(MEASURE)
    return slides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder slides of a class folder")
    decks = sorted(parser.parse_args().folder.glob("*.slides.html"))
    if not decks:
        sys.exit("there are no slides: expected files that end in .slides.html")
    too_large = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        for deck in decks:
            slides = measured(page, deck)
            lowest = max(slides, key=lambda slide: slide["bottom"])
            beyond = [slide for slide in slides if slide["bottom"] > HEIGHT or slide["right"] > WIDTH]
            print(f"{deck.name}: {len(slides)} slides, lowest {lowest['bottom']:.0f} px at {lowest['place']}")
            for slide in beyond:
                print("  too large:", slide["place"], slide["begins"], f"{slide['right']:.0f} x {slide['bottom']:.0f}")
            too_large += len(beyond)
        browser.close()
    sys.exit(f"{too_large} slides are too large" if too_large else 0)


if __name__ == "__main__":
    main()
