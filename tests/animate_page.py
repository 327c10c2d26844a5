"""Films the page for the README, by hand: `PYTHONPATH=.:tests python tests/animate_page.py`, which takes two minutes.

It opens docs/index.html in Chromium, waits until every digit is read at every rank, moves the slider from 8 to 1 and
back by keys, and writes docs/slider.gif. Run it after `python -m dylora_kit page docs`.
"""

import io
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from chromium import CHROMIUM_FLAGS, find_browser
from opened_page import until
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

DOCS = Path(__file__).parents[1] / "docs"
WINDOW = {"width": 1000, "height": 1100}  # pixels of the page
BELOW = 6  # pixels that are shown below the last row of digits on show
WIDTH, COLOURS = 800, 192  # of the film
ROWS_OF_DIGITS = 2
RANKS = (8, 7, 6, 5, 4, 3, 2, 1, 2, 3, 4, 5, 6, 7)  # and again from the start
STEP, AT_THE_ENDS = 320, 1100  # milliseconds that a rank is on show
MOST = 900_000  # bytes


def ready(page: Page) -> None:
    """Skips the question, and waits until all numbers are known: then nothing moves but what the slider moves."""
    page.get_by_role("button", name="Skip").click()
    read = "() => document.querySelector('#checked').textContent.includes('all')"
    until(page, read, None)


def shot(page: Page, rank: int, height: float) -> Image.Image:
    """The page with the slider at a rank, as the film shows it."""
    now = int(page.locator("#rank").input_value())
    page.locator("#rank").focus()
    for _ in range(abs(rank - now)):
        page.keyboard.press("ArrowRight" if rank > now else "ArrowLeft")
    expect(page.locator("#b")).to_have_text(str(rank))
    expect(page.locator("#tally")).to_contain_text(f"At rank {rank}, ")
    part = {"x": 0, "y": 0, "width": WINDOW["width"], "height": height}
    picture = Image.open(io.BytesIO(page.screenshot(clip=part, animations="disabled", caret="hide")))
    return picture.convert("RGB").resize((WIDTH, round(WIDTH * height / WINDOW["width"])), Image.Resampling.LANCZOS)


def shots() -> dict[int, Image.Image]:
    """The page at every rank."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport=WINDOW, color_scheme="light", reduced_motion="reduce", device_scale_factor=2)
        page.goto((DOCS / "index.html").as_uri())
        ready(page)
        tiles = page.locator("#grid .tile")
        across = len({round(box["x"]) for box in (tile.bounding_box() for tile in tiles.all()) if box})
        last = tiles.nth(across * ROWS_OF_DIGITS - 1).bounding_box()
        assert last is not None
        taken = {rank: shot(page, rank, last["y"] + last["height"] + BELOW) for rank in sorted(set(RANKS))}
        browser.close()
    return taken


def film(taken: dict[int, Image.Image]) -> bytes:
    """The pictures one after another as a GIF in one palette, whose last colour is clear: what did not change."""
    first = next(iter(taken.values()))
    sheet = Image.new("RGB", (first.width, first.height * len(taken)))
    for index, picture in enumerate(taken.values()):
        sheet.paste(picture, (0, index * first.height))
    palette = sheet.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    reduced = {rank: picture.quantize(palette=palette, dither=Image.Dither.NONE) for rank, picture in taken.items()}
    frames = [reduced[RANKS[0]]]
    for before, now in pairwise(RANKS):
        changed = np.asarray(reduced[now]) != np.asarray(reduced[before])
        frame = Image.fromarray(np.where(changed, np.asarray(reduced[now]), COLOURS).astype(np.uint8), "P")
        frame.putpalette(palette.getpalette() or [])
        frames.append(frame)
    pauses = [AT_THE_ENDS if rank in (min(RANKS), max(RANKS)) else STEP for rank in RANKS]
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=pauses, loop=0, transparency=COLOURS, disposal=1,
        optimize=False,
    )  # fmt: skip
    return file.getvalue()


def main() -> None:
    made = film(shots())
    if len(made) > MOST:
        sys.exit(f"the film has {len(made):,} bytes, and at most {MOST:,} are allowed: take fewer colours")
    (DOCS / "slider.gif").write_bytes(made)
    print(f"docs/slider.gif: {len(made):,} bytes")


if __name__ == "__main__":
    main()
