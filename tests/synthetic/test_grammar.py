"""Descriptions: each in other words, and a second one with the words of the first or with others."""

from random import Random

from dylora_kit.synthetic import facts, grammar, read


def test_two_thousand_descriptions_are_all_different(descriptions: list[tuple[str, dict[str, str]]]):
    assert len({text for text, _ in descriptions[:2000]}) >= 1995


def test_a_second_text_takes_the_words_of_the_first_or_others():
    rng, repeated = Random("again"), {True: [], False: []}
    for _ in range(300):
        restaurant = facts.sample(rng, "any")
        chosen = restaurant.facts_of(["price", "booking", "landmark"])
        used = [mention.words for mention in read.find(grammar.describe(rng, restaurant.name, chosen))]
        for repeat, shares in repeated.items():
            second = grammar.describe(rng, restaurant.name, chosen, used=used, repeat=repeat)
            shares += [mention.words in used for mention in read.find(second)]
    assert sum(repeated[True]) / len(repeated[True]) > 0.6
    assert sum(repeated[False]) / len(repeated[False]) < 0.05
