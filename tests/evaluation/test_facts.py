"""What became of a fact, in words."""

import pytest

from dylora_kit.evaluation.facts import STATES, Fact


def test_every_state_has_words_of_its_own() -> None:
    assert len({Fact("kind", "pub", state).label for state in STATES}) == 4


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown state 'maybe' of a fact: expected one of 'said'"):
        Fact("kind", "pub", "maybe")
