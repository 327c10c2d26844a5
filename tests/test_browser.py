"""Notebooks in a real Chromium, against a real JupyterLab on loopback: 00, and a compact one that holds every view.

The other notebooks pass the same tests by hand: `pytest -m by_hand tests/test_browser.py`.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import CHROMIUM_FLAGS, find_browser
from playwright.sync_api import Locator, Page, expect, sync_playwright

from dylora_kit.lessons.repository_address import badge_image, read_address

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
ADDRESS = read_address(NOTEBOOKS.parent)
BADGE = badge_image(ADDRESS) if ADDRESS else ""
IN_CI = ("00_start_here", "every_view")
EVERY_VIEW = [
    """
import torch
import dylora_kit as dk
from dylora_kit import backbones
from dylora_kit.baselines.autoencoder import Autoencoder, pca
from dylora_kit.tasks import digits
""",
    """
turned = digits.load("turned")
names = ("digits-turned-dylora", "digits-turned-lora")
(model, adapters), (rival_model, rival) = [
    (model, dk.load(model, backbones.data_folder() / "adapters" / name))
    for name in names for model in [backbones.load("digits-vit")]]
guess = dk.Guess("At rank 1, DyLoRA gets right:", rank=1)
guess
""",
    """
dk.RankExplorer(model, adapters, turned.test, rivals={"LoRA, cut to b": rival}, guess=guess, draw=True,
                views=["accuracy", "matrices", "spectrum", "predictions"])
""",
    """
pixels = digits.load_pixels("upright")
autoencoder, best = Autoencoder(64, 8), pca(pixels.train, 8)
dk.train(autoencoder, autoencoder.code, pixels.train, sampler=dk.RankSampler(dk.Uniform(1, 8), seed=0), steps=100,
         optimizer=torch.optim.Adam(autoencoder.parameters(), lr=0.05))
dk.RankExplorer(autoencoder, autoencoder.code, pixels.test, name="nested", rivals={"PCA": best.code},
                views=["error", "reconstructions"])
""",
    """
pupil = backbones.load("digits-vit")
fresh = dk.attach(pupil, r=8, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
lesson = {"train_data": turned.train, "sampler": dk.RankSampler(dk.Uniform(1, 8), seed=10),
          "optimizer": dk.NestedAdamW(fresh, lr=4e-3)}
dk.RankExplorer(pupil, fresh, turned.test, views=["accuracy", "ordering"], training=lesson)
""",
    """
from dylora_kit.tasks import world

tokenizer, reader = backbones.tokenizer("world-roberta"), backbones.load("world-roberta", num_labels=2)
opinion = dk.load(reader, backbones.data_folder() / "adapters" / "world-sentiment-dylora")
reviews = world.load("sentiment", tokenizer, limit=1)
dk.RankExplorer(reader, opinion, reviews.test.select(range(40)), collate=reviews.collate, classes=["bad", "good"],
                views=["accuracy", "texts"], texts=[row["first"] for row in world.texts("sentiment")["test"]],
                read=tokenizer)
""",
    """
from dylora_kit.widgets import dial_views

dk.Dial("How likely a stop is", lambda p: dial_views.draws(dk.Geometric(p, 1, 8), dk.Uniform(1, 8), ("one", "other")),
        low=0.05, high=0.95, step=0.05)
""",
    """
import copy
from dylora_kit.tasks.describe import SLOTS, read_facts

writer = backbones.load("world-gpt2")
nested = dk.load(writer, backbones.data_folder() / "adapters" / "world-describe-dylora")
scaled = dk.handle_of(copy.deepcopy(writer))
scaled.scaling = "alpha/r"
inputs = ["kind[<i>pub</i>]", "name[the Red Fox] | dogs[no]"]
dk.LanguageExplorer(writer, nested, backbones.tokenizer("world-gpt2"), inputs, ending="\\n",
                    reader=read_facts, known=SLOTS, rivals={"α/r": scaled})
""",
    """
from dylora_kit.paper.side_by_side import side_by_side

dk.PaperTables(side_by_side())
""",
]
QUIET = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/extensionmanager-extension:plugin": {"enabled": False},
}


def _parameters() -> list[Any]:
    others = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb") if path.stem not in IN_CI)
    return [*IN_CI, *(pytest.param(name, marks=pytest.mark.by_hand) for name in others)]


@pytest.fixture(scope="module", params=_parameters())
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address at which JupyterLab shows the notebook."""
    name = f"{request.param}.ipynb"
    home = tmp_path_factory.mktemp("lab")
    work = home / "work"
    work.mkdir()
    if request.param == "every_view":
        kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        cells = [nbformat.v4.new_code_cell(code.strip()) for code in EVERY_VIEW]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), work / name)
    else:
        shutil.copy(NOTEBOOKS / name, work)
    shutil.copytree(NOTEBOOKS / "images", work / "images")
    (home / "config_dir").mkdir()
    headers = {"Content-Security-Policy": policy(Path(sys.prefix) / "share" / "jupyter" / "lab" / "static")}
    config = {"ServerApp": {"tornado_settings": {"headers": headers}}}
    (home / "config_dir" / "jupyter_server_config.json").write_text(json.dumps(config))
    settings = home / "app" / "settings"
    settings.mkdir(parents=True)
    (settings / "overrides.json").write_text(json.dumps(QUIET))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    environment = os.environ | {f"JUPYTER_{name}": str(home / name.lower()) for name in folders}
    environment |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "user-settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_TOKEN": token,
    }
    app = Path(sys.prefix) / "share" / "jupyter" / "lab"
    for part in app.iterdir():
        if part.name != "settings":
            (home / "app" / part.name).symlink_to(part)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={work}", "--expose-app-in-browser"]
    command += [f"--app-dir={home / 'app'}", *(["--allow-root"] if os.geteuid() == 0 else [])]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=work)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None, (home / "log").read_text()
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/lab/tree/{name}?reset&token={token}"
    finally:
        server.terminate()
        server.wait(20)


def policy(static: Path) -> str:
    """What the browser may run: JupyterLab's own files, what it compiles from them, and modules; no inline script.

    JupyterLab has one itself, which takes the token out of the address.
    """
    inline = re.findall(r"<script>(.*?)</script>", (static / "index.html").read_text(), re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline]
    scripts = " ".join(["script-src 'self' 'unsafe-eval' blob:", *(f"'sha256-{digest}'" for digest in digests)])
    return f"default-src 'self' 'unsafe-inline' data: blob: ws:; {scripts}; worker-src 'self' blob:"


class Opened:
    """The notebook after Run All, and what the browser did meanwhile."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda socket: self._note(socket.url))

    def _note(self, url: str) -> None:
        if url != BADGE and not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:|about:", url):
            self.elsewhere.append(url)

    @property
    def explorers(self) -> "list[Explorer]":
        """Every explorer on the page, from the top."""
        boxes = self.page.locator(".dk-explorer-box")
        return [Explorer(self.page, boxes.nth(index)) for index in range(boxes.count())]

    @property
    def first(self) -> "Explorer | None":
        """The first explorer; None in a lesson that has live views of other kinds alone."""
        assert self.explorers or not any(name in self.page.url for name in IN_CI)
        return self.explorers[0] if self.explorers else None

    def with_button(self) -> "Explorer | None":
        """The last explorer that can train."""
        return next((explorer for explorer in reversed(self.explorers) if explorer.button.count()), None)


class Explorer:
    """One explorer in the page."""

    def __init__(self, page: Page, box: Locator) -> None:
        self.page, self.box = page, box
        self.picture = box.locator(".dk-picture [role=img]")
        self.handle = box.locator(".dk-slider [role=slider]")
        self.button = box.locator("button.dk-button")
        self.moment = box.locator(".dk-time [role=slider]")

    def shown(self) -> "Explorer":
        self.box.scroll_into_view_if_needed()
        return self

    def values(self) -> list[str]:
        """The big numbers: what each method achieves."""
        return [text or "" for text in self.box.locator(".dk-value").all_text_contents()]

    def put(self, rank: int) -> None:
        """Goes to a rank by the keyboard."""
        self.handle.focus()
        self.page.keyboard.press("Home")
        for _ in range(rank - 1):
            self.page.keyboard.press("ArrowRight")
        expect(self.picture).to_have_attribute("data-rank", str(rank))


@pytest.fixture(scope="module")
def opened(lab: str) -> Iterator[Opened]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=30_000)
        notebook = Opened(page)
        if BADGE:
            page.route(BADGE, lambda route: route.fulfill(path=NOTEBOOKS / "images" / "open_in_colab.svg"))
        page.goto(lab)
        run_all(page)
        assert page.locator(".dk-live-view").count()
        yield notebook
        browser.close()


def run_all(page: Page) -> None:
    """Runs every cell and waits for the last one. Started too early, the command is dropped; so wait for the kernel."""
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.info")
    page.evaluate("() => window.jupyterapp.commands.execute('filebrowser:toggle-main').catch(() => null)")
    page.evaluate(
        """async () => {
            await window.jupyterapp.shell.currentWidget.sessionContext.ready;
            await window.jupyterapp.commands.execute('notebook:run-all-cells');
        }"""
    )
    page.wait_for_function(
        """() => {
            const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code');
            return cells.every(c => c.executionCount !== null && c.executionState !== 'running');
        }""",
        timeout=300_000,
    )


def test_all_cells_run_without_an_error(opened: Opened) -> None:
    kinds = opened.page.evaluate(
        """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
            .filter(c => c.type === 'code').flatMap(c => c.outputs.toJSON().map(o => o.output_type))"""
    )
    assert kinds and "error" not in kinds


def test_arrow_keys_turn_the_rank_of_the_live_model(opened: Opened) -> None:
    for explorer in opened.explorers:
        explorer.shown().put(1)
        opened.page.keyboard.press("ArrowRight")
        expect(explorer.picture).to_have_attribute("data-rank", "2")
        opened.page.keyboard.press("End")
        expect(explorer.picture).to_have_attribute("data-rank", "8")
    first = opened.first
    if first is None:
        return
    first.shown().put(1)
    low = first.values()
    first.put(2)
    assert first.values() != low


def test_a_click_on_the_track_goes_there(opened: Opened) -> None:
    for explorer in opened.explorers:
        explorer.shown().put(8)
        box = explorer.box.locator(".dk-slider .noUi-base").bounding_box()
        assert box is not None
        opened.page.mouse.click(box["x"] + box["width"] * 3 / 7, box["y"] + box["height"] / 2)
        expect(explorer.picture).to_have_attribute("data-rank", "4")


def test_dragging_the_handle_moves_the_rank(opened: Opened) -> None:
    for explorer in opened.explorers:
        explorer.shown().put(1)
        explorer.handle.hover()  # waits until the handle stands still: after a click on the track it glides
        track = explorer.box.locator(".dk-slider .noUi-base").bounding_box()
        assert track is not None
        opened.page.mouse.down()
        opened.page.mouse.move(track["x"] + track["width"] * 5 / 7, track["y"] + track["height"] / 2, steps=12)
        opened.page.mouse.up()
        expect(explorer.picture).to_have_attribute("data-rank", "6")


def test_the_number_box_and_the_slider_follow_each_other(opened: Opened) -> None:
    for explorer in opened.explorers:
        number = explorer.shown().box.locator(".dk-number input")
        number.fill("5")
        number.press("Enter")
        expect(explorer.picture).to_have_attribute("data-rank", "5")
        expect(explorer.handle).to_have_attribute("aria-valuenow", re.compile(r"^5(\.0)?$"))
        explorer.put(2)
        expect(number).to_have_value("2")


def test_text_and_label_say_what_the_picture_shows(opened: Opened) -> None:
    for explorer in opened.explorers:
        explorer.shown().put(1)
        label = explorer.picture.get_attribute("aria-label") or ""
        assert re.match("(Rank|Code length) 1 of 8", label)
        assert explorer.values()
        assert all(value.replace(" ", "") in label.replace(" ", "") for value in explorer.values())


def test_every_slider_has_a_name_of_its_own(opened: Opened) -> None:
    for explorer in opened.explorers:
        names = [slider.get_attribute("aria-label") for slider in explorer.box.locator("[role=slider]").all()]
        assert all(names)
        assert len(set(names)) == len(names)


def test_a_dial_has_a_name_and_draws_what_it_is_set_to(opened: Opened) -> None:
    dials = opened.page.locator(".dk-dial-box").all()
    assert dials or "every_view" not in opened.page.url
    for dial in dials:
        dial.scroll_into_view_if_needed()
        slider, picture = dial.locator("[role=slider]"), dial.locator(".dk-dial-picture [role=img]")
        assert slider.get_attribute("aria-label") == dial.locator(".widget-slider .widget-label").text_content()
        slider.focus()
        opened.page.keyboard.press("Home")
        opened.page.wait_for_timeout(500)
        lowest = picture.get_attribute("data-value") or "none"
        opened.page.keyboard.press("ArrowRight")
        expect(picture).not_to_have_attribute("data-value", lowest)
        number = dial.locator(".dk-dial-number input")
        expect(number).to_have_value(picture.get_attribute("data-value") or "none")
        number.fill(lowest)
        number.press("Enter")
        expect(picture).to_have_attribute("data-value", lowest)


def test_the_papers_tables_are_chosen_and_turned_with_keys_alone(opened: Opened) -> None:
    box = opened.page.locator(".dk-tables-box")
    assert box.count() or "every_view" not in opened.page.url
    if not box.count():
        return
    box, keyboard = box.first, opened.page.keyboard
    box.scroll_into_view_if_needed()
    picture, handle = box.locator(".dk-picture [role=img]"), box.locator(".dk-slider [role=slider]")
    cells = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    table = box.get_by_label("Table", exact=True)
    table.focus()  # which makes its cell the active one
    before = opened.page.evaluate(cells)
    for key, name in (("ArrowDown", "Table 1"), ("ArrowUp", "Table 2")):
        table.press(key)
        expect(picture).to_have_attribute("data-table", name)
    assert opened.page.evaluate(cells) == before  # JupyterLab did not take the key for its own
    box.get_by_role("button", name="the paper's own").press("Enter")
    expect(picture).to_have_attribute("data-tier", "the paper's own")
    expect(picture).to_contain_text("Not run: about")
    box.get_by_role("button", name="real text").press("Enter")
    expect(picture).to_have_attribute("data-task", "SST-2 (accuracy)")
    box.get_by_label("Task", exact=True).press("ArrowDown")
    expect(picture).to_have_attribute("data-task", "MRPC (F1)")
    expect(box.locator(".dk-missing")).to_contain_text("3 seeds, the paper has 5.")
    handle.focus()
    for key, rank in (("Home", "1"), ("ArrowRight", "2"), ("End", "8")):
        keyboard.press(key)
        expect(picture).to_have_attribute("data-rank", rank)
    assert f"at rank {rank}" in (picture.get_attribute("aria-label") or "")
    assert box.locator(".dk-value").first.is_visible()


def test_the_switch_shows_the_other_method(opened: Opened) -> None:
    for explorer in opened.explorers:
        switch = explorer.shown().box.locator(".dk-method button")
        for index in reversed(range(switch.count())):
            switch.nth(index).click()
            expect(explorer.picture).to_have_attribute("data-method", (switch.nth(index).text_content() or "").strip())


def test_a_guess_is_typed_and_drawn(opened: Opened) -> None:
    for number in opened.page.locator(".dk-guess input").all():
        number.scroll_into_view_if_needed()
        row = number.locator("xpath=ancestor::*[contains(@class, 'widget-hbox')][1]")
        number.fill("999999")
        number.press("Enter")
        expect(row).to_contain_text(re.compile(r"a guess is from 0 to \d"))
        number.fill("4")
        number.press("Enter")
        expect(row).to_contain_text("you said 4")
    explorer = opened.first
    if explorer is None:
        return
    expect(explorer.shown().picture).to_contain_text(re.compile(r"your guess, \d"))


def test_the_button_trains_the_live_model_and_the_second_slider_takes_it_back(opened: Opened) -> None:
    explorer = opened.with_button()
    if explorer is None:
        assert not opened.page.locator(".dk-time").count()
        return
    explorer.shown()
    before = explorer.box.locator(".dk-picture").inner_html()
    explorer.button.click()
    expect(explorer.button).to_contain_text("Training", timeout=60_000)
    expect(explorer.button).to_have_text(re.compile("Train 100 more steps"), timeout=120_000)
    trained = explorer.values()
    assert explorer.box.locator(".dk-picture").inner_html() != before
    explorer.moment.focus()
    opened.page.keyboard.press("Home")
    expect(explorer.box).to_contain_text(re.compile("the model is at step 0 of "))
    expect(explorer.box.locator(".dk-value").first).not_to_have_text(trained[0])
    opened.page.keyboard.press("End")
    expect(explorer.box.locator(".dk-value")).to_have_text(trained)


def test_a_language_explorer_writes_what_is_typed_or_chosen_at_every_rank(opened: Opened) -> None:
    box = opened.page.locator(".dk-language-box")
    assert box.count() or "every_view" not in opened.page.url
    if not box.count():
        return
    box, picture = box.first, box.first.locator(".dk-picture [role=group]")
    box.scroll_into_view_if_needed()
    field, handle = box.get_by_label("Write about"), box.locator(".dk-slider [role=slider]")
    facts = box.locator(".dk-known li", has_text="payment: cards, cash")
    expect(facts).not_to_be_visible()
    for visible in (True, False):
        box.locator(".dk-known summary").click()
        expect(facts).to_be_visible(visible=visible)
    field.fill("name[the <b>Blue</b> Owl] | kind[pub")
    field.press("Enter")
    expect(picture).to_contain_text("Nothing is marked: 'kind[pub' is no fact")
    expect(picture).to_have_attribute("data-state", "written")
    assert picture.locator("i, b").count() == 0
    field.fill("")
    field.press("Enter")
    expect(picture).to_contain_text("The field is empty: type an input")
    for _ in range(2):  # what was chosen can be chosen again
        box.get_by_label("Inputs").select_option(index=2)
        expect(field).not_to_have_value("")
        expect(picture).to_have_attribute("data-state", "written")
        expect(picture.locator("tbody tr")).to_have_count(8)
        field.fill("")
        field.press("Enter")
        expect(picture).to_have_attribute("data-state", "problem")
    field.fill("name[the Red Fox] | kind[pub]")
    field.press("Enter")
    handle.focus()
    for key, rank in (("Home", "1"), ("ArrowRight", "2"), ("End", "8")):
        opened.page.keyboard.press(key)
        expect(picture).to_have_attribute("data-rank", rank)
        expect(picture).to_have_attribute("data-state", "written")
        expect(picture.locator("[aria-current=true] th")).to_have_text(rank)
        line = picture.locator("[aria-current=true] td").first.text_content() or ""
        assert line and line == picture.locator(".dk-text").text_content()
    for button in reversed(box.locator(".dk-method button").all()):
        button.click()
        expect(picture).to_have_attribute("data-method", (button.text_content() or "").strip())
        expect(picture).to_have_attribute("data-state", "written")


def test_the_words_of_a_language_explorer_are_not_clipped(opened: Opened) -> None:
    for picture in opened.page.locator(".dk-language-box .dk-picture").all():
        picture.scroll_into_view_if_needed()
        for width in (1280, 700):
            opened.page.set_viewport_size({"width": width, "height": 800})
            wide = picture.evaluate("element => [...element.querySelectorAll('.dk-card, .dk-text, table')]"
                                    ".filter(part => part.scrollWidth > part.clientWidth + 1).length")  # fmt: skip
            opened.page.set_viewport_size({"width": 1280, "height": 800})
            assert wide == 0, f"something is wider than its card at {width} pixels"


def with_part(opened: Opened, selector: str) -> Explorer | None:
    """The explorer that has such a part; only one notebook has to."""
    found = [explorer for explorer in opened.explorers if explorer.box.locator(selector).count()]
    assert found or "every_view" not in opened.page.url
    return found[0].shown() if found else None


def test_a_picture_is_drawn_with_the_mouse_and_read_at_every_rank(opened: Opened) -> None:
    explorer = with_part(opened, ".dk-grid")
    if explorer is None:
        return
    grid, said = explorer.box.locator(".dk-grid"), explorer.box.locator(".dk-said")
    explorer.put(8)
    expect(said).to_contain_text("Draw something first")
    grid.scroll_into_view_if_needed()
    box = grid.bounding_box()
    assert box is not None
    corners = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ((0.3, 0.1), (0.7, 0.15), (0.4, 0.9))
    ]
    opened.page.mouse.move(*corners[0])
    opened.page.mouse.down()
    for corner in corners[1:]:
        opened.page.mouse.move(*corner, steps=6)
    opened.page.mouse.up()
    opened.page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.9)  # the button is up: no ink
    expect(said).to_have_text(re.compile(r"At rank 8, DyLoRA answers \d, \d+ % sure; LoRA, cut to b answers \d"))
    assert 8 <= grid.locator("[aria-selected=true]").count() <= 30
    expect(grid.get_by_role("gridcell", name="row 8, column 1, empty")).to_be_attached()
    expect(explorer.box.locator(".dk-answers tbody td b")).to_have_text([re.compile(r"\d")] * 16)
    explorer.put(2)
    expect(said).to_contain_text("At rank 2, DyLoRA answers")
    expect(explorer.box.locator(".dk-answers thead [aria-current=true]")).to_have_text("▾ 2")
    explorer.box.get_by_role("button", name="Clear").click()
    expect(said).to_contain_text("Draw something first")
    assert grid.locator("[aria-selected=true]").count() == 0


def test_a_finger_drags_the_slider_and_draws(opened: Opened) -> None:
    explorer = with_part(opened, ".dk-grid")
    if explorer is None:
        return
    session = opened.page.context.new_cdp_session(opened.page)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 1})

    def drag(box: Any, places: list[tuple[float, float]]) -> None:
        for kind, place in zip(("touchStart", *["touchMove"] * 20), places, strict=False):
            point = {"x": box["x"] + place[0] * box["width"], "y": box["y"] + place[1] * box["height"]}
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    grid, inked = explorer.box.locator(".dk-grid"), explorer.box.locator(".dk-grid [aria-selected=true]")
    clear = explorer.box.get_by_role("button", name="Clear")
    try:
        explorer.shown().put(1)
        explorer.handle.hover()
        drag(explorer.box.locator(".dk-slider .noUi-base").bounding_box(), [(step / 7, 0.5) for step in range(6)])
        expect(explorer.picture).to_have_attribute("data-rank", "6")
        grid.scroll_into_view_if_needed()
        opened.page.wait_for_timeout(1000)  # until nothing scrolls any more
        scroller = "document.querySelector('.jp-WindowedPanel-outer').scrollTop"
        before = opened.page.evaluate(scroller)
        drag(grid.bounding_box(), [(0.45, 0.1 + step / 25) for step in range(20)])
        assert opened.page.evaluate(scroller) == before, "the page scrolled instead"
        expect(explorer.box.locator(".dk-said")).to_contain_text("DyLoRA answers")
        assert 6 <= inked.count() <= 24
        opened.page.wait_for_timeout(1000)  # until the last stroke is answered, and the button stands still
        clear.click()
        expect(explorer.box.locator(".dk-said")).to_contain_text("Draw something first")
        expect(inked).to_have_count(0)
    finally:
        session.send("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_clear_is_the_last_word_though_strokes_wait_for_a_busy_kernel(opened: Opened) -> None:
    explorer = with_part(opened, ".dk-grid")
    if explorer is None:
        return
    grid, said = explorer.box.locator(".dk-grid"), explorer.box.locator(".dk-said")
    grid.scroll_into_view_if_needed()
    opened.page.evaluate(
        "() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute("
        "{ code: 'import time; time.sleep(3)', silent: true }) }"
    )
    box = grid.bounding_box()
    assert box is not None
    opened.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.1 * box["height"])
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.9 * box["height"], steps=12)
    opened.page.mouse.up()
    explorer.box.get_by_role("button", name="Clear").click()
    expect(grid.locator("[aria-selected=true]")).not_to_have_count(0)  # the kernel is still busy
    expect(grid.locator("[aria-selected=true]")).to_have_count(0, timeout=10_000)
    opened.page.wait_for_timeout(1000)  # until the strokes that waited are through
    expect(grid.locator("[aria-selected=true]")).to_have_count(0)
    expect(said).to_contain_text("Draw something first")


def test_a_picture_is_drawn_with_keys_and_the_notebook_keeps_its_cells(opened: Opened) -> None:
    explorer = with_part(opened, ".dk-grid")
    if explorer is None:
        return
    cells = "() => window.jupyterapp.shell.currentWidget.content.model.cells.length"
    before = opened.page.evaluate(cells)
    grid, keyboard = explorer.box.get_by_role("grid", name="Draw a picture, 8 by 8 cells"), opened.page.keyboard
    grid.get_by_role("gridcell", name="row 1, column 1, empty").focus()
    for key in ("ArrowUp", "ArrowRight", "ArrowDown", " "):
        keyboard.press(key)
    inked = grid.get_by_role("gridcell", name="row 2, column 2, inked")
    expect(inked).to_be_focused()
    expect(explorer.box.locator(".dk-said")).to_contain_text("DyLoRA answers")
    explorer.box.get_by_role("button", name="Turn by 90°").click()
    expect(grid.get_by_role("gridcell", name="row 7, column 2, inked")).to_be_attached()
    expect(grid.get_by_role("gridcell", name="row 2, column 2, empty")).to_be_attached()
    inked = grid.get_by_role("gridcell", name="row 7, column 2, inked")
    for _ in range(5):  # after a click JupyterLab moves the focus once more, and a key would press the button again
        inked.focus()
        opened.page.wait_for_timeout(1000)
        if inked.evaluate("cell => cell === document.activeElement"):
            break
    keyboard.press(" ")
    expect(explorer.box.locator(".dk-said")).to_contain_text("Draw something first")
    assert opened.page.evaluate(cells) == before


def test_a_sentence_is_typed_and_read_at_every_rank(opened: Opened) -> None:
    explorer = with_part(opened, ".dk-sentence")
    if explorer is None:
        return
    field, said = explorer.box.get_by_label("Your sentence"), explorer.box.locator(".dk-said")
    expect(said).to_contain_text("Type a sentence first")
    field.fill("the food was <b>good</b> <img src=x onerror=alert(1)>")
    field.press("Enter")
    classes = "good|bad|(un)?grammatical"
    expect(said).to_contain_text(re.compile(rf"At rank \d, .+ answers ({classes}), \d+ % sure"))
    expect(explorer.box.locator(".dk-answers tbody td b")).to_have_text([re.compile(classes)] * 8)
    assert explorer.box.locator("img").count() == 0
    field.fill("good food " * 5000)
    field.press("Enter")
    expect(said).to_contain_text("Only the first 100 words are read.")
    field.fill(" ")
    field.press("Enter")
    expect(said).to_contain_text("Type a sentence first")


def test_the_slider_has_a_mark_for_each_rank_where_the_handle_stands(opened: Opened) -> None:
    for explorer in opened.explorers:
        explorer.shown().put(3)
        marks = explorer.box.locator(".dk-slider").first.locator(".dk-ticks span")
        expect(marks).to_have_text([str(rank) for rank in range(1, 9)])
        handle, mark = explorer.handle.bounding_box(), marks.nth(2).bounding_box()
        assert handle and mark
        assert abs(handle["x"] + handle["width"] / 2 - mark["x"] - mark["width"] / 2) < 1.5


def test_the_slider_stays_in_view_while_the_cards_scroll(opened: Opened) -> None:
    for explorer in opened.explorers:
        opened.page.set_viewport_size({"width": 1280, "height": 400})
        lowest = explorer.box.locator(".dk-picture svg").last
        lowest.evaluate("card => card.scrollIntoView({block: 'end'})")
        expect(explorer.handle).to_be_in_viewport(ratio=1)
        if explorer.box.locator(".dk-method").count():
            expect(explorer.box.locator(".dk-method").first).to_be_in_viewport(ratio=1)
        over = explorer.handle.evaluate("""handle => {
            const box = handle.getBoundingClientRect();
            const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            return top === handle || handle.contains(top) || top.contains(handle);
        }""")
        opened.page.set_viewport_size({"width": 1280, "height": 800})
        assert over, "something covers the slider"


def test_full_width_fills_the_screen_and_goes_back(opened: Opened) -> None:
    page, explorer = opened.page, opened.first
    if explorer is None:
        return
    page.set_viewport_size({"width": 1920, "height": 1080})
    switch, view = explorer.shown().box.get_by_role("button", name="Full width"), explorer.box
    narrow, number = view.bounding_box(), explorer.box.locator(".dk-value").first.bounding_box()
    expect(switch).to_have_attribute("aria-pressed", "false")
    switch.click()
    page.wait_for_function("document.fullscreenElement?.classList.contains('dk-explorer-box')")
    expect(switch).to_have_attribute("aria-pressed", "true")
    wide, larger = view.bounding_box(), explorer.box.locator(".dk-value").first.bounding_box()
    assert narrow and number and wide and larger
    assert narrow["width"] <= 960 and wide["width"] > 1900 and larger["height"] > 1.6 * number["height"]
    explorer.put(3)
    page.evaluate("document.exitFullscreen()")
    page.wait_for_function("!document.fullscreenElement")
    in_page = view.bounding_box()
    assert in_page and 960 < in_page["width"] < 1900, "without the whole screen it is as wide as the page"
    switch.click()
    expect(switch).to_have_attribute("aria-pressed", "false")
    again = view.bounding_box()
    page.set_viewport_size({"width": 1280, "height": 800})
    assert again and again["width"] == narrow["width"]


def test_axe_finds_no_serious_violation_in_the_widgets(opened: Opened) -> None:
    for explorer in opened.explorers:
        explorer.shown()
    violations = Axe().run(opened.page, context=".dk-live-view").response["violations"]
    grave = [
        f"{violation['id']}: {violation['help']} {violation['nodes'][0]['html'][:200]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
    assert grave == []


def test_key_press_to_picture_is_quick(opened: Opened, report: Callable[[str], None]) -> None:
    explorer = opened.first
    if explorer is None:
        return
    explorer.shown().put(1)
    opened.page.evaluate(
        """() => {
            window.delays = []; let pressed = null;
            const box = document.querySelector('.dk-explorer-box');
            box.addEventListener('keydown', () => { pressed = performance.now(); }, true);
            new MutationObserver(() => requestAnimationFrame(() => {
                if (pressed !== null) { window.delays.push(performance.now() - pressed); pressed = null; }
            })).observe(box.querySelector('.dk-picture'), {childList: true, subtree: true});
        }"""
    )
    explorer.handle.focus()
    for press in range(30):
        opened.page.keyboard.press("ArrowRight" if press % 14 < 7 else "ArrowLeft")
        opened.page.wait_for_function(f"window.delays.length > {press}")
    delays = sorted(opened.page.evaluate("window.delays"))
    report(f"key press to picture: median {statistics.median(delays):.0f} ms, p95 {delays[28]:.0f} ms")
    assert delays[28] < 1000


def test_no_console_error_and_no_request_leaves_the_machine(opened: Opened) -> None:
    assert opened.errors == []
    assert opened.elsewhere == []


def test_a_view_whose_kernel_dies_says_so(opened: Opened) -> None:
    explorer = opened.first
    if explorer is None:
        return
    assert explorer.shown().box.get_by_role("alert").count() == 0
    opened.page.evaluate(
        "() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute("
        "{code: 'import os; os._exit(1)'}); }"
    )
    expect(explorer.box.get_by_role("alert").first).to_have_text(re.compile("The kernel of this view has stopped"))
