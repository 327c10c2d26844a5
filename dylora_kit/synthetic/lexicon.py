"""The lexicon, written by hand: for every value of every attribute several ways to say it, by grammatical role.

Roles: `pre` stands before a noun, `adj` before a noun or after "is", `noun` is what a place is, `pp` says where it is,
`np` is what it has, `post` follows a noun, `verb` is what it does (base form), `clause` is a sentence of its own.
A way marked with + is kept for test texts (and for unlabelled ones).
"""

from dataclasses import dataclass

from dylora_kit.synthetic.facts import LANDMARKS, VALUES


@dataclass(frozen=True)
class Phrase:
    """A way to say a fact: the words and their grammatical role; `held_out` if it is kept for tests."""

    attribute: str
    value: str
    role: str
    words: str
    held_out: bool = False


Ways = dict[str, str]  # role → ways, separated by "; "

_KINDS: dict[str, Ways] = {
    "pub": {"noun": "pub; tavern"},
    "café": {"noun": "café; coffee house; +coffee shop"},
    "bistro": {"noun": "bistro"},
    "diner": {"noun": "diner"},
    "tea room": {"noun": "tea room; tea house; +tea shop"},
    "wine bar": {"noun": "wine bar"},
    "brasserie": {"noun": "brasserie"},
    "canteen": {"noun": "canteen; cafeteria"},
}

_DISHES = {
    "Italian": ("pizza and pasta", "Italy"),
    "French": ("onion soup and snails", "France"),
    "Indian": ("lentils and naan bread", "India"),
    "Thai": ("green curry and sticky rice", "Thailand"),
    "Chinese": ("dumplings and crispy duck", "China"),
    "Japanese": ("sushi and miso soup", "Japan"),
    "Mexican": ("tacos and black beans", "Mexico"),
    "Greek": ("moussaka and feta", "Greece"),
    "Turkish": ("kebabs and baklava", "Turkey"),
    "Spanish": ("paella and tapas", "Spain"),
    "British": ("pies and roast beef", "Britain"),
}


def _food(adjective: str) -> Ways:
    dishes, land = _DISHES[adjective]
    return {
        "pre": adjective,
        "np": f"{dishes} on the menu; {adjective} dishes on the menu; +a menu from {land}",
        "verb": f"serve {adjective} food; offer {adjective} dishes; serve {dishes}; specialise in {adjective} cooking; "
        f"cook the food of {land}; +be known for {dishes}",
        "clause": f"the cooking is {adjective}; {dishes} head the menu; the recipes come from {land}; "
        f"+the kitchen looks to {land}",
    }


_PRICES: dict[str, Ways] = {
    "cheap": {
        "adj": "cheap; inexpensive; +low-priced",
        "np": "low prices; +prices that do not hurt",
        "post": "for a small purse",
        "verb": "cost little; charge little; ask low prices; +be easy on the purse",
        "clause": "prices are low; a meal costs little; you spend little; +you pay next to nothing",
    },
    "moderate": {
        "adj": "mid-priced; moderately priced",
        "np": "average prices; +middling prices",
        "verb": "be neither cheap nor expensive; charge average prices; ask moderate prices",
        "clause": "prices are average; prices are moderate; a meal costs neither little nor much; +prices are middling",
    },
    "expensive": {
        "adj": "expensive; pricey; costly; +high-priced",
        "np": "high prices; +prices that hurt",
        "post": "for a full purse",
        "verb": "ask high prices; cost a lot; charge a great deal; +be hard on the purse",
        "clause": "prices are high; a meal costs a great deal; you have to spend a lot; +a meal may well ruin you",
    },
}


def _stars(number: str) -> Ways:
    count = f"{number} star" + ("" if number == "one" else "s")
    return {
        "pre": f"{number}-star",
        "np": f"a rating of {count}; a score of {number} out of five; +{count} to its name",
        "verb": f"have {count}; score {number} out of five; +get {number} out of five",
        "clause": f"guests give it {count}; its rating is {number} out of five; reviewers award it {count}; "
        f"+critics give it {count}",
    }


_AREAS: dict[str, Ways] = {
    "riverside": {
        "pre": "riverside",
        "pp": "by the river; on the riverside; beside the river; +on the river bank",
        "verb": "overlook the river; look out on the river",
        "clause": "the river flows past its door",
    },
    "old town": {
        "pre": "old-town",
        "pp": "in the old town; in the oldest part of town; in the old quarter; +in the lanes of the old town",
    },
    "city centre": {
        "adj": "central",
        "pp": "in the city centre; in the middle of the city; right in the centre; +in the heart of the city",
    },
    "station": {
        "pp": "by the station; beside the railway; in the station quarter; +beside the railway station",
        "clause": "trains rattle past its door",
    },
    "harbour": {
        "pre": "harbour",
        "pp": "at the harbour; down by the docks; on the waterfront; +on the quay",
        "verb": "overlook the harbour; look out on the ships",
        "clause": "ships pass its windows",
    },
    "university": {
        "pre": "campus",
        "pp": "at the university; on the campus; in the university quarter; +among the colleges",
    },
    "suburbs": {
        "pre": "suburban",
        "pp": "in the suburbs; on the edge of town; out in the suburbs; +on the outskirts",
    },
    "hill": {
        "pre": "hilltop",
        "pp": "on the hill; up on the hill; at the top of the hill; +high on the hill",
        "verb": "look down on the city",
        "clause": "you have to climb the hill",
    },
}


def _landmark(place: str) -> Ways:
    return {
        "pp": f"near the {place}; close to the {place}; a few steps from the {place}; +a short walk from the {place}; "
        f"not far from the {place}",
        "clause": f"the {place} is close by; the {place} is not far away; +you can walk to the {place}",
    }


_CHILDREN: dict[str, Ways] = {
    "yes": {
        "adj": "family-friendly; child-friendly",
        "np": "a warm welcome for children; +room for families",
        "post": "for the whole family",
        "verb": "welcome children; welcome families; admit children; +be glad to see families",
        "clause": "children are welcome; you can bring the children; families are welcome; "
        "+the little ones may come along",
    },
    "no": {
        "adj": "adults-only; child-free",
        "np": "no place for children; +no room for families",
        "post": "for adults only",
        "verb": "not admit children; turn families away; not let children in; +be closed to children",
        "clause": "you cannot bring the children; children are not admitted; +the little ones must stay at home",
    },
}

_DOGS: dict[str, Ways] = {
    "yes": {
        "adj": "dog-friendly",
        "np": "a bowl of water for every dog",
        "verb": "allow dogs; welcome dogs; let dogs in; +be kind to dogs",
        "clause": "dogs are welcome; dogs are allowed; you may bring your dog; +dogs may come along",
    },
    "no": {
        "adj": "dog-free",
        "np": "a ban on dogs",
        "verb": "not allow dogs; not let dogs in; +keep dogs out",
        "clause": "dogs are not allowed; dogs must wait outside; you may not bring your dog; +dogs must stay at home",
    },
}

_TERRACE: dict[str, Ways] = {
    "yes": {
        "np": "a terrace; tables outside; tables in the open air; +seats in the sun",
        "verb": "have a terrace; serve guests outside; let you eat in the open air",
        "clause": "there is a terrace; you can sit outside; you can eat in the open air; +there are tables in the sun",
    },
    "no": {
        "np": "no terrace; no tables outside; only indoor tables; +no seats in the sun",
        "verb": "lack a terrace; not have a terrace; not serve guests outside; not let you eat in the open air",
        "clause": "there is no terrace; you cannot sit outside; all the tables are indoors; +you can only sit inside",
    },
}


def _seats(number: str) -> Ways:
    count = "a hundred" if number == "hundred" else number
    return {
        "pre": f"{number}-seat",
        "np": f"{count} seats; room for {count} guests; +chairs for {count} guests",
        "verb": f"seat {count} guests; hold {count} people; have room for {count}; +hold {count} diners",
        "clause": f"there is room for {count} people; there are {count} seats; +{count} guests fit in",
    }


_OPENING = {
    "eight": ("at eight in the morning", "breakfast is served from eight"),
    "noon": ("at noon", "the kitchen starts at noon"),
    "six": ("at six in the evening", "the first guests come at six"),
}


def _opens(hour: str) -> Ways:
    when, clause = _OPENING[hour]
    return {"verb": f"open {when}; +open its doors {when}", "clause": f"the doors open {when}; {clause}"}


def _closes(hour: str) -> Ways:
    return {
        "post": f"open until {hour}",
        "verb": f"close at {hour}; stay open until {hour}; be open until {hour}; shut at {hour}",
        "clause": f"the last guests leave at {hour}; the doors close at {hour}; +you can stay until {hour}",
    }


def _rest(day: str) -> Ways:
    if day == "none":
        return {
            "post": "open seven days a week; open every day",
            "verb": "be open every day; never take a day off; be open seven days a week; +never have a day of rest",
            "clause": "there is no day off; +you can come on any day",
        }
    return {
        "post": f"open every day except {day}; closed on {day}s",
        "verb": f"be closed on {day}s; take {day}s off; be open every day except {day}; +be shut on {day}s; "
        f"not open on {day}s",
        "clause": f"{day} is its day off; its day off is {day}; +nobody works on {day}s",
    }


_BOOKING: dict[str, Ways] = {
    "yes": {
        "verb": "take bookings; accept reservations; let you book a table; +be happy to reserve a table",
        "clause": "you can book a table; tables can be reserved; you can reserve a table; +bookings are accepted",
    },
    "no": {
        "verb": "not take bookings; not accept reservations; take no reservations; +refuse to reserve a table",
        "clause": "you cannot book a table; tables cannot be reserved; you cannot reserve a table; "
        "+bookings are not accepted",
    },
}

_PAYMENT: dict[str, Ways] = {
    "cards": {
        "verb": "accept cards; take cards; let you pay by card; +be happy to take your card",
        "clause": "cards are accepted; you can pay by card; you need no cash; +your card will do",
    },
    "cash": {
        "adj": "cash-only",
        "verb": "not accept cards; not take cards; take only cash; +insist on cash",
        "clause": "cards are not accepted; you cannot pay by card; you have to pay in cash; +your card will not do",
    },
}

_RUN_BY = {"family": "a family", "sisters": "two sisters", "couple": "a married couple", "chain": "a large chain"}


def _owner(who: str) -> Ways:
    ways = {
        "post": f"run by {_RUN_BY[who]}; owned by {_RUN_BY[who]}",
        "verb": f"belong to {_RUN_BY[who]}; be run by {_RUN_BY[who]}; be owned by {_RUN_BY[who]}",
        "clause": f"the owner is {_RUN_BY[who]}" if who in ("family", "chain") else f"the owners are {_RUN_BY[who]}",
    }
    if who == "chain":
        ways["verb"] += "; +be part of a large chain"
    else:
        ways["clause"] += f"; +{_RUN_BY[who]} {'run' if who == 'sisters' else 'runs'} it"
    return ways | ({"pre": "family-run; +family-owned"} if who == "family" else {})


_MUSIC: dict[str, Ways] = {
    "yes": {
        "np": "live music; +a band at night",
        "verb": "offer live music; play live music; let bands play",
        "clause": "there is live music; a band plays at night; you can hear a band; +musicians play at night",
    },
    "no": {
        "np": "no live music",
        "verb": "not offer live music; not play live music; not let bands play; +do without live music",
        "clause": "there is no live music; no band plays at night; +you will not hear a band",
    },
}

_VEGETARIAN: Ways = {
    "pre": "vegetarian; meatless",
    "np": "vegetarian dishes on the menu; +a menu without meat",
    "verb": "serve vegetarian food; offer vegetarian dishes; cook without meat; specialise in vegetarian cooking; "
    "+be known for cooking without meat",
    "clause": "the cooking is vegetarian; there is no meat on the menu; +the kitchen knows no meat",
}

_WAYS: dict[str, dict[str, Ways]] = {
    "kind": _KINDS,
    "food": {name: _food(name) for name in _DISHES} | {"vegetarian": _VEGETARIAN},
    "price": _PRICES,
    "stars": {number: _stars(number) for number in VALUES["stars"]},
    "area": _AREAS,
    "landmark": {place: _landmark(place) for place in LANDMARKS},
    "children": _CHILDREN,
    "dogs": _DOGS,
    "terrace": _TERRACE,
    "seats": {number: _seats(number) for number in VALUES["seats"]},
    "opens": {hour: _opens(hour) for hour in _OPENING},
    "closes": {hour: _closes(hour) for hour in VALUES["closes"]},
    "rest": {day: _rest(day) for day in VALUES["rest"]},
    "booking": _BOOKING,
    "payment": _PAYMENT,
    "owner": {who: _owner(who) for who in _RUN_BY},
    "music": _MUSIC,
}


def _phrases(attribute: str, value: str, ways: Ways) -> list[Phrase]:
    return [
        Phrase(attribute, value, role, words.removeprefix("+"), words.startswith("+"))
        for role, written in ways.items()
        for words in written.split("; ")
    ]


PHRASES: dict[tuple[str, str], list[Phrase]] = {
    (attribute, value): _phrases(attribute, value, ways)
    for attribute, values in _WAYS.items()
    for value, ways in values.items()
}


def phrases(attribute: str, value: str, *, held_out: bool) -> list[Phrase]:
    """The ways to say a fact; those kept for tests only if `held_out`.

    >>> [phrase.words for phrase in phrases("kind", "pub", held_out=False)]
    ['pub', 'tavern']
    """
    return [phrase for phrase in PHRASES[attribute, value] if held_out or not phrase.held_out]
