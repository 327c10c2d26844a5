"""The lexicon: every fact can be told."""

from dylora_kit.synthetic.facts import VALUES
from dylora_kit.synthetic.lexicon import PHRASES


def test_every_value_of_every_attribute_can_be_said():
    assert set(PHRASES) == {(key, value) for key, values in VALUES.items() for value in values}
    assert all(not all(way.held_out for way in ways) for ways in PHRASES.values())
