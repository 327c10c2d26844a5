"""TER, the translation edit rate, as WebNLG's tool has it, and the tokens that it compares.

A shift of words counts as one edit, and shifts are made greedily, as in the package pyter. Other tools look for shifts
in another way and find other numbers, such as sacrebleu, whose TER is a little lower.
"""

import re
from collections.abc import Callable

import numpy as np

_RULES = (
    (re.compile(r"(?<![^\s(\[{<])\""), " `` "),  # opening quotes
    (re.compile(r"(?<!\S)''(?=\w)"), " `` "),
    (re.compile(r"\""), " '' "),
    (re.compile(r"(?<!\S)'(?=\w)(?!(?:re|ve|ll|[mtsdn])\b)", re.IGNORECASE), " ' "),
    (re.compile(r"(?<=[^.])\.(?=[\])}>'»”’ ]*$)"), " . "),  # the period at the end; others belong to words
    (re.compile(r"[:,](?!\d)|\.{2,}|--|[;@#$%&*?!()\[\]{}<>«»“”‘’„–—]"), r" \g<0> "),
    (re.compile(r"(?<=[^' ])('(?:s|m|d|ll|re|ve)|n't)(?!\w)", re.IGNORECASE), r" \1 "),
    (re.compile(r"(?<=[^' ])'(?=\s|$)"), " ' "),
)


def treebank_tokens(text: str) -> list[str]:
    """Words and punctuation, about as the Penn Treebank has them.

    >>> treebank_tokens("Ada's runway, 18L/36R (D.C.), isn't long.")
    ['Ada', "'s", 'runway', ',', '18L/36R', '(', 'D.C.', ')', ',', 'is', "n't", 'long', '.']
    """
    for pattern, spaced in _RULES:
        text = pattern.sub(spaced, text)
    return text.split()


def edit_rate(written: list[str], reference: list[str]) -> float:
    """The edits that make the reference of a text, per word of the reference.

    An edit puts in, takes out or replaces a word, or shifts words to where the reference has them. Each time the shift
    is made after which the fewest other edits are left, as long as they become fewer.

    >>> edit_rate("food cheap at cotto".split(), "at cotto food cheap".split())
    0.25
    """
    known = {word: number for number, word in enumerate(dict.fromkeys([*reference, *written]))}
    words, target = [known[word] for word in written], np.array([known[word] for word in reference])
    shifts, left = 0, int(_distances([words], target)[0])
    while left:
        shifted = _shifted(words, target.tolist())
        if not shifted:
            break
        distances = _distances(shifted, target)
        fewest = int(distances.min())
        if fewest >= left:
            break
        # of equally good ones the last in the order of their words, so that the result does not hang on chance
        words = max((each for each, d in zip(shifted, distances, strict=True) if d == fewest), key=_spelled(known))
        shifts, left = shifts + 1, fewest
    return (shifts + left) / len(reference)


def _spelled(known: dict[str, int]) -> Callable[[list[int]], list[str]]:
    spelled = list(known)
    return lambda words: [spelled[number] for number in words]


def _shifted(words: list[int], target: list[int]) -> list[list[int]]:
    """The words after each shift of a run that the target has at another place; the longest run from each place."""
    result = []
    for start, word in enumerate(words):
        for place, other in enumerate(target):
            if start == place or word != other:
                continue
            length = 1
            while start + length < len(words) and place + length < len(target):
                if words[start + length] != target[place + length]:
                    break
                length += 1
            rest = words[:start] + words[start + length :]
            result.append([*rest[:place], *words[start : start + length], *rest[place:]])
    return result


def _distances(candidates: list[list[int]], target: np.ndarray) -> np.ndarray:
    """Levenshtein's distance of each candidate, all of one length, from the target; (candidates,)."""
    columns = np.arange(len(target) + 1)
    row = np.tile(columns, (len(candidates), 1))  # of the empty beginning of each candidate
    for number, word in enumerate(np.array(candidates).T, 1):
        replaced = row[:, :-1] + (word[:, None] != target)
        best = np.minimum(row[:, 1:] + 1, replaced)
        row = np.concatenate([np.full((len(candidates), 1), number), best], axis=1)
        row = np.minimum.accumulate(row - columns, axis=1) + columns  # words that are put in
    last: np.ndarray = row[:, -1]
    return last
