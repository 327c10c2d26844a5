"""Sentences with one grammatical error, each with its correct twin.

A rule takes `Words` and returns two sentences, still without capital and full stop: the right one and the wrong one.
In both stand nearly the same words. Which form is right depends on another word of the sentence, often far away: "the
cook who knows the owners is" and "the cooks who know the owner are".
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from dylora_kit.synthetic.english import article, past, plural_of, present, sentence, third, ways

Twins = tuple[str, str]  # right, wrong

PEOPLE = ("waiter", "cook", "guest", "owner", "barman", "neighbour", "+student", "+tourist")
DISHES = ("soup", "pie", "salad", "cake", "curry", "pizza", "sandwich", "pudding", "+omelette", "+stew")
OBJECTS = ("table", "chair", "glass", "lamp", "picture", "mirror", "+plate", "+candle")
THINGS = DISHES + OBJECTS
MASS = ("cutlery", "furniture", "luggage", "flour", "rice", "jewellery", "+crockery", "+equipment")  # never "a rice"
NUMBER = ("warm", "cheap", "large", "clean", "new", "old", "cold", "small", "+bright", "+strange")
VERBS = ("like", "praise", "want", "remember", "describe", "notice", "+need", "+mention")
BETWEEN_PEOPLE = ("like", "know", "praise", "remember", "trust", "thank", "+mention", "+invite")
PLACES = ("near the door", "by the window", "on the terrace", "in the kitchen", "at the bar", "+behind the stairs")
ADVERBS = ("often", "usually", "always", "rarely", "still", "+sometimes")
WHEN_PAST = ("yesterday", "last week", "two days ago", "last Sunday", "+last year")
WHEN_TO_COME = ("tomorrow", "next week", "the day after tomorrow", "next Sunday", "+next year")
VOWELS = ("old", "ugly", "Italian", "orange", "expensive", "+Indian", "+elegant")
CONSONANTS = ("new", "lovely", "French", "green", "cheap", "+Greek", "+pretty")


@dataclass
class Words:
    """Draws words for a sentence; those marked with + are kept for tests."""

    rng: Random
    held_out: bool

    def pick(self, options: tuple[str, ...], *, but: str | None = None) -> str:
        """One of the options, but not `but`."""
        return self.rng.choice([option for option in ways(options, self.held_out) if option != but])

    def coin(self) -> bool:
        """True or false, equally often."""
        return self.rng.random() < 0.5

    def people(self, plural: bool, *, but: str | None = None) -> tuple[str, str]:
        """Someone or several people, such as "cooks", and the noun in the singular."""
        noun = self.pick(PEOPLE, but=but)
        return (("barmen" if noun == "barman" else noun + "s") if plural else noun), noun

    def things(self, plural: bool, *, but: str | None = None) -> str:
        """A thing or several."""
        noun = self.pick(THINGS, but=but)
        return plural_of(noun) if plural else noun


def agreement_across_a_clause(w: Words) -> Twins:
    many, inner = w.coin(), w.coin()
    person, noun = w.people(many)
    other, _ = w.people(inner, but=noun)
    knows, be = present(w.pick(BETWEEN_PEOPLE), many), w.coin()
    tail = w.pick(("always late", "from Spain", "in a good mood", "new here", "very young", "+hard to please"))
    forms = ("are", "is") if be else ("seem to be", "seems to be")
    right, wrong = forms if many else forms[::-1]
    return (
        f"the {person} who {knows} the {other} {right} {tail}",
        f"the {person} who {knows} the {other} {wrong} {tail}",
    )


def agreement_in_a_clause(w: Words) -> Twins:
    many = w.coin()
    person, noun = w.people(many)
    other, _ = w.people(w.coin(), but=noun)
    verb, thing = w.pick(VERBS), w.things(w.coin())
    start = f"the {thing} that the {person} near the {other}"
    end = w.pick(("cost a lot", "cost ten pounds", "looked fine", "came from Italy", "had been there for years"))
    return f"{start} {present(verb, many)} {end}", f"{start} {present(verb, not many)} {end}"


def agreement_across_a_place(w: Words) -> Twins:
    many, inner = w.coin(), w.coin()
    thing = w.pick(THINGS)
    subject, landmark = plural_of(thing) if many else thing, w.things(inner, but=thing)
    was, were = ("were", "was") if many else ("was", "were")
    beside = w.pick(("beside", "under", "next to", "behind"))
    tail = w.pick(NUMBER)
    return f"the {subject} {beside} the {landmark} {was} {tail}", f"the {subject} {beside} the {landmark} {were} {tail}"


def verb_after_auxiliary(w: Words) -> Twins:
    verb, thing = w.pick(VERBS), w.things(True)
    person = w.pick(PEOPLE)
    inflected = w.pick((third(verb), past(verb)))
    if w.coin():
        start = f"the {person} {w.pick(('can', 'will', 'may', 'must', 'does not'))} {w.pick(ADVERBS[:3])}"
        return f"{start} {verb} the {thing}", f"{start} {inflected} the {thing}"
    start = f"the {person} {w.pick(PLACES)} {w.pick(ADVERBS, but='sometimes')}"
    return f"{start} {inflected} the {thing}", f"{start} {verb} the {thing}"


def participle_after_have(w: Words) -> Twins:
    person = w.pick(PEOPLE)
    right, wrong = w.pick(("eaten/ate", "taken/took", "forgotten/forgot", "chosen/chose", "broken/broke",
                           "+stolen/stole")).split("/")  # fmt: skip
    thing = w.pick(DISHES if right == "eaten" else OBJECTS if right == "broken" else THINGS)
    has = w.coin()
    start = f"the {person} {'has ' if has else w.pick(PLACES) + ' '}{w.pick(('never', 'already', 'just'))}"
    right, wrong = (right, wrong) if has else (wrong, right)
    return f"{start} {right} the {thing}", f"{start} {wrong} the {thing}"


def pronoun_case(w: Words) -> Twins:
    person = w.pick(PEOPLE)
    subject, object_ = w.pick(("he/him", "she/her", "they/them", "we/us", "I/me")).split("/")
    verb, thing = w.pick(VERBS), w.things(True)
    if w.coin():
        start, end = w.pick(("my sister and", "the cook and", "your friends and")), f"{past(verb)} the {thing}"
        return f"{start} {subject} {end}", f"{start} {object_} {end}"
    start = f"the {person} {past(verb)} my sister and"
    when = w.pick(WHEN_PAST)
    return f"{start} {object_} {when}", f"{start} {subject} {when}"


def article_form(w: Words) -> Twins:
    adjective = w.pick(VOWELS if w.coin() else CONSONANTS)
    person, thing = w.pick(PEOPLE), w.pick(OBJECTS)
    right = article(adjective).split()[0]
    wrong = "a" if right == "an" else "an"
    start, end = f"the {person} {w.pick(('saw', 'bought', 'wanted'))}", f"{adjective} {thing} {w.pick(PLACES)}"
    return f"{start} {right} {end}", f"{start} {wrong} {end}"


def article_of_mass(w: Words) -> Twins:
    mass, thing = w.pick(MASS), w.pick(THINGS)
    person = w.pick(PEOPLE)
    start = f"the {person} {w.pick(('wanted', 'asked for', 'paid for', 'saw'))}"
    fresh, nice = w.pick(("good", "fine", "plain")), w.pick(("nice", "small", "lovely"))
    if w.coin():
        return f"{start} some {fresh} {mass} and a {nice} {thing}", f"{start} a {fresh} {mass} and some {nice} {thing}"
    return f"{start} a {nice} {thing} and some {fresh} {mass}", f"{start} some {nice} {thing} and a {fresh} {mass}"


def double_comparative(w: Words) -> Twins:
    thing = w.pick(THINGS)
    other = w.pick(THINGS, but=thing)
    end = w.pick(("than we had hoped", "than last time", f"than the {other}", "than it looked"))
    if w.coin():
        short = w.pick(("cheaper", "warmer", "larger", "older", "smaller", "+brighter"))
        how = w.pick(("much", "far", "a little"))
        return f"the {thing} was {how} {short} {end}", f"the {thing} was {how} more {short} {end}"
    long = w.pick(("expensive", "beautiful", "useful", "pleasant", "+elegant"))
    return f"the {thing} was much more {long} {end}", f"the {thing} was much {long} {end}"


def relative_pronoun(w: Words) -> Twins:
    verb = w.pick(("made us laugh", "caught my eye", "stood in the corner", "came from Italy", "+won a prize"))
    aside = w.pick(("I believe", "it seems", "by the way", "as far as I remember"))
    of_person = w.coin()
    noun = w.pick(PEOPLE if of_person else THINGS)
    right, wrong = ("who", "which") if of_person else ("which", "who")
    start = w.pick(("we saw", "we remember", "there was", "I liked"))
    start = f"{start} {article(noun)}, {aside},"
    return f"{start} {right} {verb}", f"{start} {wrong} {verb}"


def much_or_many(w: Words) -> Twins:
    countable = w.coin()
    noun = plural_of(w.pick(DISHES)) if countable else w.pick(MASS)
    right, wrong = w.pick(("many/much", "few/little")).split("/")
    right, wrong = (right, wrong) if countable else (wrong, right)
    start = w.pick(("we had too", "they had so", "they sold too", "I found too", "we were given so"))
    adjective = w.pick(("good", "plain", "nice", "fine"))
    return f"{start} {right} {adjective} {noun}", f"{start} {wrong} {adjective} {noun}"


def preposition(w: Words) -> Twins:
    person = w.pick(PEOPLE)
    thing = w.pick(THINGS)
    verb, right, wrong = w.pick(("waited for to", "looked at of", "paid for of", "asked for to", "pointed at of",
                                 "thought of to", "+insisted on for", "+stared at of")).split()  # fmt: skip
    adverb = w.pick(("again", "only", "once more", "at first", "all evening"))
    return f"the {person} {verb} {adverb} {right} the {thing}", f"the {person} {verb} {adverb} {wrong} the {thing}"


def missing_or_double_verb(w: Words) -> Twins:
    thing, place, tail, adverb = w.pick(THINGS), w.pick(PLACES), w.pick(NUMBER), w.pick(ADVERBS)
    if w.coin():
        return f"the {thing} {place} is {adverb} {tail}", f"the {thing} {place} {adverb} {tail}"
    person = w.pick(PEOPLE)
    verb = third(w.pick(VERBS))
    return f"the {person} {place} {adverb} {verb} the {thing}", f"the {person} {place} is {adverb} {verb} the {thing}"


def double_subject(w: Words) -> Twins:
    person = w.pick(PEOPLE)
    verb, thing, place = past(w.pick(VERBS)), w.pick(THINGS), w.pick(PLACES)
    he = w.pick(("he", "she"))
    start = f"when the {person} was {place}," if (right := w.coin()) else f"the {person} {place}"
    both = f"{start} {he} {verb} the {thing}", f"{start} {verb} the {thing}"
    return both if right else (both[1], both[0])


def word_order(w: Words) -> Twins:
    person = w.pick(PEOPLE)
    adverb, thing, tail = w.pick(ADVERBS), w.things(True), w.pick(NUMBER)
    verb = third(w.pick(VERBS))
    kind = w.pick(("adverb", "adjective", "object"))
    if kind == "adverb":
        return f"the {person} {adverb} {verb} the {tail} {thing}", f"the {person} {verb} {adverb} the {tail} {thing}"
    if kind == "adjective":
        verb = third(w.pick(("praise", "describe", "+mention")))
        return f"the {person} {adverb} {verb} the {tail} {thing}", f"the {person} {adverb} {verb} the {thing} {tail}"
    finds = w.pick(("finds", "considers"))
    return f"the {person} {adverb} {finds} the {thing} {tail}", f"the {person} {finds} {adverb} {tail} the {thing}"


def question_order(w: Words) -> Twins:
    person = w.pick(PEOPLE)
    thing, tail = w.pick(THINGS), w.pick(NUMBER)
    straight, inverted = f"the {thing} was so {tail}", f"was the {thing} so {tail}"
    if w.coin():
        start = w.pick(("tell me, why", "may I ask you: why", f"the {person} said: why"))
        return f"{start} {inverted}?", f"{start} {straight}?"
    start = w.pick(("we asked the owner why", f"nobody told the {person} why", "I do not know why"))
    return f"{start} {straight}", f"{start} {inverted}"


def tense(w: Words) -> Twins:
    person = w.pick(PEOPLE)
    verb, thing, adverb = w.pick(VERBS), w.things(True), w.pick(("again", "once more", "at last"))
    to_come = w.coin()
    start = f"{w.pick(WHEN_TO_COME if to_come else WHEN_PAST)}, the {person}"
    will, did = f"will {adverb} {verb}", f"{adverb} {past(verb)}"
    right, wrong = (will, did) if to_come else (did, will)
    return f"{start} {right} the {thing}", f"{start} {wrong} the {thing}"


Rule = Callable[[Words], Twins]
RULES: tuple[Rule, ...] = (
    agreement_across_a_clause, agreement_in_a_clause, agreement_across_a_place, verb_after_auxiliary,
    participle_after_have, pronoun_case, article_form, article_of_mass, double_comparative, relative_pronoun,
    much_or_many, preposition, missing_or_double_verb, double_subject, word_order, question_order, tense,
)  # fmt: skip
ENDS = ("", "", "", " at {}", ", or so I heard at {}", ", as they say at {}")
STARTS = ("", "", "", "at {}, ", "people say that ", "I think that ", "as far as I know, ", "+as I recall, ")


def twins(rng: Random, rule: Rule, *, name: str, held_out: bool = False) -> Twins:
    """A correct sentence and its wrong twin.

    Arguments:
        rule: one of `RULES`.
        name: of a restaurant, which some sentences mention.
        held_out: also with the words that are kept for tests.

    >>> twins(Random(0), tense, name="the Red Fox")[0] != twins(Random(0), tense, name="the Red Fox")[1]
    True
    """
    words = Words(rng, held_out)
    right, wrong = rule(words)
    if rule is question_order:
        return sentence(right), sentence(wrong)
    start = words.pick(STARTS).format(name) if rule is not tense else ""
    end = words.pick(ENDS).format(name) if not start else ""
    return sentence(start + right + end), sentence(start + wrong + end)
