"""Facts read back from texts: all that are told, and how many are missing, changed or added."""

from random import Random

from dylora_kit.synthetic import facts, read


def test_generated_text_tells_exactly_its_facts(descriptions: list[tuple[str, dict[str, str]]]):
    assert [text for text, chosen in descriptions if read.slot_error_rate(text, chosen)] == []


def test_slot_errors_are_counted_exactly(descriptions: list[tuple[str, dict[str, str]]]):
    rng = Random("wrong")
    for text, chosen in descriptions[:500]:
        key = rng.choice([key for key in chosen if key != "name"])
        fewer = {other: value for other, value in chosen.items() if other != key}
        assert read.slot_errors(text, fewer) == 1  # the text tells more than these facts
        assert read.slot_errors(text, chosen | {key: facts.another(rng, key, chosen[key])}) == 1
        missing = next(attribute for attribute in facts.VALUES if attribute not in chosen)
        assert read.slot_errors(text, chosen | {missing: facts.VALUES[missing][0]}) == 1
        assert read.slot_errors(text, chosen | {"name": "the Purple Yak"}) == 1


def test_a_text_that_tells_exactly_its_facts_says_each_where_it_stands(
    descriptions: list[tuple[str, dict[str, str]]],
) -> None:
    for text, chosen in descriptions[:500]:
        found = read.facts_in(text, chosen)
        assert [(fact.name, fact.value, fact.state) for fact in found] == [(*pair, "said") for pair in chosen.items()]
        for fact in found:
            for start, end in fact.spans:
                assert fact.name == "name" or {fact.value} == read.read(text[start:end])[fact.name]
            assert fact.spans


def test_a_wrong_a_missing_and_an_added_fact_are_told_apart() -> None:
    text = "The Red Fox is a cheap bistro and allows dogs. It is not cheap."
    found = read.facts_in(text, {"name": "the Blue Owl", "kind": "pub", "music": "no", "price": "cheap"})
    assert [(fact.name, fact.value, fact.state, fact.instead) for fact in found] == [
        ("name", "the Blue Owl", "wrong", "The Red Fox"),
        ("kind", "pub", "wrong", "bistro"),
        ("music", "no", "missing", ""),
        ("price", "cheap", "said", ""),
        ("price", "not cheap", "added", ""),
        ("dogs", "yes", "added", ""),
    ]
    assert [text[slice(*span)] for span in found[1].spans] == ["bistro"]


def test_a_value_that_the_world_does_not_have_is_looked_for_as_it_stands() -> None:
    facts_told = read.facts_in("The Purple Yak serves Klingon dishes.", {"name": "the Purple Yak", "food": "Klingon"})
    assert [fact.state for fact in facts_told] == ["said", "said"]
    assert read.facts_in("The Purple Yak (really).", {"food": "Yak (r"})[0].spans == ((11, 17),)
