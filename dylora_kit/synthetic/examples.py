"""The rows of the six tasks. The constants set how hard each task is."""

from collections.abc import Callable, Iterator
from itertools import count
from random import Random

from dylora_kit.synthetic import errors, reviews, statements
from dylora_kit.synthetic.facts import VALUES, Restaurant, another, belongs, choose_attributes, sample, shuffled, two
from dylora_kit.synthetic.grammar import describe
from dylora_kit.synthetic.names import TEST, Row
from dylora_kit.synthetic.read import find

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2
PREMISE = (2, 3, 3, 4)  # how many facts of the restaurant a premise tells
NEIGHBOUR = 0.35  # share of premises that also describe a second restaurant
DISTRACTING = 0.6  # share of those in which the second description tells the attribute that is asked for
TWO_FACTS = 0.15  # share of hypotheses that state two facts
TOLD = (3, 4)  # how many facts a paraphrase tells
OMITTED = 0.85  # share of differing paraphrases in which one text leaves a fact out
COUNTED = ("kind", "food", "price", "stars", "terrace", "seats", "owner", "music")  # in similarity
GRADED = ("stars", "seats")  # in similarity: neighbouring values are half alike; one of the two is always told
# for each label of similarity, how alike the two facts that count can be: first the graded one, then the other
DEGREES = (((0.0, 0.0),), ((0.5, 0.0),), ((1.0, 0.0), (0.0, 1.0)), ((0.5, 1.0),), ((1.0, 1.0),))
REPEATED = 0.5  # share of rewordings that may use the same words again


def sentiment(rng: Random, split: str, index: int) -> Row:
    """A review and whether it is good (1) or bad (0) on the whole."""
    label, restaurant = index % 2, sample(rng, split)
    return {"first": reviews.review(rng, label, name=restaurant.name, held_out=split == "test"), "label": label}


def entailment(rng: Random, split: str, index: int) -> Row | None:
    """A description and a statement: 0 if it follows, 1 if it is left open, 2 if it is wrong.

    None if the facts that were drawn do not belong into the split.
    """
    label, held_out = index % 3, split == "test"
    asked = rng.choice(statements.ASKED)
    statement = statements.draw(rng, asked)
    restaurant, neighbour = two(rng, split)
    value = rng.choice([value for value in VALUES[asked] if statement.holds(value) == (label != CONTRADICTION)])
    deciding = {} if label == NEUTRAL else {asked: value}
    others = choose_attributes(rng, rng.choice(PREMISE) - len(deciding), avoid=(asked, "owner"))
    facts = deciding | restaurant.facts_of(others)
    if not belongs(facts, split):
        return None
    facts = shuffled(rng, facts)
    premise = describe(rng, restaurant.name, facts, held_out=held_out)
    used = words_used(premise) if rng.random() >= REPEATED else ()
    predicates = [statements.predicate(rng, statement, held_out=held_out, used=used)]
    if rng.random() < NEIGHBOUR:
        distracting = _distracting_facts(rng, neighbour, asked)
        if not belongs(distracting, split):
            return None
        beside = describe(rng, neighbour.name, shuffled(rng, distracting), held_out=held_out)
        premise = " ".join(rng.sample([premise, beside], 2))
    if rng.random() < TWO_FACTS:
        # the second fact is told and true, so that the first decides
        known = [key for key in facts if key in statements.ASKED and key != asked]
        if known:
            key = rng.choice(known)
            second = statements.Statement(key, "is", facts[key])
            predicates.append(statements.predicate(rng, second, held_out=held_out))
            rng.shuffle(predicates)
    return {"first": premise, "second": statements.say(restaurant.name, predicates), "label": label}


def _distracting_facts(rng: Random, neighbour: Restaurant, asked: str) -> dict[str, str]:
    """A fact or two of a second restaurant; the attribute that is asked for is often among them."""
    facts = neighbour.facts_of(choose_attributes(rng, rng.choice((1, 2)), avoid=(asked,)))
    return {asked: rng.choice(VALUES[asked])} | facts if rng.random() < DISTRACTING else facts


def words_used(text: str) -> tuple[str, ...]:
    """The lexicon's words for the facts that a text tells."""
    return tuple(mention.words for mention in find(text))


def paraphrase(rng: Random, split: str, index: int) -> Row | None:
    """Two descriptions of a restaurant and whether they tell the same (1); if not, mostly one leaves a fact out."""
    return reworded(rng, split, index % 2, sizes=TOLD, omitted=OMITTED)


def reworded(
    rng: Random, split: str, label: int, *, sizes: tuple[int, ...] = (2, 3, 3), omitted: float = 0.0
) -> Row | None:
    """Two descriptions of a restaurant and whether they tell the same (1). If not, they differ in one fact.

    Arguments:
        sizes: how many facts a description may tell.
        omitted: the share of differing pairs in which one text leaves the fact out; in the others it tells another.
            The shorter text still has one of the sizes, so that its length does not give the answer away.

    None if the facts that were drawn do not belong into the split.
    """
    held_out, restaurant = split == "test", sample(rng, split)
    missing = not label and omitted > 0 and rng.random() < omitted
    size = rng.choice([size for size in sizes if not missing or size > min(sizes)])
    facts = restaurant.facts_of(choose_attributes(rng, size))
    first = describe(rng, restaurant.name, facts, held_out=held_out)
    if not label:
        key = rng.choice(list(facts))
        if missing:
            facts = {other: value for other, value in facts.items() if other != key}
        else:
            facts = facts | {key: another(rng, key, facts[key])}
        if not belongs(facts, split):
            return None
    used = words_used(first) if label == 0 or rng.random() >= REPEATED else ()
    second = describe(rng, restaurant.name, shuffled(rng, facts), held_out=held_out, used=used)
    if missing and rng.random() < 0.5:
        first, second = second, first
    return {"first": first, "second": second, "label": label}


def acceptability(rng: Random, split: str, index: int) -> Row:
    """A sentence and whether it is correct English (1)."""
    label, rule = index % 2, errors.RULES[index // 2 % len(errors.RULES)]
    right, wrong = errors.twins(rng, rule, name=sample(rng, split).name, held_out=split == "test")
    return {"first": right if label else wrong, "label": label, "correct": right}


def alike(attribute: str, value: str, other: str) -> float:
    """How alike two values are: 1 if equal, a half if they are neighbours and graded, else 0.

    >>> alike("stars", "two", "two"), alike("stars", "two", "three"), alike("price", "cheap", "moderate")
    (1.0, 0.5, 0.0)
    """
    apart = abs(VALUES[attribute].index(value) - VALUES[attribute].index(other))
    return 1.0 if apart == 0 else 0.5 if apart == 1 and attribute in GRADED else 0.0


def similarity(rng: Random, split: str, index: int) -> Row | None:
    """Descriptions of two restaurants and how alike these are, from 0 to 5, by two facts that count.

    A third fact that both tell does not count: where it is, when it is open, or what its rules are. None if the facts
    that were drawn do not belong into the split.
    """
    held_out, (first, second) = split == "test", two(rng, split)
    graded = rng.choice(GRADED)
    counted = [graded, rng.choice([key for key in COUNTED if key != graded])]
    degrees = rng.choice(DEGREES[index % len(DEGREES)])
    rest = choose_attributes(rng, 1, avoid=COUNTED)
    wanted = dict(zip(counted, degrees, strict=True)) | {key: float(rng.random() < 0.5) for key in rest}
    facts = first.facts_of(rng.sample(list(wanted), len(wanted)))
    others = {
        key: rng.choice([value for value in VALUES[key] if alike(key, facts[key], value) == wanted[key]])
        for key in rng.sample(list(wanted), len(wanted))
    }
    if not (belongs(facts, split) and belongs(others, split)):
        return None
    return {
        "first": describe(rng, first.name, facts, held_out=held_out),
        "second": describe(rng, second.name, others, held_out=held_out),
        "label": 5.0 * sum(degrees) / len(degrees),
    }


def meaning(facts: dict[str, str]) -> str:
    """Facts as they are given to a model that describes them.

    >>> meaning({"name": "the Red Fox", "kind": "pub"})
    'name[the Red Fox] | kind[pub]'
    """
    return " | ".join(f"{key}[{value}]" for key, value in facts.items())


def description(rng: Random, split: str, index: int) -> Row:
    """Facts, and texts that tell them: one in train, four in test."""
    held_out, restaurant = split == "test", sample(rng, split)
    facts = restaurant.facts_of(choose_attributes(rng, rng.choice((3, 4, 5))))
    texts = [describe(rng, restaurant.name, facts, held_out=held_out) for _ in range(4 if held_out else 1)]
    named = {"name": restaurant.name} | facts
    return {"facts": named, "first": meaning(named), "references": texts}


# a maker returns None where what it drew does not belong into the split
MAKERS: dict[str, Callable[[Random, str, int], Row | None]] = {
    "sentiment": sentiment,
    "entailment": entailment,
    "paraphrase": paraphrase,
    "acceptability": acceptability,
    "similarity": similarity,
    "describe": description,
}


def rows(name: str, split: str, size: int, seed: int = 0) -> list[Row]:
    """`size` rows of a task's split, no two alike, and in train none that is among the first `TEST` of the test split.

    The same seed gives the same rows on every machine.
    """
    tested = {text_of(row) for row in _rows(name, "test", TEST, seed, set())} if split == "train" else set()
    return list(_rows(name, split, size, seed, tested))


def text_of(row: Row) -> str:
    """All that a model reads of a row."""
    return row["first"] + " " + row.get("second", "")


def _rows(name: str, split: str, size: int, seed: int, seen: set[str]) -> Iterator[Row]:
    """Rows whose texts are not among `seen`, to which each row's text is added."""
    for index in range(size):
        for attempt in count():
            row = MAKERS[name](Random(f"{seed}/{name}/{split}/{index}/{attempt}"), split, index)
            if row is None:
                continue
            key = text_of(row)
            if key not in seen and row["first"] != row.get("second"):
                seen.add(key)
                yield row
                break
