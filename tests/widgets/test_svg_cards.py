"""The cards by themselves: what is drawn stays inside, and pictures keep their grey."""

import base64
import io
import re
import xml.etree.ElementTree as ET

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from widgets.explorers import as_strip

from dylora_kit.tasks import digits
from dylora_kit.widgets import svg_cards
from dylora_kit.widgets.svg_cards.pictures import data_uri, side_by_side


def test_long_texts_stay_inside_their_card() -> None:
    examples = [
        svg_cards.Example("word " * 80, "good", "bad", False),
        *[svg_cards.Example("short", "good", "good", True)] * 9,
    ]
    inside = svg_cards.texts.texts_card(
        svg_cards.Scene(1, 8, [svg_cards.Series("DyLoRA", {1: 0.5})], 0, "accuracy", texts=examples)
    )
    places = [(float(x), float(y)) for x, y in re.findall(r'<text x="([\d.]+)" y="([\d.]+)"', inside)]
    assert max(y for _, y in places) < svg_cards.texts.HEIGHT - 8
    assert "…" in inside and "is bad" in inside and ">short<" in inside


def test_bars_are_as_long_as_their_values_and_inside_the_card() -> None:
    inside, height = svg_cards.bars_card(
        "Title", "", [svg_cards.Bar("a <b", 2.0, "two"), svg_cards.Bar("c", 0.0, "none", other=4.0)]
    )
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', inside)]
    assert widths[1] == 2 * widths[0] and max(widths) < svg_cards.CARD_WIDTH
    assert "a &lt;b" in inside and "two" in inside and "none" in inside
    assert max(float(y) for y in re.findall(r' y="([\d.]+)"', inside)) < height


def test_names_and_legends_stay_inside_the_card() -> None:
    long = "roberta.encoder.layer.0.attention.self.query"
    inside, _ = svg_cards.bars_card(
        "Title", "", [svg_cards.Bar(long, 2.0, "two", 1.0)], legend=("a rank for each layer", "one for all")
    )
    assert ">…" in inside and long not in inside
    places = [
        (float(x), words)
        for x, words in re.findall(r'<text x="([\d.]+)" y="[\d.]+" class="soft"[^>]*>([^<]+)<', inside)
    ]
    assert all(x + 7 * len(words) < svg_cards.CARD_WIDTH for x, words in places) and len(places) == 2


def test_a_strip_is_pictures_side_by_side_with_the_mean_added_back(pixels: digits.Pixels) -> None:
    rows = pixels.pixel_values[:4]
    for given in (rows, rows.numpy()):
        uri = side_by_side(pixels.pictures(given))
        picture = plt.imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))[:, :, 0]
        np.testing.assert_allclose(picture, as_strip(pixels, rows), atol=2.5 / 255)


def test_a_picture_runs_from_black_at_minus_one_to_white_at_one() -> None:
    uri = data_uri(torch.tensor([[-1.0, 0.0, 1.0], [-7.0, 0.5, 7.0]]))
    picture = plt.imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    np.testing.assert_allclose(picture[:, :, 0], [[0, 0.5, 1], [0, 0.75, 1]], atol=2.5 / 255)


def heights_of_bars(rank: int, now: list[float]) -> list[float]:
    """The heights of the outlined bars, those of rank r, and the numbers beside the axis."""
    full = [2.0, 1.0, 0.5]
    layer = svg_cards.Layer("up", rank, 3, 6, 5, "α/b", 16 / rank, now, full, 8.0)
    scene = svg_cards.Scene(rank, 3, [svg_cards.Series("DyLoRA", {rank: 0.5})], 0, "accuracy", layer=layer)
    inside = svg_cards.matrices.spectrum_card(scene)
    assert ">8<" in inside and ">4<" in inside
    return [float(height) for height in re.findall(r'height="([\d.]+)" style="fill:none', inside)][:3]


def test_the_bars_of_the_full_rank_are_drawn_alike_at_every_rank() -> None:
    first, last = heights_of_bars(1, [8.0]), heights_of_bars(3, [2.0, 1.0, 0.5])
    assert first == last and first[0] == pytest.approx(2 * first[1], abs=0.2) and first[1] > 0


def test_a_still_is_one_picture_with_every_card_the_slider_and_the_finding() -> None:
    cards = [(f'<text x="1" y="1">card {number} &lt;b&gt;\x1b</text>', 100 + number) for number in range(3)]
    root = ET.fromstring(svg_cards.still(cards, "Rank 3 of 8: 1 < 2.", "Inference rank", 3, 1, 8))
    name = "{http://www.w3.org/2000/svg}"
    assert root.attrib["aria-label"] == root.findtext(f"{name}title") == "Rank 3 of 8: 1 < 2."
    places = [(float(svg.attrib["x"]), float(svg.attrib["y"])) for svg in root.findall(f"{name}svg")]
    assert places == [(0, 52), (488, 52), (0, 169)] and root.attrib["height"] == "287"
    words = [text.text for text in root.iter(f"{name}text")]
    assert words == ["Inference rank", *"12345678", "3 of 8", "card 0 <b>", "card 1 <b>", "card 2 <b>"]
    track, knob = root.find(f"{name}line"), root.find(f"{name}circle")
    assert track is not None and knob is not None
    first, last = float(track.attrib["x1"]), float(track.attrib["x2"])
    assert float(knob.attrib["cx"]) == round(first + (last - first) * 2 / 7, 1)


def spectrum(name: str, rival: list[float], most: float = 4.0) -> str:
    """The card at rank 2 of 3, with a rival's singular values."""
    layer = svg_cards.Layer("up", 2, 3, 6, 5, "α/b", 8.0, [4.0, 2.0], [2.0, 1.0, 0.5], most, rival)
    series = [svg_cards.Series("DyLoRA", {2: 0.5}), svg_cards.Series(name, {2: 0.5}, kind=1)]
    return svg_cards.matrices.spectrum_card(svg_cards.Scene(2, 3, series, 0, "accuracy", layer=layer, rival=1))


def test_a_rivals_spectrum_is_an_outline_in_its_colour_on_the_same_scale() -> None:
    inside = spectrum("LoRA", [3.0, 1.0])
    filled = [float(h) for h in re.findall(r'height="([\d.]+)" style="fill:var\(--dk-0\)', inside)]
    rims = [float(h) for h in re.findall(r'height="([\d.]+)" style="fill:none;stroke:var\(--dk-1\)', inside)]
    assert len(filled) == len(rims) == 3, "two bars each, and one in the legend"
    assert rims[:2] == pytest.approx([0.75 * filled[0], 0.25 * filled[0]], abs=0.1)
    assert filled[0] < 112, "there is room above the tallest bar"
    assert ">DyLoRA, rank 2<" in inside and ">rank 3<" in inside and ">LoRA, rank 2<" in inside


def test_a_rival_that_is_not_finite_is_said_and_long_names_stay_in_the_card() -> None:
    inside = spectrum("a very, very, very long name <b>", [float("nan")] * 2)
    assert "not finite<" in inside and "stroke:var(--dk-1)" in inside and "&lt;b&gt;" not in inside
    legend = re.findall(r'<text x="([\d.]+)" y="2\d\d[\d.]*" class="soft"[^>]*>([^<]+)<', inside)
    assert len(legend) == 3
    assert all(float(x) + 6.5 * len(words) < svg_cards.CARD_WIDTH for x, words in legend)


def test_the_words_of_a_guess_cover_no_marker_and_no_other_guess() -> None:
    learned = {1: 0.86, 2: 0.88, 3: 0.92, 4: 0.93, 5: 0.94, 6: 0.95, 7: 0.95, 8: 0.95}
    cut = {1: 0.09, 2: 0.2, 3: 0.42, 4: 0.6, 5: 0.8, 6: 0.92, 7: 0.94, 8: 0.95}
    guesses = [(1, 0.86, 0), (1, 0.87, 1), (4, 0.62, 1), (8, 0.9, 0), (7, 0.95, 1)]
    series = [svg_cards.Series("DyLoRA", learned), svg_cards.Series("LoRA", cut, kind=1)]
    card = svg_cards.metric_card(svg_cards.Scene(1, 8, series, 0, "accuracy", guesses=guesses))
    markers = [tuple(map(float, point.split(","))) for line in re.findall('points="([^"]+)" style="fill:none', card)
               for point in line.split()]  # fmt: skip
    words = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="([a-z ]+)"[^>]*>your guess', card)
    starts = [(float(x) - ("end" in look) * 84, float(y) - 4) for x, y, look in words]
    assert len(markers) == 16 and len(starts) == 5
    for x, y in starts:
        assert not [place for place in markers if x - 7 < place[0] < x + 91 and abs(place[1] - y) < 15]
        assert sum(abs(other - x) < 84 and abs(height - y) < 15 for other, height in starts) == 1
