"""Generated descriptions and rows that several tests of the world start from."""

from random import Random
from typing import Any

import pytest

from dylora_kit.synthetic import facts, grammar
from dylora_kit.synthetic.examples import MAKERS, rows


@pytest.fixture(scope="session")
def descriptions() -> list[tuple[str, dict[str, str]]]:
    """Descriptions of every wording, each with its facts, the name among them."""
    rng, pairs = Random("told"), []
    for _ in range(3000):
        restaurant = facts.sample(rng, "any")
        chosen = restaurant.facts_of(facts.choose_attributes(rng, rng.randint(2, 5)))
        text = grammar.describe(rng, restaurant.name, chosen, held_out=True)
        pairs.append((text, {"name": restaurant.name} | chosen))
    return pairs


@pytest.fixture(scope="session")
def slices() -> dict[str, dict[str, list[Any]]]:
    """The first rows of both splits of each task."""
    return {name: {"train": rows(name, "train", 1200), "test": rows(name, "test", 300)} for name in MAKERS}
