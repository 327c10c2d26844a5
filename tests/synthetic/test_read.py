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
