"""NIST, ROUGE-L and CIDEr of texts with several references, as the tools of the E2E challenge define them.

Texts come as lists of tokens. Packages with the same names often compute something else: nltk's NIST and rouge-score's
ROUGE-L are other definitions.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain

Tokens = list[str]
PUNCTUATION = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
_ENDING = r"n['’]t|['’](?:s|m|d|ll|re|ve)"
_ENDED = re.compile(rf"(?<=\w)({_ENDING})\b")
_WORD = re.compile(rf"(?:{_ENDING})\b|[£$€]|\d\w*(?:[.,:/]\d+)*(?:-\w+)*|\w+(?:-\w+)*(?:\.\w+)*|[^\w\s]")


def words_of(text: str) -> Tokens:
    """The words of a text in lower case without punctuation, about as the Penn Treebank tokenizer of Stanford has them.

    >>> words_of("It isn't cheap: £20-25, at Rosa's.")
    ['it', 'is', "n't", 'cheap', '£', '20-25', 'at', 'rosa', "'s"]
    """
    spaced = _ENDED.sub(r" \1", text.lower())
    return [word for word in _WORD.findall(spaced) if word not in PUNCTUATION]


def nist(texts: Sequence[Tokens], references: Sequence[Sequence[Tokens]], order: int = 5) -> float:
    """NIST: matched n-grams weighed by how much they tell, each order per n-gram of the texts, times a brevity penalty.

    What an n-gram tells is the logarithm (base 2) of how much rarer it is in all references than what it begins with.
    The penalty compares with the mean length of an input's references, and is 0.5 where texts have two thirds of it.
    """
    counts = Counter(
        gram for refs in references for ref in refs for n in range(1, order + 1) for gram in _grams(ref, n)
    )
    total = sum(len(ref) for refs in references for ref in refs)
    told, written = [0.0] * order, [0] * order
    for text, refs in zip(texts, references, strict=True):
        for n in range(1, order + 1):
            most = Counter[tuple[str, ...]]()
            for ref in refs:
                most |= Counter(_grams(ref, n))
            said = Counter(_grams(text, n))
            written[n - 1] += said.total()
            for gram, count in (said & most).items():
                begun = counts[gram[:-1]] if n > 1 else total
                told[n - 1] += count * math.log2(begun / counts[gram])
    wanted = sum(sum(map(len, refs)) / len(refs) for refs in references)
    ratio = min(1.0, sum(map(len, texts)) / wanted) if wanted else 1.0
    if ratio == 0:
        return 0.0
    penalty = math.exp(math.log(0.5) * (math.log(ratio) / math.log(1.5)) ** 2)
    return penalty * sum(part / count for part, count in zip(told, written, strict=True) if count)


def rouge_l(texts: Sequence[Tokens], references: Sequence[Sequence[Tokens]], beta: float = 1.2) -> float:
    """ROUGE-L: the longest common subsequence, as a share of the text and of a reference; the mean over inputs.

    Of several references the best precision and the best recall count. Recall weighs β² times as much.
    """
    values = []
    for text, refs in zip(texts, references, strict=True):
        common = [_common(text, ref) for ref in refs]
        precision = max(common) / len(text) if text else 0.0
        recall = max((each / len(ref) for each, ref in zip(common, refs, strict=True) if ref), default=0.0)
        below = recall + beta**2 * precision
        values.append((1 + beta**2) * precision * recall / below if below else 0.0)
    return sum(values) / len(values)


def cider(texts: Sequence[Tokens], references: Sequence[Sequence[Tokens]], order: int = 4, sigma: float = 6.0) -> float:
    """CIDEr as COCO's tool has it: similarity of n-grams, the rare ones weighing more; 10 is the most.

    n-grams weigh by how few inputs have them in a reference. A count above that of the reference does not help, and a
    difference in length hurts (a Gaussian of deviation `sigma`).
    """
    holding = Counter(gram for refs in references for gram in {g for ref in refs for g in _all_grams(ref, order)})
    inputs = math.log(len(texts))

    def vectors(tokens: Tokens) -> list[dict[tuple[str, ...], float]]:
        return [
            {
                gram: count * (inputs - math.log(max(1, holding[gram])))
                for gram, count in Counter(_grams(tokens, n)).items()
            }
            for n in range(1, order + 1)
        ]

    values = []
    for text, refs in zip(texts, references, strict=True):
        own, similar = vectors(text), []
        for ref in refs:
            shift = max(len(text) - 1, 0) - max(len(ref) - 1, 0)  # in bigrams
            near = math.exp(-(shift**2) / (2 * sigma**2))
            similar.append(near * sum(map(_cosine, own, vectors(ref))) / order)
        values.append(10 * sum(similar) / len(similar))
    return sum(values) / len(values)


def _grams(tokens: Tokens, n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def _all_grams(tokens: Tokens, order: int) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(_grams(tokens, n) for n in range(1, order + 1)))


def _cosine(first: dict[tuple[str, ...], float], second: dict[tuple[str, ...], float]) -> float:
    """How alike two vectors are, no entry of the first counting more than that of the second."""
    product = sum(min(value, second[key]) * second[key] for key, value in first.items() if key in second)
    size = math.hypot(*first.values()) * math.hypot(*second.values())
    return product / size if size else 0.0


def _common(first: Tokens, second: Tokens) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for token in first:
        before = 0
        for place, other in enumerate(second, 1):
            before, row[place] = row[place], before + 1 if token == other else max(row[place], row[place - 1])
    return row[-1]
