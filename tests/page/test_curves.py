"""The picture of the curves: where its points are, and what it says."""

import re
from xml.etree import ElementTree

import pytest

from dylora_kit.page.curves import curves

RIGHT = {"dylora": [80, 90, 95, 100], "lora": [0, 25, 50, 100]}


@pytest.fixture
def drawn() -> ElementTree.Element:
    return ElementTree.fromstring(curves(RIGHT, 100, kind="wide", width=400, height=200, letter=10))


def points(drawn: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    """The corners of a model's line."""
    (line,) = (node for node in drawn.iter("polyline") if name in node.attrib["class"].split())
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]


def test_a_rank_is_in_the_middle_of_its_part_of_the_width(drawn: ElementTree.Element) -> None:
    for name in RIGHT:
        assert [x for x, _ in points(drawn, name)] == [50, 150, 250, 350]


def test_a_share_is_as_high_as_the_picture_says(drawn: ElementTree.Element) -> None:
    top, base = float(drawn.attrib["data-top"]), float(drawn.attrib["data-base"])
    for name, counts in RIGHT.items():
        shares = [(base - y) / (base - top) for _, y in points(drawn, name)]
        assert shares == pytest.approx([count / 100 for count in counts], abs=0.001)


def test_each_rank_has_a_circle_and_a_square(drawn: ElementTree.Element) -> None:
    for tag, name in (("circle", "dylora"), ("rect", "lora")):
        marks = [node for node in drawn.iter(tag) if "point" in node.attrib["class"]]
        assert [(node.attrib["class"], node.attrib["data-rank"]) for node in marks] == [
            (f"point {name}", str(b)) for b in range(1, 5)
        ]


def test_what_it_shows_is_said_in_words(drawn: ElementTree.Element) -> None:
    said = drawn.attrib["aria-label"]
    assert re.search(r"DyLoRA: 80, 90, 95, 100; plain LoRA, cut: 0, 25, 50, 100\.$", said)


def test_it_has_no_style_of_its_own_which_the_policy_would_refuse(drawn: ElementTree.Element) -> None:
    assert not [node.tag for node in drawn.iter() if "style" in node.attrib or node.tag == "style"]
