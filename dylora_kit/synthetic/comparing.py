"""Texts about two restaurants: comparisons, and who has what."""

from random import Random

from dylora_kit.synthetic.english import VerbPhrase, sentence, ways
from dylora_kit.synthetic.facts import VALUES, Restaurant
from dylora_kit.synthetic.grammar import HELD_OUT, to_verb
from dylora_kit.synthetic.lexicon import phrases

# what to say of a restaurant that comes higher, and of one that comes lower, by attribute; + is kept for tests
MORE = {
    "price": ("is more expensive than {}", "costs more than {}", "is not as cheap as {}", "+charges more than {}"),
    "stars": ("is rated better than {}", "has more stars than {}", "scores higher than {}",
              "+gets more stars than {}"),
    "seats": ("is bigger than {}", "has more seats than {}", "holds more guests than {}", "+seats more guests than {}"),
    "closes": ("closes later than {}", "does not close as early as {}", "keeps later hours than {}",
               "+shuts later than {}"),
}  # fmt: skip
LESS = {
    "price": ("is cheaper than {}", "costs less than {}", "is not as expensive as {}", "+charges less than {}"),
    "stars": ("is rated worse than {}", "has fewer stars than {}", "scores lower than {}",
              "+gets fewer stars than {}"),
    "seats": ("is smaller than {}", "has fewer seats than {}", "holds fewer guests than {}", "+is not as big as {}"),
    "closes": ("closes earlier than {}", "does not close as late as {}", "closes before {}",
               "+shuts earlier than {}"),
}  # fmt: skip
CONTRASTS = (
    "{0} {2}, while {1} {3}",
    "{0} {2}; {1} {3}",
    "{0} {2}, whereas {1} {3}",
    "unlike {1}, which {3}, {0} {2}",
    "of the two, {0} {2} and {1} {3}",
)
Pair = tuple[Restaurant, Restaurant]


def relation(rng: Random, pair: Pair, attribute: str, *, held_out: bool) -> str:
    """Which of two comes higher: "the Red Fox is cheaper than the Blue Heron"."""
    order = VALUES[attribute]
    low, high = sorted(pair, key=lambda restaurant: order.index(getattr(restaurant, attribute)))
    if rng.random() < 0.5:
        return f"{high.name} {rng.choice(ways(MORE[attribute], held_out)).format(low.name)}"
    return f"{low.name} {rng.choice(ways(LESS[attribute], held_out)).format(high.name)}"


def verb(rng: Random, attribute: str, value: str, *, held_out: bool) -> VerbPhrase:
    """Some verb phrase that says a fact."""
    options = [phrase for phrase in phrases(attribute, value, held_out=held_out) if to_verb(phrase, rng)]
    reserved = [phrase for phrase in options if phrase.held_out]
    chosen = to_verb(rng.choice(reserved if reserved and rng.random() < HELD_OUT else options), rng)
    assert chosen is not None
    return chosen


def contrast(rng: Random, pair: Pair, attribute: str, *, held_out: bool) -> str:
    """What each of two is where they differ: "the Red Fox is a pub, while the Blue Heron is a diner"."""
    first, second = rng.sample(pair, 2)
    predicates = [
        verb(rng, attribute, getattr(restaurant, attribute), held_out=held_out).finite()
        for restaurant in (first, second)
    ]
    return rng.choice(CONTRASTS).format(first.name, second.name, *predicates)


def shared(rng: Random, pair: Pair, attribute: str, *, held_out: bool) -> str:
    """What two have in common: "both the Red Fox and the Blue Heron allow dogs"."""
    first, second = rng.sample(pair, 2)
    predicate = verb(rng, attribute, getattr(first, attribute), held_out=held_out)
    both = predicate.finite(plural=True).replace(" its ", " their ")
    forms = [
        f"{first.name} {predicate.finite()}, {_so(predicate)} {second.name}",
        f"like {first.name}, {second.name} {predicate.finite()}",
        f"{first.name} {predicate.finite()}, and the same is true of {second.name}",
    ]
    if not both.startswith("are a "):
        forms.insert(0, f"both {first.name} and {second.name} {both}")
    return rng.choice(forms)


def _so(predicate: VerbPhrase) -> str:
    """How another is said to be alike: "and so is", "and neither does"."""
    helper = "is" if predicate.verb == "be" else "does"
    denies = predicate.negated or predicate.before or {"no", "neither", "without"} & set(predicate.rest.split())
    return f"{'and neither' if denies else 'and so'} {helper}"


def compare(rng: Random, pair: Pair, attributes: list[str], *, held_out: bool = False) -> str:
    """A text on two restaurants: one sentence for each attribute, by whether they share it, differ or can be ranked."""
    clauses = []
    for attribute in attributes:
        if getattr(pair[0], attribute) == getattr(pair[1], attribute):
            clauses.append(shared(rng, pair, attribute, held_out=held_out))
        elif attribute in MORE:
            clauses.append(relation(rng, pair, attribute, held_out=held_out))
        else:
            clauses.append(contrast(rng, pair, attribute, held_out=held_out))
    return " ".join(map(sentence, clauses))
