"""The pictures that lessons open with: the committed files are what the command draws, and stand alone."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from dylora_kit.baselines.autoencoder import pca
from dylora_kit.lessons.__main__ import main
from dylora_kit.lessons.openings import OPENINGS, lesson_01, lesson_04
from dylora_kit.lessons.openings.drawing import GREYS, pixels
from dylora_kit.tasks import digits
from dylora_kit.training.sampling import Uniform

IMAGES = Path(__file__).parents[2] / "notebooks" / "images"
SVG = "{http://www.w3.org/2000/svg}"
PICTURES = sorted(IMAGES.glob("lesson_*.svg"))


def test_the_command_draws_what_is_committed_byte_for_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["openings"], tmp_path)
    assert capsys.readouterr().out.startswith("wrote lesson_00.svg, lesson_01.svg, ")
    written = {path.name: path.read_bytes() for path in (tmp_path / "notebooks" / "images").iterdir()}
    assert written == {path.name: path.read_bytes() for path in PICTURES}


def test_each_lesson_has_one() -> None:
    lessons = [path.name[:2] for path in sorted(IMAGES.parent.glob("*.ipynb"))]
    assert list(OPENINGS) == [path.name for path in PICTURES] == [f"lesson_{lesson}.svg" for lesson in lessons]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_each_is_a_small_picture_with_a_title_that_needs_nothing_else(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg" and root.get("role") == "img" and root.get("width") == "960"
    assert root.get("viewBox") == f"0 0 960 {root.get('height')}" and 220 <= int(root.get("height", "0")) <= 320
    title = root[0]
    assert title.tag == f"{SVG}title" and len(title.text or "") > 60
    assert len(text.encode()) < 40_000
    names = {name for node in root.iter() for name in node.attrib}
    assert not {name for name in names if "href" in name or name.startswith("on")}
    without_namespace = text.replace('xmlns="http://www.w3.org/2000/svg"', "", 1)
    assert not re.search(r"://|url\(|@import|<script|<image|<use|var\(", without_namespace)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_each_has_a_panel_of_its_own_so_that_it_can_be_read_on_a_dark_page(path: Path) -> None:
    panel = next(ElementTree.parse(path).getroot().iter(f"{SVG}rect"))
    assert panel.get("fill") == "#faf9f5" and int(panel.get("width", "0")) > 950


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_no_text_is_small(path: Path) -> None:
    sizes = [int(size) for size in re.findall(r"font-size:(\d+)px", path.read_text(encoding="utf-8"))]
    assert min(sizes) >= 20


def test_a_picture_is_drawn_pixel_for_pixel() -> None:
    picture = digits.load("upright").test.pixel_values[0, 0]
    drawn, seen = pixels(picture, 0, 0, 8), torch.full((8, 8), -1)
    for shade, path in re.findall(r'<path fill="#(..)\1\1" d="([^"]*)"', drawn):
        for x, y, length in re.findall(r"M(\d) (\d)h(\d)v1H\d", path):
            seen[int(y), int(x) : int(x) + int(length)] = int(shade, 16)
    assert torch.equal(seen, (255 * (picture + 1) / 2).round().int())


def test_the_digit_is_rebuilt_by_pca_and_worse_with_fewer_numbers() -> None:
    real, rebuilt, code = lesson_01.rebuilt_digit(lesson_01.SHOWN)
    data = digits.load_pixels("upright")
    components = pca(data.train, k=8).decoder.detach()
    centred = data.test[lesson_01.SHOWN]["pixel_values"]
    for b, picture in zip(lesson_01.LENGTHS, rebuilt, strict=True):
        by_hand = components[:, :b] @ (components[:, :b].T @ centred) + data.test.mean
        torch.testing.assert_close(picture, by_hand.reshape(8, 8), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.tensor(code), components.T @ centred, rtol=0, atol=1e-5)
    errors = [float((picture - real).square().sum()) for picture in rebuilt]
    assert errors == sorted(errors) and errors[0] < errors[-1]


def test_no_grey_of_the_rebuilt_digit_is_so_close_to_another_that_rounding_could_change_it() -> None:
    _, rebuilt, _ = lesson_01.rebuilt_digit(lesson_01.SHOWN)
    steps = torch.stack(rebuilt).double().clamp(-1, 1).add(1).mul(GREYS / 2)
    assert float((steps - steps.floor() - 0.5).abs().min()) > 1e-4


def test_the_bars_of_lesson_04_are_the_shares_of_the_steps() -> None:
    drawn = re.findall(r'width="([\d.]+)" height="13.0" style="fill:#', lesson_04.opening())
    shares = [float(length) / float(drawn[0]) for length in drawn]
    assert shares == pytest.approx(Uniform(1, 8).update_frequencies(8), abs=0.001)
