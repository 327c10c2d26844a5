"""Sentences with one error: each has a correct twin that differs in little."""

from random import Random

import pytest

from dylora_kit.synthetic import errors


@pytest.mark.parametrize("rule", errors.RULES, ids=lambda rule: rule.__name__)
def test_each_error_has_a_correct_twin(rule: errors.Rule):
    for seed in range(50):
        right, wrong = errors.twins(Random(seed), rule, name="the Red Fox", held_out=True)
        assert right != wrong
        assert len(set(right.lower().split()) ^ set(wrong.lower().split())) <= 6
        assert right[0].isupper() and wrong[0].isupper()
