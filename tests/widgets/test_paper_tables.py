"""A paper's tables beside what was measured: what is chosen is shown, and what is missing is said."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from dylora_kit.widgets.paper_tables import PaperTables
from dylora_kit.widgets.svg_cards.compared import compared_cards, limits
from dylora_kit.widgets.svg_cards.comparison import Comparison, Line, Measured, Side

PRINTED = Side("The paper", "large model", (Line("LoRA", {1: Measured(50.0, 4.0, 5), 8: Measured(90.0, 1.0, 5)}, 1),))
MEASURED = Side("This kit", "small model", (Line("DyLoRA", {1: Measured(80.0, 2.0, 3), 2: Measured(84.5)}),))
EMPTY = Side("This kit", "large model", instead=("Not run: about 7 hours.",))


def comparison(tier: str, task: str, kit: Side = MEASURED, table: str = "Table 2", kind: str = "curves") -> Comparison:
    rows = ("first", "second") if kind == "pairs" else ()
    return Comparison(table, "at every rank", tier, task, kind, "rank b", PRINTED, kit, "Seeds are missing.", rows)


@pytest.fixture
def view() -> PaperTables:
    pairs = Side("The paper", "", (Line("a", {0: Measured(1.0)}), Line("b", {0: Measured(2.0), 1: Measured(3.0)}, 1)))
    dots = Comparison("Table 4", "choices", "small", "digits", "pairs", "", pairs, EMPTY, "", ("first", "second"))
    return PaperTables([comparison("small", "digits"), comparison("small", "words"),
                        comparison("large", "words", EMPTY), dots])  # fmt: skip


def words_of(svg: str) -> list[str]:
    return [text.text for text in ET.fromstring(svg).iter() if text.text]


def test_the_numbers_of_both_halves_stand_at_the_chosen_rank(view: PaperTables) -> None:
    assert ">50.0 ± 4.0<" in view.picture.value and ">80.0 ± 2.0<" in view.picture.value
    view.slider.value = 8
    assert ">90.0 ± 1.0<" in view.picture.value and "nothing at rank 8" in view.picture.value
    assert view.number.value == 8 and 'data-rank="8"' in view.picture.value


def test_a_rank_that_a_table_lacks_shows_the_next_lower_one(view: PaperTables) -> None:
    view.slider.value = 7
    assert 'data-rank="2"' in view.picture.value and "at rank 2" in view.summary()


def test_choosing_a_tier_offers_its_tasks_and_shows_the_first(view: PaperTables) -> None:
    view.task.value = "words"
    view.tier.value = "large"
    assert view.task.options == ("words",) and view.shown.kit == EMPTY
    assert "Not run: about 7 hours." in view.picture.value
    view.tier.value = "small"
    assert view.task.options == ("digits", "words") and view.task.value == "words"  # what was chosen stays


def test_a_table_without_ranks_lets_the_slider_rest_and_one_with_ranks_wakes_it(view: PaperTables) -> None:
    view.table.value = "Table 4"
    assert view.slider.disabled and view.number.disabled and view.tier.options == ("small",)
    assert ">first<" in view.picture.value and ">+1.0<" in view.picture.value
    view.choose("Table 2", "small", "digits", rank=1)
    assert not view.slider.disabled and 'data-table="Table 2"' in view.picture.value


def test_what_is_missing_stands_below_the_picture_and_in_its_text(view: PaperTables) -> None:
    assert "<b>Gaps:</b> Seeds are missing." in view.picture.value
    label = re.search(r'aria-label="([^"]*)"', view.picture.value)
    assert label is not None and label[1] == view.summary()
    assert view.summary() == (
        "Table 2, at every rank. The paper, large model at rank 1: LoRA 50.0 ± 4.0. "
        "This kit, small model at rank 1: DyLoRA 80.0 ± 2.0. Seeds are missing."
    )


def test_a_saved_notebook_has_a_picture_with_both_halves_and_the_gaps(view: PaperTables) -> None:
    words = words_of(view._repr_mimebundle_()["image/svg+xml"])
    assert {"The paper", "This kit", "Table 2, rank", "1 of 8", "Gaps: Seeds are missing."} <= set(words)


def test_a_picture_of_another_table_leaves_the_view_as_it_is(view: PaperTables) -> None:
    before = view.picture.value
    words = words_of(view.picture_of("Table 4", "small", "digits").data)
    assert "Table 4: choices" in words and "1 of 1" not in words
    assert view.picture.value == before and view.table.value == "Table 2"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Table 9", "small", "digits"), "there is no 'Table 9': expected one of Table 2, Table 4"),
        (("Table 2", "huge", "digits"), "Table 2 has no tier 'huge': expected one of small, large"),
        (("Table 2", "large", "digits"), "Table 2 has on large no task 'digits': expected one of words"),
    ],
)
def test_what_there_is_not_is_refused(view: PaperTables, names: tuple[str, str, str], message: str) -> None:
    for asked in (view.choose, view.picture_of):
        with pytest.raises(ValueError, match=message):
            asked(*names)
    assert view.shown.task == "digits"


def test_comparisons_that_cannot_be_told_apart_are_refused() -> None:
    for given in ([], [comparison("small", "digits"), comparison("small", "digits")]):
        with pytest.raises(ValueError, match=f"differ in table, tier or task: got {len(given)}"):
            PaperTables(given)


def test_halves_that_are_near_share_a_scale_and_others_only_its_length() -> None:
    near = comparison("small", "digits")
    assert limits(near, near.paper) == limits(near, near.kit)
    low = Side("This kit", "", (Line("DyLoRA", {1: Measured(2.0), 8: Measured(6.0)}),))
    far = Comparison(
        "", "", "", "", "curves", "", low, Side("", "", (Line("x", {1: Measured(90.0), 8: Measured(93.0)}),)), ""
    )
    (start, end, step), (other, other_end, same) = (limits(far, side) for side in (far.paper, far.kit))
    assert end - start == other_end - other and step == same and start <= 2 < 90 - 1 < other_end
    assert start != other


@pytest.mark.parametrize("kind", ["curves", "plane"])
def test_every_mark_and_whisker_is_inside_its_card(kind: str) -> None:
    for inside, height in compared_cards(comparison("small", "digits", kind=kind), 1):
        xs = [float(x) for x in re.findall(r' (?:x|x1|x2|cx)="([-\d.]+)"', inside)]
        ys = [float(y) for y in re.findall(r' (?:y|y1|y2|cy)="([-\d.]+)"', inside)]
        assert min(xs) > 0 and max(xs) < 472 and min(ys) > 0 and max(ys) < height


def test_a_whisker_reaches_one_deviation_up_and_down() -> None:
    shown = comparison("small", "digits")
    inside = compared_cards(shown, 1)[0][0]
    low, high, _ = limits(shown, shown.paper)
    (whisker,) = re.findall(r'y1="([\d.]+)" y2="([\d.]+)" style="stroke:var\(--dk-1\)[^"]*"', inside)[:1]
    reach = abs(float(whisker[0]) - float(whisker[1])) * (high - low) / 168
    assert reach == pytest.approx(2 * 4.0, abs=0.1)


def test_a_method_is_told_by_marker_and_dashes_and_not_by_colour_alone() -> None:
    lines = tuple(Line(name, {1: Measured(50.0 + 9 * at), 8: Measured(60.0 + 9 * at)}, at // 2, bool(at % 2))
                  for at, name in enumerate("abcd"))  # fmt: skip
    shown = Comparison("", "", "", "", "curves", "", Side("", "", lines), EMPTY, "")
    inside = compared_cards(shown, 1)[0][0]
    assert inside.count("<circle") > 0 and inside.count("stroke-dasharray:5 4") == 2


def test_numbers_have_the_digits_that_they_deserve() -> None:
    said = [str(Measured(*value)) for value in ((84.84, 1.26, 5), (3.38, math.nan, 1), (152202.0, math.nan, 1))]
    assert said == ["84.8 ± 1.3", "3.38", "152,202"]
