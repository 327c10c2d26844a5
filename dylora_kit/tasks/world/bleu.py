"""BLEU of whole test sets with several references (Papineni et al., 2002), on lower-case words and marks."""

import math
import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 4


def bleu(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """From 0 to 100: how much of the runs of one to four words stand in a reference, and whether texts are too short.

    >>> bleu(["The Red Fox is a cheap pub."], [["The Red Fox is a cheap pub.", "Try the Red Fox, a cheap pub."]])
    100.0
    """
    if len(written) != len(references):
        raise ValueError(f"{len(written)} texts but {len(references)} lists of references: expected one for each text")
    right, total = [0] * LONGEST, [0] * LONGEST
    length = wanted = 0
    for text, others in zip(written, references, strict=True):
        words, known = _words(text), [_words(other) for other in others]
        length += len(words)
        wanted += min((abs(len(other) - len(words)), len(other)) for other in known)[1]
        for index in range(LONGEST):
            runs = _runs(words, index + 1)
            most: Counter[tuple[str, ...]] = Counter()
            for other in known:
                most |= _runs(other, index + 1)
            right[index] += (runs & most).total()
            total[index] += runs.total()
    if min(right) == 0:
        return 0.0
    mean = sum(math.log(one / all_) for one, all_ in zip(right, total, strict=True)) / LONGEST
    return 100 * math.exp(mean + min(0.0, 1 - wanted / length))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _runs(words: list[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(size)), strict=False))
