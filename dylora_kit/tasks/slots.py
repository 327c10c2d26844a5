"""Slot matching for E2E: which facts a text says, lacks, changes or makes up, by the words for each value.

How good it is, measured on what people wrote: the 4,530 texts of the test part whose facts were corrected (Dušek,
Howcroft and Rieser 2019) and have each slot once. Of 28,153 slots it finds 99.5 % said, and says that a text makes up
0.18 slots on average; most of those that were looked at are there, and missing in the corrected facts. If one value is
replaced by another of its slot, it notices 96 %; the others are values that people say alike, such as cheap for less
than £20. A name that is neither the input's nor one of E2E's is not noticed: the input's is missing then.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from dylora_kit.evaluation.facts import Fact

SAID, MISSING, WRONG, MADE_UP = "said", "missing", "wrong", "made up"
NAMES = (
    "Alimentum", "Aromi", "Bibimbap House", "Blue Spice", "Browns Cambridge", "Clowns", "Cocum", "Cotto", "Fitzbillies",
    "Giraffe", "Green Man", "Loch Fyne", "Midsummer House", "Strada", "Taste of Cambridge", "The Cambridge Blue",
    "The Cricketers", "The Dumpling Tree", "The Eagle", "The Golden Curry", "The Golden Palace", "The Mill",
    "The Olive Grove", "The Phoenix", "The Plough", "The Punter", "The Twenty Two", "The Vaults", "The Waterman",
    "The Wrestlers", "Travellers Rest Beefeater", "Wildwood", "Zizzi",
)  # fmt: skip
PLACES = (
    "All Bar One", "Avalon", "Burger King", "Café Adriatic", "Café Brazil", "Café Rouge", "Café Sicilia", "Clare Hall",
    "Crowne Plaza Hotel", "Express by Holiday Inn", "Rainbow Vegetarian Café", "Raja Indian Cuisine", "Ranch",
    "The Bakers", "The Portland Arms", "The Rice Boat", "The Six Bells", "The Sorrento", "Yippee Noodle Bar",
)  # fmt: skip

_YOUNG = r"(?:famil(?:y|ies)|child(?:ren)?s?'?s?|kids?)"
_NOT = r"(?:not?|non|never|isn'?t|aren'?t|doesn'?t|don'?t|unsuitable|un)"
_FIVE = {"1": "one", "3": "three", "5": "five"}


def _beside(words: str, noun: str, between: int) -> str:
    """A pattern of one of some words and a noun, in either order, with at most so many words between them."""
    gap = rf"(?:\W+\w+){{0,{between}}}?\W+"
    return rf"(?:{words}){gap}{noun}|{noun}{gap}(?:{words})"


def _priced(words: str, between: int = 3) -> str:
    return _beside(words, r"(?:price\w*|pricing|cost\w*|range\w*)", between)


def _rated(words: str, between: int = 3) -> str:
    return _beside(words, r"(?:rat(?:ing|ings|ed)|reviews?|reviewed|scores?|customers?)", between)


def _stars(number: str) -> str:
    n = rf"(?<!out of )(?<!out-of-)(?<!\d of )(?<!/)(?:{number}|{_FIVE[number]})"
    return rf"{n}(?:[ -](?:out of|of)[ -]|/| / )(?:5|five)|{n}[ -]*stars?|{_rated(rf'{n}(?! *(?:pounds|£))', 2)}"


_HIGH_PRICE = rf"expensive|pricey|costly|{_priced('high(?:er|ly)?')}"
_LOW_PRICE = rf"cheap(?:er|ly)?|inexpensive|affordable|low[ -]?(?:cost|priced?)|{_priced('low(?:er)?', 2)}"
_BAD = r"low(?:ly|er|est)?|poor(?:ly)?|bad(?:ly)?"

# the words for each value of a slot; some are for several values, such as expensive
WORDS: dict[str, dict[str, str]] = {
    "eatType": {
        "pub": r"pubs?|bar|tavern",
        "coffee shop": r"coffee[ -]?(?:shops?|house|place|bar)|café|cafe|cafes|coffee",
        "restaurant": r"restaur?ants?|resturant|restuarant|diner|eatery|bistro",
    },
    "food": {
        "English": r"english|british|fish and chips|full breakfast|traditional breakfast",
        "Japanese": r"japanese|sushi",
        "French": r"french",
        "Fast food": r"fast[ -]?foods?|burgers?|hamburgers?|junk food",
        "Italian": r"italian|pasta|pizza|spaghetti",
        "Indian": r"indian|curry|curries",
        "Chinese": r"chinese",
    },
    "priceRange": {
        "more than £30": r"(?:more|over|above|greater|higher|upwards?)\W+(?:than|of)?\W*£? ?30|£30 ?\+?|" + _HIGH_PRICE,
        "less than £20": r"(?:less|under|below|lower|cheaper|up)\W+(?:than|to)?\W*£? ?20(?!\W*-)|£20(?! ?(?:-|to|–))|"
        + _LOW_PRICE,
        "£20-25": r"£? ?20\W*(?:-|–|to|and)\W*£? ?25|moderate(?:ly)?[ -]price\w*|£25",
        "cheap": r"(?:less|under)\W+(?:than )?£? ?20|budget|" + _LOW_PRICE,
        "moderate": r"moderate(?:ly)?|reasonabl[ey]|mid[ -]?(?:range|priced?)|averagely[ -]priced|fairly priced|"
        r"affordable|£20\W*(?:-|to)\W*£?25|" + _priced("average|mid|medium|fair|middle", 2),
        "high": r"high[ -]?(?:end|priced?)|(?:more|over)\W+(?:than )?£? ?30|upscale|" + _HIGH_PRICE,
    },
    "customer rating": {
        "5 out of 5": f"{_stars('5')}|{_rated('high(?:ly|est|er)?|excellent|great|perfect|top|best', 2)}",
        "3 out of 5": f"{_stars('3')}|{_rated('average|decent|moderate(?:ly)?', 2)}",
        "1 out of 5": f"{_stars('1')}|{_rated(_BAD, 2)}",
        "low": f"{_stars('1')}|{_rated(_BAD)}|poorly|not well[ -](?:rated|received|liked)",
        "average": f"{_stars('3')}|{_rated('average|averagely|mediocre|okay|ok|decent|moderate(?:ly)?|mid')}",
        "high": f"{_stars('5')}|{_rated('high(?:ly|er|est)?|excellent|great|good|well|top|best|very')}|highly",
    },
    "area": {
        "riverside": r"river(?:side|bank)?s?|waterfront|by the water",
        "city centre": r"(?:city|town)[ -]*(?:centre|center)s?|cent(?:re|er)|downtown|inner[ -]city|central|"
        r"in the city|heart of the city",
    },
    "familyFriendly": {
        "no": rf"{_NOT}(?:\W+\w+){{0,5}}?\W+{_YOUNG}|(?:no|without|non|un)[ -]*{_YOUNG}|adults?|grown[ -]?ups|"
        rf"{_YOUNG}(?:\W+\w+){{0,3}}?\W+(?:{_NOT}|unwelcome|prohibited|unfriendly)",
        "yes": _YOUNG,
    },
}
SLOTS = {"name": NAMES, **{slot: tuple(values) for slot, values in WORDS.items()}, "near": PLACES}


@dataclass(frozen=True)
class Mark:
    """What a text does with one slot.

    Attributes:
        state: `"said"`, `"missing"`, `"wrong"` (another value of the slot is said) or `"made up"` (the input has no
            such slot).
        value: of the input; of a slot that is made up, the value that the text says.
        other: the value that is said instead, of a wrong slot.
        span: where the text says it, start and end; None if it is missing.
    """

    slot: str
    state: str
    value: str
    other: str | None = None
    span: tuple[int, int] | None = None


def marks(text: str, facts: Mapping[str, str]) -> list[Mark]:
    """What a text does with each slot of an input, and then what it makes up.

    A slot of the input with two values said, of which one is right, counts as said. Slots that E2E does not have are
    looked for as they stand.

    >>> facts = {"name": "Blue Spice", "food": "English", "area": "riverside"}
    >>> [(mark.slot, mark.state) for mark in marks("Blue Spice is a cheap Chinese restaurant.", facts)]
    [('name', 'said'), ('food', 'wrong'), ('area', 'missing'), ('eatType', 'made up'), ('priceRange', 'made up')]
    """
    plain, result = _without_names(text, facts), list[Mark]()
    for slot, value in facts.items():
        span = _span(slot, value, text, plain)
        if span is not None:
            result.append(Mark(slot, SAID, value, span=span))
            continue
        other = next(_values(slot, text, plain, facts), None)
        state, instead, place = (MISSING, None, None) if other is None else (WRONG, *other)
        result.append(Mark(slot, state, value, instead, place))
    for slot in (*WORDS, "near"):
        if slot not in facts:
            for value, span in list(_values(slot, text, plain, facts))[:1]:
                result.append(Mark(slot, MADE_UP, value, span=span))
    return result


def read_facts(text: str, line: str) -> list[Fact]:
    """What a text makes of the facts of a line, in their order, and then the facts that it adds.

    Arguments:
        line: facts as E2E's rows have them, with or without the end of the line.

    Raises `ValueError` for a line that has a part that is no fact, or two facts about the same slot.

    >>> [fact.label for fact in read_facts("Blue Spice is a pub.", "name : Blue Spice | eatType : coffee shop ||")]
    ['name: Blue Spice is said', 'eatType: coffee shop is wrong, it says pub']
    """
    facts: dict[str, str] = {}
    for part in line.strip().removesuffix("||").split("|"):
        slot, colon, value = (piece.strip() for piece in part.partition(":"))
        if not slot or not colon or not value:
            raise ValueError(f"{part.strip()!r} is no fact: write facts as in name : Blue Spice | food : English")
        if slot in facts:
            raise ValueError(f"{slot} is given twice, as {facts[slot]} and as {value}: give it once")
        facts[slot] = value
    states = {SAID: "said", MISSING: "missing", WRONG: "wrong", MADE_UP: "added"}
    return [
        Fact(mark.slot, mark.value, states[mark.state], (mark.span,) if mark.span else (), mark.other or "")
        for mark in marks(text, facts)
    ]


def slot_errors(text: str, facts: Mapping[str, str]) -> int:
    """How many slots a text lacks, changes or makes up.

    >>> slot_errors("Blue Spice serves food.", {"name": "Blue Spice", "food": "English", "area": "riverside"})
    2
    """
    return sum(mark.state != SAID for mark in marks(text, facts))


def _span(slot: str, value: str, text: str, plain: str) -> tuple[int, int] | None:
    """Where a text says a value of a slot."""
    words = WORDS.get(slot, {}).get(value)
    match = _pattern(words).search(plain) if words else _name(value).search(text)
    if match is None:
        return None
    if (slot, value) == ("familyFriendly", "yes") and _pattern(WORDS[slot]["no"]).search(plain):
        return None
    return match.span()


def _values(slot: str, text: str, plain: str, facts: Mapping[str, str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """The values of a slot that a text says, but that of the input, each with its place."""
    taken = {facts.get("name"), facts.get("near"), facts.get(slot)}
    for value in {"name": NAMES, "near": PLACES}.get(slot, WORDS.get(slot, {})):
        if value not in taken and (span := _span(slot, value, text, plain)) is not None:
            yield value, span


def _without_names(text: str, facts: Mapping[str, str]) -> str:
    """The text with underscores for the names in it, which may hold words such as Indian."""
    for name in (facts.get("name", ""), facts.get("near", ""), *NAMES, *PLACES):
        if name:
            text = _name(name).sub(lambda match: "_" * len(match[0]), text)
    return text


@cache
def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w£])(?:{words})(?!\w)", re.IGNORECASE)


@cache
def _name(name: str) -> re.Pattern[str]:
    """A pattern of a name, with or without its article and accents."""
    letters = re.escape(name.removeprefix("The ")).replace("é", "[eé]").replace("\\ ", r"[\s-]+")
    return re.compile(rf"(?<!\w){letters}(?!\w)", re.IGNORECASE)
