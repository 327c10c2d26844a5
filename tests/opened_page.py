"""What a visitor does with the page: turns the rank, and draws a seven."""

from typing import Any

from playwright.sync_api import Locator, Page, expect

SEVEN = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)]  # corners, in parts of the field


def until(page: Page, holds: str, given: Any) -> None:
    """Waits in the page; Playwright's own way needs eval, which the page's policy forbids."""
    page.evaluate(
        f"""given => new Promise((done, fail) => {{
            const end = performance.now() + 300_000;
            const look = () => {{
                if (({holds})(given)) done();
                else if (performance.now() > end) fail(Error("five minutes are over"));
                else setTimeout(look, 2);
            }};
            look();
        }})""",
        given,
    )


def scores(page: Page) -> list[str]:
    """The two big numbers: DyLoRA's, and that of the plain LoRA."""
    return page.locator("[data-score]").all_text_contents()


def put(page: Page, rank: int) -> None:
    """Goes to a rank by keys."""
    page.locator("#rank").focus()
    page.keyboard.press("Home")
    for _ in range(rank - 1):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#b")).to_have_text(str(rank))


def corners(page: Page) -> list[tuple[float, float]]:
    """A seven in the field, in pixels of the window."""
    page.locator("#pad").evaluate("pad => pad.scrollIntoView({block: 'center'})")  # the slider covers an edge
    box = page.locator("#pad").bounding_box()
    assert box is not None
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN]


def draw(page: Page) -> None:
    """Draws a seven with the mouse."""
    first, *others = corners(page)
    page.mouse.move(*first)
    page.mouse.down()
    for x, y in others:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()


def answer(page: Page, name: str) -> Locator:
    """What a model reads in the drawing at the rank on show."""
    return page.locator(f".reader.{name} .answer")
