"""The kinds of documents to pretrain on: what a document is, and a function that draws one of each kind.

Most have all names and all ways to say a fact, also those that are kept for tests. Some say in a word what a task asks:
a verdict after a review, an answer to a statement or to another description. These have the names and ways of train
alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import partial
from random import Random
from re import findall, finditer

from dylora_kit.synthetic import comparing, errors, reviews, statements
from dylora_kit.synthetic.examples import CONTRADICTION, ENTAILMENT, NEIGHBOUR, NEUTRAL, reworded, words_used
from dylora_kit.synthetic.facts import VALUES, another, belongs, choose_attributes, sample, shuffled, two
from dylora_kit.synthetic.grammar import describe
from dylora_kit.synthetic.names import Row
from dylora_kit.synthetic.read import find, find_names

REPEATED = 0.75  # share of pairs whose second text takes the words of the first
PLAIN = 0.4  # share of reviews whose words mean what they say, and of answers to statements in the same words
REWORDED = 0.15  # share of answers that are about another text and not about statements
PAIRS = 0.5  # share of rewordings that are about two restaurants
STATEMENTS = 4  # about one description, each with its answer
ANSWERS = ("Yes", "Perhaps", "No")  # to a statement that follows, that is left open, that is wrong
JUDGED = ("correct", "wrong")  # what is said of a sentence
IN_COMMON = ("none", "one", "two", "three", "four")  # how many of four facts two restaurants share
VERDICT = 0.75  # share of reviews that end with a verdict
MOST = 4  # facts in a description of a pair


@dataclass(frozen=True)
class Document:
    """A text, or two that belong together.

    `spans` are the characters, as (start, end), that can be told from the rest: in `second`, or in `first` if that is
    the only text.
    """

    kind: str
    first: str
    second: str = ""
    spans: tuple[tuple[int, int], ...] = ()


def _spans(text: str) -> tuple[tuple[int, int], ...]:
    """The characters of a text that tell a fact or a name."""
    return tuple(sorted([(mention.start, mention.end) for mention in find(text)] + find_names(text)))


def pair(rng: Random, *, easy: bool = False) -> Document:
    """Two descriptions of the same facts of a restaurant."""
    restaurant = sample(rng, "any")
    facts = restaurant.facts_of(choose_attributes(rng, 2 if easy else rng.randint(2, MOST)))
    first = describe(rng, restaurant.name, facts, held_out=True)
    repeat = easy or rng.random() < REPEATED
    second = describe(rng, restaurant.name, shuffled(rng, facts), held_out=True, used=words_used(first), repeat=repeat)
    return Document("pair", first, second, _spans(second))


def answer(rng: Random) -> Document:
    """A description, and after it statements or another description, with answers in a word."""
    return _answers(rng) if rng.random() >= REWORDED else rewording(rng)


def rewording(rng: Random) -> Document:
    """Two texts that tell the same facts, or all but one, and in a word whether they agree."""
    label, row = rng.choice((ENTAILMENT, CONTRADICTION)), None
    same = int(label == ENTAILMENT)
    while row is None:
        row = _compared(rng, same) if rng.random() < PAIRS else reworded(rng, "train", same)
    start, word = len(row["second"]) + 1, ANSWERS[label]
    return Document("answer", row["first"], f"{row['second']} {word}.", ((start, start + len(word)),))


def _compared(rng: Random, label: int) -> Row | None:
    """Two comparisons of two restaurants and whether they tell the same (1); if not, a fact is exchanged.

    None if the facts that were drawn do not belong into train.
    """
    restaurants = first, second = two(rng, "train")
    chosen = rng.sample([key for key in VALUES if getattr(first, key) != getattr(second, key)], 2)
    changed = restaurants if label else _exchanged(restaurants, rng.choice(chosen))
    if not all(belongs(restaurant.facts_of(chosen), "train") for restaurant in changed):
        return None
    reordered = rng.sample(chosen, 2)
    texts = comparing.compare(rng, restaurants, chosen), comparing.compare(rng, changed, reordered)
    return {"first": texts[0], "second": texts[1], "label": label}


def _exchanged(restaurants: comparing.Pair, attribute: str) -> comparing.Pair:
    """Two restaurants, each with the other's value of an attribute."""
    first, second = restaurants
    return (
        replace(first, **{attribute: getattr(second, attribute)}),
        replace(second, **{attribute: getattr(first, attribute)}),
    )


def _answers(rng: Random) -> Document:
    """A description, perhaps beside that of a neighbour, and several statements, each with its answer."""
    restaurant, neighbour = sample(rng, "train"), sample(rng, "train")
    facts = restaurant.facts_of(choose_attributes(rng, rng.choice((2, 3, 4))))
    beside = neighbour.facts_of(choose_attributes(rng, rng.choice((1, 2))))
    known = [key for key in statements.ASKED if key in facts]
    unknown = [key for key in statements.ASKED if key not in facts]
    if restaurant.name == neighbour.name or not known or not (belongs(facts, "train") and belongs(beside, "train")):
        return _answers(rng)
    first, plain = describe(rng, restaurant.name, facts), rng.random() < PLAIN
    used = words_used(first) if plain or rng.random() >= REPEATED else ()
    alone = rng.random() >= NEIGHBOUR
    if not alone:
        first = " ".join(rng.sample([first, describe(rng, neighbour.name, beside)], 2))
    second, spans = "", []
    for _ in range(STATEMENTS):
        label = rng.randrange(len(ANSWERS))
        statement = statements.draw(rng, rng.choice(unknown if label == NEUTRAL else known))
        while label != NEUTRAL and statement.holds(facts[statement.attribute]) != (label == ENTAILMENT):
            statement = statements.draw(rng, statement.attribute)
        predicate = statements.predicate(rng, statement, held_out=False, used=used, repeat=plain)
        second += statements.say("it" if alone and second else restaurant.name, [predicate]) + " "
        spans.append((len(second), len(second) + len(ANSWERS[label])))
        second += ANSWERS[label] + ". "
    return Document("answer", first, second.strip(), tuple(spans))


def comparison(rng: Random) -> Document:
    """Two comparisons of two restaurants that tell the same."""
    restaurants = two(rng, "any")
    keys = rng.sample(list(VALUES), rng.choice((1, 2)))
    first, second = (comparing.compare(rng, restaurants, rng.sample(keys, len(keys)), held_out=True) for _ in range(2))
    return Document("comparison", first, second, _spans(second))


def remark(rng: Random) -> Document:
    """A description, and a statement that is true by it."""
    restaurant = sample(rng, "any")
    asked = rng.choice(statements.ASKED)
    statement = statements.draw(rng, asked)
    facts = {asked: rng.choice([value for value in VALUES[asked] if statement.holds(value)])}
    facts |= restaurant.facts_of(choose_attributes(rng, rng.choice((1, 2, 3)), avoid=(asked,)))
    facts = shuffled(rng, facts)
    second = statements.say(restaurant.name, [statements.predicate(rng, statement, held_out=True)])
    first = describe(rng, restaurant.name, facts, held_out=True)
    return Document("remark", first, second, _spans(second))


def review(rng: Random, *, easy: bool = False) -> Document:
    """A review, and mostly a sentence that says outright what the guest thinks."""
    label, (frame, words) = rng.choice((reviews.GOOD, reviews.BAD)), rng.choice(reviews.VERDICTS)
    if not easy and rng.random() >= VERDICT:
        return Document("review", reviews.review(rng, label, name=sample(rng, "any").name, held_out=True))
    plain = easy or rng.random() < PLAIN
    text = reviews.review(rng, label, name=sample(rng, "train").name, plain=plain)
    start = frame.index("{}")
    return Document("review", text, frame.format(words[label]), ((start, start + len(words[label])),))


def sentence(rng: Random) -> Document:
    """A correct sentence; its spans are the words that an error would change."""
    right, wrong = errors.twins(rng, rng.choice(errors.RULES), name=sample(rng, "any").name, held_out=True)
    places = [match.span() for match in finditer(r"\w+", right)]
    words, others = [right[start:end] for start, end in places], findall(r"\w+", wrong)
    changes = SequenceMatcher(None, words, others, autojunk=False).get_opcodes()
    decided = [place for tag, start, end, *_ in changes if tag != "equal" for place in places[start:end]]
    return Document("sentence", right, spans=tuple(decided))


def judged(rng: Random) -> Document:
    """A sentence, and in a word whether it is correct English."""
    wrong = rng.randrange(2)
    text = errors.twins(rng, rng.choice(errors.RULES), name=sample(rng, "train").name)[wrong]
    start = len("This is ")
    return Document("judged", text, f"This is {JUDGED[wrong]}.", ((start, start + len(JUDGED[wrong])),))


def likeness(rng: Random) -> Document:
    """Descriptions of two restaurants, and how many facts they share, whatever these are about."""
    texts, shared = None, rng.randrange(len(IN_COMMON))
    while texts is None:
        texts = _sharing(rng, shared)
    start = len(texts[1]) + len(" In common: ")
    second = f"{texts[1]} In common: {IN_COMMON[shared]}."
    return Document("likeness", texts[0], second, ((start, start + len(IN_COMMON[shared])),))


def _sharing(rng: Random, shared: int) -> tuple[str, str] | None:
    """Descriptions of two restaurants that share `shared` of four facts; None if they do not belong into train."""
    first, second = two(rng, "train")
    keys = choose_attributes(rng, len(IN_COMMON) - 1)
    facts = first.facts_of(keys)
    same, order = rng.sample(keys, shared), rng.sample(keys, len(keys))
    others = {key: facts[key] if key in same else another(rng, key, facts[key]) for key in order}
    if not belongs(others, "train"):
        return None
    return describe(rng, first.name, facts), describe(rng, second.name, others)


KINDS: dict[str, Callable[[Random], Document]] = {
    "pair": pair,
    "answer": answer,
    "rewording": rewording,
    "comparison": comparison,
    "remark": remark,
    "review": review,
    "sentence": sentence,
    "judged": judged,
    "likeness": likeness,
}
EASY_KINDS: dict[str, Callable[[Random], Document]] = {
    "pair": partial(pair, easy=True),
    "review": partial(review, easy=True),
}
