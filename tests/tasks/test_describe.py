"""Facts as `describe` lists them, and what became of them in a text."""

import pytest

from dylora_kit.tasks import world
from dylora_kit.tasks.describe import parse_facts, read_facts


def test_the_facts_of_every_row_are_read_from_its_input() -> None:
    rows = world.texts("describe")["test"]
    assert [parse_facts(row["first"]) for row in rows] == [row["facts"] for row in rows]


def test_references_say_every_fact_of_their_row_and_nothing_else() -> None:
    for row in world.texts("describe")["test"][:60]:
        for text in row["references"]:
            found = read_facts(text, row["first"])
            assert [(fact.name, fact.value, fact.state) for fact in found] == [
                (*fact, "said") for fact in row["facts"].items()
            ]


def test_an_empty_text_says_nothing() -> None:
    assert [fact.state for fact in read_facts("", "kind[pub] | dogs[no]")] == ["missing", "missing"]


@pytest.mark.parametrize("first", ["", "a pub", "name[the Red Fox", "name[] | kind[pub]", "[pub]", "kind[pub] |"])
def test_an_input_that_is_no_list_of_facts_is_refused(first: str) -> None:
    with pytest.raises(ValueError, match="is no fact: write facts as in"):
        parse_facts(first)


def test_two_facts_about_the_same_thing_are_refused() -> None:
    with pytest.raises(ValueError, match="kind is given twice, as pub and as diner"):
        parse_facts("kind[pub] | kind[diner]")
