"""The facts of the world: restaurants, the values that each of their attributes takes, and what is kept for tests."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from random import Random

YES_NO = ("yes", "no")
KINDS = ("pub", "café", "bistro", "diner", "tea room", "wine bar", "brasserie", "canteen")
FOODS = ("Italian", "French", "Indian", "Thai", "Chinese", "Japanese", "Mexican", "Greek", "Turkish", "Spanish",
         "British", "vegetarian")  # fmt: skip
AREAS = ("riverside", "old town", "city centre", "station", "harbour", "university", "suburbs", "hill")
LANDMARKS = ("museum", "castle", "theatre", "cathedral", "town hall", "library", "cinema", "market", "park",
             "post office")  # fmt: skip
VALUES: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "food": FOODS,
    "price": ("cheap", "moderate", "expensive"),
    "stars": ("one", "two", "three", "four", "five"),
    "area": AREAS,
    "landmark": LANDMARKS,
    "children": YES_NO,
    "dogs": YES_NO,
    "terrace": YES_NO,
    "seats": ("twelve", "twenty", "thirty", "forty", "sixty", "eighty", "hundred"),
    "opens": ("eight", "noon", "six"),
    "closes": ("nine", "ten", "eleven", "midnight"),
    "rest": ("Monday", "Tuesday", "Sunday", "none"),
    "booking": YES_NO,
    "payment": ("cards", "cash"),
    "owner": ("family", "sisters", "couple", "chain"),
    "music": YES_NO,
}
ORDERED = ("price", "stars", "seats", "closes")  # their values go up, so that restaurants can be compared by them
LIKED = {
    ("price", "cheap"), ("stars", "four"), ("stars", "five"), ("children", "yes"), ("dogs", "yes"), ("terrace", "yes"),
    ("closes", "midnight"), ("rest", "none"), ("booking", "yes"), ("payment", "cards"), ("music", "yes"),
}  # fmt: skip
DISLIKED = {
    ("price", "expensive"), ("stars", "one"), ("stars", "two"), ("children", "no"), ("dogs", "no"), ("terrace", "no"),
    ("closes", "nine"), ("booking", "no"), ("payment", "cash"),
}  # fmt: skip

_FIRST = ("Blue", "Red", "Golden", "Silver", "White", "Green", "Black", "Hungry", "Merry", "Painted", "Copper",
          "Laughing", "Singing", "Lucky")  # fmt: skip
_SECOND = ("Heron", "Fox", "Lantern", "Anchor", "Kettle", "Oak", "Crown", "Swan", "Lion", "Wheel", "Hare", "Owl")
_OWNERS = ("Rosa", "Marco", "Amina", "Leo", "Clara", "Omar")
_PLACES = ("Kitchen", "Table", "Corner", "Garden")
NAMES = (
    *(f"the {first} {second}" for first in _FIRST for second in _SECOND),
    *(f"{owner}'s {place}" for owner in _OWNERS for place in _PLACES),
)
TEST_NAMES = NAMES[3::5]
TRAIN_NAMES = tuple(name for name in NAMES if name not in TEST_NAMES)


@dataclass(frozen=True)
class Restaurant:
    """One restaurant: its name as it stands within a sentence, and a value of every attribute."""

    name: str
    kind: str
    food: str
    price: str
    stars: str
    area: str
    landmark: str
    children: str
    dogs: str
    terrace: str
    seats: str
    opens: str
    closes: str
    rest: str
    booking: str
    payment: str
    owner: str
    music: str

    def facts_of(self, attributes: list[str]) -> dict[str, str]:
        """The values of some attributes, in the order given."""
        return {attribute: getattr(self, attribute) for attribute in attributes}


def kept_for_test(food: str, area: str) -> bool:
    """Whether a food in an area is a combination that only tests have.

    >>> kept_for_test("Italian", "riverside"), kept_for_test("Italian", "hill")
    (True, False)
    """
    return (3 * FOODS.index(food) + AREAS.index(area)) % 5 == 0


def belongs(facts: Mapping[str, str], split: str) -> bool:
    """Whether facts may be told in a split: a food and an area together are either for tests or for training.

    >>> belongs({"food": "Italian", "area": "riverside"}, "train"), belongs({"food": "Italian"}, "train")
    (False, True)
    """
    if split == "any" or not {"food", "area"} <= facts.keys():
        return True
    return kept_for_test(facts["food"], facts["area"]) == (split == "test")


def sample(rng: Random, split: str = "train") -> Restaurant:
    """A restaurant of a split: `"train"`, `"test"` or `"any"` (for unlabelled text).

    Names of the test split never occur in train, and no text of train tells a pair of food and area of the test split.
    """
    names = {"train": TRAIN_NAMES, "test": TEST_NAMES, "any": NAMES}[split]
    while True:
        restaurant = Restaurant(rng.choice(names), **{key: rng.choice(values) for key, values in VALUES.items()})
        if belongs({"food": restaurant.food, "area": restaurant.area}, split):
            return restaurant


def two(rng: Random, split: str) -> tuple[Restaurant, Restaurant]:
    """Two restaurants of a split, with names of their own."""
    first, second = sample(rng, split), sample(rng, split)
    while second.name == first.name:
        second = sample(rng, split)
    return first, second


def another(rng: Random, attribute: str, value: str) -> str:
    """Another value of an attribute.

    >>> another(Random(0), "dogs", "yes")
    'no'
    """
    return rng.choice([other for other in VALUES[attribute] if other != value])


def choose_attributes(rng: Random, count: int, *, avoid: tuple[str, ...] = ()) -> list[str]:
    """`count` attributes in random order, none of them in `avoid`.

    The kind is chosen more often than others, since texts that tell it read well.
    """
    rest = [key for key in VALUES if key not in avoid]
    first = ["kind"] if "kind" in rest and count > 0 and rng.random() < 0.6 else []
    rest = [key for key in rest if key not in first]
    chosen = [*first, *rng.sample(rest, count - len(first))]
    return rng.sample(chosen, len(chosen))


def shuffled(rng: Random, facts: Mapping[str, str]) -> dict[str, str]:
    """The same facts in random order.

    >>> shuffled(Random(0), {"dogs": "yes", "music": "no"})
    {'music': 'no', 'dogs': 'yes'}
    """
    return {key: facts[key] for key in rng.sample(list(facts), len(facts))}


assert [field.name for field in fields(Restaurant)] == ["name", *VALUES]
