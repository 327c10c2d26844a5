"""How good texts are beside references: BLEU, NIST, METEOR, ROUGE-L, CIDEr and TER, each as the official tool has it.

BLEU and NIST compare sacrebleu's 13a tokens, ROUGE-L and CIDEr words without punctuation, TER words with it. On TGen's
public output for E2E the official tools give BLEU 0.6616, NIST 8.5446, METEOR 0.4504, ROUGE-L 0.6914 and CIDEr 2.2312,
and so do these metrics, but for CIDEr, 2.2314, as Stanford's tokenizer finds a few other words. On a public output for
WebNLG its tool gives BLEU 51.32 (with absent references counted; without them it would be 39.70), METEOR 0.3233 and TER
0.4995, and so do these.
"""

import shutil
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dylora_kit.evaluation.edit_rate import edit_rate, treebank_tokens
from dylora_kit.evaluation.ngram_metrics import cider, nist, rouge_l, words_of

References = Sequence[Sequence[str | None]]
TOOLS = ("e2e", "webnlg")
BLANKS = "bleu, absent references counted"


def scores(
    texts: Sequence[str],
    references: References,
    metrics: Sequence[str] = ("bleu", "nist", "rouge-l", "cider"),
    *,
    tool: str = "e2e",
) -> dict[str, float]:
    """The metrics of texts, one for each input, against the references of each input.

    Arguments:
        references: for each text its references; they may be different in number. None or an empty one is absent.
        metrics: some of `"bleu"`, `"nist"`, `"meteor"`, `"rouge-l"`, `"cider"`, `"ter"`, and
            `"bleu, absent references counted"`, in which each text has as many references as the one with the most, and
            those that it lacks are of length 0 and lift the brevity penalty, as in WebNLG's tool.
        tool: `"e2e"`, whose BLEU and NIST are of texts in lower case, and whose METEOR is of words without punctuation;
            or `"webnlg"`, whose metrics are of texts as they stand. LoRA's authors gave that one texts in lower case.

    Returns each metric by name, and under `"empty"` how many texts are empty; those are scored as they are, with a
    warning. BLEU, METEOR and ROUGE-L are from 0 to 1, CIDEr to 10, and NIST has no limit. TER is the mean over texts of
    the edits to the nearest reference per word of it: 0 is perfect.

    Raises `ValueError` for an unknown metric, for more or fewer texts than inputs, and for an input without a
    reference; `RuntimeError` for METEOR where Java or the package pycocoevalcap is missing.

    >>> values = scores(["The Mill is a pub."], [["A pub is The Mill.", "The Mill is a pub."]], ["bleu", "rouge-l"])
    >>> {name: round(value, 3) for name, value in values.items()}
    {'bleu': 1.0, 'rouge-l': 1.0, 'empty': 0}
    """
    if tool not in TOOLS:
        raise ValueError(f"unknown tool {tool!r}: expected 'e2e' or 'webnlg'")
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metric {unknown[0]!r}: expected some of {', '.join(map(repr, METRICS))}")
    given = checked(texts, references)
    empty = sum(not text.strip() for text in texts)
    if empty:
        warnings.warn(f"{empty} of {len(texts)} texts are empty, and scored as such", stacklevel=2)
    return {name: METRICS[name](texts, given, tool) for name in metrics} | {"empty": empty}


def checked(texts: Sequence[str], references: References) -> list[list[str]]:
    """The references that are there; `ValueError` unless each text has some."""
    if len(texts) != len(references):
        raise ValueError(f"{len(texts)} texts for {len(references)} lists of references: expected one for each")
    if not len(texts):
        raise ValueError("there are no texts to score")
    given = [[ref for ref in refs if ref and ref.strip()] for refs in references]
    if [] in given:
        raise ValueError(f"text {given.index([]) + 1} has no reference: leave it out")
    return given


def bleu_statistics(texts: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = True) -> np.ndarray:
    """What BLEU adds up over texts, (texts, 10): lengths of text and nearest reference, n-grams matched and written."""
    from sacrebleu.metrics import BLEU

    bleu = BLEU(lowercase=lowercase, tokenize="13a", smooth_method="none")
    columns: Any = _columns(references, None)
    # sacrebleu's own statistics of each sentence, as its bootstrap adds them up
    return np.array(bleu._extract_corpus_statistics(list(texts), columns), dtype=float)


def bleu_of(statistics: np.ndarray) -> np.ndarray:
    """BLEU, from 0 to 1, of statistics (…, texts, 10) added up over the texts; (…,)."""
    sums = statistics.sum(-2)
    written, wanted, matched, possible = sums[..., 0], sums[..., 1], sums[..., 2:6], sums[..., 6:10]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(matched / possible).mean(-1))
        brevity = np.exp(np.minimum(0.0, 1 - wanted / written))
        return np.nan_to_num(np.asarray(precision * brevity), nan=0.0)


def bleu_interval(
    texts: Sequence[str],
    references: References,
    others: Sequence[str] | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    share: float = 0.95,
) -> tuple[float, float, float]:
    """BLEU with the range in which it falls when other inputs had been drawn: the bootstrap.

    Arguments:
        others: texts of another system for the same inputs; then it is the difference, first minus other, with both
            scored on the same inputs each time (the paired bootstrap of Koehn 2004).
        draws: how often as many inputs are drawn, with repetition.
        share: of the draws that are within the range.

    Returns value, lower and upper end, from 0 to 1. A difference whose range holds 0 may be chance.

    >>> bleu_interval(["A pub in town."] * 2, [["A pub in town."]] * 2)
    (1.0, 1.0, 1.0)
    """
    given = checked(texts, references)
    if others is not None:
        checked(others, references)
    systems = [bleu_statistics(system, given) for system in (texts, others) if system is not None]
    drawn = np.random.default_rng(seed).integers(len(texts), size=(draws, len(texts)))

    def difference(pick: np.ndarray | slice) -> np.ndarray:
        first, *second = (bleu_of(statistics[pick]) for statistics in systems)
        return first - second[0] if second else first

    low, high = np.quantile([difference(pick) for pick in drawn], [(1 - share) / 2, (1 + share) / 2])
    return float(difference(slice(None))), float(low), float(high)


def _bleu(texts: Sequence[str], references: list[list[str]], tool: str, filler: str | None = None) -> float:
    from sacrebleu.metrics import BLEU

    bleu = BLEU(lowercase=tool == "e2e", tokenize="13a", smooth_method="none")
    columns: Any = _columns(references, filler)
    return float(bleu.corpus_score(list(texts), columns).score) / 100


def _bleu_with_blanks(texts: Sequence[str], references: list[list[str]], tool: str) -> float:
    return _bleu(texts, references, tool, filler=" ")


def _nist(texts: Sequence[str], references: list[list[str]], tool: str) -> float:
    return nist([_tokens(text, tool) for text in texts],
                [[_tokens(ref, tool) for ref in refs] for refs in references])  # fmt: skip


def _rouge_l(texts: Sequence[str], references: list[list[str]], tool: str) -> float:
    return rouge_l(list(map(words_of, texts)), [list(map(words_of, refs)) for refs in references])


def _cider(texts: Sequence[str], references: list[list[str]], tool: str) -> float:
    return cider(list(map(words_of, texts)), [list(map(words_of, refs)) for refs in references])


def _ter(texts: Sequence[str], references: list[list[str]], tool: str) -> float:
    values = []
    for text, refs in zip(texts, references, strict=True):
        written = treebank_tokens(text.lower() if tool == "e2e" else text)
        wanted = [treebank_tokens(ref.lower() if tool == "e2e" else ref) for ref in refs]
        values.append(min(edit_rate(written, ref) for ref in wanted))
    return sum(values) / len(values)


def _meteor(texts: Sequence[str], references: list[list[str]], tool: str) -> float:
    try:
        from pycocoevalcap.meteor.meteor import Meteor
    except ImportError:
        raise RuntimeError("METEOR needs the package pycocoevalcap: pip install pycocoevalcap") from None
    if shutil.which("java") is None:
        raise RuntimeError("METEOR needs Java: install it, such as with apt-get install default-jre-headless")

    def line(text: str) -> str:
        words = words_of(text) if tool == "e2e" else treebank_tokens(text)
        return " ".join(words).replace("|||", " ")

    numbers = range(len(texts))
    written = {number: [line(texts[number])] for number in numbers}
    value, _ = Meteor().compute_score({number: list(map(line, references[number])) for number in numbers}, written)
    return float(value)


def _tokens(text: str, tool: str) -> list[str]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    tokens: list[str] = Tokenizer13a()(text.lower() if tool == "e2e" else text).split()
    return tokens


def _columns(references: Sequence[Sequence[str]], filler: str | None) -> list[list[str | None]]:
    """References as sacrebleu takes them: first ones, second ones, …, filled up where an input has fewer."""
    most = max(map(len, references))
    return [[refs[place] if place < len(refs) else filler for refs in references] for place in range(most)]


METRICS: dict[str, Callable[[Sequence[str], list[list[str]], str], float]] = {
    "bleu": _bleu,
    BLANKS: _bleu_with_blanks,
    "nist": _nist,
    "meteor": _meteor,
    "rouge-l": _rouge_l,
    "cider": _cider,
    "ter": _ter,
}
