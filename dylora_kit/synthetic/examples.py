"""The rows of the six tasks, with the knobs that set how hard each is."""

from collections.abc import Callable, Iterator
from itertools import count
from random import Random

from dylora_kit.synthetic import errors, reviews, statements
from dylora_kit.synthetic.facts import VALUES, Restaurant, another, belongs, choose_attributes, sample
from dylora_kit.synthetic.grammar import describe
from dylora_kit.synthetic.names import TEST, Row
from dylora_kit.synthetic.read import find

ENTAILMENT, NEUTRAL, CONTRADICTION = 0, 1, 2
PREMISE = (2, 3, 3, 4)  # facts of the restaurant that a premise tells
NEIGHBOUR = 0.35  # share of premises that also describe a second restaurant
DISTRACTING = 0.6  # share of those in which it is the second one that the statement's fact is told of as well
TWO_FACTS = 0.15  # share of hypotheses that state two facts
TOLD = (3, 4)  # facts that a paraphrase tells
OMITTED = 0.85  # share of texts that do not tell the same in which one leaves a fact out
COUNTED = ("kind", "food", "price", "stars", "terrace", "seats", "owner", "music")  # in similarity: what a guest gets
GRADED = ("stars", "seats")  # those whose neighbouring values are half alike; one of them is always told
# by how alike two restaurants are, how alike each of the two facts that count can be: of a graded one, of any
DEGREES = (((0.0, 0.0),), ((0.5, 0.0),), ((1.0, 0.0), (0.0, 1.0)), ((0.5, 1.0),), ((1.0, 1.0),))
REPEATED = 0.5  # share of rewordings that may use the same words again


def sentiment(rng: Random, split: str, index: int) -> Row:
    """A review and whether it is good (1) or bad (0) on the whole."""
    label, where = index % 2, sample(rng, split)
    return {"first": reviews.review(rng, label, name=where.name, held_out=split == "test"), "label": label}


def entailment(rng: Random, split: str, index: int, *, easy: bool = False) -> Row | None:
    """A description and a statement: 0 if it follows, 1 if it is left open, 2 if it is wrong.

    An easy one is about one restaurant of which a fact or two are told, and takes the words of the description.
    """
    label, held_out = index % 3, split == "test"
    asked = rng.choice(statements.ASKED)
    said = statements.draw(rng, asked)
    where, other = sample(rng, split), sample(rng, split)
    while other.name == where.name:
        other = sample(rng, split)
    value = rng.choice([one for one in VALUES[asked] if said.holds(one) == (label != CONTRADICTION)])
    told = {} if label == NEUTRAL else {asked: value}
    more = choose_attributes(rng, rng.choice((1, 2) if easy else PREMISE) - len(told), avoid=(asked, "owner"))
    facts = told | where.told(more)
    if not belongs(facts, split):
        return None
    facts = {key: facts[key] for key in rng.sample(list(facts), len(facts))}
    premise = describe(rng, where.name, facts, held_out=held_out)
    used = _used(premise) if easy or rng.random() >= REPEATED else ()
    predicates = [statements.predicate(rng, said, held_out=held_out, used=used, repeat=easy)]
    if not easy and rng.random() < NEIGHBOUR:
        aside = choose_attributes(rng, rng.choice((1, 2)), avoid=(asked,))
        theirs = other.told(aside)
        if rng.random() < DISTRACTING:
            theirs = {asked: rng.choice(VALUES[asked])} | theirs
        if not belongs(theirs, split):
            return None
        theirs = {key: theirs[key] for key in rng.sample(list(theirs), len(theirs))}
        texts = [premise, describe(rng, other.name, theirs, held_out=held_out)]
        premise = " ".join(rng.sample(texts, 2))
    if not easy and rng.random() < TWO_FACTS:
        # a second fact that is told and true, so that the first decides
        known = [key for key in facts if key in statements.ASKED and key != asked]
        if known:
            also = rng.choice(known)
            second = statements.Statement(also, "is", facts[also])
            predicates.append(statements.predicate(rng, second, held_out=held_out))
            rng.shuffle(predicates)
    return {"first": premise, "second": statements.say(rng, where.name, predicates), "label": label}


def _used(text: str) -> tuple[str, ...]:
    return tuple(one.words for one in find(text))


def two(rng: Random, split: str) -> tuple[Restaurant, Restaurant]:
    """Two restaurants of a split, with names of their own."""
    first, second = sample(rng, split), sample(rng, split)
    while second.name == first.name:
        second = sample(rng, split)
    return first, second


def paraphrase(rng: Random, split: str, index: int) -> Row | None:
    """Two descriptions of a restaurant and whether they tell the same (1).

    If not, mostly one of them leaves a fact out, and else tells another.
    """
    return reworded(rng, split, index % 2, sizes=TOLD, omitted=OMITTED)


def reworded(
    rng: Random, split: str, label: int, *, sizes: tuple[int, ...] = (2, 3, 3), omitted: float = 0.0
) -> Row | None:
    """Two descriptions of a restaurant and whether they tell the same (1): if not, of one fact they do not.

    Arguments:
        sizes: how many facts there may be.
        omitted: the share of those that do not in which one text leaves the fact out; in the others it is another.
            The text without it has still one of these sizes, so that a short text alone tells nothing.
    """
    held_out, where = split == "test", sample(rng, split)
    missing = not label and omitted > 0 and rng.random() < omitted
    facts = where.told(choose_attributes(rng, rng.choice([size for size in sizes if not missing or size > min(sizes)])))
    first = describe(rng, where.name, facts, held_out=held_out)
    if not label:
        key = rng.choice(list(facts))
        if missing:
            facts = {other: value for other, value in facts.items() if other != key}
        else:
            facts = facts | {key: another(rng, key, facts[key])}
        if not belongs(facts, split):
            return None
    used = _used(first) if label == 0 or rng.random() >= REPEATED else ()
    facts = {key: facts[key] for key in rng.sample(list(facts), len(facts))}
    second = describe(rng, where.name, facts, held_out=held_out, used=used)
    if missing and rng.random() < 0.5:
        first, second = second, first
    return {"first": first, "second": second, "label": label}


def acceptability(rng: Random, split: str, index: int) -> Row:
    """A sentence and whether it is correct English (1)."""
    label, rule = index % 2, errors.RULES[index // 2 % len(errors.RULES)]
    right, wrong = errors.twins(rng, rule, name=sample(rng, split).name, held_out=split == "test")
    return {"first": right if label else wrong, "label": label, "correct": right}


def alike(attribute: str, one: str, other: str) -> float:
    """How alike two values are: 1 if equal, a half if they are neighbours and graded, else 0.

    >>> alike("stars", "two", "two"), alike("stars", "two", "three"), alike("price", "cheap", "moderate")
    (1.0, 0.5, 0.0)
    """
    apart = abs(VALUES[attribute].index(one) - VALUES[attribute].index(other))
    return 1.0 if apart == 0 else 0.5 if apart == 1 and attribute in GRADED else 0.0


def similarity(rng: Random, split: str, index: int) -> Row | None:
    """Descriptions of two restaurants and how alike these are, from 0 to 5, by two facts that count.

    One more fact that is told of both does not count: where it is, when it is open, or what its rules are.
    """
    held_out, (first, second) = split == "test", two(rng, split)
    graded = rng.choice(GRADED)
    counted = [graded, rng.choice([key for key in COUNTED if key != graded])]
    degrees = rng.choice(DEGREES[index % len(DEGREES)])
    rest = choose_attributes(rng, 1, avoid=COUNTED)
    wanted = dict(zip(counted, degrees, strict=True)) | {key: float(rng.random() < 0.5) for key in rest}
    facts = first.told(rng.sample(list(wanted), len(wanted)))
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
    """Facts, and texts that tell them: one to learn from, four to be compared with."""
    held_out, where = split == "test", sample(rng, split)
    told = where.told(choose_attributes(rng, rng.choice((3, 4, 5))))
    facts = {"name": where.name} | told
    texts = [describe(rng, where.name, told, held_out=held_out) for _ in range(4 if held_out else 1)]
    return {"facts": facts, "first": meaning(facts), "references": texts}


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
    """The rows of a task's split, no two alike, and in train none that is among the first `TEST` of the test split.

    The same seed gives the same rows on every machine.
    """
    tested = {text_of(row) for row in _rows(name, "test", TEST, seed, set())} if split == "train" else set()
    return list(_rows(name, split, size, seed, tested))


def text_of(row: Row) -> str:
    """What a model reads of a row."""
    return row["first"] + " " + row.get("second", "")


def _rows(name: str, split: str, size: int, seed: int, seen: set[str]) -> Iterator[Row]:
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
