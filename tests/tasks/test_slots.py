"""Slot matching for E2E: what a text says, lacks, changes and makes up."""

import csv
import os
import random
from pathlib import Path

import pytest

from dylora_kit.tasks.e2e import facts_of, line_of
from dylora_kit.tasks.slots import NAMES, PLACES, WORDS, marks, read_facts, slot_errors

FACTS = facts_of(
    "name[The Mill], eatType[pub], food[English], priceRange[moderate], customer rating[high], area[riverside], "
    "familyFriendly[yes], near[Raja Indian Cuisine]"
)
GOOD = (
    "The Mill is a moderately priced, child friendly pub by the river with British food. It is close to Raja Indian "
    "Cuisine and highly rated by customers."
)


def states(text: str, facts: dict[str, str] = FACTS) -> dict[str, str]:
    return {mark.slot: mark.state for mark in marks(text, facts)}


def test_all_is_said_in_words_of_one_s_own() -> None:
    assert set(states(GOOD).values()) == {"said"}
    assert slot_errors(GOOD, FACTS) == 0


@pytest.mark.parametrize(
    ("slot", "old", "new", "state", "other"),
    [
        ("name", "The Mill", "The Punter", "wrong", "The Punter"),
        ("name", "The Mill", "The Blue Lagoon", "missing", None),
        ("eatType", "pub", "coffee shop", "wrong", "coffee shop"),
        ("eatType", "pub", "place", "missing", None),
        ("food", "British", "Japanese", "wrong", "Japanese"),
        ("food", "with British food", "", "missing", None),
        ("priceRange", "moderately priced", "cheap", "wrong", "less than £20"),
        ("priceRange", "moderately priced, ", "", "missing", None),
        ("customer rating", "highly rated", "rated 1 out of 5", "wrong", "1 out of 5"),
        ("customer rating", " and highly rated by customers", "", "missing", None),
        ("area", "by the river", "in the city centre", "wrong", "city centre"),
        ("familyFriendly", "child friendly", "not at all child friendly", "wrong", "no"),
        ("familyFriendly", "child friendly", "adult only", "wrong", "no"),
        ("near", "Raja Indian Cuisine", "Burger King", "wrong", "Burger King"),
    ],
)
def test_one_slot_is_missing_or_has_another_value(slot: str, old: str, new: str, state: str, other: str | None) -> None:
    assert old in GOOD
    changed = marks(GOOD.replace(old, new), FACTS)
    assert {mark.slot: mark.state for mark in changed if mark.state != "said"} == {slot: state}
    (mark,) = [mark for mark in changed if mark.slot == slot]
    assert (mark.value, mark.other) == (FACTS[slot], other)


@pytest.mark.parametrize(
    ("slot", "words"),
    [("food", "It serves sushi."), ("area", "It is downtown."), ("near", "It is near Clare Hall."),
     ("familyFriendly", "Kids are welcome."), ("customer rating", "It has 3 stars."), ("priceRange", "It is pricey.")],
)  # fmt: skip
def test_what_the_facts_do_not_have_is_made_up(slot: str, words: str) -> None:
    facts = {"name": "Zizzi", "eatType": "pub"}
    text = f"Zizzi is a pub. {words}"
    assert states(text, facts) == {"name": "said", "eatType": "said", slot: "made up"}
    assert slot_errors(text, facts) == 1


def test_words_in_names_are_not_taken_for_facts() -> None:
    facts = {"name": "The Golden Curry", "near": "Rainbow Vegetarian Café"}
    text = "The Golden Curry near the Rainbow Vegetarian Cafe, not far from Raja Indian Cuisine and Burger King"
    made_up = [mark for mark in marks(text, facts) if mark.state == "made up"]
    assert made_up == []  # near has its value
    assert states(text, {"name": "The Golden Curry"})["near"] == "made up"


def test_a_mark_says_where_the_words_are() -> None:
    words = {mark.slot: GOOD[slice(*mark.span)] for mark in marks(GOOD, FACTS) if mark.span}
    assert words["food"] == "British" and words["near"] == "Raja Indian Cuisine" and words["priceRange"] == "moderately"
    assert all(mark.span is None for mark in marks("", FACTS)) and slot_errors("", FACTS) == len(FACTS)


@pytest.mark.by_hand
def test_on_human_texts_it_is_as_good_as_its_docstring_says() -> None:
    """Needs `DYLORA_KIT_DATA` with `e2e/cleaned/test-fixed.csv`."""
    path = Path(os.environ["DYLORA_KIT_DATA"]) / "e2e" / "cleaned" / "test-fixed.csv"
    rows, said, slots, made_up, noticed = 0, 0, 0, 0, 0
    draw = random.Random(0)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            try:
                facts = facts_of(row["mr"])
            except ValueError:
                continue  # a slot with two values
            states = [mark.state for mark in marks(row["ref"], facts)]
            rows, slots = rows + 1, slots + len(facts)
            said, made_up = said + states.count("said"), made_up + states.count("made up")
            slot = draw.choice(list(facts))
            values = {"name": NAMES, "near": PLACES}.get(slot) or tuple(WORDS[slot])
            other = facts | {slot: draw.choice([value for value in values if value != facts[slot]])}
            noticed += next(mark.state for mark in marks(row["ref"], other) if mark.slot == slot) != "said"
    assert (rows, slots) == (4530, 28153)
    assert (round(said / slots, 3), round(made_up / rows, 2), round(noticed / rows, 2)) == (0.995, 0.18, 0.96)


def test_the_facts_of_a_line_are_read_in_a_text() -> None:
    text = "The Mill is a cheap pub that serves Japanese food."
    for line in (line_of(FACTS), f"{line_of(FACTS)} ||"):
        found = read_facts(text, line)
        assert [fact.name for fact in found] == list(FACTS)
        assert [fact.state for fact in found] == ["said", "said", "wrong", "wrong", *["missing"] * 4]
        assert (found[2].instead, text[slice(*found[2].spans[0])]) == ("Japanese", "Japanese")
    assert [fact.state for fact in read_facts(text, "name : The Mill")] == ["said", "added", "added", "added"]


@pytest.mark.parametrize("line", ["", "||", "a pub", "food :", "food : English | area"])
def test_a_line_that_is_no_list_of_facts_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is no fact: write facts as in"):
        read_facts("a pub", line)


def test_a_line_with_two_facts_about_a_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="food is given twice, as English and as French"):
        read_facts("a pub", "food : English | food : French")
