"""Statements about one restaurant, true or false by its facts: the hypotheses of the entailment task."""

from dataclasses import dataclass
from random import Random

from dylora_kit.synthetic.english import sentence, verb_phrase
from dylora_kit.synthetic.facts import ORDERED, VALUES
from dylora_kit.synthetic.grammar import to_verb
from dylora_kit.synthetic.lexicon import phrases

# of these a restaurant has one value at most: it may be near two landmarks, or by the river in the old town
ASKED = tuple(key for key in VALUES if key not in ("landmark", "owner", "area", "food", "rest"))
DENIED = 0.3  # how often a statement denies a value
BOUND = 0.5  # how often one about a number is about more or fewer


@dataclass(frozen=True)
class Statement:
    """What is said of an attribute: `relation` is "is", "not", "over" or "under" a value."""

    attribute: str
    relation: str
    value: str

    def holds(self, value: str) -> bool:
        """Whether it is true of a restaurant with this value.

        >>> Statement("seats", "over", "thirty").holds("forty"), Statement("dogs", "not", "yes").holds("yes")
        (True, False)
        """
        if self.relation in ("is", "not"):
            return (value == self.value) == (self.relation == "is")
        order = VALUES[self.attribute]
        here, bound = order.index(value), order.index(self.value)
        return here > bound if self.relation == "over" else here < bound


_BOUNDS = {
    ("stars", "over"): ("has more than {}", "is rated higher than {}", "gets more than {}"),
    ("stars", "under"): ("has fewer than {}", "is rated lower than {}", "gets fewer than {}"),
    ("seats", "over"): ("has more than {} seats", "has room for over {} guests", "holds more than {} people"),
    ("seats", "under"): ("has fewer than {} seats", "has room for fewer than {} guests", "holds under {} people"),
    ("closes", "over"): ("closes after {}", "is still open at {}", "closes later than {}"),
    ("closes", "under"): ("closes before {}", "closes earlier than {}", "shuts before {}"),
}


def draw(rng: Random, attribute: str) -> Statement:
    """A statement about an attribute, true of some restaurants and false of others."""
    values = VALUES[attribute]
    # where there is room for sixty there is room for thirty: seats are only said to be more or fewer
    if attribute in ORDERED and attribute != "price" and (attribute == "seats" or rng.random() < BOUND):
        return Statement(attribute, rng.choice(("over", "under")), rng.choice(values[1:-1]))
    deny = attribute not in ("stars", "closes", "opens") and rng.random() < DENIED
    # a denied "no" would be a double negation
    value = "yes" if deny and "yes" in values else rng.choice([one for one in values if not (deny and one == "none")])
    return Statement(attribute, "not" if deny else "is", value)


def predicate(rng: Random, said: Statement, *, held_out: bool, used: tuple[str, ...] = (), repeat: bool = False) -> str:
    """The statement without its subject: "is not cheap", "has more than thirty seats".

    Arguments:
        used: words of another text, which are avoided where there are others; or, to `repeat`, taken where they fit.
    """
    if said.relation in ("over", "under"):
        number = "a hundred" if said.value == "hundred" else said.value
        if said.attribute == "stars":
            number += " star" + ("" if said.value == "one" else "s")
        return rng.choice(_BOUNDS[said.attribute, said.relation]).format(number)
    options = []
    for phrase in phrases(said.attribute, said.value, held_out=held_out):
        verb = to_verb(phrase, rng)
        if verb is None or (said.relation == "not" and (not _plain(phrase.words) or phrase.role == "post")):
            continue
        if (said.relation == "not" and phrase.role == "np") or "until" in phrase.words:
            continue  # what is open until midnight is open until eleven
        options.append((phrase, verb))
    preferred = [one for one in options if (one[0].words in used) == repeat] or options
    verb = rng.choice(preferred)[1]
    if said.relation == "is":
        return verb.finite()
    if verb.verb in ("stand", "lie"):
        verb = verb_phrase(f"be {verb.rest}")
    return verb_phrase(f"not {verb.verb} {verb.rest}").finite()


def _plain(words: str) -> bool:
    """Whether words can be denied: those that deny something already cannot."""
    return not any(
        word in words.split()
        for word in (
            "not",
            "never",
            "no",
            "neither",
            "without",
            "anything",
            "only",
            "little",
            "glad",
            "kind",
            "happy",
            "every",
        )
    )


def say(rng: Random, name: str, predicates: list[str]) -> str:
    """The statement as a sentence."""
    return sentence(f"{name} {' and '.join(predicates)}")
