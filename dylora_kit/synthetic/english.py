"""Small rules of English: verb forms, plurals, articles, comparatives, capitals."""

import re
from dataclasses import dataclass

_THIRD = {"be": "is", "have": "has", "do": "does", "go": "goes"}
_ING = {
    "be": "being",
    "lie": "lying",
    "let": "letting",
    "shut": "shutting",
    "sit": "sitting",
    "get": "getting",
    "admit": "admitting",
}
_SHORT = ("slow", "rude", "kind", "fresh", "clean", "quick", "bland")
_CONSONANT_SOUND = re.compile(r"(?:one|uni|eu|use)", re.IGNORECASE)


def third(verb: str) -> str:
    """The form after "it".

    >>> third("serve"), third("be"), third("watch"), third("carry")
    ('serves', 'is', 'watches', 'carries')
    """
    if verb in _THIRD:
        return _THIRD[verb]
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if re.search(r"(?:s|sh|ch|x|o)$", verb) else "s")


def present(verb: str, plural: bool) -> str:
    """The form after "they" or after "it".

    >>> present("carry", True), present("carry", False)
    ('carry', 'carries')
    """
    return verb if plural else third(verb)


def past(verb: str) -> str:
    """The past form of a regular verb.

    >>> past("serve"), past("turn")
    ('served', 'turned')
    """
    return verb + ("d" if verb.endswith("e") else "ed")


def ing(verb: str) -> str:
    """The participle.

    >>> ing("serve"), ing("let"), ing("open")
    ('serving', 'letting', 'opening')
    """
    return _ING.get(verb) or (verb[:-1] if verb.endswith("e") else verb) + "ing"


def comparative(adjective: str) -> str:
    """The form before "than".

    >>> [comparative(adjective) for adjective in ("slow", "rude", "tasty", "careless", "prompt")]
    ['slower', 'ruder', 'tastier', 'more careless', 'more prompt']
    """
    if adjective.endswith("y"):
        return adjective[:-1] + "ier"
    if adjective in _SHORT:
        return adjective + ("r" if adjective.endswith("e") else "er")
    return f"more {adjective}"


def plural_of(noun: str) -> str:
    """The plural of a thing.

    >>> plural_of("glass"), plural_of("curry"), plural_of("pie")
    ('glasses', 'curries', 'pies')
    """
    if noun.endswith(("s", "ch")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") else noun + "s"


def article(words: str) -> str:
    """The words with "a" or "an" before them.

    >>> article("Italian pub"), article("one-star diner"), article("eighty-seat canteen")
    ('an Italian pub', 'a one-star diner', 'an eighty-seat canteen')
    """
    vowel = words[0].lower() in "aeiou" and not _CONSONANT_SOUND.match(words)
    return f"{'an' if vowel else 'a'} {words}"


def sentence(words: str) -> str:
    """A capital at the start, a full stop at the end unless there is a mark.

    >>> sentence("dogs are welcome")
    'Dogs are welcome.'
    """
    words = words[0].upper() + words[1:]
    return words if words[-1] in ".?!" else words + "."


@dataclass(frozen=True)
class VerbPhrase:
    """A verb in its base form and what follows; `before` is an adverb such as "never"."""

    verb: str
    rest: str
    negated: bool = False
    before: str = ""

    def finite(self, plural: bool = False) -> str:
        """The form after "it", or after "they".

        >>> VerbPhrase("allow", "dogs", negated=True).finite(), VerbPhrase("be", "cheap").finite(plural=True)
        ('does not allow dogs', 'are cheap')
        """
        if self.verb == "be":
            return self._join("are" if plural else "is", "not" if self.negated else "")
        if self.negated:
            return self._join("do not" if plural else "does not", self.verb)
        return self._join(self.verb if plural else third(self.verb))

    def participle(self) -> str:
        """The form in "…, serving Thai food, …"; a "being" is left out, as in "…, open every day, …"."""
        if self.verb == "be" and not self.negated:
            return self.rest
        return self._join("not" if self.negated else "", ing(self.verb))

    def base(self) -> str:
        """The form after "to" and "will"."""
        return self._join("not" if self.negated else "", self.verb)

    def _join(self, *words: str) -> str:
        return " ".join(word for word in (self.before, *words, self.rest) if word)


def verb_phrase(words: str) -> VerbPhrase:
    """A verb phrase as the lexicon writes it: base form first, perhaps after "not" or "never".

    >>> verb_phrase("not take cards").finite()
    'does not take cards'
    """
    first, _, rest = words.partition(" ")
    if first in ("not", "never"):
        verb, _, after = rest.partition(" ")
        return VerbPhrase(verb, after, negated=first == "not", before="never" if first == "never" else "")
    return VerbPhrase(first, rest)


def ways(options: tuple[str, ...], held_out: bool) -> list[str]:
    """Options without their marks; those marked with +, which are kept for tests, only if `held_out`.

    >>> ways(("near", "+close to"), held_out=False), ways(("near", "+close to"), held_out=True)
    (['near'], ['near', 'close to'])
    """
    return [option.removeprefix("+") for option in options if held_out or not option.startswith("+")]
